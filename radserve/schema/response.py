"""Bodies of prediction responses: one result, or a list of results for several images."""

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import Discriminator, Tag, TypeAdapter, model_validator

from radserve.schema.history import HistoryState
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation, Volume
from radserve.schema.types import Document


def _kind(value: Any) -> str:
    if isinstance(value, RejectedImage):
        return "rejected"
    if isinstance(value, dict):
        if "status" in value and "label" not in value:
            return "rejected"
        return "segmentation" if "mask" in value else "classification"
    return "segmentation" if isinstance(value, Segmentation) else "classification"


AnyResult = Annotated[
    Annotated[Prediction, Tag("classification")] | Annotated[Segmentation, Tag("segmentation")], Discriminator(_kind)
]
"""Result of a model for one image, by its task."""

AnyItem = Annotated[
    Annotated[Prediction, Tag("classification")]
    | Annotated[Segmentation, Tag("segmentation")]
    | Annotated[RejectedImage, Tag("rejected")],
    Discriminator(_kind),
]
"""Result for one image among several, or the reason why it was rejected."""

RESULT: TypeAdapter[Prediction | Segmentation] = TypeAdapter(AnyResult)


def image_indices(results: Iterable[AnyItem]) -> list[int]:
    """Return for each result the index of its image among those that were sent; frames of one image share it.

    Raises ValueError if the frames of an image are not complete from the first one on, in order.
    """
    indices: list[int] = []
    index, last = -1, 0
    for item in results:
        frame = item.frame if isinstance(item, RejectedImage) else item.image.frame
        if frame is not None and frame != 1 and frame != last + 1:
            raise ValueError(f"frame {frame} follows {f'frame {last}' if last else 'no frame'}")
        index += frame in (None, 1)
        last = frame or 0
        indices.append(index)
    return indices


class ResultList(Document):
    """Results for several images, in the order in which they were sent; all from one version of one model.

    Segmentation models set `volume`, a gateway sets `history`.
    """

    predictions: tuple[AnyItem, ...]
    volume: Volume | None = None
    history: HistoryState | None = None

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        models = {item.model for item in self.predictions if not isinstance(item, RejectedImage)}
        if len(models) > 1:
            raise ValueError("the results are from several models")
        return self
