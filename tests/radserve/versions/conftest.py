"""Fixtures: the version management of one server, in front of a fake TorchServe."""

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from radserve.build import model_store
from radserve.build.model_store import Entry
from radserve.errors import StoreError
from radserve.host.run_directory import RunDirectory, proxy_lock
from radserve.proxy import access_events
from radserve.proxy.access_events import TrafficWindow
from radserve.schema.rollout import RolloutSpec, RolloutStatus
from radserve.torchserve.management import Management
from radserve.torchserve.readiness import Readiness
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.torchserve.verified_models import select
from radserve.versions.audit_log import Actor
from radserve.versions.control_api import ControlApi, application
from radserve.versions.deployment_file import parse
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.registration import Registration
from radserve.versions.request_hold import RequestHold
from radserve.versions.rollout import Rollout
from radserve.versions.rollout_manager import RolloutManager
from radserve.versions.stored_state import State, StateFolder
from radserve.versions.torchserve_api import TorchServeApi
from radserve.versions.unregistration import Unregistration
from radserve.versions.version_manager import VersionManager
from radserve.versions.views import Views
from tests.radserve.fake_torchserve import Running, running
from tests.radserve.folders import prepared, two_versions
from tests.radserve.minimal_archive import write_archive

NAME = "brightness"
ADA = Actor("user ada", "test")
SPLIT = parse(f"models: {{{NAME}: {{versions: {{1.0.0: {{share: 60}}, 2.0.0: {{share: 40}}}}}}}}", "test")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Publisher:
    """A store that "pulls" by writing the archive into the model store."""

    versions: list[str] = field(default_factory=list)

    def pull(self, name: str, version: str, target: Path) -> Entry:
        if version not in self.versions:
            raise StoreError(f"unknown archive {name} {version}")
        write_archive(target, name, version)
        entry = model_store.read(target).find(name, version)
        assert entry is not None
        return entry


@dataclass
class Service:
    """The version management of one server, with the steps that tests repeat."""

    torchserve: Running
    store: Path
    directory: RunDirectory
    state_folder: Path
    publisher: Publisher
    registry: ModelRegistry
    deployment_state: DeploymentStateManager
    registration: Registration
    unregistration: Unregistration
    version_manager: VersionManager
    traffic: TrafficWindow
    rollouts: RolloutManager
    views: Views
    client: httpx.AsyncClient

    def start_proxy(self, stack: AsyncExitStack) -> None:
        """Hold the lock that a running proxy holds."""
        lock = stack.enter_context(proxy_lock(self.directory.proxy).open("wb"))
        fcntl.flock(lock, fcntl.LOCK_EX)

    @property
    def routed(self) -> set[str]:
        """The versions in the proxy's table, or names of its subfolders where several share ten buckets."""
        return {bucket.resolve().name for bucket in (self.directory.routing / "shares" / NAME).iterdir()}

    @property
    def shares(self) -> dict[str, float]:
        """Share of each declared version."""
        models = self.deployment_state.deployment.models
        return {version: item.share for version, item in models[NAME].versions.items()}

    @property
    def registered(self) -> set[str]:
        """Versions that TorchServe holds."""
        return {version for _, version in self.torchserve.models}

    @property
    def audit(self) -> list[tuple[str, str]]:
        """Action and detail of each entry of the audit log."""
        return [(entry.action, entry.detail or "") for entry in self.deployment_state.audit.entries(100)]

    @property
    def stored(self) -> State:
        """State that a restart would read."""
        return StateFolder(self.state_folder).state

    def observe(
        self, version: str, status: int = 200, *, seconds: float = 0.01, count: int = 1, outcome: str = "-"
    ) -> None:
        """Report requests as the proxy does."""
        line = f"<190>Jan  2 03:04:05 radserve: {NAME} {version} 0 {status} {seconds:.3f} {outcome}"
        event = access_events.parse(line.encode())
        assert event is not None
        for _ in range(count):
            self.traffic.add(event)

    async def add(self, version: str) -> None:
        """Build and register another version, which is on standby."""
        write_archive(self.store, NAME, version)
        await self.version_manager.register(NAME, version, None, ADA)

    def archive(self, version: str = "2.0.0") -> Entry:
        """Return the entry of an archive in the model store's index."""
        entry = model_store.read(self.store).find(NAME, version)
        assert entry is not None
        return entry

    def selected(self, state: State | None = None) -> list[str]:
        """Return the version that a server with another state selects."""
        digests = (state or State()).in_quarantine(model_store.released(self.store))
        return [model.entry.version for model in select(self.store, [NAME], digests)]

    async def promote_new(self) -> None:
        """Register and promote version 2.0.0."""
        await self.version_manager.register(NAME, "2.0.0", None, ADA)
        await self.version_manager.promote(NAME, "2.0.0", ADA)

    async def begin_rollout(self, version: str = "2.0.0", steps: Sequence[float] = (100,)) -> Rollout:
        """Start a rollout whose steps end after five requests."""
        spec = RolloutSpec.model_validate({"version": version, "step_seconds": 0, "min_requests": 5, "steps": steps})
        return await self.rollouts.start(NAME, spec, ADA)

    async def begin_canary(self, version: str = "2.0.0", steps: Sequence[float] = (100,)) -> Rollout:
        """Start a rollout, and wait until the version receives requests."""
        rollout = await self.begin_rollout(version, steps)
        await self.until(lambda: rollout.share > 0)
        return rollout

    async def fail_rollout(self) -> None:
        """Roll out version 2.0.0, which fails."""
        rollout = await self.begin_canary()
        self.observe("2.0.0", 500, count=5)
        await self.end(rollout)
        await self.until(lambda: (NAME, "2.0.0") not in self.unregistration)
        assert self.registered == {"1.0.0"}

    async def begin_scaling(self, version: str) -> asyncio.Task[ModelVersion]:
        """Begin to end one of two workers of a version that has pending requests."""
        await self.version_manager.scale(NAME, version, 2, ADA)
        self.torchserve.behavior.pending = 1
        task = asyncio.create_task(self.version_manager.scale(NAME, version, 1, ADA))
        await self.until(lambda: NAME in self.version_manager.scaling.hold)
        return task

    async def forward(self) -> str:
        """Ask as nginx does while requests may be held; return where it forwards the request to."""
        return str((await self.client.post(f"/gate/{NAME}")).headers["x-accel-redirect"])

    async def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not become true"
            await asyncio.sleep(0.01)

    async def end(self, rollout: Rollout) -> RolloutStatus:
        """Wait for the end of a rollout, and return its status."""
        await self.until(lambda: rollout.done)
        return rollout.status()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A model store with versions 1.0.0 and 2.0.0."""
    return two_versions(tmp_path / "store")


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return prepared(tmp_path / "run")


@pytest.fixture
def torchserve(store: Path, directory: RunDirectory) -> Iterator[Running]:
    """A fake TorchServe that has loaded version 1.0.0 with one worker."""
    with running(store, directory.management, f"{NAME}-1.0.0.mar") as server:
        yield server


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals that tests would otherwise wait for."""
    monkeypatch.setattr("radserve.versions.rollout._POLL_SECONDS", 0.02)
    monkeypatch.setattr("radserve.versions.rollout._MAX_MISSING_SECONDS", 0.1)
    monkeypatch.setattr("radserve.torchserve.registry._SETTLE", 0.05)
    monkeypatch.setattr("radserve.torchserve.registry._START_TIMEOUT", 2.0)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Everything that a test closes at its end."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def service(
    torchserve: Running, store: Path, directory: RunDirectory, tmp_path: Path, stack: AsyncExitStack, fast: None
) -> Service:
    """A ready server without a proxy, which serves version 1.0.0."""
    service = assemble(torchserve, store, directory, tmp_path / "state", stack)
    await service.registry.refresh()
    await service.version_manager.start()
    return service


@dataclass
class Disk:
    """The disk of the state folder; while it is full, nothing is written durably."""

    full: bool = False

    def fsync(self, descriptor: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("os.fsync", disk.fsync)
    monkeypatch.setattr("radserve.versions.deployment_state._RETRY_SECONDS", 0.02)
    return disk


@pytest.fixture
def proxied(service: Service, stack: AsyncExitStack) -> Service:
    """The same server with a proxy in front."""
    service.start_proxy(stack)
    return service


@pytest.fixture
async def promoted(proxied: Service) -> Service:
    """The same server after the promotion of version 2.0.0."""
    await proxied.promote_new()
    return proxied


def assemble(
    torchserve: Running, store: Path, directory: RunDirectory, state_folder: Path, stack: AsyncExitStack
) -> Service:
    """Connect the parts as the supervisor does; the server is not ready yet."""
    management = Management(directory, timeout=0.3)
    (model,) = select(store, [f"{NAME}/1.0.0"])
    registry = ModelRegistry([ModelVersion(model, 1, datetime.now(UTC))], management, directory, silence=0.5)
    readiness = Readiness(registry, directory.inference, list)
    deployment_state = DeploymentStateManager(registry, StateFolder(state_folder), directory, store)
    publisher = Publisher()
    registration = Registration(
        registry,
        deployment_state,
        readiness,
        store=store,
        source=publisher,
        models=directory.models,
        threads=1,
        timeout=30.0,
    )
    unregistration = Unregistration(registry, deployment_state, settle=0.05, patience=0.5)
    hold = RequestHold(directory, max_seconds=2.0)
    version_manager = VersionManager(registry, deployment_state, registration, unregistration, hold, default_workers=1)
    traffic = TrafficWindow()
    rollouts = RolloutManager(version_manager, traffic, directory.inference)
    views = Views(version_manager, rollouts, directory.metrics)
    app = application(
        *ControlApi(version_manager, rollouts, views).routes(),
        *TorchServeApi(version_manager, management, store).routes(),
        hold.route(),
    )
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://radserve", headers={"X-Actor": "ada"}
    )
    stack.push_async_callback(management.close)
    stack.push_async_callback(readiness.close)
    stack.push_async_callback(client.aclose)
    stack.push_async_callback(version_manager.stop)
    stack.push_async_callback(rollouts.stop)
    return Service(
        torchserve,
        store,
        directory,
        state_folder,
        publisher,
        registry,
        deployment_state,
        registration,
        unregistration,
        version_manager,
        traffic,
        rollouts,
        views,
        client,
    )
