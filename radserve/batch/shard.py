"""Scores one shard of a plan: the core of a batch job, which Ray, an array job or a loop calls.

A shard is complete when it has a receipt. Its rows are a file that appears in one step and is never replaced, so that
a worker that was killed, or two that score the same shard, leave no row twice and none behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from radserve.batch import plan as plans
from radserve.batch import rows
from radserve.batch.objects import Objects, open_objects, read_input
from radserve.batch.plan import Document, Plan, Shard
from radserve.errors import ShardError
from radserve.schema.types import Sha256

if TYPE_CHECKING:
    from radserve.build.in_process import InProcessModel


class Receipt(Document):
    """Says that the rows of a shard are complete: their number, how many are results, and the digest of their file."""

    shard: int
    rows: int
    results: int
    sha256: Sha256


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
        return model


def run(job: Job, index: int) -> Receipt:
    """Score a shard, unless it is complete, and return its receipt."""
    receipt = read_receipt(job.objects, index)
    if receipt is None:
        receipt = _complete(job, plans.shard(job.objects, job.plan, index))
        if not job.objects.create(plans.receipt_file(index), receipt.dump()):
            receipt = read_receipt(job.objects, index) or receipt
    return receipt


def pending(objects: Objects, plan: Plan) -> list[int]:
    """Return the shards without a receipt."""
    done = {name for name, _ in objects.sizes(plans.RECEIPTS)}
    return [index for index in range(plan.shards) if plans.receipt_file(index) not in done]


def read_receipt(objects: Objects, index: int) -> Receipt | None:
    """Return the receipt of a shard; raises ShardError if it is damaged."""
    name = plans.receipt_file(index)
    content = objects.read(name)
    if content is None:
        return None
    try:
        return Receipt.model_validate_json(content)
    except ValidationError as error:
        raise ShardError(f"{objects.url}/{name}: damaged; delete it and start again.") from error


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


def _complete(job: Job, shard: Shard) -> Receipt:
    """Write the rows of a shard, or keep those that another worker has written."""
    objects, name = job.objects, shard.result_file
    content = objects.read(name)
    if content is None:
        created = rows.to_parquet(_rows(job, shard))
        content = created if objects.create(name, created) else objects.read(name)
    if content is None or any(defects(content, job.plan, shard)):
        content = rows.to_parquet(_rows(job, shard))
        objects.replace(name, content)
    return _receipt(shard.index, content)


def _receipt(index: int, content: bytes) -> Receipt:
    entries = rows.from_parquet(content)
    results = sum(entry["status"] == HTTPStatus.OK for entry in entries)
    return Receipt(shard=index, rows=len(entries), results=results, sha256=hashlib.sha256(content).hexdigest())


def _rows(job: Job, shard: Shard) -> Iterator[dict[str, Any]]:
    for position, row in enumerate(rows.score(job.model, shard.names, read_input)):
        mask = None
        if job.plan.masks and row.mask is not None:
            mask = shard.mask_file(position)
            job.objects.replace(mask, row.mask)
        yield row.cells | {"mask": mask}
