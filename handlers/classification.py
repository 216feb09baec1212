"""The classification handler; also the file that TorchServe imports from the root of an archive."""

from __future__ import annotations

from typing import Any

from handlers import heat_map, png, response
from handlers.decision import decide
from handlers.explanation import explain
from handlers.pipeline import Result
from handlers.response import Answer
from handlers.torchserve_handler import TorchServeHandler


class Classification(TorchServeHandler):
    """One label for each image, with its calibrated probability."""

    def describe(self, result: Result) -> Answer:
        """See `Task.describe`."""
        decision = decide(result.outputs["logits"], self.recipe)
        return Answer(response.classification(self.model, decision, result.prepared))

    def explain(self, result: Result) -> Answer:
        """See `Task.explain`: the answer, and a heat map of what spoke for its label."""
        document = self.describe(result).document
        made = explain(self.pipeline.program, self.recipe, result.prepared, document["label"])
        image = result.prepared.image

        def laid_over() -> bytes:
            return png.png(heat_map.overlay(png.shown(image), made.heat))

        return Answer(
            document=document | {"explanation": made.document()},
            pictures={"": laid_over, "overlay": laid_over, "map": lambda: png.png(made.heat)},
        )

    def rehearse(self, result: Result) -> None:
        """See `Task.rehearse`: an explanation needs outputs that an answer does not."""
        self.explain(result)

    @staticmethod
    def summary(document: dict[str, Any]) -> dict[str, Any]:
        """See `Task.summary`: the label and every probability."""
        shares = {label: round(value, 4) for label, value in document["probabilities"].items()}
        return {"label": document["label"], "probabilities": shares}

    def verify_sample(self, found: dict[str, Any], stored: dict[str, Any]) -> None:
        """See `Task.verify_sample`; every probability must agree."""
        for label, wanted in stored["probabilities"].items():
            self.compare(label, found["probabilities"][label], wanted)
