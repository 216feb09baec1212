"""Runs the shards of a job: in this process, or with Ray Data on the processes of one or many machines."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from radserve.batch import shard as shards
from radserve.batch.shard import Job, Outcome, Receipt
from radserve.errors import ShardError, StoreError
from radserve.host import ray as ray_host

_ATTEMPTS: Final = 4
"""Attempts on a shard whose worker ends or whose object store fails; more would repeat what an image causes."""


@dataclass(frozen=True)
class Workers:
    """Processes of Ray: their number, the CPUs and GPUs of each; the address of a cluster, None to start one here."""

    count: int
    cpus: float = 1
    gpus: float = 0
    address: str | None = None


def run_here(job: Job, indices: Iterable[int]) -> Iterator[Outcome | ShardError]:
    """Score shards one after the other in this process."""
    for index in indices:
        try:
            yield shards.run(job, index)
        except (ShardError, StoreError, OSError) as error:
            yield ShardError(f"shard {index}: {error}")


def run_on_ray(job: Job, indices: list[int], workers: Workers) -> Iterator[Outcome | ShardError]:
    """Score shards in the order in which they are completed; only indices and receipts pass through Ray.

    A worker that ends is replaced, and its shard is scored again. One that fails each time does not stop the others.
    """
    ray = _connect(workers)
    try:
        dataset = ray.data.from_items([{"shard": index} for index in indices], override_num_blocks=len(indices))
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # no other way to limit attempts
            receipts = dataset.map(
                Scorer,
                fn_constructor_args=(job,),
                compute=ray.data.ActorPoolStrategy(size=min(workers.count, len(indices))),
                num_cpus=workers.cpus,
                num_gpus=workers.gpus,
                max_restarts=-1,
                max_task_retries=_ATTEMPTS - 1,
            )
        for row in receipts.iter_rows():
            failure = row["failure"]
            receipt = None if failure else Receipt.model_validate_json(row["receipt"])
            yield Outcome(receipt, row["is_new"]) if receipt else ShardError(failure)
    finally:
        ray.shutdown()


class Scorer:
    """A worker: loads the archive once, then scores one shard for each row."""

    def __init__(self, job: Job) -> None:
        self._job = job
        _ = job.model

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the receipt of a shard as JSON, or the failure."""
        for _ in range(_ATTEMPTS):
            (outcome,) = run_here(self._job, [row["shard"]])
            if isinstance(outcome, Outcome):
                return {"receipt": outcome.receipt.model_dump_json(), "is_new": outcome.is_new, "failure": ""}
            if self._job.model.is_lost:
                os._exit(1)  # Ray starts a process with a new context
        return {"receipt": "", "is_new": False, "failure": str(outcome)}


def _connect(workers: Workers) -> Any:
    """Connect to a cluster, or start one on loopback with a key of its own, which ends with this process."""
    os.environ |= ray_host.environment() | dict(os.environ)
    if workers.address is None:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors of Ray's own plumbing, as users cannot act on
        os.environ |= ray_host.local_environment()
    import ray
    import ray.data

    options: dict[str, Any] = {"address": workers.address}
    if workers.address is None:
        cpus, gpus = workers.count * max(workers.cpus, 1), workers.count * workers.gpus
        options = {**ray_host.LOCAL, "num_cpus": int(cpus), "num_gpus": int(gpus), "object_store_memory": 100 * 2**20}
    try:
        ray_host.start(options | {"log_to_driver": False, "logging_level": logging.ERROR})
    except Exception as error:
        raise ShardError(f"Ray cannot be started or reached ({error}); --workers 1 needs no Ray.") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
