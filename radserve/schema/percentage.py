"""Formats probabilities, and compares them with cut-offs."""


def percentage(probability: float, digits: int = 1) -> str:
    """Format a probability; rounding never gives 0% or 100%."""
    least = 10 ** -(digits + 2)
    if probability > 1 - 0.6 * least:
        return f">{1 - least:.{digits}%}"
    return f"<{least:.{digits}%}" if probability < 0.6 * least else f"{probability:.{digits}%}"


def compared(probability: float, threshold: float) -> tuple[str, str]:
    """Format a probability and its cut-off, with as many digits as tell them apart."""
    digits = 1
    while percentage(probability, digits) == percentage(threshold, digits) and probability != threshold and digits < 6:
        digits += 1
    return percentage(probability, digits), percentage(threshold, digits)


def comparison(label: str, probability: float, threshold: float | None = None) -> str:
    """Return a label with its probability, and the cut-off of that label: `pneumonia 1.4%, cut-off 49.3%`."""
    if threshold is None:
        return f"{label} {percentage(probability)}"
    return "{} {}, cut-off {}".format(label, *compared(probability, threshold))
