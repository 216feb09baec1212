"""Background tasks whose failures are logged, counted and reported by /ready."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from prometheus_client import Counter

logger = logging.getLogger(__name__)

FAILURES: Final = Counter("radserve_task_failures", "Failures of background tasks.", ["task"], registry=None)
_PAUSE: Final = 5.0
"""Seconds until a task that failed starts again."""
_RECOVERY: Final = 60.0
"""Seconds that a task must run again until its failure is removed from the report."""


class BackgroundTasks:
    """Runs functions until `stop`; one that fails starts again. `problems` has a sentence for each that failed."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def problems(self) -> list[str]:
        """Tasks that failed in the last minute."""
        return list(self._problems.values())

    def start(self, name: str, function: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run a function in the background; `name` is for log and metric."""
        FAILURES.labels(task=name)  # create the series at 0, so that Prometheus sees the first increase
        task = asyncio.create_task(self._run(name, function))
        self._tasks.append(task)
        return task

    async def _run(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        recovery: asyncio.TimerHandle | None = None
        while True:
            try:
                await function()
            except Exception as error:
                if recovery is not None:
                    recovery.cancel()
                FAILURES.labels(task=name).inc()
                logger.exception("%s failed; it starts again in %g s", name, _PAUSE)
                self._problems[name] = f"{name} failed ({type(error).__name__}) and starts again; the log says why."
            else:
                return
            await asyncio.sleep(_PAUSE)
            recovery = asyncio.get_running_loop().call_later(_RECOVERY, self._problems.pop, name, None)

    async def stop(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def observe(task: asyncio.Task[Any], name: str) -> asyncio.Task[Any]:
    """Log and count the failure of a task that runs once and is awaited at the end only."""
    FAILURES.labels(task=name)

    def on_done(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            FAILURES.labels(task=name).inc()
            logger.error("%s failed", name, exc_info=error)

    task.add_done_callback(on_done)
    return task
