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
from radserve.errors import BatchError


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
    expected: set[str] = set()
    names: list[str] = []
    for index in range(plan.shards):
        shard = plans.shard(objects, plan, index)
        names += shard.names
        expected.add(shard.result_file)
        defects = list(_defects(objects, plan, shard))
        advice = f"; delete {shard.result_file} and {shard.receipt_file}, or what is left of them"
        yield Checked(index, 0 if defects else len(shard.names), tuple(f"{defect}{advice}" for defect in defects))
    if plans.digest(names) != plan.inputs_sha256:
        yield Checked(None, 0, (f"{plan.list_file}: damaged",))
    for name, _ in objects.sizes(plans.RESULTS):
        if name not in expected:
            yield Checked(None, 0, (f"{name}: not in the plan; its rows may be duplicates, delete it",))


def _defects(objects: Objects, plan: Plan, shard: Shard) -> Iterator[str]:
    content = objects.read(shard.result_file)
    if content is None:
        yield f"{shard.result_file}: {len(shard.names)} rows missing"
        return
    problems = [f"{shard.result_file}: {defect}" for defect in shards.defects(content, plan, shard)]
    yield from problems
    receipt = shards.read_receipt(objects, shard.index)
    if receipt is None:
        yield f"{shard.receipt_file}: missing or damaged"
    elif not receipt.describes(content):
        yield f"{shard.result_file}: damaged, or not the file of its receipt"
    elif not problems:
        yield from _mask_defects(objects, content)


def _mask_defects(objects: Objects, content: bytes) -> Iterator[str]:
    masks = {row["mask"]: row["mask_sha256"] for row in rows.from_parquet(content) if row["mask"]}
    wrong = [name for name, sha256 in masks.items() if not _is_intact(objects.read(name), sha256)]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield f"{wrong[0]}{more}: missing or damaged"


def _is_intact(content: bytes | None, sha256: str) -> bool:
    return content is not None and hashlib.sha256(content).hexdigest() == sha256
