"""Results as DICOM objects, for a client that requests them (docs/dicom-results.md)."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from fastapi import Request
from starlette.responses import Response

from gateway import model_response, services
from gateway.accept import preferred
from gateway.access import Caller
from gateway.api import inference
from gateway.api.inference import Target
from gateway.errors import BadGatewayError, NotAcceptableError, ProblemError
from gateway.history import images
from gateway.model_response import Document
from gateway.uploads import image_contents
from gateway.uploads.image_contents import ImageContent
from gateway.uploads.request_body import RequestBody
from radserve.dicom.kinds import KINDS, Kind, default_kind
from radserve.errors import DicomError, InvalidResponseError
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Prediction
from radserve.schema.response import RESULT
from radserve.schema.segmentation import Segmentation, Series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from radserve.dicom.source import Source

MEDIA_TYPE: Final = "application/dicom"
_MULTIPART: Final = "multipart/related"
_PICTURE: Final[tuple[Kind, ...]] = ("sc",)
_NO_OBJECT: Final = "This result has no object of the requested type."
_NO_SERIES: Final = "Several images have no common DICOM result, unless they are slices for a segmentation model."
_MAX_KEYS: Final = 3
"""Most slices of a series that are tried as its picture."""
_MAX_IDS: Final = 32
"""Most ids in a header: nginx accepts 4 kB for all headers of a response."""
_Objects = Mapping[Kind, "Dataset"]


def is_requested(accept: str) -> bool:
    """Return whether a header Accept prefers DICOM."""
    media_type, parameters = preferred(accept)
    return media_type == MEDIA_TYPE or (media_type == _MULTIPART and parameters.get("type", "").lower() == MEDIA_TYPE)


async def respond(request: Request, target: Target, body: RequestBody, caller: Caller) -> Response:
    """Analyse the image, or the slices of a series, and return the requested object, or all of them."""
    if find_spec("highdicom") is None:
        raise NotAcceptableError("This gateway has no DICOM results; install radserve[dicom], or request JSON.")
    several, kind = _requested(request.headers.get("accept", ""))
    await _require_possible(request, target, body, kind)
    document = await inference.run(request, target, body, caller)
    assert isinstance(document, dict)  # JSON was requested
    try:
        if "predictions" in document:
            objects = await _of_series(request, target, body, document, KINDS if several else (kind or "seg",))
        else:
            result = await asyncio.to_thread(_result, document)
            kinds = KINDS if several else (kind or default_kind(result),)
            objects = await _of_image(request, target, body, result, kinds)
        response = await asyncio.to_thread(_response, objects, several=several)
    except DicomError as error:
        raise _not_acceptable(error) from error
    except InvalidResponseError as error:
        raise BadGatewayError("The analysis service sent a damaged picture; the response was discarded.") from error
    if document["history"] == "kept":
        ids = [item["id"] for item in model_response.predictions(document) if model_response.is_prediction(item)]
        if len(ids) <= _MAX_IDS:
            response.headers["X-Result-Id"] = ", ".join(ids)
    return response


def _not_acceptable(error: DicomError) -> NotAcceptableError:
    return NotAcceptableError(f"{error} Request JSON, or send another file.")


async def _require_possible(request: Request, target: Target, body: RequestBody, kind: Kind | None) -> None:
    """Raise NotAcceptableError if it is clear that there is no such object, before a model runs and a result is kept.

    Images of unknown types are left to the model server.
    """
    catalog = await services.of(request).backend.catalog()
    versions = [
        version
        for model in catalog.models
        for version in model.versions
        if model.name == target.model and target.version in (None, version.version)
    ]
    classifies = bool(versions) and all(version.task == "classification" for version in versions)
    no_heat_map = classifies and not any(version.explains for version in versions)
    try:
        sources, count = await asyncio.to_thread(_read, body)
        if count > 1 and classifies:
            raise DicomError(_NO_SERIES)
        has_frames = any(source.frames > 1 for source in sources)
        if kind == "seg" and no_heat_map:
            raise DicomError(_NO_OBJECT)
        if kind == "sc" and has_frames:
            raise DicomError("The server draws no single frame; request SEG or SR.")
        if count > 1:
            from radserve.dicom.objects import require_one_series

            require_one_series(sources)
    except DicomError as error:
        raise _not_acceptable(error) from error


def _read(body: RequestBody) -> tuple[list["Source"], int]:
    """Return the valid DICOM images without pixels, and the number of all images and frames.

    Raises DicomError if no image can be DICOM, or the only one is invalid.
    """
    from radserve.dicom.source import read

    types: set[str] = set()
    sources: list[Source] = []
    fault: DicomError | None = None
    count = 0
    for image in image_contents.read(body):  # one content at a time is in memory
        count += 1
        content = image.content or b""
        types.add(images.media_type(content))
        if content[128:132] == b"DICM":
            try:
                source = read(content)
                sources.append(source)
                count += source.frames - 1
            except DicomError as error:
                fault = error  # of several images, the model server rejects it
    if types and all(item.startswith("image/") for item in types):
        raise DicomError(
            f"The image is {min(types).removeprefix('image/')}, not DICOM, so its result cannot be either."
        )
    if fault is not None and count == 1:
        raise fault
    return sources, count


def _requested(accept: str) -> tuple[bool, Kind | None]:
    """Return whether all objects are requested, and the kind of the one that is; None is the default."""
    media_type, parameters = preferred(accept)
    if media_type == _MULTIPART:
        return True, None
    name = parameters.get("type", "").lower()
    if not name:
        return False, None
    for kind in KINDS:
        if kind == name:
            return False, kind
    raise NotAcceptableError(f"Accept has the unknown type {name[:20]!r}; available: {', '.join(KINDS)}.")


async def _of_image(
    request: Request, target: Target, body: RequestBody, result: Prediction | Segmentation, kinds: Collection[Kind]
) -> _Objects:
    from radserve.dicom.objects import of_image

    same = replace(target, version=result.model.version)
    if isinstance(result, Prediction) and not isinstance(result, Explanation) and {"seg", "sc"} & set(kinds):
        result = await _explained(request, same, body, result)
    picture = await _picture(request, same, body, result) if "sc" in kinds else None
    content = (await asyncio.to_thread(_images, body))[result.image.sha256].content or b""
    return await asyncio.to_thread(of_image, content, result, picture, kinds)


def _result(document: Document) -> Prediction | Segmentation:
    return Explanation.model_validate(document) if "explanation" in document else RESULT.validate_python(document)


async def _explained(request: Request, target: Target, body: RequestBody, result: Prediction) -> Prediction:
    """Return the result with its heat map, or unchanged if the model has none."""
    try:
        sent, response = await inference.send(request, replace(target, verb="explanations"), body)
    except ProblemError as error:
        if error.status == 404:
            return result
        raise
    document, results = await asyncio.to_thread(model_response.parse, response, "explanations")
    await asyncio.to_thread(model_response.require_images, results, sent, body)
    return await asyncio.to_thread(Explanation.model_validate, document | {"time": result.time})


async def _picture(request: Request, target: Target, body: RequestBody, result: Prediction | Segmentation) -> bytes:
    explained = isinstance(result, Explanation)
    view = "overlay" if explained or isinstance(result, Segmentation) else "image"
    same = replace(target, verb="explanations" if explained else "predictions")
    _, response = await inference.send(request, same, body, f"{model_response.PNG};view={view}")
    if not model_response.is_picture(response):
        raise BadGatewayError("The analysis service sent no picture; the response was discarded.")
    return response.body


async def _of_series(
    request: Request, target: Target, body: RequestBody, document: Document, kinds: Collection[Kind]
) -> _Objects:
    """Return the masks of a series and its report, and the picture of the slice with the largest mask.

    Slices in doubt come last for the picture. Without one, the other objects are returned.
    """
    from radserve.dicom.objects import of_series

    if "volume" not in document:
        raise DicomError(_NO_SERIES)
    series = await asyncio.to_thread(Series.model_validate, document)
    images = await asyncio.to_thread(_images, body)
    slices = [
        images[item.image.sha256].content if isinstance(item, Segmentation) else None for item in series.predictions
    ]
    objects = await asyncio.to_thread(of_series, slices, series, kinds)
    results = [item for item in series.predictions if isinstance(item, Segmentation)]
    marked = [item for item in results if item.area.pixels and item.image.frame is None]
    keys = sorted(marked, key=lambda item: (bool(item.doubts), -item.area.pixels))
    for key in keys[:_MAX_KEYS] if "sc" in kinds else ():
        try:
            return {
                **objects,
                **await _of_image(request, target, _body_of(images[key.image.sha256], body), key, _PICTURE),
            }
        except (ProblemError, DicomError, InvalidResponseError) as error:
            if isinstance(error, ProblemError) and error.status == 422:
                continue  # alone, an outer slice may be unlike the training images
            if not objects:
                raise
            break
    return objects


def _body_of(image: ImageContent, body: RequestBody) -> RequestBody:
    """Return a body with one image, and the repair that a JSON body names."""
    repairs = (image.repair,) if isinstance(image.repair, str) else body.repairs
    return RequestBody(image.content or b"", "application/octet-stream", repairs=repairs)


def _images(body: RequestBody) -> dict[str | None, ImageContent]:
    """Return the readable images of a body by SHA-256."""
    return {image.sha256: image for image in image_contents.read(body) if image.content is not None}


def _response(objects: _Objects, *, several: bool) -> Response:
    from radserve.dicom.objects import encode

    if not objects:
        raise DicomError(_NO_OBJECT)
    if several:
        boundary = uuid4().hex
        head = f"--{boundary}\r\nContent-Type: {MEDIA_TYPE}\r\n\r\n".encode()
        parts = b"".join(head + encode(item) + b"\r\n" for item in objects.values())
        media_type = f'{_MULTIPART}; type="{MEDIA_TYPE}"; boundary={boundary}'
        return Response(parts + f"--{boundary}--\r\n".encode(), headers={"Content-Type": media_type})
    ((kind, item),) = objects.items()
    disposition = f'attachment; filename="result.{kind}.dcm"'
    return Response(encode(item), media_type=MEDIA_TYPE, headers={"Content-Disposition": disposition})
