"""The plan of a job: its images, divided into shards, and the archive; written before the first image is scored."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radserve.errors import BatchError
from radserve.schema.domain import Mode
from radserve.schema.types import Sha256, Text
from radserve.validation_error import describe

if TYPE_CHECKING:
    from radserve.batch.objects import Objects

FILE: Final = "plan.json"
DEFAULT_SHARD_SIZE: Final = 500
RESULTS: Final = "results"
RECEIPTS: Final = "receipts"
_COLUMN: Final = "file"


class Document(BaseModel):
    """Base of the JSON documents of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def dump(self) -> bytes:
        """Return the JSON."""
        return f"{self.model_dump_json(indent=2)}\n".encode()


class Archive(Document):
    """Names an archive."""

    name: Text
    version: Text
    sha256: Sha256


class Plan(Document):
    """What a job does; everything that the rows of its results depend on.

    `input` is what the caller named, as an absolute path or URL, with the `column` of a manifest; `inputs_sha256` is
    the digest of the list of images that it had.
    """

    format: Literal[2] = 2  # raised when the columns of results change
    input: Text
    column: Text | None = None
    inputs: Annotated[int, Field(ge=1)]
    inputs_sha256: Sha256
    shard_size: Annotated[int, Field(ge=1)]
    archive: Archive
    domain: Mode
    masks: bool

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.inputs // self.shard_size)

    def size(self, index: int) -> int:
        """Return the number of images of a shard."""
        return min(self.shard_size, self.inputs - index * self.shard_size)

    @property
    def list_file(self) -> str:
        """File with the list of images: a Parquet file with one row group for each shard."""
        return f"inputs-{self.inputs_sha256[:16]}-{self.shard_size}.parquet"


@dataclass(frozen=True)
class Shard:
    """Some images of a plan."""

    index: int
    names: Sequence[str]

    @property
    def result_file(self) -> str:
        """File of its rows."""
        return result_file(self.index)

    @property
    def receipt_file(self) -> str:
        """File that says that its rows are complete."""
        return receipt_file(self.index)

    def mask_file(self, position: int) -> str:
        """Return the file of the mask of an image."""
        return f"masks/part-{self.index:05}/{position:05}.png"


def result_file(index: int) -> str:
    """Return the file of the rows of a shard."""
    return f"{RESULTS}/part-{index:05}.parquet"


def receipt_file(index: int) -> str:
    """Return the file that says that the rows of a shard are complete."""
    return f"{RECEIPTS}/part-{index:05}.json"


def digest(names: Sequence[str]) -> str:
    """Return the SHA-256 of a list of images."""
    sha256 = hashlib.sha256()
    for name in names:
        sha256.update(name.encode(errors="surrogateescape") + b"\0")
    return sha256.hexdigest()


def read(objects: Objects) -> Plan | None:
    """Return the plan in an output folder, or None if there is none."""
    content = objects.read(FILE)
    if content is None:
        return None
    try:
        return Plan.model_validate_json(content)
    except ValidationError as error:
        if any(item["loc"] == ("format",) for item in error.errors()):
            raise BatchError(f"{objects.url}/{FILE}: made by another release. Start a new OUTPUT folder.") from error
        raise BatchError(f"{objects.url}/{FILE}: {describe(error)}. Choose another OUTPUT.") from error


def prepare(objects: Objects, wanted: Plan, names: Sequence[str], *, fixed: bool) -> Plan:
    """Write a plan, or return the one that the output folder has if it is for the same input, archive and options.

    Parameters
    ----------
    fixed
        Whether the caller chose the size of the shards; otherwise that of an existing plan applies.
    """
    plan = read(objects)
    if plan is None:
        objects.create(wanted.list_file, _list(names, wanted.shard_size))
        objects.create(FILE, wanted.dump())
        plan = read(objects)
        assert plan is not None
    require_same(objects, plan, wanted, fixed=fixed)
    return plan


def require_same(objects: Objects, plan: Plan, wanted: Plan, *, fixed: bool) -> None:
    """Raise BatchError if the results of a plan would differ from the wanted ones."""
    ignored = {"inputs", "inputs_sha256"} if fixed else {"inputs", "inputs_sha256", "shard_size"}
    before, now = plan.model_dump(exclude=ignored), wanted.model_dump(exclude=ignored)
    different = [_difference(key, before[key], now[key]) for key in before if before[key] != now[key]]
    if different:
        raise BatchError(f"{objects.url}: has results of another job ({'; '.join(different)}). Choose another OUTPUT.")


def _difference(key: str, before: Any, now: Any) -> str:
    if key == "archive":
        return "archive {name} {version} {sha256:.12}".format(**before)
    return f"{key} {before}, not {now}"


def added(objects: Objects, plan: Plan, names: Sequence[str]) -> int:
    """Return how many images are not in the list of a plan; raises BatchError if all of them are not."""
    if not names or digest(names) == plan.inputs_sha256:
        return 0
    known = {name for index in range(plan.shards) for name in shard(objects, plan, index).names}
    count = len(set(names) - known)
    if count == len(names):
        raise BatchError(f"{objects.url}: has results of other images. Choose another OUTPUT.")
    return count


def shard(objects: Objects, plan: Plan, index: int) -> Shard:
    """Read the images of a shard."""
    import pyarrow as pa
    from pyarrow import parquet

    if not 0 <= index < plan.shards:
        raise BatchError(f"--shard {index}: the plan has shards 0 to {plan.shards - 1}.")
    try:
        with objects.open(plan.list_file) as file, parquet.ParquetFile(file, pre_buffer=False) as table:
            names = table.read_row_group(index, use_threads=False).column(_COLUMN).to_pylist()
    except (LookupError, OSError, pa.ArrowException) as error:
        raise BatchError(f"{objects.url}/{plan.list_file}: cannot be read ({error}). Choose another OUTPUT.") from error
    if len(names) != plan.size(index):
        raise BatchError(f"{objects.url}/{plan.list_file}: does not match {FILE}. Choose another OUTPUT.")
    return Shard(index, names)


def _list(names: Sequence[str], size: int) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = pa.table({_COLUMN: pa.array(names, pa.string())})
    except UnicodeEncodeError as error:
        raise BatchError(f"The name {error.object!r} is not valid UTF-8; rename the file.") from error
    stream = io.BytesIO()
    parquet.write_table(table, stream, row_group_size=size, compression="zstd")
    return stream.getvalue()
