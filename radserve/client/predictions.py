"""Calls that analyse images."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias

import httpx

from radserve.client import conditions as stated
from radserve.client import response, sources, validation
from radserve.client.call import Call
from radserve.client.conditions import Conditions
from radserve.client.sources import EncodedImage, Source
from radserve.client.uploads import Upload
from radserve.errors import InvalidCallError, RejectedRequestError
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Image, Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.requested_image import RequestedImage
from radserve.schema.response import image_indices
from radserve.schema.segmentation import Segmentation, Series, Volume

Kind = Literal["predictions", "explanations"]
View = Literal["mask", "map", "overlay", "image"]
Result: TypeAlias = Prediction | Segmentation | RejectedImage

_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_IMAGES: Final = 64
_MAX_BYTES: Final = 32 * 1024 * 1024  # default limits of a server for one request (`handlers.request_body.BodyLimits`)


def predict(
    name: str, version: str | None, image: EncodedImage | Upload, conditions: Conditions
) -> Call[Prediction | Segmentation]:
    """Return the call that analyses one image."""
    expected = requested(name, version, image, conditions)

    def parse(reply: httpx.Response) -> Prediction | Segmentation:
        return validation.result(response.document(reply), expected).showing(picture_of(image))

    return _post("predictions", name, version, *_body(image), conditions, parse)


def predict_frames(
    name: str, version: str | None, image: EncodedImage | Upload, conditions: Conditions
) -> Call[tuple[list[Result], Volume | None]]:
    """Return the call that analyses one file, and gives a result for each of its frames, and their volume."""
    expected = requested(name, version, image, conditions)

    def parse(reply: httpx.Response) -> tuple[list[Result], Volume | None]:
        document = response.document(reply)
        if not (isinstance(document, dict) and "predictions" in document):
            return [validation.result(document, expected).showing(picture_of(image))], None
        results = [item.showing(picture_of(image)) for item in validation.result_list(document, [expected])]
        return results, validation.series(document, [expected]).volume if "volume" in document else None

    return _post("predictions", name, version, *_body(image), conditions, parse)


def explain(name: str, version: str | None, image: EncodedImage | Upload, conditions: Conditions) -> Call[Explanation]:
    """Return the call that analyses one image and explains the result."""
    expected = requested(name, version, image, conditions)

    def parse(reply: httpx.Response) -> Explanation:
        return validation.explanation(response.document(reply), expected).showing(picture_of(image))

    return _post("explanations", name, version, *_body(image), conditions, parse)


def picture(
    name: str,
    version: str | None,
    image: EncodedImage | Upload,
    of: Kind,
    view: View,
    size: Image | None,
    conditions: Conditions,
) -> Call[bytes]:
    """Return the call that renders a result as PNG."""
    content, media_type = _body(image)
    call = _post(of, name, version, content, media_type, conditions, lambda reply: response.picture(reply, size))
    call.options["headers"]["Accept"] = f"image/png;view={view}"
    return call


def predict_batch(
    name: str, version: str | None, images: Sequence[EncodedImage], conditions: Conditions
) -> Call[list[Result]]:
    """Return the call that analyses several images."""
    expected = [requested(name, version, image, conditions) for image in images]

    def parse(reply: httpx.Response) -> list[Result]:
        results = validation.result_list(response.document(reply), expected)
        return _showing(results, images)

    return _post("predictions", name, version, _instances(images), _JSON, conditions, parse)


def predict_series(
    name: str, version: str | None, slices: Sequence[EncodedImage], conditions: Conditions
) -> Call[Series]:
    """Return the call that analyses the slices of one examination."""
    if not slices:
        raise InvalidCallError("slices is empty; a volume needs at least one slice.")
    expected = [requested(name, version, image, conditions) for image in slices]

    def parse(reply: httpx.Response) -> Series:
        series = validation.series(response.document(reply), expected)
        _showing(series.predictions, slices)
        return series

    return _post("predictions", name, version, _instances(slices), _JSON, conditions, parse)


def _showing(results: Sequence[Result], images: Sequence[EncodedImage]) -> list[Result]:
    return [
        item.showing(picture_of(images[index])) for item, index in zip(results, image_indices(results), strict=True)
    ]


def batches(images: Iterable[Source], limit: int) -> Iterator[list[EncodedImage] | RejectedImage]:
    """Group images so that each group is within the default limits of a server for one request.

    An image of more than `limit` bytes ends a group, and a rejection takes its place.
    """
    batch: list[EncodedImage] = []
    size = 0
    for source in images:
        image = _read(source, limit)
        if isinstance(image, RejectedImage):
            if batch:
                yield batch
            yield image
            batch, size = [], 0
            continue
        if batch and (len(batch) == _MAX_IMAGES or size + len(image.content) > _MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += len(image.content)
    if batch:
        yield batch


def singly(batch: Sequence[EncodedImage], error: RejectedRequestError) -> list[list[EncodedImage]]:
    """Return the images of a batch that is too large, as of files with many frames; raises any other error again."""
    _too_large(error)
    return [[image] for image in batch] if len(batch) > 1 else []


def rejected_alone(batch: Sequence[EncodedImage], error: RejectedRequestError) -> list[Result]:
    """Return a rejection for the only image of a batch if it is too large; raises any other error again."""
    return [_too_large(error).showing(picture_of(batch[0]))]


def _read(source: Source, limit: int) -> EncodedImage | RejectedImage:
    try:
        return sources.read(source, limit)
    except RejectedRequestError as error:
        return _too_large(error).showing(sources.path_of(source))


def _too_large(error: RejectedRequestError) -> RejectedImage:
    """Return the rejection of an image that is too large; raises any other error again."""
    if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise error
    return RejectedImage(status=error.status, title=error.title, detail=error.detail)


def _post(
    kind: Kind,
    name: str,
    version: str | None,
    content: bytes,
    media_type: str,
    conditions: Conditions,
    parse: Any,
) -> Call[Any]:
    stated.require_known(conditions)
    path = _path(kind, name, version)
    headers = {"Content-Type": media_type} | stated.headers(conditions)
    options = {"content": content, "headers": headers, "params": stated.query(conditions)}
    return Call("POST", f"api/{path}", path, parse, options)


def _path(kind: Kind, name: str, version: str | None) -> str:
    for key, value in (("name", name), ("version", version)):
        if value is not None and not _SEGMENT.fullmatch(value):
            raise InvalidCallError(f"{key} has value {value!r}; use letters, digits, '.', '_' and '-' only.")
    return f"{kind}/{name}" + (f"/{version}" if version is not None else "")


def requested(name: str, version: str | None, image: EncodedImage | Upload, conditions: Conditions) -> RequestedImage:
    """Return what a result must be about."""
    return RequestedImage(name, version, image.sha256, conditions.get("repair"))


def _body(image: EncodedImage | Upload) -> tuple[bytes, str]:
    if isinstance(image, Upload):
        return json.dumps({"object": image.object}).encode(), _JSON
    return image.content, _BINARY


def _instances(images: Iterable[EncodedImage]) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(image.content).decode()} for image in images]}).encode()


def picture_of(image: EncodedImage | Upload) -> Any:
    """Return what a notebook shows of an image: its file, which is read when needed, or its bytes."""
    return None if isinstance(image, Upload) else image.path or image.content
