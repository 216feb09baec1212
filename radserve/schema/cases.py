"""Cases of the PACS loop: an image and the model that a rule chose for it, as the loop and a gateway list them."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StrictStr

from radserve.schema.types import Count, Document

CaseState = Literal["received", "predicting", "storing", "done", "rejected", "dead"]

_Time = Annotated[AwareDatetime, Field(json_schema_extra={"format": "date-time"})]


class Case(Document):
    """State of one image and model; it has identifiers of DICOM objects, but no other data of the patient.

    `rule` and `model` are empty if no rule applies; the server chooses an empty `version`. `reason` says why the image
    was not processed, or why the last try failed. `time` is when it arrived or was sent again, `next` when it is tried
    again. `attempts` counts the failed tries of the current step, `failures` those that count for `dead`.
    """

    id: Count
    time: _Time
    changed: _Time
    state: CaseState
    rule: StrictStr
    model: StrictStr
    version: StrictStr
    attempts: Count
    failures: Count
    reason: StrictStr
    next: _Time | None = None
    study: StrictStr
    series: StrictStr
    instance: StrictStr


class Cases(Document):
    """A page of cases, the newest first.

    `next` is the parameter `after` of the following page. `counts` are all cases by state; `webhooks` is the number of
    messages about positive findings that wait for delivery.
    """

    cases: tuple[Case, ...]
    next: Count | None = None
    counts: Mapping[CaseState, Count]
    webhooks: Count = 0


class Resent(Document):
    """Number of cases that are in the queue again."""

    resent: Count
