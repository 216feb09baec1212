"""Registry of the model versions in TorchServe."""

import asyncio
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from handlers import worker
from radserve.build.model_store import Entry, order
from radserve.errors import ChangeError, VersionFailedError
from radserve.host import unix_socket
from radserve.host.run_directory import RunDirectory
from radserve.torchserve.management import Management, pending
from radserve.torchserve.verified_models import VerifiedModel

Pair = tuple[str, str]
"""Name and version."""

_SETTLE: Final = 0.5
"""Seconds without activity after which a version counts as idle. A request is neither queued nor in a worker for a
shorter time, on its way between the two and back to the client."""
_UNCONNECTED: Final = 0.15
"""Seconds without any connection after which every version counts as idle. nginx connects as soon as it runs, and a
container that has used its processor time does not run until its next period (100 ms by default)."""
_START_TIMEOUT: Final = 180.0
"""Seconds until all workers of a version must be ready."""
_POLL_SECONDS: Final = 0.2
_LOCKS: Final = Path("/proc/locks")
_LINE: Final = re.compile(r"\d+: FLOCK +ADVISORY +\w+ +(?P<pid>\d+) +[0-9a-f]+:[0-9a-f]+:(?P<inode>\d+) ")
"""A held lock in the format of proc_locks(5). The line of a waiting process has an arrow after the number."""


@dataclass(frozen=True)
class ModelVersion:
    """A version that is registered in TorchServe, with its configured workers and those last observed as ready."""

    model: VerifiedModel
    workers: int
    registered: datetime
    ready: int = 0

    @property
    def entry(self) -> Entry:
        """Entry in the model store's index."""
        return self.model.entry

    @property
    def pair(self) -> Pair:
        """Name and version."""
        return self.entry.name, self.entry.version

    def __str__(self) -> str:
        return f"{self.entry.name} {self.entry.version}"


class ModelRegistry:
    """Registers, scales and unregisters the versions in TorchServe; `httpx.HTTPError` if that does not respond.

    Its management API may be silent for `silence` seconds before waiting for a version fails (ChangeError).
    """

    def __init__(
        self,
        versions: Iterable[ModelVersion],
        management: Management,
        run_directory: RunDirectory,
        silence: float = 30.0,
    ) -> None:
        self._versions = {version.pair: version for version in versions}
        self._management = management
        self._run_directory = run_directory
        self._silence = silence

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter(sorted(self._versions.values(), key=lambda item: (item.entry.name, order(item.entry.version))))

    def get(self, name: str, version: str) -> ModelVersion | None:
        """Return a registered version."""
        return self._versions.get((name, version))

    def of(self, name: str) -> list[ModelVersion]:
        """Return the registered versions of a model, oldest first."""
        return [version for version in self if version.entry.name == name]

    async def refresh(self) -> None:
        """Update the number of ready workers of every version; silence fails at once."""
        for version in list(self._versions.values()):
            try:
                workers = (await self._management.describe(*version.pair))["workers"]
            except httpx.HTTPStatusError:
                workers = []  # not loaded yet, or unregistered by another client
            self._count(version, workers)

    def _count(self, version: ModelVersion, workers: Sequence[dict[str, Any]]) -> int:
        ready = sum(1 for item in workers if item["status"] == "READY")
        current = self._versions.get(version.pair)
        if current is not None:
            self._versions[version.pair] = replace(current, ready=ready)
        return ready

    async def count_ready(self, version: ModelVersion) -> int:
        """Return the number of a version's workers that can answer now."""
        try:
            return self._count(version, (await self._describe(version))["workers"])
        except httpx.HTTPStatusError:
            return self._count(version, [])

    async def holds(self, version: ModelVersion) -> bool:
        """Return whether TorchServe holds a version."""
        try:
            await self._describe(version)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True

    async def _describe(self, version: ModelVersion) -> dict[str, Any]:
        """Describe a version; repeat the request while TorchServe is silent."""
        start = time.monotonic()
        while True:
            try:
                return await self._management.describe(*version.pair)
            except httpx.TransportError as error:
                if time.monotonic() - start >= self._silence:
                    raise ChangeError(
                        f"{version}: TorchServe did not respond for {self._silence:g} s: {error}"
                    ) from error
            await asyncio.sleep(_POLL_SECONDS)

    def forget_workers(self) -> None:
        """Mark every worker as not ready, because their state is unknown."""
        self._versions = {pair: replace(version, ready=0) for pair, version in self._versions.items()}

    async def register(self, model: VerifiedModel, workers: int) -> ModelVersion:
        """Register an unpacked version and start its workers; if they fail, unregister it (VersionFailedError)."""
        version = ModelVersion(model, workers, datetime.now(UTC).replace(microsecond=0))
        loading = asyncio.create_task(self._management.register(model.entry))
        try:
            await asyncio.shield(loading)
            self._versions[version.pair] = version
            # One worker first: if it dies, TorchServe does not try every worker.
            for count in sorted({1, workers}):
                await self._scale(version, count)
        except BaseException:
            # TorchServe completes the registration even if the request for it is cancelled.
            await asyncio.wait({loading})
            if not isinstance(loading.exception(), httpx.HTTPStatusError):
                with suppress(httpx.HTTPError):
                    await asyncio.shield(self.unregister(version))
            raise
        return self._versions[version.pair]

    async def scale(
        self, version: ModelVersion, workers: int, on_accepted: Callable[[], None] = lambda: None
    ) -> ModelVersion:
        """Change the number of workers; raise VersionFailedError if a new one does not start.

        TorchServe ends a worker together with its requests, and then accepts the change; `on_accepted` is called after
        that. After a failure, the former workers run, and new ones may: the version then has the requested number.
        """
        try:
            await self._scale(version, workers, on_accepted)
        except BaseException as error:
            if isinstance(error.__cause__, httpx.HTTPStatusError):
                raise  # rejected
            self._versions[version.pair] = replace(version, workers=max(workers, version.workers))
            if workers < version.workers:
                with suppress(httpx.HTTPError):
                    await asyncio.shield(self._management.scale(*version.pair, version.workers))
            raise
        self._versions[version.pair] = replace(version, workers=workers, ready=workers)
        return self._versions[version.pair]

    async def _scale(self, version: ModelVersion, workers: int, on_accepted: Callable[[], None] = lambda: None) -> None:
        """Change the number of workers and wait until all are ready; raise VersionFailedError if one exits before."""
        try:
            await self._management.scale(*version.pair, workers)
        except httpx.HTTPStatusError as error:
            raise ChangeError(f"{version}: TorchServe rejects {workers} workers ({error}).") from error
        on_accepted()
        deadline = time.monotonic() + _START_TIMEOUT
        pids: dict[str, int] = {}
        while time.monotonic() < deadline:
            items = (await self._describe(version))["workers"]
            self._count(version, items)
            waiting = {item["id"]: int(item["pid"]) for item in items if item["status"] != "READY"}
            if not waiting and len(items) == workers:
                return
            # A process id is negative until the process runs, and again after it has exited.
            if any(pids.get(key, -1) not in (-1, pid) for key, pid in waiting.items()):
                raise VersionFailedError(f"{version}: a worker exited before it was ready; the log says why.")
            pids |= waiting
            await asyncio.sleep(_POLL_SECONDS)
        raise VersionFailedError(f"{version}: not all of {workers} workers are ready after {_START_TIMEOUT:g} s.")

    async def make_default(self, version: ModelVersion) -> None:
        """Make a version the one that answers requests without a version."""
        await self._management.set_default(*version.pair)

    async def unregister(self, version: ModelVersion) -> None:
        """Unregister a version, if TorchServe holds it; requests in flight are lost, so wait for `idle` first."""
        try:
            await self._management.unregister(*version.pair)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
        self._versions.pop(version.pair, None)
        await asyncio.to_thread(shutil.rmtree, self._run_directory.models / version.entry.file, ignore_errors=True)

    async def idle(self, version: ModelVersion, timeout: float) -> bool:  # noqa: ASYNC109 - a normal outcome, not an error
        """Wait until a version has finished all its requests; return False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._become_idle(version)
        except TimeoutError:
            return False
        return True

    async def _become_idle(self, version: ModelVersion) -> None:
        connected = since = time.monotonic()
        while True:
            now = time.monotonic()
            if unix_socket.is_connected(self._run_directory.inference):
                connected = now
            try:
                model = await self._describe(version)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    return
                raise
            if pending(model) or any_busy(self._run_directory.busy, {int(item["pid"]) for item in model["workers"]}):
                since = now
            elif now - since >= _SETTLE or now - connected >= _UNCONNECTED:
                return
            await asyncio.sleep(0.05)

    async def align(self) -> None:
        """Give each version its configured number of workers, as needed after a start; they may still be starting."""
        for version in self:
            model = await self._management.describe(*version.pair)
            if int(model["minWorkers"]) != version.workers:
                await self._management.scale(*version.pair, version.workers)


def any_busy(path: Path, pids: Collection[int], locks: Path = _LOCKS) -> bool:
    """Return whether one of the workers holds `handlers.worker.busy_lock`; any, where /proc/locks is unreadable."""
    try:
        text = locks.read_text(encoding="ascii")
    except OSError:
        return worker.is_any_busy(path)
    inode = str(path.stat().st_ino)
    return any(int(match["pid"]) in pids for match in _LINE.finditer(text) if match["inode"] == inode)
