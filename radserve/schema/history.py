"""History documents of a gateway: stored results, and whether a result was stored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StrictBool, model_validator

from radserve.schema.domain import Repair
from radserve.schema.types import Count, Document, Fraction, Sha256, Text

HistoryState = Literal["kept", "off", "unavailable"]
"""Key `history` of a gateway's prediction response; `unavailable`: the history could not be reached."""


class HistoryEntry(Document):
    """Stored result of a prediction or explanation, without its image.

    `id` sorts by time (UUID version 7, RFC 9562); `time` has milliseconds. `sha256` and `image_sha256` are digests of
    the archive and of the image as sent. `probability` is None for a segmentation. `certainty` is None if the model
    has no prediction sets; do not rely on the label of an uncertain result. The probability assumes that the share
    `prevalence` of the images is positive; `profile` is the name of the site profile that was applied. `client` is the
    name of the API key, or the subject of the token. `domain` is the status of the comparison with the training
    images, `off` if the operator disabled it; None without a detector. For `explained` results a heat map was computed;
    it belongs to its prediction, and `verb` is `explanations` only if there was none in the hour before.

    Images of one request share a `group_id`. `group_index` counts them from 0 in the order in which they were sent, and
    `group_size` is their number, including rejected ones. The three are None for an image that was sent alone.
    """

    id: Text
    time: Annotated[AwareDatetime, Field(json_schema_extra={"format": "date-time"})]
    verb: Literal["predictions", "explanations"]
    model: Text
    version: Text
    sha256: Sha256 | None
    image_sha256: Sha256
    label: Text
    probability: Fraction | None = None
    positive: StrictBool | None = None
    domain: Literal["normal", "unusual", "unlike", "off"] | None = None
    repair: Repair | None = None
    certainty: Literal["certain", "uncertain"] | None = None
    prevalence: Fraction | None = None
    profile: Text | None = None
    client: Text
    filename: str | None = None
    request_id: str = ""
    explained: StrictBool = False
    group_id: Text | None = None
    group_index: Count | None = None
    group_size: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _explain(cls, data: Any) -> Any:
        """Complete explanations of older releases."""
        is_explanation = isinstance(data, dict) and data.get("verb") == "explanations"
        return {"explained": True} | data if is_explanation else data


class StoredResult(HistoryEntry):
    """Stored result with its prediction document.

    `prediction` is the prediction document without its mask or heat map, None for results of older releases. `overlay`
    is what `/overlay` of the result returns, None if it is not stored. `has_image` says whether `/image` has the image.
    `volume` is that of the masks of its group when they were sent; None without one.
    """

    prediction: Mapping[str, Any] | None = None
    overlay: Literal["mask", "heat_map"] | None = None
    has_image: StrictBool = False
    volume: Mapping[str, Any] | None = None


class HistoryPage(Document):
    """Page of the history, newest first; `next` is the cursor of the following page, None on the last one.

    `matching` has the ids of the results that match the filters, if a page of whole requests has others too.
    `keeps_names` says whether the gateway stores file names, so that a search for them can find any; None in older
    releases.
    """

    results: tuple[HistoryEntry, ...]
    next: str | None
    matching: tuple[Text, ...] | None = None
    keeps_names: StrictBool | None = None
