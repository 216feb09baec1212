"""Options of the server, and the checks before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handlers.errors import ScopeError
from handlers.profile import VerifiedProfile
from handlers.scope import requirements
from radserve.build import model_store
from radserve.errors import ServeError
from radserve.host import run_directory
from radserve.host.ports import LOOPBACK, require_free
from radserve.proxy.options import ProxyOptions
from radserve.rayserve.launch import require_supported
from radserve.schema.domain import Mode
from radserve.torchserve.worker_start import WorkerStart
from radserve.versions.registration import Source

Engine = Literal["torchserve", "ray"]
"""What runs the archives."""


@dataclass(frozen=True)
class ServerOptions:
    """Options of the server; times are in seconds."""

    store: Path
    configuration: Path
    health_port: int
    models: Sequence[str] = ()  # NAME or NAME/VERSION; without any, all models of the store
    workers: int | None = None  # per model; None to divide the available cores
    memory: int | None = None  # bytes; None for the limit of the container
    profiles: Sequence[VerifiedProfile] = ()  # of this site, at most one for each version
    require: str = ""  # attributes that images must state; see `handlers.scope.requirements`
    domain: Mode = "strict"  # images unlike the training images: rejected, marked, or not compared
    engine: Engine = "torchserve"
    worker_start: WorkerStart = "fork"  # of TorchServe
    requests: int = 128  # open at a time, of all clients
    startup_timeout: float = 300.0
    drain_timeout: float = 60.0  # a stop no longer waits for requests afterwards
    drain_delay: float = 0.0  # a stopping server still answers, while /ready tells load balancers
    proxy: ProxyOptions | None = None  # None if the proxy is another process
    keys: str | None = None  # see `radserve.auth.key_sources.source`; without it, /auth rejects every key
    run_directory: Path | None = None  # for all files that are written; None for a temporary one
    state: Path | None = None  # survives a restart; None for `state` in the model store
    source: Source | None = None  # store from which missing archives are pulled
    settle: float = 30.0  # a version remains registered after the proxy stopped using it
    silence: float = 30.0  # of TorchServe's management API, before a change fails or a rollout is rolled back

    @property
    def state_folder(self) -> Path:
        """Folder for state that survives a restart."""
        return self.state or self.store / "state"

    @property
    def engine_name(self) -> str:
        """Name of the engine in messages."""
        return {"torchserve": "TorchServe", "ray": "Ray Serve"}[self.engine]

    @property
    def forks(self) -> bool:
        """Whether workers are forks."""
        return self.engine == "torchserve" and self.worker_start == "fork"

    def require_safe(self) -> None:
        """Reject an unsafe run directory, and options that would publish the server without protection by mistake."""
        if self.run_directory is not None:
            run_directory.require_safe(self.run_directory)
        if self.engine == "ray":
            require_supported(self.run_directory, pulls=self.source is not None)
        if self.proxy is None:
            return
        if self.keys is None and self.proxy.has_keys:
            raise ServeError(
                f"--keys is missing: without API keys, anyone could use the server on {self.proxy.host}. Create a key "
                "with 'radserve keys create NAME --role predict --keys keys.json', then set --keys keys.json."
            )
        self.proxy.require_safe()

    def require_ports(self, others: Mapping[str, tuple[str, int]] | None = None) -> None:
        """Check that all ports are free, and those of `others`, by option."""
        own = {"--health-port": (LOOPBACK, self.health_port)} | (self.proxy.listens if self.proxy else {})
        require_free(own | dict(others or {}))

    def require_known_models(self) -> None:
        """Reject requirements for models that are not in the store."""
        try:
            requirements.check(self.require, {entry.name for entry in model_store.read(self.store).archives})
        except ScopeError as error:
            raise ServeError(f"--require: {error}") from error
