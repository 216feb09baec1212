"""The segmentation handler; also the file that TorchServe imports from the root of an archive."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from handlers import png, response, volume
from handlers.errors import NotFoundError, RequestError
from handlers.formats.image import Image
from handlers.geometry import Geometry
from handlers.mask import Mask, segment
from handlers.pipeline import Prepared, Result
from handlers.response import Answer
from handlers.torchserve_handler import TorchServeHandler
from handlers.volume import Slice

TOLERANCE: Final = 0.005
"""How much of its sample a mask may gain or lose between devices: only pixels at the threshold change
sides, and a mask's outline is a few hundredths of an image. Another network marks another place."""


class Segmentation(TorchServeHandler):
    """A mask for each image, in the geometry of the image as sent."""

    def describe(self, result: Result) -> Answer:
        """See `Task.describe`."""
        image = result.prepared.image
        mask = segment(result.outputs["logits"], self.recipe, Geometry.of(image.width, image.height, self.recipe.input))
        return Answer(
            document=self._document(mask, result.prepared),
            pictures={
                "": lambda: png.png(mask.gray),
                "mask": lambda: png.png(mask.gray),
                "overlay": lambda: png.png(png.outlined(image, mask.marked)),
            },
            slice=Slice(mask.pixels, result.prepared.sha256, image.spacing, image.plane),
        )

    def _document(self, mask: Mask, prepared: Prepared) -> dict[str, Any]:
        decision = self.recipe.decision
        assert decision is not None  # a recipe of this task has one
        image = prepared.image
        (other,) = (label for label in self.recipe.labels if label != decision.positive)
        box = mask.box
        return response.head(self.model) | {
            "label": other if box is None else decision.positive,
            "positive": box is not None,
            "threshold": decision.threshold,
            "area": _area(mask, image),
            "box": None if box is None else asdict(box),
            "mask": {
                "encoding": "png",
                "width": image.width,
                "height": image.height,
                "data": base64.b64encode(png.png(mask.gray)).decode(),
            },
            "image": response.image(prepared) | ({} if image.spacing is None else {"spacing": list(image.spacing)}),
        }

    def explain(self, result: Result) -> Answer:  # noqa: ARG002 - nothing can be explained
        """See `Task.explain`."""
        raise NotFoundError(
            f"{self.recipe.name} {self.recipe.version} gives no explanations: its mask says where it found something. "
            "Use /predictions, with Accept: image/png;view=overlay for a picture."
        )

    def together(self, answers: Sequence[Answer | RequestError]) -> dict[str, Any]:
        """See `Task.together`: the volume of the masks."""
        return {"volume": volume.measure([item.slice if isinstance(item, Answer) else None for item in answers])}

    @staticmethod
    def summary(document: dict[str, Any]) -> dict[str, Any]:
        """See `Task.summary`: the label, and how much of the image is marked."""
        return {"label": document["label"], "fraction": round(document["area"]["fraction"], 4)}

    def verify_sample(self, found: dict[str, Any], stored: dict[str, Any]) -> None:
        """See `Task.verify_sample`."""
        self.compare("fraction", found["fraction"], stored["fraction"], TOLERANCE)


def _area(mask: Mask, image: Image) -> dict[str, float]:
    area: dict[str, float] = {"pixels": mask.pixels, "fraction": mask.fraction}
    if image.spacing is not None:
        row, column = image.spacing
        area["mm2"] = mask.pixels * row * column
    return area
