"""The classification handler; also the file that TorchServe imports from the root of an archive."""

from __future__ import annotations

from typing import Any

from handlers import answer
from handlers.decision import decide
from handlers.errors import ProgramError
from handlers.pipeline import Result
from handlers.service import TOLERANCE, Service


class Classification(Service):
    """One label for each image, with its calibrated probability."""

    def describe(self, result: Result) -> dict[str, Any]:
        """See `Service.describe`."""
        decision = decide(result.outputs["logits"], self.recipe)
        return answer.classification(self.model, decision, result.prepared)

    def verify_sample(self, answer: dict[str, Any], stored: dict[str, Any]) -> None:
        """See `Service.verify_sample`; every probability must agree."""
        for label, wanted in stored["probabilities"].items():
            found = answer["probabilities"][label]
            if abs(found - wanted) > TOLERANCE:
                raise ProgramError(
                    f"{self.recipe.name} {self.recipe.version} answers its sample with {label} {found:.4f}; "
                    f"{wanted:.4f} was stored when it was built. The archive or its environment is not what it was."
                )
