"""Bytes of requests and responses, with the extension for binary tensor data.

With the extension, a body is a JSON document followed by the tensors' bytes, and the header field
`Inference-Header-Content-Length` is the length of the document. An element of a BYTES tensor is its length, four bytes
in little-endian order, and its content.
"""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json

from gateway.bounded_response import MAX_VALUES
from gateway.errors import BadRequestError, ContentTooLargeError
from gateway.open_inference.documents import Datatype, InferenceRequest, InferenceResponse, InputTensor, OutputTensor
from gateway.problems import describe_validation

HEADER: Final = "Inference-Header-Content-Length"
EXTENSION: Final = "binary_tensor_data"
JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
INPUT: Final = "image"
_LENGTH: Final = struct.Struct("<I")
_FORMATS: Final = {"FP64": "<d", "INT32": "<i"}
_MAX_DIGITS: Final = re.compile(r"[0-9]{1,12}")
_MAX_ERRORS: Final = 5
_MAX_OTHER_VALUES: Final = 256
"""Values of a document besides its images: parameters, outputs."""
_DATA_URL: Final = re.compile(rb"data:[^,]{0,256};base64,")
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


@dataclass(frozen=True)
class Tensor:
    """Output with one element for each image; an element of a BYTES tensor is text, or the content of a file."""

    name: str
    datatype: Datatype
    elements: Sequence[str | bytes | float | int]


def parse(body: bytes, header_length: str | None, max_images: int) -> tuple[InferenceRequest, list[bytes]]:
    """Return the document of a request and its images; raises BadRequestError or ContentTooLargeError."""
    length = len(body) if header_length is None else _parse_length(header_length, len(body))
    if sum(body.count(mark, 0, length) for mark in (b",", b"[", b"{")) > MAX_VALUES:  # before any object exists
        raise ContentTooLargeError(f"The document has more than {MAX_VALUES} values; send binary data.")
    try:
        values = from_json(body[:length], allow_inf_nan=False)
        _require_few(values, _MAX_OTHER_VALUES + 4 * max_images)
        document = InferenceRequest.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)[:_MAX_ERRORS]
        raise BadRequestError(f"Invalid inference request: {describe_validation(errors)}.") from error
    except ValueError as error:
        raise BadRequestError(f"Invalid inference request: {error}.") from error
    tensor = document.inputs[0]
    _require_images(tensor, max_images)
    return document, _images(tensor, body[length:])


def render(response: InferenceResponse, tensors: Iterable[tuple[Tensor, bool]]) -> tuple[bytes, dict[str, str]]:
    """Return the body of a response and its header fields; the flag of a tensor chooses binary data."""
    outputs, parts = [], []
    for tensor, is_binary in tensors:
        data = b"".join(_pack(element, tensor.datatype) for element in tensor.elements) if is_binary else b""
        outputs.append(
            OutputTensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=(len(tensor.elements),),
                parameters={"binary_data_size": len(data)} if is_binary else None,
                data=None if is_binary else [_as_json(element) for element in tensor.elements],
            )
        )
        parts.append(data)
    document = response.model_copy(update={"outputs": outputs}).model_dump(exclude_none=True)
    header = json.dumps(document, allow_nan=False).encode()
    if all(output.data is not None for output in outputs):
        return header, {"Content-Type": JSON}
    return b"".join((header, *parts)), {"Content-Type": BINARY, HEADER: str(len(header))}


def _parse_length(value: str, size: int) -> int:
    if not _MAX_DIGITS.fullmatch(value) or int(value) > size:
        raise BadRequestError(f"{HEADER} must be the length of the JSON document, at most that of the body ({size}).")
    return int(value)


def _require_few(document: Any, limit: int) -> None:
    """Raise ContentTooLargeError beyond a number of values; pydantic creates an error for each invalid one."""
    waiting, count = [document], 0
    while waiting:
        value = waiting.pop()
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(parts)
        if count > limit:
            raise ContentTooLargeError(f"The document has more than {limit} values; send several requests.")
        waiting.extend(parts)


def _require_images(tensor: InputTensor, max_images: int) -> None:
    """Raise an error unless a tensor declares a number of images."""
    if tensor.name != INPUT or tensor.datatype != "BYTES":
        name, datatype = tensor.name[:80], tensor.datatype[:80]
        raise BadRequestError(f"Unknown input {name!r} of type {datatype!r}; send {INPUT!r} of type 'BYTES'.")
    if not tensor.shape or tensor.shape[0] == 0 or tensor.shape[1:] not in ((), (1,)):
        raise BadRequestError(f"The input has shape {list(tensor.shape[:8])}; send images with shape [COUNT].")
    if tensor.shape[0] > max_images:
        raise ContentTooLargeError(f"The request has more than {max_images} images; send several requests.")
    if set(tensor.parameters) - {"binary_data_size"}:
        raise BadRequestError("The input has an unknown parameter. Known: binary_data_size.")


def _images(tensor: InputTensor, data: bytes) -> list[bytes]:
    size, count = tensor.parameters.get("binary_data_size"), tensor.shape[0]
    if (size is None) == (tensor.data is None):
        raise BadRequestError("The input needs either data or the parameter binary_data_size.")
    if (size or 0) != len(data):
        raise BadRequestError(f"binary_data_size is {size}, but {len(data)} bytes follow the document.")
    images = _unpack(data, count) if tensor.data is None else [_decode(element) for element in _flatten(tensor.data)]
    if len(images) != count:
        raise BadRequestError(f"The input has shape {list(tensor.shape)}, but {len(images)} elements or more.")
    return images


def _flatten(data: Iterable[str | list[str]]) -> list[str]:
    return [text for item in data for text in ([item] if isinstance(item, str) else item)]


def _decode(text: str) -> bytes:
    """Return the bytes of an element in JSON; base64 has no byte of a file's signature, so it cannot be mistaken."""
    try:
        content = text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise BadRequestError(
            "An element of the input is neither base64 nor one character (U+0000 to U+00FF) for each byte."
        ) from error
    url = _DATA_URL.match(content)
    encoded = content[url.end() if url else 0 :].translate(None, b" \t\r\n")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        if url or not encoded.translate(None, _BASE64):
            raise BadRequestError("An element of the input is invalid base64; is it complete?") from error
    return content


def _unpack(data: bytes, count: int) -> list[bytes]:
    """Return the elements of binary data, at most one more than their expected number."""
    elements: list[bytes] = []
    offset = 0
    while offset < len(data) and len(elements) <= count:
        start = offset + _LENGTH.size
        if start > len(data):
            raise BadRequestError("The binary data of the input ends within the length of an element.")
        (length,) = _LENGTH.unpack_from(data, offset)
        offset = start + length
        if offset > len(data):
            raise BadRequestError("The binary data of the input ends within an element.")
        elements.append(data[start:offset])
    return elements


def _pack(element: str | bytes | float, datatype: Datatype) -> bytes:
    if isinstance(element, int | float):
        return struct.pack(_FORMATS[datatype], element)
    content = element.encode() if isinstance(element, str) else element
    return _LENGTH.pack(len(content)) + content


def _as_json(element: str | bytes | float) -> str | float | int | None:
    if isinstance(element, bytes):
        return base64.b64encode(element).decode()
    return None if isinstance(element, float) and math.isnan(element) else element
