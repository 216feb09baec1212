"""Lambda events that hold HTTP requests: corrections that mangum does not make."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

_HOST: Final = re.compile(r"[^:]+(:\d{1,5})?")
_HEADERS: Final = ("headers", "multiValueHeaders")


def sanitize(event: dict[str, Any]) -> dict[str, Any]:
    """Remove header fields that mangum cannot parse; clients control them, such as `Host: [::1]:80`."""
    return event | {
        key: {name: value for name, value in (event[key] or {}).items() if _is_parsable(name.lower(), value)}
        for key in _HEADERS
        if key in event
    }


def _is_parsable(name: str, value: Any) -> bool:
    if name == "x-forwarded-port":
        return False  # the gateway does not use it
    values = value if isinstance(value, list) else [value]
    return name != "host" or all(_HOST.fullmatch(str(item)) for item in values)


def path_prefix(event: Mapping[str, Any]) -> str:
    """Return the part of the path before the application's: the stage (`/prod`), a domain's mapping, or "".

    REST APIs strip the stage but not a domain's mapping, HTTP APIs strip neither. A route `/{proxy+}` reveals the
    rest of the path; without one, the stage of an HTTP API is recognized by its name.
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


def client_address(event: Mapping[str, Any], forwarded: str | None) -> str:
    """Return the client's address: a load balancer appends the true one to what the client sent."""
    if "elb" in event["requestContext"]:
        return (forwarded or "").rpartition(",")[2].strip()
    return forwarded or ""
