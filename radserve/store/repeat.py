"""What is done again when a transfer broke off."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from radserve.client import retry
from radserve.errors import InterruptedTransferError

T = TypeVar("T")

ATTEMPTS: Final = 6
"""In a row that brought nothing."""


def pause(failures: int) -> None:
    """Wait after so many failures in a row."""
    time.sleep(retry.pause(failures - 1))


def until_whole(action: Callable[[], T]) -> T:
    """Do something again when it broke off.

    Raises
    ------
    BrokenOff
        If it does so again and again.
    """
    for failures in range(1, ATTEMPTS):
        try:
            return action()
        except InterruptedTransferError:
            pause(failures)
    return action()
