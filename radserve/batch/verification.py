"""Checks the results of a job: every image of the plan has exactly one row, and every byte is as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from radserve.batch import plan as plans
from radserve.batch import rows
from radserve.batch import shard as shards
from radserve.batch.objects import Objects
from radserve.batch.plan import Plan, Shard
from radserve.errors import BatchError, ShardError


@dataclass(frozen=True)
class Checked:
    """A checked shard, or a file that is not of the plan (`shard` is None): its complete rows, and its defects."""

    shard: int | None
    rows: int
    defects: tuple[str, ...]


def verify(objects: Objects) -> tuple[Plan, Iterator[Checked]]:
    """Return the plan of an output folder, and check it shard by shard; no image and no archive is needed.

    Raises
    ------
    BatchError
        The folder has no plan, or its list of images is damaged.
    """
    plan = plans.read(objects)
    if plan is None:
        raise BatchError(f"{objects.url}/{plans.FILE}: file not found; this is not the OUTPUT of 'radserve score'.")
    return plan, _verify(objects, plan)


def _verify(objects: Objects, plan: Plan) -> Iterator[Checked]:
    masks = {name for name, _ in objects.sizes("masks")} if plan.masks else set()
    expected: set[str] = set()
    names: list[str] = []
    for index in range(plan.shards):
        shard = plans.shard(objects, plan, index)
        names += shard.names
        expected.add(shard.result_file)
        defects = tuple(_defects(objects, plan, shard, masks))
        yield Checked(index, 0 if defects else len(shard.names), defects)
    if plans.digest(names) != plan.inputs_sha256:
        yield Checked(None, 0, (f"{plan.list_file}: damaged",))
    for name, _ in objects.sizes(plans.RESULTS):
        if name not in expected:
            yield Checked(None, 0, (f"{name}: not in the plan; its rows may be duplicates, delete it",))


def _defects(objects: Objects, plan: Plan, shard: Shard, masks: set[str]) -> Iterator[str]:
    content = objects.read(shard.result_file)
    if content is None:
        yield f"{shard.result_file}: {len(shard.names)} rows missing"
        return
    yield from (f"{shard.result_file}: {defect}" for defect in shards.defects(content, plan, shard))
    try:
        receipt = shards.read_receipt(objects, shard.index)
    except ShardError as error:
        yield str(error)
        return
    if receipt is None:
        yield f"{shard.receipt_file}: missing"
    elif receipt.sha256 != hashlib.sha256(content).hexdigest():
        yield f"{shard.result_file}: damaged, delete it and {shard.receipt_file}"
    elif absent := {row["mask"] for row in rows.from_parquet(content)} - masks - {None}:
        yield f"{min(absent)}: missing, with {len(absent) - 1} other masks; delete the results and receipt of the shard"
