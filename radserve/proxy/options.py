"""Options of the proxy, and the checks before it starts."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from radserve.errors import ServeError
from radserve.host import ports

TEMPLATE: Final = Path(__file__).with_name("nginx.conf.template")
_GATEWAY: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}|unix:/[A-Za-z0-9._/-]+")


@dataclass(frozen=True)
class ProxyOptions:
    """Options of the proxy.

    `keyless` serves this machine only, without keys, limits and management; pages of other sites are rejected.
    `sagemaker` is the name of the model behind SageMaker's /ping and /invocations. Only these paths are then open,
    without keys: SageMaker authenticates its callers and forwards no key.
    """

    host: str
    port: int
    management_host: str
    management_port: int
    metrics_port: int
    certificate: Path | None = None
    certificate_key: Path | None = None
    plain_http: bool = False  # without TLS on purpose, because a load balancer terminates it
    rate: int = 200  # requests per second of each key
    concurrent: int = 64  # open requests of each key
    trusted: tuple[str, ...] = ()  # networks of load balancers whose X-Forwarded-For is trusted
    access_log: Path = Path("/dev/stdout")  # one JSON line per request
    gateway: str | None = None  # HOST:PORT or unix:PATH of a gateway, whose page and API are published too
    sagemaker: str | None = None
    keyless: bool = False
    scrape_port: int | None = None  # loopback port of TorchServe's /metrics, without keys
    template: Path = TEMPLATE

    @property
    def url(self) -> str:
        """Base URL for clients."""
        host = ports.parse_address(self.host)
        name = socket.gethostname() if host.is_unspecified else f"[{host}]" if host.version == 6 else str(host)
        return f"{'https' if self.certificate else 'http'}://{name}:{self.port}"

    @property
    def listens(self) -> dict[str, tuple[str, int]]:
        """Host and port by the option that chooses the port."""
        listens = {"--port": (self.host, self.port)}
        if self.scrape_port is not None:
            listens["--metrics-port"] = (ports.LOOPBACK, self.scrape_port)
        if self.has_keys:
            listens["--management-port"] = (self.management_host, self.management_port)
            listens["--metrics-port-public"] = (self.host, self.metrics_port)
        return listens

    @property
    def has_keys(self) -> bool:
        """Whether clients need keys."""
        return self.sagemaker is None and not self.keyless

    def require_safe(self) -> None:
        """Reject options that contradict each other or would send keys and images unencrypted by mistake."""
        if (self.certificate is None) != (self.certificate_key is None):
            raise ServeError("--certificate and --certificate-key belong together; set both or neither.")
        if self.gateway is not None and not _GATEWAY.fullmatch(self.gateway):
            raise ServeError(f"--gateway has value {self.gateway!r}; write HOST:PORT, or unix:PATH of a socket.")
        if self.certificate is not None and self.plain_http:
            raise ServeError("--plain-http and --certificate exclude each other.")
        if self.keyless and not self.local:
            raise ServeError(f"{self.host} is reachable from outside; a server without keys listens on loopback only.")
        if self.certificate is None and not self.plain_http and not self.local:
            raise ServeError(
                f"{self.host} is reachable from outside, and without TLS keys and images are sent unencrypted. "
                "Set --certificate FILE --certificate-key FILE, or --plain-http if a load balancer terminates TLS."
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the proxy."""
        hosts = (ports.parse_address(self.host), ports.parse_address(self.management_host, "--management-host"))
        return all(host.is_loopback for host in hosts)


def networks(text: str) -> tuple[str, ...]:
    """Parse comma-separated networks."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tuple(str(ipaddress.ip_network(part)) for part in parts)
    except ValueError as error:
        raise ServeError(f"--trusted-proxy: {error}; write networks, like 10.0.0.0/8,fd00::/8.") from error
