"""The front: what nginx publishes of a server, how it is asked for, and what is refused before it starts."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import resource
import socket
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from radserve.auth import api_keys
from radserve.errors import ServeError
from radserve.host import ports, resources
from radserve.host.run_directory import RunDirectory
from radserve.proxy import template, traffic_split

TEMPLATE: Final = Path(__file__).with_name("nginx.conf.template")
_NAME: Final = "[a-z0-9]+(?:-[a-z0-9]+)*"
_VERSION: Final = "[0-9]+[.][0-9]+(?:[.][0-9]+)?"
_FILE_NAME: Final = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_PAGE_FILE: Final = "[A-Za-z0-9_-]+[.](?:html|css|js|json|webmanifest|svg|png|ico|txt)"
"""What the gateway's page is made of."""
_GATEWAY: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}|unix:/[A-Za-z0-9._/-]+")
_FILE: Final = "[a-z0-9][a-z0-9.-]*[.]mar"
_START: Final = "(?:initial_workers=[0-9]{1,4}|synchronous=(?:true|false))"
_REASON: Final = "reason=(?:[A-Za-z0-9._~+!*(),:;@/-]++|%[0-9A-Fa-f][0-9A-Fa-f])*+"
"""Text as it stands in a query; possessive, so that nothing is tried twice."""
_MAX_DOCUMENT: Final = 1 << 20
"""Longest body of the control API, in bytes."""
_CONTROL_TIMEOUT: Final = 900
"""Seconds until the control API answers: it pulls, verifies and starts versions meanwhile."""
_FILES: Final = 8192
_MARGIN: Final = 15
"""Seconds that a request may take beside its batch: waiting for the worker's last batch, and the way back."""


@dataclass(frozen=True)
class Options:
    """What the operator may choose.

    Attributes
    ----------
    host, management_host
        Addresses to listen on.
    port, management_port, metrics_port
        Of the models, of the management API, and of the metrics.
    certificate, certificate_key
        PEM files; both or none.
    plain_http
        That there is none on purpose, since TLS ends before the front.
    rate
        Requests a second for each key.
    concurrent
        Requests that each key may have open.
    trusted
        Networks of proxies whose X-Forwarded-For tells the client's address.
    access_log
        File for a line of JSON a request.
    gateway
        Where a gateway listens, whose page and API are published as well: HOST:PORT or unix:PATH.
    sagemaker
        Name of the model behind SageMaker's /ping and /invocations, which are then all that is open, without keys:
        SageMaker lets only its own callers reach the port, and passes on no key.
    """

    host: str
    port: int
    management_host: str
    management_port: int
    metrics_port: int
    certificate: Path | None = None
    certificate_key: Path | None = None
    plain_http: bool = False
    rate: int = 200
    concurrent: int = 64
    trusted: tuple[str, ...] = ()
    access_log: Path = Path("/dev/stdout")
    gateway: str | None = None
    sagemaker: str | None = None
    template: Path = TEMPLATE

    @property
    def url(self) -> str:
        """Where clients find the models."""
        host = ports.address(self.host)
        name = socket.gethostname() if host.is_unspecified else f"[{host}]" if host.version == 6 else str(host)
        return f"{'https' if self.certificate else 'http'}://{name}:{self.port}"

    @property
    def listens(self) -> dict[str, tuple[str, int]]:
        """Option that chooses a port -> host and port."""
        if self.sagemaker is not None:
            return {"--port": (self.host, self.port)}
        return {
            "--port": (self.host, self.port),
            "--management-port": (self.management_host, self.management_port),
            "--metrics-port-public": (self.host, self.metrics_port),
        }

    def require_safe(self) -> None:
        """Refuse what would publish keys and images in the clear by an oversight.

        Raises
        ------
        ServeError
            Naming the ways out.
        """
        if (self.certificate is None) != (self.certificate_key is None):
            raise ServeError("--certificate and --certificate-key belong together; give both or none.")
        if self.gateway is not None and not _GATEWAY.fullmatch(self.gateway):
            raise ServeError(f"--gateway has value {self.gateway!r}; write HOST:PORT, or unix:PATH of a socket.")
        if self.certificate is not None and self.plain_http:
            raise ServeError("--plain-http and --certificate exclude each other.")
        if self.certificate is None and not self.plain_http and not self.local:
            raise ServeError(
                f"{self.host} can be reached from outside, and without TLS keys and images could be read on the way. "
                "Give --certificate FILE --certificate-key FILE, or --plain-http where TLS ends before this server."
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        hosts = (ports.address(self.host), ports.address(self.management_host, "--management-host"))
        return all(host.is_loopback for host in hosts)


@dataclass(frozen=True)
class Upstreams:
    """What the front stands before, and what it must know of it.

    Attributes
    ----------
    torchserve, torchserve_metrics, supervisor
        Addresses, as HOST:PORT.
    runtime
        The folder that the server shares with the front.
    max_body
        Longest body that TorchServe reads, in bytes.
    response_timeout
        Longest that a batch may take, in seconds.
    drain_timeout
        Longest that requests in flight are waited for, in seconds.
    """

    torchserve: str
    torchserve_metrics: str
    supervisor: str
    runtime: RunDirectory
    max_body: int
    response_timeout: int
    drain_timeout: float = 60.0


def configuration(options: Options, behind: Upstreams, folder: Path, cache: Path | None) -> str:
    """Render nginx's configuration.

    Parameters
    ----------
    folder
        For all that nginx writes.
    cache
        Folder in memory for the answers of /auth; None for none.

    Raises
    ------
    ServeError
        If the template or a value cannot be used.
    """
    files = min(_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    tls = options.certificate is not None
    values: dict[str, str | int | Path] = {
        "IF_KEYS": template.when(options.sagemaker is None),
        "IF_SAGEMAKER": template.when(options.sagemaker is not None),
        "MODEL": options.sagemaker or "",
        "IF_GATEWAY": template.when(options.gateway is not None),
        "GATEWAY": options.gateway or "127.0.0.1:8000",
        "GATEWAY_TIMEOUT": behind.response_timeout + 2 * _MARGIN,
        "IF_ROOT": template.when(os.geteuid() == 0),
        "IF_TLS": template.when(tls),
        "IF_TRUSTED": template.when(bool(options.trusted)),
        "USER": pwd.getpwuid(0).pw_name,
        "FOLDER": folder,
        "WORKERS": min(4, resources.cores()),
        "FILES": files,
        "CONNECTIONS": files // 2,
        "DRAIN_TIMEOUT": max(1, round(behind.drain_timeout)),
        "PORT": options.port,
        "MANAGEMENT_PORT": options.management_port,
        "METRICS_PORT": options.metrics_port,
        "LISTEN": _listen(options.host, options.port, tls=tls),
        "LISTEN_MANAGEMENT": _listen(options.management_host, options.management_port, tls=tls),
        "LISTEN_METRICS": _listen(options.host, options.metrics_port, tls=tls),
        # Not resolved: a renewed certificate may be a link that leads elsewhere (Kubernetes, certbot).
        "CERTIFICATE": options.certificate.absolute() if options.certificate else "",
        "CERTIFICATE_KEY": options.certificate_key.absolute() if options.certificate_key else "",
        "NAME": _NAME,
        "VERSION": _VERSION,
        "KEY": api_keys.PATTERN,
        "CACHE": cache or folder / "no-cache",
        "KEY_CACHE": "keys" if cache else "off",
        "RATE": options.rate,
        "ADDRESS_RATE": 4 * options.rate,
        "CONCURRENT": options.concurrent,
        "TRUSTED": " ".join(f"set_real_ip_from {network};" for network in options.trusted),
        "ACCESS_LOG": options.access_log.absolute(),
        "MAX_BODY": behind.max_body,
        "READ_TIMEOUT": behind.response_timeout + _MARGIN,
        "TORCHSERVE": behind.torchserve,
        "TORCHSERVE_METRICS": behind.torchserve_metrics,
        "SUPERVISOR": behind.supervisor,
        "READY": behind.runtime.ready,
        "ROUTING": behind.runtime.routing,
        "CONTROL": behind.runtime.control,
        "TRAFFIC": behind.runtime.traffic,
        "BUCKETS": _ring(),
        "FILE": _FILE,
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
    return template.render(text, values, str(options.template))


def _ring() -> str:
    """Divide requests into buckets of the same size; the last takes what rounding leaves."""
    numbers = ["/".join(f"{number:03}") for number in range(traffic_split.BUCKETS)]
    share = 100 / traffic_split.BUCKETS
    return " ".join([*(f"{share:g}% {number};" for number in numbers[:-1]), f"* {numbers[-1]};"])


def response_timeout(archives: Iterable[Path]) -> int:
    """Return the longest responseTimeout of archives, in seconds.

    Raises
    ------
    ServeError
        If there is none.
    """
    found = [_response_timeout(path) for path in archives]
    if not found:
        raise ServeError("The model store holds no archive that says how long an answer may take (--response-timeout).")
    return max(found)


def _response_timeout(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return int(yaml.safe_load(archive.read("model-config.yaml"))["responseTimeout"])


def _listen(host: str, port: int, *, tls: bool) -> str:
    where = ports.address(host)
    named = f"[{where}]:{port}" if where.version == 6 else f"{where}:{port}"
    return named + (" ssl http2" if tls else "") + (" ipv6only=off" if str(where) == "::" else "")


def networks(text: str) -> tuple[str, ...]:
    """Read comma-separated networks.

    Raises
    ------
    ServeError
        If one is none.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        return tuple(str(ipaddress.ip_network(word)) for word in words)
    except ValueError as error:
        raise ServeError(f"--trusted-proxy: {error}; write networks, like 10.0.0.0/8,fd00::/8.") from error
