"""What an archive's task has to say of an image; what every task answers differently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from handlers.errors import NotFoundError, ProgramError, RequestError
from handlers.pipeline import Result
from handlers.recipe import Recipe
from handlers.response import Answer, Model

TOLERANCE: Final = 0.01
"""How far a figure of the warm-up's answer may lie from the one stored when the archive was built:
devices differ in the last digits, other weights or another pipeline in the first."""


class Task(ABC):
    """From a network's outputs to an answer, as the recipe says."""

    recipe: Recipe
    model: Model

    @abstractmethod
    def describe(self, result: Result) -> Answer:
        """Turn the outputs for one image into its answer.

        Raises
        ------
        RequestError
            If they mean nothing.
        """

    def explain(self, result: Result) -> Answer:  # noqa: ARG002 - for the tasks that can
        """Turn the outputs for one image into its answer and what led to it.

        Raises
        ------
        RequestError
            If that is not possible; NotFound if the task explains nothing.
        """
        raise NotFoundError(f"{self.recipe.name} {self.recipe.version} gives no explanations; use /predictions.")

    def rehearse(self, result: Result) -> None:  # noqa: B027 - a task may offer nothing else
        """Do once, when an archive is built or a worker starts, what requests may ask for beyond `describe`.

        Raises
        ------
        RadServeError
            If the archive cannot do it.
        """

    def together(self, answers: Sequence[Answer | RequestError]) -> dict[str, Any]:  # noqa: ARG002 - as above
        """Say what the images of one request mean together, as further keys of its document."""
        return {}

    @staticmethod
    @abstractmethod
    def summary(document: dict[str, Any]) -> dict[str, Any]:
        """Take from an answer what is stored beside the sample when the archive is built.

        Figures have four digits: what a processor adds in the sixth must not change the archive's bytes.
        """

    @abstractmethod
    def verify_sample(self, found: dict[str, Any], stored: dict[str, Any]) -> None:
        """Hold the summary of the answer to the sample against the stored one, by `compare`.

        Raises
        ------
        ProgramError
            If they differ.
        """

    def compare(self, name: str, found: float, wanted: float, tolerance: float = TOLERANCE) -> None:
        """Hold one figure against another.

        Raises
        ------
        ProgramError
            If they differ.
        """
        if not abs(found - wanted) <= tolerance:
            raise ProgramError(
                f"{self.recipe.name} {self.recipe.version} answers its sample with {name} {found:.4f}; "
                f"{wanted:.4f} was stored when it was built. The archive or its environment is not what it was."
            )
