"""Scores one shard of a plan: the core of a batch job, which Ray, an array job or a loop calls.

A shard is complete when it has a file of rows and a receipt with the digest of that file. The file appears in one step
and is replaced only if it is damaged, so that a worker that was killed, or two that score the same shard, leave no row
twice and none behind.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from radserve.batch import plan as plans
from radserve.batch import rows
from radserve.batch.inputs import require_reachable
from radserve.batch.objects import Objects, open_objects, read_input
from radserve.batch.plan import Document, Plan, Shard
from radserve.client.concurrency import ordered
from radserve.errors import ShardError
from radserve.schema.types import Sha256

if TYPE_CHECKING:
    from radserve.build.in_process import InProcessModel


Content = bytes  # the receipt has a field of that name
_CHECKS: Final = 8  # shards that are checked at once


class Receipt(Document):
    """Says that the rows of a shard are complete: their number, how many are results, and the digest of their file."""

    shard: int
    rows: int
    results: int
    bytes: int
    sha256: Sha256

    def describes(self, content: Content) -> bool:
        """Return whether the rows are in this file."""
        return self.bytes == len(content) and self.sha256 == hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """A complete shard; `is_new` says whether this call scored it."""

    receipt: Receipt
    is_new: bool = True


@dataclass(frozen=True)
class Job:
    """What a worker needs: the output folder, which has the plan, and the archive."""

    output: str
    archive: Path
    device: str = "cpu"

    @cached_property
    def objects(self) -> Objects:
        """Files of the output."""
        return open_objects(self.output)

    @cached_property
    def plan(self) -> Plan:
        """The plan in the output."""
        plan = plans.read(self.objects)
        if plan is None:
            raise ShardError(f"{self.output}/{plans.FILE}: file not found.")
        return plan

    @cached_property
    def model(self) -> InProcessModel:
        """The archive, loaded; raises ShardError if the plan has another one."""
        from radserve.build.in_process import InProcessModel

        model = InProcessModel(self.archive, device=self.device, domain=self.plan.domain)
        if model.entry.sha256 != self.plan.archive.sha256:
            raise ShardError(
                f"{self.archive}: sha256 {model.entry.sha256}, but the plan has {self.plan.archive.sha256}."
            )
        model.service.seconds = float("inf")  # no client is waiting
        model.service.max_response = sys.maxsize  # no response is sent
        return model


def run(job: Job, index: int) -> Outcome:
    """Score a shard, unless it is complete."""
    objects = job.objects
    receipt = complete(objects, index)
    if receipt is not None:
        return Outcome(receipt, is_new=False)
    receipt, is_new = _write_rows(job, plans.shard(objects, job.plan, index))
    name = plans.receipt_file(index)
    if not objects.create(name, receipt.dump()) and read_receipt(objects, index) != receipt:
        objects.replace(name, receipt.dump())
    return Outcome(receipt, is_new)


def pending(objects: Objects, plan: Plan) -> list[int]:
    """Return the shards that are not complete; reads every file of rows."""
    receipts = {name for name, _ in objects.sizes(plans.RECEIPTS)}
    indices = range(plan.shards)
    candidates = [index for index in indices if plans.receipt_file(index) in receipts]
    checks = zip(candidates, ordered(partial(complete, objects), candidates, _CHECKS), strict=True)
    done = {index for index, receipt in checks if receipt is not None}
    return [index for index in indices if index not in done]


def complete(objects: Objects, index: int) -> Receipt | None:
    """Return the receipt of a shard if it is intact and its file of rows is the one that it describes."""
    receipt = read_receipt(objects, index)
    content = None if receipt is None else objects.read(plans.result_file(index))
    return receipt if receipt is not None and content is not None and receipt.describes(content) else None


def read_receipt(objects: Objects, index: int) -> Receipt | None:
    """Return the receipt of a shard, or None if it is missing or damaged."""
    content = objects.read(plans.receipt_file(index))
    try:
        return None if content is None else Receipt.model_validate_json(content)
    except ValidationError:
        return None


def defects(content: bytes, plan: Plan, shard: Shard) -> Iterator[str]:
    """Yield what distinguishes a file of rows from one with exactly one row for each image of a shard."""
    try:
        entries = rows.from_parquet(content)
    except ValueError as error:
        yield f"cannot be read ({error})"
        return
    names = [entry["file"] for entry in entries]
    if missing := len(set(shard.names).difference(names)):
        yield f"{missing} rows missing"
    if duplicate := len(names) - len(set(names)):
        yield f"{duplicate} rows duplicate"
    if foreign := len(set(names).difference(shard.names)):
        yield f"{foreign} rows of images that are not in the shard"
    if other := sum(entry["model_sha256"] != plan.archive.sha256 for entry in entries):
        yield f"{other} rows of another archive"


def _write_rows(job: Job, shard: Shard) -> tuple[Receipt, bool]:
    """Write the rows of a shard, or keep those that another worker has written; return whether they are new."""
    objects, name = job.objects, shard.result_file
    receipt, content = read_receipt(objects, shard.index), objects.read(name)
    if content is None:
        created = _score(job, shard)
        if objects.create(name, created):
            return _receipt(shard.index, created), True
        receipt, content = None, objects.read(name)
    is_trusted = content is not None and (receipt is None or receipt.describes(content))
    if content is not None and is_trusted and not any(defects(content, job.plan, shard)):
        return _receipt(shard.index, content), False
    content = _score(job, shard)
    objects.replace(name, content)
    return _receipt(shard.index, content), True


def _receipt(index: int, content: bytes) -> Receipt:
    entries = rows.from_parquet(content)
    results = sum(entry["status"] == HTTPStatus.OK for entry in entries)
    sha256 = hashlib.sha256(content).hexdigest()
    return Receipt(shard=index, rows=len(entries), results=results, bytes=len(content), sha256=sha256)


def _score(job: Job, shard: Shard) -> bytes:
    """Return the file of rows of a shard; raises ShardError if the input itself, not its images, cannot be read."""
    unreadable: list[str] = []
    content = rows.to_parquet(_cells(job, shard, unreadable))
    require_reachable(job.plan.input, shard.names, unreadable)
    return content


def _cells(job: Job, shard: Shard, unreadable: list[str]) -> Iterator[dict[str, Any]]:
    for position, row in enumerate(rows.score(job.model, shard.names, read_input)):
        if row.is_unreadable:
            unreadable.append(row.cells["file"])
        mask, sha256 = None, None
        if job.plan.masks and row.mask is not None:
            mask, sha256 = shard.mask_file(position), hashlib.sha256(row.mask).hexdigest()
            job.objects.replace(mask, row.mask)
        yield row.cells | {"mask": mask, "mask_sha256": sha256}
