"""nginx's configuration, rendered from nginx.conf.template."""

import os
import pwd
import re
import resource
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from radserve.auth import api_keys
from radserve.build import mar
from radserve.errors import ServeError
from radserve.host import ports, resources
from radserve.host.run_directory import RunDirectory
from radserve.proxy import traffic_split
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.capacity import SMALL, Capacity

_PLACEHOLDER: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_UNSAFE: Final = re.compile(r"[\"'\\$\x00-\x1f\x7f]")
"""Characters that could end the token around a value or change its meaning."""
_NAME: Final = "[a-z0-9]+(?:-[a-z0-9]+)*"
_VERSION: Final = "[0-9]+[.][0-9]+(?:[.][0-9]+)?"
_FILE_NAME: Final = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_PAGE_FILE: Final = "[A-Za-z0-9_-]+[.](?:html|css|js|json|webmanifest|svg|png|ico|txt)"  # files of the gateway's page
_ARCHIVE: Final = "[a-z0-9][a-z0-9.-]*[.]mar"
_START: Final = "(?:initial_workers=[0-9]{1,4}|synchronous=(?:true|false))"
_REASON: Final = "reason=(?:[A-Za-z0-9._~+!*(),:;@/-]++|%[0-9A-Fa-f][0-9A-Fa-f])*+"
"""URL-encoded text; possessive quantifiers prevent backtracking."""
STOPPING: Final = "stopping"  # flag file in nginx's folder: each response closes its connection
_MAX_DOCUMENT: Final = 1 << 20  # longest request body of the control API, in bytes
_CONTROL_TIMEOUT: Final = 900
"""Seconds until the control API must respond; it downloads, verifies and starts versions meanwhile."""
_MAX_FILES: Final = 8192
_MIN_FILE: Final = 1 << 16  # bytes of a response's file that nginx requires beside its buffers
MARGIN: Final = 15
"""Seconds that a request may take beyond its batch: waiting for the worker's previous batch, and transfer."""


@dataclass(frozen=True)
class Upstreams:
    """Servers behind the proxy, and their limits; times are in seconds."""

    health_port: int  # of the supervisor, on loopback
    run_directory: RunDirectory
    max_body: int  # bytes that TorchServe reads of a request
    response_timeout: int  # for one batch
    capacity: Capacity
    drain_timeout: float = 60.0  # for all requests in flight


def render(options: ProxyOptions, upstreams: Upstreams, folder: Path, cache: Path | None) -> str:
    """Render nginx's configuration, with `folder` for all files and a `cache` in memory for decisions on keys."""
    files = min(_MAX_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    tls = options.certificate is not None
    run_directory, capacity = upstreams.run_directory, upstreams.capacity
    # Half of the free space holds bodies, and half holds responses; a gateway has both again.
    space = shutil.disk_usage(folder).free // (4 if options.gateway else 2)
    large = max(1, min(capacity.large, space // upstreams.max_body))
    values: dict[str, str | int | Path] = {
        "IF_KEYS": when(options.has_keys),
        "IF_KEYLESS": when(options.keyless),
        "IF_NO_KEYS": when(not options.has_keys),
        "IF_MODELS": when(options.sagemaker is None),
        "IF_SCRAPED": when(options.scrape_port is not None),
        "SCRAPE_PORT": options.scrape_port or 0,
        "LISTEN_SCRAPE": _listen(ports.LOOPBACK, options.scrape_port or 0, tls=False),
        "IF_SAGEMAKER": when(options.sagemaker is not None),
        "MODEL": options.sagemaker or "",
        "IF_GATEWAY": when(options.gateway is not None),
        "GATEWAY": options.gateway or "127.0.0.1:8000",
        "GATEWAY_TIMEOUT": upstreams.response_timeout + 2 * MARGIN,
        "IF_ROOT": when(os.geteuid() == 0),
        "IF_TLS": when(tls),
        "IF_TRUSTED": when(bool(options.trusted)),
        "USER": pwd.getpwuid(0).pw_name,
        "FOLDER": folder,
        "STOPPING": folder / STOPPING,
        "WORKERS": min(4, resources.cores()),
        "FILES": files,
        "CONNECTIONS": files // 2,
        "DRAIN_TIMEOUT": max(1, round(upstreams.drain_timeout)),
        "PORT": options.port,
        "MANAGEMENT_PORT": options.management_port,
        "METRICS_PORT": options.metrics_port,
        "LISTEN": _listen(options.host, options.port, tls=tls),
        "LISTEN_MANAGEMENT": _listen(options.management_host, options.management_port, tls=tls),
        "LISTEN_METRICS": _listen(options.host, options.metrics_port, tls=tls),
        # Links are not resolved: a renewed certificate may be a new target (Kubernetes, certbot).
        "CERTIFICATE": options.certificate.absolute() if options.certificate else "",
        "CERTIFICATE_KEY": options.certificate_key.absolute() if options.certificate_key else "",
        "NAME": _NAME,
        "VERSION": _VERSION,
        "KEY": api_keys.PATTERN,
        "CACHE": cache or folder / "no-cache",
        "KEY_CACHE": "keys" if cache else "off",
        "RATE": options.rate,
        "ADDRESS_RATE": 4 * options.rate,
        "CONCURRENT": min(options.concurrent, capacity.per_key),
        "ADDRESS_CONCURRENT": capacity.per_address,
        "REQUESTS": capacity.requests,
        "LARGE": large,
        "RESPONSE_FILE": max(_MIN_FILE, space // capacity.requests),
        "LARGE_OF_EACH": max(1, large // 2),
        "SMALL_DIGITS": len(str(SMALL)),
        "TRUSTED": " ".join(f"set_real_ip_from {network};" for network in options.trusted),
        "ACCESS_LOG": options.access_log.absolute(),
        "MAX_BODY": upstreams.max_body,
        "READ_TIMEOUT": upstreams.response_timeout + MARGIN,
        "TORCHSERVE": run_directory.inference,
        "TORCHSERVE_METRICS": run_directory.metrics,
        "SUPERVISOR": f"{ports.LOOPBACK}:{upstreams.health_port}",
        "READY": run_directory.ready,
        "ROUTING": run_directory.routing,
        "CONTROL": run_directory.control,
        "GATES": run_directory.gates,
        "TRAFFIC": run_directory.traffic,
        "BUCKETS": _buckets(),
        "FILE": _ARCHIVE,
        "FILE_NAME": _FILE_NAME,
        "PAGE_FILE": _PAGE_FILE,
        "START": _START,
        "REASON": _REASON,
        "MAX_DOCUMENT": _MAX_DOCUMENT,
        "CONTROL_TIMEOUT": _CONTROL_TIMEOUT,
    }
    try:
        text = options.template.read_text(encoding="utf-8")
    except OSError as error:
        raise ServeError(
            f"{options.template}: {error.strerror}; it is the template of nginx's configuration."
        ) from error
    return fill(text, values, str(options.template))


def fill(text: str, values: Mapping[str, str | int | Path], source: str) -> str:
    """Replace the placeholders `${UPPER_CASE}` by their values; reject unknown ones and unsafe characters."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise ServeError(f"{source}: unknown placeholder ${{{name}}}. Available: {', '.join(sorted(values))}.")
        value = str(values[name])
        if _UNSAFE.search(value):
            raise ServeError(
                f"{source}: ${{{name}}} has value {value!r}; quotes, backslashes and $ are not allowed in it."
            )
        return value

    return _PLACEHOLDER.sub(replace, text)


def when(condition: bool) -> str:  # noqa: FBT001 - the condition is all there is
    """Return a line prefix: empty to keep the line, `# ` to comment it out."""
    return "" if condition else "# "


def _buckets() -> str:
    """Return the lines of `split_clients` for buckets of equal size; the last one takes the rounding error."""
    numbers = ["/".join(f"{number:03}") for number in range(traffic_split.BUCKETS)]
    share = 100 / traffic_split.BUCKETS
    return " ".join([*(f"{share:g}% {number};" for number in numbers[:-1]), f"* {numbers[-1]};"])


def _listen(host: str, port: int, *, tls: bool) -> str:
    address = ports.parse_address(host)
    text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    return text + (" ssl http2" if tls else "") + (" ipv6only=off" if str(address) == "::" else "")


def response_timeout(archives: Iterable[Path]) -> int:
    """Return the longest responseTimeout of the archives, in seconds."""
    timeouts = []
    for path in archives:
        with mar.opened(path) as archive:
            timeouts.append(int(yaml.safe_load(mar.document(archive, "model-config.yaml"))["responseTimeout"]))
    if not timeouts:
        raise ServeError("The model store is empty, so the longest response time is unknown; set --response-timeout.")
    return max(timeouts)
