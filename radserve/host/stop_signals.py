"""SIGTERM and SIGINT, which ask a program to stop: it exits with code 0 whenever they arrive.

`signal.signal` is used, not `loop.add_signal_handler`: closing an event loop would restore the default action, and a
signal that arrives after the drain would change the exit code.
"""

import asyncio
import contextlib
import os
import signal
from typing import Any, Final

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)  # Python handles SIGINT already: both are handled once SIGTERM is


def exit_at_once() -> None:
    """End the program with code 0 at a signal: there is nothing to finish yet.

    Not with `sys.exit`, whose exception is lost where Python ignores exceptions, as in a callback of an import.
    """
    for number in _NUMBERS:
        signal.signal(number, lambda *_: os._exit(0))


def stop_event() -> asyncio.Event:
    """Return an event of the running loop that the signals set from now on."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def stop(*_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program ends already
            loop.call_soon_threadsafe(event.set)

    for number in _NUMBERS:
        signal.signal(number, stop)
    return event


def ignore() -> None:
    """Ignore the signals while the interpreter exits, whose last step would restore their default action."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
