"""Classification handler. TorchServe imports this file from the root of an archive."""

from typing import Any

from handlers import explanation, heat_map, png, response
from handlers.errors import NotFoundError
from handlers.pipeline import Result
from handlers.response import Prediction
from handlers.threshold import decide, with_prevalence
from handlers.torchserve_handler import TorchServeHandler


class Classification(TorchServeHandler):
    """Predicts one label per image, with calibrated probabilities."""

    def predict(self, result: Result) -> Prediction:
        """See `TorchServeHandler.predict`."""
        decision = decide(result.outputs["logits"], self.recipe, result.second_logits)
        prevalence = result.prepared.prevalence
        if prevalence is not None and self.recipe.decision is not None:
            decision = with_prevalence(decision, self.recipe.decision.positive, prevalence)
        return Prediction(response.classification_document(self.model, decision, result.prepared))

    def explain(self, result: Result) -> Prediction:
        """See `TorchServeHandler.explain`: adds a heat map of the areas that support the predicted label."""
        if not self.recipe.explains:
            raise NotFoundError(
                f"{self.recipe.name} {self.recipe.version} has no explanations: its network has no feature map "
                "to explain a prediction with. Use /predictions."
            )
        document = self.predict(result).document
        heat = explanation.explain(self.pipeline.program, self.recipe, result.prepared, document["label"])
        image = result.prepared.image

        def overlay() -> bytes:
            return png.png(heat_map.overlay(png.to_rgb(image), heat))

        return Prediction(
            document=document | {"explanation": explanation.document(self.recipe, document["label"], heat)},
            pictures={"": overlay, "overlay": overlay, "map": lambda: png.png(heat)},
        )

    def warm_up(self, result: Result) -> None:
        """See `TorchServeHandler.warm_up`: explanations need outputs that predictions do not."""
        if self.recipe.explains:
            self.explain(result)

    @staticmethod
    def summary(document: dict[str, Any]) -> dict[str, Any]:
        """See `TorchServeHandler.summary`: the label and all probabilities."""
        probabilities = {label: round(value, 4) for label, value in document["probabilities"].items()}
        return {"label": document["label"], "probabilities": probabilities}

    def verify_sample(self, actual: dict[str, Any], stored: dict[str, Any]) -> None:
        """See `TorchServeHandler.verify_sample`; every probability must agree."""
        for label, probability in stored["probabilities"].items():
            self.compare(label, actual["probabilities"][label], probability)
