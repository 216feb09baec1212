"""Options of the server, and the checks before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radserve.errors import ServeError
from radserve.host.ports import require_free
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.launch import Address
from radserve.versions.registration import Source


@dataclass(frozen=True)
class ServerOptions:
    """Options of the server.

    Attributes
    ----------
    store
        Model store.
    configuration
        TorchServe's base configuration.
    address
        Loopback address of TorchServe.
    health_port
        Port of the health API.
    models
        NAME or NAME/VERSION; all models of the store if empty.
    workers
        Workers per model; None to divide the available cores.
    startup_timeout, drain_timeout
        Seconds until a start has failed, and until a stop no longer waits for requests.
    drain_delay
        Seconds for which a stopping server still answers while /ready responds with 503, for load balancers.
    proxy
        Options of the proxy; None to start none.
    keys
        Source of API keys (`radserve.auth.key_sources.source`); without it, /auth rejects every key.
    run_directory
        Folder for all files that are written; None for a temporary one.
    state
        Folder for state that survives a restart; None for `state` in the model store.
    source
        Archive store from which missing archives are pulled.
    settle
        Seconds that a version remains registered after the proxy stopped using it; see
        `radserve.versions.unregistration`.
    """

    store: Path
    configuration: Path
    address: Address
    health_port: int
    models: Sequence[str] = ()
    workers: int | None = None
    startup_timeout: float = 120.0
    drain_timeout: float = 60.0
    drain_delay: float = 0.0
    proxy: ProxyOptions | None = None
    keys: str | None = None
    run_directory: Path | None = None
    state: Path | None = None
    source: Source | None = None
    settle: float = 30.0

    @property
    def state_folder(self) -> Path:
        """Folder for state that survives a restart."""
        return self.state or self.store / "state"

    def require_safe(self) -> None:
        """Reject options that would publish the server without protection by mistake.

        Raises
        ------
        ServeError
            With the options to change.
        """
        if self.proxy is None:
            return
        if self.keys is None and self.proxy.sagemaker is None:
            raise ServeError(
                f"Publishing {self.proxy.host} needs API keys. Create one with "
                "'radserve keys create NAME --role predict --keys keys.json', and set --keys keys.json."
            )
        self.proxy.require_safe()

    def require_ports(self) -> None:
        """Check that all ports are free.

        Raises
        ------
        ServeError
            For the first port in use.
        """
        host = self.address.host
        ports = {
            "--port" if self.proxy is None else "--inference-port": (host, self.address.port),
            "--metrics-port": (host, self.address.metrics_port),
            "--health-port": (host, self.health_port),
        }
        require_free(ports | (self.proxy.listens if self.proxy else {}))
