"""Events of Lambda that stand for HTTP requests: what mangum leaves open about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

_HOST: Final = re.compile(r"[^:]+(:\d{1,5})?")
_HEADERS: Final = ("headers", "multiValueHeaders")


def tidied(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event without the header fields that mangum takes numbers from, where these are none.

    They are the client's to write: `Host: [::1]:80` must not make an error of Lambda's.
    """
    return event | {key: _tidied(event[key] or {}) for key in _HEADERS if key in event}


def _tidied(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if _is_plain(name.lower(), value)}


def _is_plain(name: str, value: Any) -> bool:
    if name == "x-forwarded-port":
        return False  # nothing here needs it
    values = value if isinstance(value, list) else [value]
    return name != "host" or all(_HOST.fullmatch(str(item)) for item in values)


def prefix(event: Mapping[str, Any]) -> str:
    """Return what stands before the application's own path: the stage (`/prod`), or a domain's mapping; else "".

    REST APIs leave the stage out of the path but not a domain's mapping, HTTP APIs leave both in. A route
    `/{proxy+}` tells what comes after them; else an HTTP API's stage is known by its name.
    """
    context = event["requestContext"]
    path = unquote(context["http"]["path"] if "http" in context else event["path"])
    proxy = (event.get("pathParameters") or {}).get("proxy")
    if proxy is not None and path.endswith(f"/{unquote(proxy)}"):
        return path.removesuffix(f"/{unquote(proxy)}")
    stage = context.get("stage", "$default")
    if "version" in event and stage != "$default" and f"{path}/".startswith(f"/{stage}/"):
        return f"/{stage}"
    return ""


def address(event: Mapping[str, Any], found: str | None) -> str:
    """Return who asked, of what mangum found: a load balancer adds the true address to what the client wrote."""
    if "elb" in event["requestContext"]:
        return (found or "").rpartition(",")[2].strip()
    return found or ""
