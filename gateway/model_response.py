"""Interprets responses of the model server: errors become problems, predictions get an id, a time and a file name."""

import base64
import json
import logging
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, Final, cast

from pydantic import ValidationError

from gateway import bounded_response, problems
from gateway.backends.base import ModelRequest, ModelResponse, Verb, unknown_model
from gateway.errors import (
    BadGatewayError,
    BadRequestError,
    ContentTooLargeError,
    ProblemError,
    ResponseError,
    TooManyRequestsError,
    UnavailableError,
    UpstreamProblemError,
)
from gateway.history import Details, Result, format_time, new_id
from gateway.metrics import DISCARDED
from gateway.uploads import image_contents
from gateway.uploads.request_body import RequestBody
from radserve.schema.catalog import Task
from radserve.schema.domain import Repair
from radserve.schema.explanation import Explanation
from radserve.schema.problem import ProblemDetails, RejectedImage
from radserve.schema.requested_image import RequestedImage
from radserve.schema.response import RESULT, AnyItem, ResultList, image_indices

logger = logging.getLogger(__name__)

Document = dict[str, Any]

JSON: Final = "application/json"
PNG: Final = "image/png"
_MAX_PROBLEM: Final = 65536
"""Bytes of problem details that are passed on."""
_MAX_ERRORS: Final = 5
_MAX_REASON: Final = 1000
"""Errors of an invalid prediction in the log, and their characters."""
_PICTURES: Final = ("mask", "explanation")
_NOT_STORED: Final = ("name", "filename", "id", "time", "history")
"""Stored in the history entry, if at all."""
_MAX_OVERLAY: Final = 1024 * 1024
"""Bytes of a mask or heat map that is stored; those of a radiograph of 3000 x 3000 pixels have about half of it."""
_WORKER_DIED: Final = b"Worker died"
"""In responses of TorchServe with status 500 or 507, depending on which of its threads notices first."""


_TORCHSERVE_PROBLEMS: Final[Mapping[int, tuple[type[ProblemError], str]]] = {
    400: (BadRequestError, "The analysis service cannot read this request."),
    413: (ContentTooLargeError, "The request is too large for the analysis service; send fewer or smaller images."),
    429: (TooManyRequestsError, "The analysis service is busy; try again in a few seconds."),
    503: (UnavailableError, "The analysis service is unavailable; try again in a few seconds."),
}
"""Replace TorchServe's own errors, which lack a title and advice."""


def problem(response: ModelResponse) -> ProblemError:
    """Return the problem of a response whose status is not 200; problem details of the server are passed on."""
    headers = {"Retry-After": response.retry_after} if response.retry_after else {}
    if response.status in (401, 403):
        return BadGatewayError(
            "The analysis service rejected the gateway's API key; ask the operator to set RADSERVE_GATEWAY_SERVER_KEY."
        )
    if bounded_response.media_type(response.media_type) == problems.MEDIA_TYPE and len(response.body) <= _MAX_PROBLEM:
        try:
            document = bounded_response.parse_json(response.body)
            details = ProblemDetails.model_validate(document | {"status": response.status})
        except (ResponseError, ValidationError, TypeError):
            pass  # invalid problem details
        else:
            return UpstreamProblemError(
                details.detail, headers, status=response.status, title=details.title, domain=details.domain
            )
    if response.status == 507 or _WORKER_DIED in response.body:
        return UnavailableError("The analysis worker restarted; try again in a few seconds.", headers)
    if response.status == 404:
        return unknown_model()
    kind, detail = _TORCHSERVE_PROBLEMS.get(
        response.status, (BadGatewayError, f"The analysis service returned status {response.status} without a reason.")
    )
    return kind(detail, headers)


def is_picture(response: ModelResponse) -> bool:
    """Return whether a response with status 200 is a picture, not JSON; raises BadGatewayError if it is neither."""
    media_type = bounded_response.media_type(response.media_type)
    if media_type not in (JSON, PNG):
        raise BadGatewayError(
            f"The analysis service sent media type {media_type[:80]!r}; the response was discarded. "
            "RADSERVE_GATEWAY_SERVER must be the URL of a server with models of this release."
        )
    return media_type == PNG


def parse(response: ModelResponse, verb: Verb) -> tuple[Document, Sequence[AnyItem]]:
    """Return the document of a prediction, and its results; raises BadGatewayError if it contradicts itself."""
    try:
        document = bounded_response.parse_json(response.body)
        json.dumps(document, allow_nan=False)  # 1e400 is valid JSON and becomes infinite
        if isinstance(document, dict) and "predictions" in document:
            results: Sequence[AnyItem] = ResultList.model_validate(document).predictions
        elif verb == "explanations":
            results = [Explanation.model_validate(document)]
        else:
            results = [RESULT.validate_python(document)]
    except ValidationError as error:
        reason = problems.describe_validation(error.errors(include_url=False, include_input=False)[:_MAX_ERRORS])
        logger.error("invalid prediction discarded: %s", reason[:_MAX_REASON])  # noqa: TRY400 - it is complete
        raise BadGatewayError("The analysis service sent an invalid prediction; the response was discarded.") from error
    except (ResponseError, ValueError) as error:
        raise BadGatewayError(f"The response of the analysis service was discarded: {error}.") from error
    return cast("Document", document), results


def require_images(results: Sequence[AnyItem], request: ModelRequest, body: RequestBody) -> None:
    """Raise BadGatewayError, logged and counted, unless the results are about the images of a request, in order."""
    waiting: defaultdict[str | None, deque[RequestedImage]] = defaultdict(deque)
    for image in image_contents.read(body):
        repair = cast("Repair | None", request.repair or image.repair)
        waiting[image.name].append(RequestedImage(request.model, request.version, image.sha256, repair))
    try:
        last = -1
        for result, index in zip(results, image_indices(results), strict=True):
            if index != last:  # else, a further frame of the same image
                images = waiting[result.name]
                requested = images.popleft() if images else RequestedImage(request.model, request.version, None)
            last = index
            if not isinstance(result, RejectedImage):
                requested.require(result)
        if missing := sum(map(len, waiting.values())):
            raise ValueError(f"it has no result for {missing} of the images")
    except ValueError as error:
        DISCARDED.inc()
        # The text may contain the digest of another patient's image.
        logger.error("response discarded: %s", error, extra={"request_id": request.request_id})  # noqa: TRY400
        raise BadGatewayError(
            "The response of the analysis service is not about the images of this request, and was discarded. Try "
            "again; if this happens again, inform the operator."
        ) from error


def require_task(document: Document, task: Task) -> None:
    """Raise BadGatewayError unless all predictions are of a task."""
    is_segmentation = task == "segmentation"
    if any(("mask" in item) != is_segmentation for item in predictions(document) if is_prediction(item)):
        raise BadGatewayError(f"The analysis service sent results of another task than {task}; they were discarded.")


def predictions(document: Document) -> list[Document]:
    """Return the predictions of single images in a document."""
    several = document.get("predictions")
    return several if isinstance(several, list) else [document]


def is_prediction(item: Document) -> bool:
    """Return whether an item is a prediction, not problem details."""
    return "label" in item


def annotate(document: Document, names: Sequence[str | None], time: datetime) -> Document:
    """Return the document with an id and time in each prediction, and the names of files that have one."""
    items = predictions(document)
    file_names = _file_names(items, names)
    ids = sorted(new_id() for _ in items)  # in the order of the images, also within a millisecond
    annotated = []
    for item, file_name, result_id in zip(items, file_names, ids, strict=True):
        name = item.get("name") or file_name
        extra: Document = {"id": result_id, "time": format_time(time)} if is_prediction(item) else {}
        annotated.append(extra | ({"filename": name} if name else {}) | item)
    return document | {"predictions": annotated} if items is document.get("predictions") else annotated[0]


def _file_names(items: Sequence[Document], names: Sequence[str | None]) -> list[str | None]:
    """Return the name of the file of each item; None if it is unknown which. Frames of one file share its name."""
    numbers = [item.get("image", item).get("frame") or 1 for item in items]
    indices = list(accumulate(int(number == 1) for number in numbers))
    if not indices or indices[-1] != len(names):
        return [None] * len(items)
    return [names[index - 1] for index in indices]


def identify(document: Document, results: Mapping[str, Result]) -> Document:
    """Return the document with ids and times of stored results, by the ids that the predictions have."""
    items = [
        item | {"id": results[item["id"]].id, "time": format_time(results[item["id"]].time)}
        if item.get("id") in results
        else item
        for item in predictions(document)
    ]
    return document | {"predictions": items} if "predictions" in document else items[0]


def history_details(document: Document, *, with_overlays: bool) -> dict[str, Details]:
    """Return the details of the results of an annotated document, by id; without names of files.

    Each has the volume of its group, so that the deletion of one result leaves it to the others.
    """
    volume = {"volume": document["volume"]} if document.get("volume") and "predictions" in document else {}
    return {item["id"]: _details(item | volume, with_overlays) for item in predictions(document) if is_prediction(item)}


def _details(item: Document, with_overlays: bool) -> Details:  # noqa: FBT001 - private
    stored = {key: value for key, value in item.items() if key not in _NOT_STORED}
    overlay = None
    for key in _PICTURES:
        if key in item:
            picture = item[key]
            stored[key] = {name: value for name, value in picture.items() if name != "data"}
            overlay = base64.b64decode(picture["data"])
    return Details(stored, overlay if with_overlays and overlay and len(overlay) <= _MAX_OVERLAY else None)


def _domain_status(item: Document) -> str | None:
    domain = item.get("domain")
    return None if domain is None else domain.get("status") or domain["mode"]


def history_entries(document: Document, verb: Verb, client: str, request_id: str, *, keep_names: bool) -> list[Result]:
    """Return the history entries of an annotated document; raises BadGatewayError without the model's checksum."""
    items = predictions(document)
    group: Document = {"group_id": new_id(), "group_size": len(items)} if len(items) > 1 else {}
    try:
        return [
            Result.model_validate(
                item
                | (group | {"group_index": index} if group else {})
                | {"verb": verb, "client": client, "request_id": request_id, "image_sha256": item["image"]["sha256"]}
                | {"model": item["model"]["name"], "certainty": (item.get("certainty") or {}).get("status")}
                | {key: item["model"][key] for key in ("version", "sha256")}
                | {"domain": _domain_status(item), "profile": (item.get("profile") or {}).get("name")}
                | ({} if keep_names else {"filename": None})
            )
            for index, item in enumerate(items)
            if is_prediction(item)
        ]
    except ValidationError as error:  # the server has no index of its model store, so it lacks the archive's checksum
        raise BadGatewayError(
            "The analysis service sent a prediction without the checksum of its model; the response was discarded."
        ) from error
