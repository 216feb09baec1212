"""Requests as data: where to send what, and how to read the response. `Client` and `AsyncClient` send them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    `server` and `gateway` are its path below the base URL of a server or of a gateway; `server` is None if only a
    gateway has it. `parse` reads the response or raises a ClientError. `repeat` tells whether sending it twice is safe.
    """

    method: str
    gateway: str
    server: str | None
    parse: Callable[[httpx.Response], T]
    options: dict[str, Any] = field(default_factory=dict)  # of httpx.Client.request
    repeat: bool = True
