"""Kinds of DICOM objects that a result can be written as; imports no DICOM library."""

from typing import Final, Literal

from radserve.schema.prediction import ImageResult
from radserve.schema.segmentation import Segmentation

Kind = Literal["sr", "seg", "sc"]
"""Structured report, segmentation, secondary capture."""

KINDS: Final[tuple[Kind, ...]] = ("sr", "seg", "sc")


def default_kind(result: ImageResult) -> Kind:
    """Return the kind that holds the result itself: a mask, or probabilities."""
    return "seg" if isinstance(result, Segmentation) else "sr"
