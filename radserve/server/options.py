"""What an operator chooses of a server, and what is refused before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radserve.errors import ServeError
from radserve.host.ports import require_free
from radserve.proxy import options
from radserve.torchserve.launch import Address
from radserve.versions.registration import Source


@dataclass(frozen=True)
class Options:
    """What the operator may choose.

    Attributes
    ----------
    models
        Names, or NAME/VERSION; all of the store if empty.
    health_port
        Port of /live, /ready, /auth and /metrics.
    workers
        Workers a model; by default as many as there are cores to share.
    startup_timeout, drain_timeout
        Seconds until a start has failed, and until a stop no longer waits for requests.
    drain_delay
        Seconds for which a stop goes on as before, but for /ready: load balancers need them to hear of it.
    front
        What nginx publishes; None for nothing.
    keys
        Where keys are kept, as `radserve.auth.keyring.source` reads it; without, /auth lets nobody in.
    runtime
        Folder for all that is written; a temporary one if None.
    state
        Folder for what a restart must know; one in the model store if None.
    source
        Where archives are pulled from that the model store does not hold.
    settle
        Seconds that a version stays after the front sends it nothing more; see `radserve.versions.unregistration`.
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
    front: options.Options | None = None
    keys: str | None = None
    runtime: Path | None = None
    state: Path | None = None
    source: Source | None = None
    settle: float = 30.0

    @property
    def state_folder(self) -> Path:
        """Folder for what a restart must know."""
        return self.state or self.store / "state"

    def require_safe(self) -> None:
        """Refuse what would publish a server by an oversight.

        Raises
        ------
        ServeError
            Naming the way out.
        """
        if self.front is None:
            return
        if self.keys is None and self.front.sagemaker is None:
            raise ServeError(
                f"{self.front.host} is to be published, and without keys anybody could ask. Make one with "
                "'radserve keys create NAME --role predict --keys keys.json', and give --keys keys.json."
            )
        self.front.require_safe()

    def require_ports(self) -> None:
        """Refuse ports that are taken.

        Raises
        ------
        ServeError
            Naming the first.
        """
        host = self.address.host
        wanted = {
            "--port" if self.front is None else "--inference-port": (host, self.address.port),
            "--metrics-port": (host, self.address.metrics_port),
            "--health-port": (host, self.health_port),
        }
        require_free(wanted | (self.front.listens if self.front else {}))
