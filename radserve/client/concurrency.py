"""Runs a function on many items in parallel and returns results in order."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_LOOKAHEAD: Final = 4  # results per thread that may wait for a slower one before them

_GRACE: Final = 0.5
"""Seconds for which calls that still run may end, so that the caller closes no connection that is just being opened."""


def ordered(function: Callable[[T], R], items: Iterable[T], threads: int, lookahead: int = _LOOKAHEAD) -> Generator[R]:
    """Yield `function(item)` for each item, in order; at most `threads * lookahead` items are taken in advance.

    An exception of `function` is raised in place of its result and ends the iteration. The threads are daemons, unlike
    those of `ThreadPoolExecutor`, so that Ctrl-C does not wait for pending requests.
    """
    tasks: SimpleQueue[tuple[Future[R], T] | None] = SimpleQueue()
    window: deque[Future[R]] = deque()
    workers = [threading.Thread(target=_work, args=(function, tasks), daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for item in items:
            future: Future[R] = Future()
            window.append(future)
            tasks.put((future, item))
            if len(window) >= threads * lookahead:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        for future in window:
            future.cancel()
        for _ in workers:
            tasks.put(None)
        deadline = time.monotonic() + _GRACE
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))


def _work(function: Callable[[T], R], tasks: SimpleQueue[tuple[Future[R], T] | None]) -> None:
    while (task := tasks.get()) is not None:
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                future.set_exception(error)
