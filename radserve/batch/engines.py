"""Runs the shards of a job: in this process, or with Ray Data on the processes of one or many machines."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psutil

from radserve.batch import shard as shards
from radserve.batch.shard import Job, Outcome, Receipt
from radserve.errors import ShardError, StoreError

_ATTEMPTS: Final = 4
"""Attempts on a shard whose worker ends or whose object store fails; more would repeat what an image causes."""
_STARTS: Final = 3


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


def _init(ray: Any, options: dict[str, Any]) -> None:
    """Start or find Ray; on a busy machine, its processes may need more than the 30 seconds that Ray gives them."""
    others = {child.pid for child in psutil.Process().children()}
    for attempt in range(_STARTS):
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ShardError(f"Ray cannot be started or reached ({error}); --workers 1 needs no Ray.") from error
        except Exception as error:
            _end_children(others)
            if attempt == _STARTS - 1:
                raise ShardError(f"Ray does not start ({error}); --workers 1 needs no Ray.") from error
        else:
            return


def _end_children(others: set[int]) -> None:
    """End the processes of a start that failed; Ray itself ends them with this process."""
    for child in psutil.Process().children(recursive=True):
        if child.pid not in others:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def _connect(workers: Workers) -> Any:
    """Connect to a cluster, or start one on loopback with a key of its own, which ends with this process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    if workers.address is None:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors of Ray's own plumbing, as users cannot act on
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray
    import ray.data

    options: dict[str, Any] = {"address": workers.address}
    if workers.address is None:
        cpus, gpus = workers.count * max(workers.cpus, 1), workers.count * workers.gpus
        options = {"address": "local", "num_cpus": int(cpus), "num_gpus": int(gpus), "include_dashboard": False}
        options |= {"_node_ip_address": "127.0.0.1", "object_store_memory": 100 * 2**20}
    _init(ray, options)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
