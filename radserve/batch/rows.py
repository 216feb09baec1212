"""Turns images into rows: one for each, with the prediction or the reason why there is none."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from radserve.client.concurrency import ordered
from radserve.errors import ShardError
from radserve.schema import columns
from radserve.schema.response import RESULT
from radserve.schema.segmentation import Segmentation

if TYPE_CHECKING:
    import pyarrow as pa

    from radserve.build.in_process import InProcessModel

Read = Callable[[str, int], bytes]
"""Reads an image by its name, up to a number of bytes and one more; OSError or ValueError if it cannot be read."""

MAX_BATCH_BYTES: Final = 64 * 2**20
_READERS: Final = 8  # images that are read at once and in advance; each has at most the bytes that the model accepts
_OF_IMAGE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES))
"""Errors that one image has; others (file descriptors, memory, network, disk) concern the machine and may pass."""
_FAILURE: Final = HTTPStatus.INTERNAL_SERVER_ERROR
_PAUSES: Final = (0.0, 1.0, 4.0)
"""Seconds before an image with a 5xx status is scored again, alone: at first because the batch was too large."""
_ARROW: Final = {"Float64": "float64", "Int64": "int64", "boolean": "bool"}


@dataclass(frozen=True)
class Row:
    """The columns of one image, and its mask as PNG, if the model draws one."""

    cells: dict[str, Any]
    mask: bytes | None = None
    is_unreadable: bool = False


@dataclass(frozen=True)
class _Input:
    """An image; `problem` says why it was not read."""

    name: str
    content: bytes = b""
    problem: tuple[int | None, str, str] | None = None


def score(model: InProcessModel, names: Sequence[str], read: Read) -> Iterator[Row]:
    """Yield the row of each image, in order.

    In memory are at most 8 images that were read in advance and one batch, which has at most 64 MiB and one image more.
    An image that cannot be read or analysed, or for which the model always fails, gets a row with the reason.

    Raises
    ------
    ShardError
        The accelerator, the machine or the model failed.
    StoreError
        An object store failed in a way that another attempt may not.
    """
    limit = model.service.limits.image.bytes
    with closing(ordered(partial(_input, read, limit), names, _READERS, lookahead=1)) as inputs:
        for batch in _batches(inputs, model.batch):
            yield from _score(model, batch)


def schema() -> pa.Schema:
    """Return the columns of a result file: those of `radserve predict`, the JSON document, and the file of the mask."""
    import pyarrow as pa

    types = {name: _ARROW.get(columns.TYPES.get(name, ""), "string") for name in columns.NAMES}
    fields = [(name, pa.type_for_alias(kind)) for name, kind in types.items()]
    return pa.schema([*fields, *((name, pa.string()) for name in ("document", "mask", "mask_sha256"))])


def to_parquet(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return a Parquet file; the same rows give the same bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema()), stream, compression="zstd")
    return stream.getvalue()


def from_parquet(content: bytes) -> list[dict[str, Any]]:
    """Return what identifies the rows of a result file; raises ValueError if it is damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # `read_table` uses threads that may still need Python's lock when the program ends, which aborts it.
        with parquet.ParquetFile(io.BytesIO(content), pre_buffer=False) as file:
            table = file.read(use_threads=False)
        if not table.schema.equals(schema()):
            raise ValueError("it has other columns")
        rows: list[dict[str, Any]] = table.select(["file", "status", "model_sha256", "mask", "mask_sha256"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(str(error)) from error
    return rows


def _input(read: Read, limit: int, name: str) -> _Input:
    try:
        content = read(name, limit)
    except (MemoryError, OSError, ValueError) as error:  # ValueError: the name or the kind of the file
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if not isinstance(error, ValueError) and getattr(error, "errno", None) not in _OF_IMAGE:
            raise ShardError(f"{name}: cannot be read ({reason or 'memory is short'}).") from error
        return _Input(name, problem=(None, "Unreadable file", f"{reason}."))
    if len(content) > limit:
        return _Input(name, problem=(413, "Content too large", f"The image has more than {limit} bytes."))
    return _Input(name, content)


def _batches(inputs: Iterable[_Input], size: int) -> Iterator[list[_Input]]:
    batch: list[_Input] = []
    for item in inputs:
        batch.append(item)
        if len(batch) == size or sum(len(each.content) for each in batch) >= MAX_BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _score(model: InProcessModel, batch: Sequence[_Input]) -> Iterator[Row]:
    bodies = iter(_respond(model, [item for item in batch if item.problem is None]))
    for item in batch:
        if item.problem is not None:
            yield Row(_problem(model, item, *item.problem), is_unreadable=item.problem[0] is None)
        else:
            yield _row(model, item, *next(bodies))


def _respond(model: InProcessModel, inputs: Sequence[_Input]) -> list[tuple[int, dict[str, Any]]]:
    """Return status and document of each response; an image for which the model fails is scored again, alone."""
    from radserve.build.in_process import Request

    requests = [Request(item.content) for item in inputs]
    responses = model.respond(requests) if requests else []
    for pause in _PAUSES:
        failed = [index for index, response in enumerate(responses) if response.status >= _FAILURE]
        if not failed or model.is_lost:
            break
        time.sleep(pause)
        for index in failed:
            (responses[index],) = model.respond([requests[index]])
    if model.is_lost:
        raise ShardError("The worker lost its accelerator; its shard is scored again.")
    documents = [(response.status, json.loads(response.body)) for response in responses]
    for item, (status, document) in zip(inputs, documents, strict=True):
        if status > _FAILURE:  # 500 is a fault that this image causes; others, as short memory, may pass
            raise ShardError(f"{item.name}: the model fails ({status} {document['title']}: {document['detail']}).")
    return documents


def _row(model: InProcessModel, item: _Input, status: int, document: dict[str, Any]) -> Row:
    if status != HTTPStatus.OK:
        return Row(_problem(model, item, status, document["title"], document["detail"], document))
    if "predictions" in document:
        advice = "Give each image, or each frame, its own file."
        return Row(_problem(model, item, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Several images", advice))
    try:
        result = RESULT.validate_python(document)
    except ValidationError as error:
        raise ShardError(f"{item.name}: the model's prediction is invalid ({error}).") from error
    mask = result.mask.png if isinstance(result, Segmentation) else None
    text = json.dumps({key: value for key, value in document.items() if key != "mask"}, ensure_ascii=False)
    cells = columns.of_result(item.name, result) | {"document": text}
    return Row(cells | _identity(model, item), mask)


def _problem(
    model: InProcessModel,
    item: _Input,
    status: int | None,
    title: str,
    detail: str,
    document: dict[str, Any] | None = None,
) -> dict[str, Any]:
    text = None if document is None else json.dumps(document, ensure_ascii=False)
    return columns.of_problem(item.name, status, title, detail) | {"document": text} | _identity(model, item)


def _identity(model: InProcessModel, item: _Input) -> dict[str, Any]:
    """Return the columns that say what was scored with what."""
    entry = model.entry
    was_read = item.problem is None
    return {
        "image_sha256": hashlib.sha256(item.content).hexdigest() if was_read else None,
        "model": entry.name,
        "version": entry.version,
        "model_sha256": entry.sha256,
    }
