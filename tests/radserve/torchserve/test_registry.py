"""Tests of radserve.torchserve.registry against a fake TorchServe."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from handlers import worker
from radserve.errors import ChangeError, VersionFailedError
from radserve.host.run_directory import RunDirectory
from radserve.torchserve.management import Management
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.torchserve.verified_models import VerifiedModel, select, unpack
from tests.radserve.fake_torchserve import Running


def verified(store: Path, version: str) -> VerifiedModel:
    (model,) = select(store, [f"brightness/{version}"])
    return model


@pytest.fixture
def use(store: Path, run_directory: RunDirectory) -> Callable[[Callable[[ModelRegistry], Awaitable[None]]], None]:
    """Run a coroutine with a registry that holds version 1.0.0 with one worker."""

    def run(steps: Callable[[ModelRegistry], Awaitable[None]]) -> None:
        async def with_registry() -> None:
            management = Management(run_directory, timeout=0.5)
            model = ModelVersion(verified(store, "1.0.0"), 1, datetime.now(UTC))
            try:
                await steps(ModelRegistry([model], management, run_directory, silence=1.0))
            finally:
                await management.close()

        asyncio.run(with_registry())

    return run


Use = Callable[[Callable[[ModelRegistry], Awaitable[None]]], None]


def only(registry: ModelRegistry) -> ModelVersion:
    (model,) = registry
    return model


def test_refresh_counts_ready_workers(use: Use, torchserve: Running) -> None:
    async def steps(registry: ModelRegistry) -> None:
        assert only(registry).ready == 0
        await registry.refresh()
        assert only(registry).ready == 1
        torchserve.behavior.ready = 0
        await registry.refresh()
        assert only(registry).ready == 0

    use(steps)


def test_refresh_counts_no_workers_of_a_version_that_torchserve_does_not_hold(use: Use, torchserve: Running) -> None:
    async def steps(registry: ModelRegistry) -> None:
        torchserve.models.clear()
        await registry.refresh()
        assert only(registry).ready == 0

    use(steps)


def test_refresh_raises_when_torchserve_died(use: Use, torchserve: Running) -> None:
    async def steps(registry: ModelRegistry) -> None:
        await registry.refresh()
        torchserve.die()
        with pytest.raises(httpx.TransportError):
            await registry.refresh()

    use(steps)


def test_refresh_raises_when_torchserve_is_slow(use: Use, torchserve: Running) -> None:
    async def steps(registry: ModelRegistry) -> None:
        torchserve.behavior.delay = 1.0
        with pytest.raises(httpx.ReadTimeout, match=r"did not answer GET /models/brightness/1\.0\.0 \(ReadTimeout\)"):
            await registry.refresh()

    use(steps)


def test_waiting_tolerates_silence(use: Use, torchserve: Running, store: Path) -> None:
    async def steps(registry: ModelRegistry) -> None:
        async def pause() -> None:
            await asyncio.sleep(0.2)
            torchserve.behavior.delay = 0.8
            await asyncio.sleep(0.6)
            torchserve.behavior.delay = 0.0
            torchserve.behavior.ready = None

        torchserve.behavior.ready = 0
        pausing = asyncio.create_task(pause())
        assert (await registry.register(verified(store, "2.0.0"), 2)).ready == 2
        await pausing
        torchserve.behavior.delay = 0.8
        counting = asyncio.create_task(registry.count_ready(only_of(registry, "2.0.0")))
        idling = asyncio.create_task(registry.idle(only_of(registry, "2.0.0"), 5.0))
        await asyncio.sleep(0.6)
        torchserve.behavior.delay = 0.0
        assert (await counting, await idling) == (2, True)

    use(steps)


def only_of(registry: ModelRegistry, version: str) -> ModelVersion:
    item = registry.get("brightness", version)
    assert item is not None
    return item


def test_longer_silence_ends_a_registration_and_leaves_nothing_behind(
    use: Use, torchserve: Running, store: Path
) -> None:
    async def steps(registry: ModelRegistry) -> None:
        torchserve.behavior.ready = 0
        registering = asyncio.create_task(registry.register(verified(store, "2.0.0"), 1))
        await asyncio.sleep(0.3)
        torchserve.behavior.delay = 0.8
        with pytest.raises(
            ChangeError,
            match=r"2\.0\.0: TorchServe did not respond for 1 s: .* did not answer GET /models/brightness/2",
        ):
            await registering
        assert list(torchserve.models) == [("brightness", "1.0.0")]
        assert [str(item) for item in registry] == ["brightness 1.0.0"]

    use(steps)


def test_an_aborted_registration_leaves_nothing_behind(use: Use, torchserve: Running, store: Path) -> None:
    async def steps(registry: ModelRegistry) -> None:
        torchserve.behavior.delay = 0.3
        registering = asyncio.create_task(registry.register(verified(store, "2.0.0"), 1))
        await asyncio.sleep(0.1)
        registering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await registering
        await asyncio.sleep(0.5)  # TorchServe completes a request that is cancelled
        torchserve.behavior.delay = 0.0
        assert list(torchserve.models) == [("brightness", "1.0.0")]
        assert (await registry.register(verified(store, "2.0.0"), 1)).ready == 1

    use(steps)


def test_a_version_that_torchserve_holds_already_is_kept(use: Use, torchserve: Running, store: Path) -> None:
    async def steps(registry: ModelRegistry) -> None:
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            await registry.register(verified(store, "1.0.0"), 1)
        assert list(torchserve.models) == [("brightness", "1.0.0")]
        assert [str(item) for item in registry] == ["brightness 1.0.0"]

    use(steps)


def test_register_starts_one_worker_first(use: Use, torchserve: Running, store: Path) -> None:
    async def steps(registry: ModelRegistry) -> None:
        version = await registry.register(verified(store, "2.0.0"), 3)
        assert (version.workers, version.ready) == (3, 3)
        assert [str(item) for item in registry] == ["brightness 1.0.0", "brightness 2.0.0"]
        scaled = [query["min_worker"] for method, _, query in torchserve.requests if method == "PUT"]
        assert scaled == ["1", "3"]

    use(steps)


def test_register_removes_a_version_whose_worker_does_not_start(use: Use, torchserve: Running, store: Path) -> None:
    async def steps(registry: ModelRegistry) -> None:
        torchserve.behavior.scale_status = 500
        with pytest.raises(ChangeError, match=r"brightness 2\.0\.0: TorchServe rejects 1 workers"):
            await registry.register(verified(store, "2.0.0"), 1)
        assert [model.entry.version for model in registry] == ["1.0.0"]
        assert list(torchserve.models) == [("brightness", "1.0.0")]

    use(steps)


def test_scale_changes_the_number_of_workers(use: Use, torchserve: Running) -> None:
    async def steps(registry: ModelRegistry) -> None:
        version = await registry.scale(only(registry), 4)
        assert (version.workers, version.ready) == (4, 4)
        torchserve.behavior.scale_status = 500
        with pytest.raises(ChangeError, match="5 workers"):
            await registry.scale(version, 5)
        assert only(registry).workers == 4

    use(steps)


def test_workers_that_start_slowly_are_awaited_without_a_synchronous_request(
    use: Use, torchserve: Running, store: Path
) -> None:
    async def steps(registry: ModelRegistry) -> None:
        torchserve.behavior.ready = 0
        registering = asyncio.create_task(registry.register(verified(store, "2.0.0"), 2))
        await asyncio.sleep(0.5)
        assert not registering.done()
        torchserve.behavior.ready = None
        version = await registering
        assert version.ready == 2
        await registry.scale(version, 1)
        assert torchserve.behavior.synchronous == 0

    use(steps)


def test_a_worker_that_exits_ends_registration_and_scaling(use: Use, torchserve: Running, store: Path) -> None:
    async def steps(registry: ModelRegistry) -> None:
        torchserve.behavior.dying = True
        with pytest.raises(VersionFailedError, match=r"brightness 2\.0\.0: a worker exited before it was ready"):
            await registry.register(verified(store, "2.0.0"), 1)
        assert list(torchserve.models) == [("brightness", "1.0.0")]
        with pytest.raises(VersionFailedError, match="a worker exited"):
            await registry.scale(only(registry), 3)
        assert torchserve.models["brightness", "1.0.0"].workers == 3  # some may have requests: see version_manager
        assert only(registry).workers == 3

    use(steps)


def test_workers_that_never_become_ready_end_registration(
    use: Use, torchserve: Running, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.torchserve.registry._START_TIMEOUT", 0.3)

    async def steps(registry: ModelRegistry) -> None:
        torchserve.behavior.ready = 0
        with pytest.raises(VersionFailedError, match="not all of 1 workers are ready after"):
            await registry.register(verified(store, "2.0.0"), 1)
        assert list(torchserve.models) == [("brightness", "1.0.0")]

    use(steps)


def test_make_default_and_unregister_change_torchserve(
    use: Use, torchserve: Running, store: Path, run_directory: RunDirectory
) -> None:
    async def steps(registry: ModelRegistry) -> None:
        old = only(registry)
        folder = unpack(old.entry, store, run_directory.models, 10.0)
        version = await registry.register(verified(store, "2.0.0"), 1)
        await registry.make_default(version)
        assert torchserve.defaults == {"brightness": "2.0.0"}
        await registry.unregister(old)
        assert list(torchserve.models) == [("brightness", "2.0.0")]
        assert registry.get("brightness", "1.0.0") is None
        assert registry.of("brightness") == [version]
        assert not folder.exists()

    use(steps)


def test_align_gives_each_version_its_declared_workers(use: Use, torchserve: Running) -> None:
    async def steps(registry: ModelRegistry) -> None:
        await registry.align()
        assert all(method == "GET" for method, _, _ in torchserve.requests)
        torchserve.models["brightness", "1.0.0"].workers = 3
        await registry.align()
        assert torchserve.models["brightness", "1.0.0"].workers == 1

    use(steps)


def test_idle_waits_for_the_queue_and_for_busy_workers(
    use: Use, torchserve: Running, run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(worker.BUSY, str(run_directory.busy))

    async def steps(registry: ModelRegistry) -> None:
        assert await registry.idle(only(registry), 2.0)
        torchserve.behavior.pending = 1
        assert not await registry.idle(only(registry), 0.7)
        torchserve.behavior.pending = 0
        with worker.busy_lock():  # the fake's workers have the process id of this test
            assert not await registry.idle(only(registry), 0.7)
        assert await registry.idle(only(registry), 2.0)

    use(steps)
    worker._lock_file(str(run_directory.busy)).close()
    worker._lock_file.cache_clear()


def test_forget_workers_counts_none(use: Use, torchserve: Running) -> None:
    async def steps(registry: ModelRegistry) -> None:
        await registry.refresh()
        registry.forget_workers()
        assert only(registry).ready == 0

    use(steps)
