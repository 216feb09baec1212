"""Work on many things at a time, results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD: Final = 4
"""Results, for each thread, that may wait for a slower one before them."""


def ordered(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """Yield `work(item)` for each item in order, with a bounded number of items taken in advance.

    What `work` raises is raised in its place, and ends the rest. The threads are daemons, unlike those of
    `ThreadPoolExecutor`: who leaves (Ctrl-C) does not wait for requests that nobody answers.
    """
    tasks: SimpleQueue[tuple[Future[R], T] | None] = SimpleQueue()
    window: deque[Future[R]] = deque()
    for _ in range(threads):
        threading.Thread(target=_serve, args=(work, tasks), daemon=True).start()
    try:
        for item in items:
            future: Future[R] = Future()
            window.append(future)
            tasks.put((future, item))
            if len(window) >= threads * _AHEAD:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        for future in window:
            future.cancel()
        for _ in range(threads):
            tasks.put(None)


def _serve(work: Callable[[T], R], tasks: SimpleQueue[tuple[Future[R], T] | None]) -> None:
    while (task := tasks.get()) is not None:
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(item))
            except BaseException as error:  # noqa: BLE001  # it is raised where the result is awaited
                future.set_exception(error)
