"""Formats probabilities, and compares them with cut-offs."""


def percentage(probability: float) -> str:
    """Format a probability; rounding never gives 0% or 100%."""
    if probability > 0.9994:
        return ">99.9%"
    return "<0.1%" if probability < 0.0006 else f"{probability:.1%}"


def comparison(label: str, probability: float, threshold: float | None = None) -> str:
    """Return a label with its probability, and the cut-off of that label: `pneumonia 1.4%, cut-off 49.3%`."""
    text = f"{label} {percentage(probability)}"
    return text if threshold is None else f"{text}, cut-off {percentage(threshold)}"
