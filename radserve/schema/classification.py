"""The answer of a classifier, as a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from radserve.schema.prediction import Answer, Share, Text

_ROUNDING: Final = 1e-6
_SUM_TOLERANCE: Final = 0.01
"""How far the probabilities may sum from 1: rounded to two digits by somebody, not of another kind."""


@dataclass(frozen=True, kw_only=True)
class Prediction(Answer):
    """What a classifier says of one image; see `Answer` for the rest.

    Attributes
    ----------
    probability
        That of `label`.
    probabilities
        Label -> calibrated probability.
    """

    task: ClassVar[Literal["classification"]] = "classification"

    probability: Share
    probabilities: Mapping[Text, Share]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that no part of the answer contradicts another."""
        if self.label not in self.probabilities:
            raise ValueError(f"label {self.label!r} is not among the probabilities {sorted(self.probabilities)}")
        if not math.isclose(self.probability, self.probabilities[self.label], abs_tol=_ROUNDING):
            raise ValueError(f"probability {self.probability} is not that of label {self.label!r}")
        total = math.fsum(self.probabilities.values())
        if abs(total - 1) > _SUM_TOLERANCE:
            raise ValueError(f"the probabilities sum to {total:.4f}, not 1")
        if self.positive is None or self.threshold is None:
            self._is_most_probable()
        else:
            self._reaches(self.threshold, positive=self.positive)
        return self

    def _is_most_probable(self) -> None:
        best = max(self.probabilities, key=self.probabilities.__getitem__)
        if self.probability < self.probabilities[best] - _ROUNDING:
            raise ValueError(f"label is {self.label!r}, but {best!r} is more probable and no threshold decides")

    def _reaches(self, threshold: float, *, positive: bool) -> None:
        others = (share for label, share in self.probabilities.items() if label != self.label)
        finding = self.probability if positive else min(others, default=0.0)
        if positive and finding < threshold - _ROUNDING:
            raise ValueError(f"positive is true, but probability {finding} is below threshold {threshold}")
        if not positive and finding > threshold + _ROUNDING:
            raise ValueError(f"positive is false, but no other label's probability is below threshold {threshold}")
