"""Interface of a task: how a network's outputs become predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from handlers.errors import NotFoundError, ProgramError, RequestError
from handlers.pipeline import Result
from handlers.recipe import Recipe
from handlers.response import Model, Prediction

TOLERANCE: Final = 0.01
"""Largest difference between a number of the sample's prediction and the stored one: devices differ in the last
digits, other weights or another pipeline in the first."""


class Task(ABC):
    """One task, such as classification, for one recipe."""

    recipe: Recipe
    model: Model

    @abstractmethod
    def predict(self, result: Result) -> Prediction:
        """Turn the outputs for one image into its prediction; `RequestError` if they are invalid."""

    def explain(self, result: Result) -> Prediction:  # noqa: ARG002 - for the tasks that can
        """Turn the outputs for one image into its prediction with an explanation, if the task has explanations."""
        raise NotFoundError(f"{self.recipe.name} {self.recipe.version} has no explanations; use /predictions.")

    def warm_up(self, result: Result) -> None:  # noqa: B027 - optional
        """Run once, at build and at start, what requests may need beyond `predict`."""

    def summarize_request(self, predictions: Sequence[Prediction | RequestError]) -> dict[str, Any]:  # noqa: ARG002
        """Return further keys for a response to several images: what they mean together."""
        return {}

    @staticmethod
    @abstractmethod
    def summary(document: dict[str, Any]) -> dict[str, Any]:
        """Return the part of a prediction that is stored beside the sample when the archive is built.

        Numbers have four digits: a processor's rounding must not change the archive's bytes.
        """

    @abstractmethod
    def verify_sample(self, actual: dict[str, Any], stored: dict[str, Any]) -> None:
        """Raise `ProgramError` if the summary of the sample's prediction differs from the stored one."""

    def compare(self, name: str, actual: float, stored: float, tolerance: float = TOLERANCE) -> None:
        """Raise `ProgramError` if a number of a summary differs from the stored one by more than the tolerance."""
        if not abs(actual - stored) <= tolerance:
            raise ProgramError(
                f"{self.recipe.name} {self.recipe.version} answers its sample with {name} {actual:.4f}, but "
                f"{stored:.4f} was stored at build time: the archive or its environment changed. Build it again."
            )
