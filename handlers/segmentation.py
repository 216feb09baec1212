"""Segmentation handler. TorchServe imports this file from the root of an archive."""

from collections.abc import Sequence
from typing import Any, Final

from handlers import png, response, volume
from handlers.errors import NotFoundError, RequestError
from handlers.formats.image import Image
from handlers.geometry import Geometry
from handlers.mask import Mask, segment
from handlers.pipeline import PreparedImage, Result
from handlers.response import Prediction
from handlers.torchserve_handler import TorchServeHandler
from handlers.volume import Slice

TOLERANCE: Final = 0.005
"""Largest difference between the marked fraction of the sample and the stored one. Between devices only pixels at the
threshold change sides, and a mask's outline is a few hundredths of an image; another network marks another area."""


class Segmentation(TorchServeHandler):
    """Predicts one mask per image, in the geometry of the image as sent, or as repaired on request."""

    measures_volumes = True

    def predict(self, result: Result) -> Prediction:
        """See `TorchServeHandler.predict`."""
        image = result.prepared.image
        mask = segment(result.outputs["logits"], self.recipe, Geometry.of(image.width, image.height, self.recipe.input))
        return Prediction(
            document=self._document(mask, result.prepared),
            pictures={
                "": lambda: png.png(mask.gray),
                "mask": lambda: png.png(mask.gray),
                "overlay": lambda: png.png(png.outlined(image, mask.marked)),
            },
            slice=Slice(
                mask.pixels,
                result.prepared.sha256,
                image.spacing,
                image.plane,
                None if result.assessment is None else result.assessment.status,
                image.frame,
            ),
        )

    def _document(self, mask: Mask, prepared: PreparedImage) -> dict[str, Any]:
        decision = self.recipe.decision
        assert decision is not None  # a recipe of this task has one
        image = prepared.image
        (negative,) = (label for label in self.recipe.labels if label != decision.positive)
        box = mask.box
        spacing = {} if image.spacing is None else {"spacing": list(image.spacing)}
        return (
            response.model_document(self.model)
            | {
                "label": negative if box is None else decision.positive,
                "positive": box is not None,
                "finding": decision.positive,
                "threshold": decision.threshold,
                "area": _area(mask, image),
                "box": box,
                "mask": png.embedded(mask.gray),
                "image": response.image_document(prepared) | spacing,
            }
            | response.checks_document(prepared)
        )

    def explain(self, result: Result) -> Prediction:  # noqa: ARG002 - there is nothing to explain
        """See `TorchServeHandler.explain`."""
        raise NotFoundError(
            f"{self.recipe.name} {self.recipe.version} has no explanations: its mask shows where the finding is. "
            "Use /predictions, with Accept: image/png;view=overlay for a picture."
        )

    def summarize_request(self, predictions: Sequence[Prediction | RequestError]) -> dict[str, Any]:
        """See `TorchServeHandler.summarize_request`: the volume of the masks."""
        slices = [item.slice if isinstance(item, Prediction) else None for item in predictions]
        return {"volume": volume.measure(slices)}

    @staticmethod
    def summary(document: dict[str, Any]) -> dict[str, Any]:
        """See `TorchServeHandler.summary`: the label and the marked fraction of the image."""
        return {"label": document["label"], "fraction": round(document["area"]["fraction"], 4)}

    def verify_sample(self, actual: dict[str, Any], stored: dict[str, Any]) -> None:
        """See `TorchServeHandler.verify_sample`."""
        self.compare("fraction", actual["fraction"], stored["fraction"], TOLERANCE)


def _area(mask: Mask, image: Image) -> dict[str, float]:
    area: dict[str, float] = {"pixels": mask.pixels, "fraction": mask.fraction}
    if image.spacing is not None:
        row, column = image.spacing
        area["mm2"] = mask.pixels * row * column
    return area
