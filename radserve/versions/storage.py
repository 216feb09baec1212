"""What a server remembers between two runs: what it serves, and which rollouts are under way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO, Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers.recipe import Name, Version
from radserve.build.model_store import order
from radserve.errors import ChangeError, ConflictError, ServeError
from radserve.schema.rollout import RolloutSpec
from radserve.versions.deployment_spec import Deployment, Served, Versions

FILE: Final = "state.json"


class Rollout(BaseModel):
    """A rollout that is under way: what a restart needs to go on with it.

    Attributes
    ----------
    before
        The version that has the traffic, and keeps it if this fails.
    step
        Index of the share that it has; None before it has one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: RolloutSpec
    before: Version
    actor: str
    started: str
    step: int | None = None


class State(BaseModel):
    """All of it.

    Attributes
    ----------
    revision
        Grows with every change.
    deployment
        What is served, without the candidates of rollouts under way; None where nothing was ever changed, so
        that the options of the start decide.
    previous
        Model -> the version that had its traffic before the last promotion.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: Annotated[int, Field(ge=0)] = 0
    deployment: Deployment | None = None
    previous: dict[Name, Version] = {}
    rollouts: dict[Name, Rollout] = {}

    def but(self, **changes: Any) -> Self:
        """Return the state with some keys changed, checked as a whole."""
        return type(self)(**(self.__dict__ | changes | {"revision": self.revision + 1}))

    def undone(self, before: Self, name: str) -> Self:
        """Return the state with one model as it was before; the others may have changed since."""
        assert self.deployment is not None
        model = before.deployment.models.get(name) if before.deployment else None
        return self.but(
            deployment=with_versions(self.deployment, name, dict(model.versions) if model else {}),
            previous=_as_in(self.previous, before.previous, name),
            rollouts=_as_in(self.rollouts, before.rollouts, name),
        )


def _as_in(now: dict[str, Any], before: dict[str, Any], name: str) -> dict[str, Any]:
    others = {key: value for key, value in now.items() if key != name}
    return others | ({name: before[name]} if name in before else {})


def with_version(deployment: Deployment, name: str, version: str, served: Served | None) -> Deployment:
    """Return a deployment in which one version is another, or gone (None)."""
    versions = dict(deployment.models[name].versions) if name in deployment.models else {}
    versions.pop(version, None)
    if served is not None:
        versions[version] = served
    return with_versions(deployment, name, versions)


def with_versions(deployment: Deployment, name: str, versions: dict[str, Served]) -> Deployment:
    """Return a deployment in which one model has these versions, or is gone if there are none."""
    models = {key: value for key, value in deployment.models.items() if key != name}
    return Deployment(models=models | ({name: Versions(versions=versions)} if versions else {}))


def promoted(versions: dict[str, Served], version: str) -> dict[str, Served]:
    """Return versions of which one has all the traffic."""
    return {key: item.model_copy(update={"share": 100.0 if key == version else 0.0}) for key, item in versions.items()}


def main_version(versions: dict[str, Served]) -> str:
    """Return the version with the largest share; of equal ones the newest."""
    return max(versions, key=lambda key: (versions[key].share, order(key)))


class StateFolder:
    """Where the state lies. Read at the start; the first change takes it for this server alone.

    Parameters
    ----------
    path
        Need not exist before the first change.

    Raises
    ------
    ServeError
        If what lies there cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None
        self.state = self._read()

    def _read(self) -> State:
        file = self.path / FILE
        try:
            return State.model_validate_json(file.read_bytes()) if file.exists() else State()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ServeError(
                f"{file}: {where}: {first['msg']}. Mend it, or remove it to start with what --models says."
            ) from error
        except OSError as error:
            raise ServeError(f"{file}: {error.strerror}.") from error

    def take(self) -> None:
        """Keep other servers from changing it, until this process ends.

        Raises
        ------
        ChangeError
            If it cannot be written.
        Conflict
            If another server has it, or changed it.
        """
        if self._lock is not None:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.path / "lock").open("ab")
        except OSError as error:
            raise ChangeError(
                f"{self.path}: {error.strerror}; what is served cannot be changed where that cannot be remembered. "
                "Start the server with --state FOLDER, one that it may write and that outlives it."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise ConflictError(
                f"{self.path}: another server keeps its state there; give each its own --state."
            ) from error
        if self._read().revision != self.state.revision:
            lock.close()
            raise ConflictError(
                f"{self.path}: another server changed the state there since this one started; restart it."
            )
        self._lock = lock

    def write(self, state: State) -> None:
        """Replace the state in one step; it is on the disk when this returns.

        Raises
        ------
        ChangeError
            If it cannot be written; the state is as before.
        """
        self.take()
        try:
            _replace(self.path / FILE, state.model_dump_json(indent=2, exclude_none=True).encode() + b"\n")
        except OSError as error:
            raise ChangeError(f"{self.path}: cannot be written ({error.strerror}), so nothing is changed.") from error
        self.state = state

    def close(self) -> None:
        """Let another server take it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - Path.replace hides that it is atomic
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
