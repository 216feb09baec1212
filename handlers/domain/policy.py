"""Decides what happens to images that are unlike the training images: they are rejected, marked, or not compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from handlers import volume
from handlers.domain.assessment import Mode
from handlers.errors import RequestError
from handlers.pipeline import Result
from handlers.response import Prediction


@dataclass(frozen=True)
class Policy:
    """What happens to the unlike images of one model."""

    mode: Mode
    compares: bool  # whether the model has a detector
    exempt: str | None = None  # SHA-256 of the archive's sample, which is neither rejected nor warned of

    def rejection(self, result: Result) -> RequestError | None:
        """Return the error of an unlike image, where the mode is strict."""
        unlike = result.unlike(self.exempt)
        return None if unlike is None or self.mode != "strict" else unlike.rejection(self.mode)

    def mark(self, prediction: Prediction, result: Result) -> Prediction:
        """Add to a prediction how alike its image is to the training images, and a warning if it is unlike."""
        document: dict[str, Any] = {}
        if self.compares:
            assessed = result.assessment
            document["domain"] = {"mode": self.mode} if assessed is None else assessed.document(self.mode)
        if (unlike := result.unlike(self.exempt)) is not None:
            warnings = [prediction.document.get("warning"), unlike.warning]
            document["warning"] = " ".join(filter(None, warnings))
        return replace(prediction, document=prediction.document | document)


def settle(predictions: Sequence[Prediction | RequestError]) -> list[Prediction | RequestError]:
    """Replace the predictions of unlike slices by their rejections, unless they are few slices of one series."""
    if volume.accepts_unlike([item.slice if isinstance(item, Prediction) else None for item in predictions]):
        return list(predictions)
    return [
        item.rejection if isinstance(item, Prediction) and item.rejection is not None else item for item in predictions
    ]
