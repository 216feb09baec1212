"""Runs all parts of the loop until a signal stops it."""

import asyncio
import logging
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Final

from filelock import FileLock, Timeout

from radserve.client import Client
from radserve.errors import PacsError, RadServeError
from radserve.host import stop_signals
from radserve.pacs import receiver, sources, status
from radserve.pacs.intake import Intake
from radserve.pacs.metrics import EVERY, POLLED
from radserve.pacs.processing import Processor
from radserve.pacs.queue import Queue
from radserve.pacs.receiver import Commitments
from radserve.pacs.settings import Settings
from radserve.pacs.sources import Source
from radserve.pacs.webhook import Notifier

_IDLE: Final = 0.2  # seconds between two looks into an empty queue
_HOUR: Final = 3600.0
_PATIENCE: Final = 30.0  # seconds for jobs in progress at shutdown
logger = logging.getLogger(__name__)


def client(settings: Settings) -> Client:
    """Return the client of the server; it does not repeat requests, the queue does."""
    server = settings.server
    return Client(server.url, timeout=server.timeout, retries=0, key=server.key, cacert=server.cacert)


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; what is not finished then stays in the queue. Raises PacsError."""
    silence_pydicom()
    asyncio.run(_run(settings))
    stop_signals.ignore()


def silence_pydicom() -> None:
    """Suppress pydicom's warnings in all threads of the process: they quote values of attributes."""
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # of its children, too


async def _run(settings: Settings) -> None:
    stopping, stop = stop_signals.stop_event(), threading.Event()
    with ExitStack() as stack:
        settings.folder.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(FileLock(settings.folder / "lock").acquire(timeout=0))
        except Timeout as error:
            raise PacsError(f"Another process uses {settings.folder}.") from error
        queue = stack.enter_context(closing(Queue(settings.folder)))
        queue.recover()
        commitments = Commitments()
        taking = Intake(queue, settings.rules, settings.free)
        processor = Processor(settings, queue, stack.enter_context(client(settings)), commitments)
        if settings.status is not None:
            stack.enter_context(status.running(settings.status, queue))
        if settings.receiver is not None:
            stack.enter_context(receiver.running(settings.receiver, taking, commitments))
        threads = [_thread(stop, _IDLE, processor.process_next) for _ in range(settings.workers)]
        threads += [
            _thread(stop, item.every, _poll(stack.enter_context(sources.opened(item)), taking, item.every))
            for item in settings.sources
        ]
        if settings.webhook is not None:
            threads.append(_thread(stop, _IDLE, Notifier(settings.webhook, settings.retry, queue).deliver_next))
        threads.append(_thread(stop, _HOUR, lambda: queue.forget(time.time() - settings.keep_days * 86400)))
        logger.info("running with %d rules and %d workers", len(settings.rules), settings.workers)
        await stopping.wait()
        logger.info("stopping")
        stop.set()
        end = time.monotonic() + _PATIENCE
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, end - time.monotonic()))


def _poll(source: Source, taking: Intake, every: float) -> Callable[[], bool]:
    polled = POLLED.labels(source.name)
    polled.set_to_current_time()
    EVERY.labels(source.name).set(every)

    def poll() -> bool:
        more = source.poll(taking)
        polled.set_to_current_time()
        return more

    return poll


def _thread(stop: threading.Event, pause: float, function: Callable[[], bool | None]) -> threading.Thread:
    """Call a function until `stop`, with a pause after each call that does not return True."""

    def repeat() -> None:
        while not stop.is_set():
            if not _guarded(function):
                stop.wait(pause)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    return thread


def _guarded(function: Callable[[], bool | None]) -> bool:
    try:
        return bool(function())
    except RadServeError as error:
        logger.warning("%s", error)
    except Exception as error:  # noqa: BLE001 - a thread must not end; the message may quote an image
        logger.error("%s failed: %s", function.__qualname__, type(error).__name__)  # noqa: TRY400
    return False
