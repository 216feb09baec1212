"""Formats probabilities."""


def percentage(probability: float) -> str:
    """Format a probability; rounding never gives 0% or 100%."""
    if probability > 0.9994:
        return ">99.9%"
    return "<0.1%" if probability < 0.0006 else f"{probability:.1%}"
