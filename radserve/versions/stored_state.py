"""State that a server keeps across restarts: the declared deployment and the rollouts in progress."""

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError

from radserve.build.model_store import Entry, order
from radserve.errors import ChangeError, ConflictError, ServeError
from radserve.files import write_atomically
from radserve.schema.deployment import DeployedModel, DeployedVersion, Deployment
from radserve.schema.rollout import RolloutSpec
from radserve.schema.types import ModelName, Version
from radserve.validation_error import describe

FILE: Final = "state.json"


class RolloutRecord(BaseModel, extra="forbid", frozen=True):
    """What a restart needs to resume a rollout."""

    plan: RolloutSpec
    before: Version  # the stable version, which keeps the traffic if the rollout fails
    actor: str
    started: datetime
    step: int | None = None  # index of the current step; None before the first


class QuarantineEntry(BaseModel, extra="forbid", frozen=True):
    """An archive that was rolled back; it is served only where its version is named.

    Once the model store's index has shown it (`marked`), any server may release it there; see `State.in_quarantine`.
    """

    name: ModelName
    version: Version
    sha256: str
    reason: str
    marked: bool = False

    @classmethod
    def of(cls, archive: Entry, reason: str) -> Self:
        """Return the entry of an archive."""
        return cls(name=archive.name, version=archive.version, sha256=archive.sha256, reason=reason)


class State(BaseModel, extra="forbid", frozen=True):
    """The state of a server; every change returns a new, validated one.

    `deployment` has the declared versions, without the candidates of rollouts in progress. It is None until the first
    change: until then the command line's options decide.
    """

    revision: Annotated[int, Field(ge=0)] = 0
    deployment: Deployment | None = None
    previous: dict[ModelName, Version] = {}  # the version that had a model's traffic before the last promotion
    rollouts: dict[ModelName, RolloutRecord] = {}
    quarantine: tuple[QuarantineEntry, ...] = ()

    def updated(self, **changes: Any) -> Self:
        """Return the state with some fields replaced and the next revision."""
        return type(self)(**(self.__dict__ | changes | {"revision": self.revision + 1}))

    def versions(self, name: str) -> dict[str, DeployedVersion]:
        """Return the declared versions of a model; empty if it is not declared."""
        model = self.deployment.models.get(name) if self.deployment else None
        return dict(model.versions) if model else {}

    def with_versions(self, name: str, versions: Mapping[str, DeployedVersion]) -> Self:
        """Replace the versions of a model; without versions the model is removed."""
        models = self.deployment.models if self.deployment else {}
        others = {key: model for key, model in models.items() if key != name}
        model = {name: DeployedModel(versions=dict(versions))} if versions else {}
        return self.updated(deployment=Deployment(models=others | model))

    def with_version(self, name: str, version: str, served: DeployedVersion | None) -> Self:
        """Add or replace one version of a model, or remove it (None)."""
        others = {key: item for key, item in self.versions(name).items() if key != version}
        return self.with_versions(name, others | ({version: served} if served else {}))

    def with_shares(self, name: str, shares: Mapping[str, float]) -> Self:
        """Split the traffic of a model, in percent; a former main version becomes the target of a rollback.

        The quarantine of a version with traffic is lifted.
        """
        old = self.versions(name)
        new = {key: item.model_copy(update={"share": shares.get(key, 0.0)}) for key, item in old.items()}
        former = main_version(old)
        previous = self.previous if former == main_version(new) else self.previous | {name: former}
        state = self.with_versions(name, new).updated(previous=previous)
        for version in (key for key, item in new.items() if item.share > 0):
            state = state.without_quarantine(name, version)
        return state

    @property
    def unmarked(self) -> tuple[QuarantineEntry, ...]:
        """The quarantine that the model store's index has never shown."""
        return tuple(item for item in self.quarantine if not item.marked)

    def in_quarantine(self, released: Collection[str]) -> Mapping[str, str]:
        """Return digests and reasons of the quarantine, without the archives that were released after their mark."""
        return {item.sha256: item.reason for item in self.quarantine if not item.marked or item.sha256 not in released}

    def with_marks(self, digests: Collection[str]) -> Self:
        """Note that the model store's index shows the quarantine of some archives."""
        marked = [item.model_copy(update={"marked": item.marked or item.sha256 in digests}) for item in self.quarantine]
        return self if tuple(marked) == self.quarantine else self.updated(quarantine=tuple(marked))

    def with_quarantine(self, archive: Entry, reason: str) -> Self:
        """Put an archive into quarantine."""
        others = self.without_quarantine(archive.name, archive.version).quarantine
        return self.updated(quarantine=(*others, QuarantineEntry.of(archive, reason)))

    def without_quarantine(self, name: str, version: str) -> Self:
        """Lift the quarantine of a version."""
        others = tuple(item for item in self.quarantine if (item.name, item.version) != (name, version))
        return self.updated(quarantine=others)

    def with_rollout(self, name: str, rollout: RolloutRecord | None) -> Self:
        """Record the rollout of a model, or remove it (None)."""
        others = {key: item for key, item in self.rollouts.items() if key != name}
        return self.updated(rollouts=others | ({name: rollout} if rollout else {}))

    def reverted(self, before: Self, name: str) -> Self:
        """Restore one model from an earlier state; other models may have changed since."""
        previous = {key: version for key, version in self.previous.items() if key != name}
        if name in before.previous:
            previous[name] = before.previous[name]
        state = self.with_versions(name, before.versions(name)).with_rollout(name, before.rollouts.get(name))
        others = tuple(item for item in self.quarantine if item.name != name)
        own = tuple(item for item in before.quarantine if item.name == name)
        return state.updated(previous=previous, quarantine=others + own)


def main_version(versions: Mapping[str, DeployedVersion]) -> str:
    """Return the version with the largest share; of equal shares the newest."""
    return max(versions, key=lambda key: (versions[key].share, order(key)))


class StateFolder:
    """The state file of one server. It is read at start; the first change creates and locks the folder.

    `state` is in effect. It may be ahead of the file, which `write` then has to replace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / "lock", blocking=False, thread_local=False)
        self.state = self._read()
        self._stored = self.state.revision

    @property
    def saved(self) -> bool:
        """Whether a restart would restore the state."""
        return self.state.revision == self._stored

    def _read(self) -> State:
        file = self.path / FILE
        try:
            return State.model_validate_json(file.read_bytes()) if file.exists() else State()
        except ValidationError as error:
            raise ServeError(
                f"{file}: {describe(error)}. Repair the file, or delete it to start from --models."
            ) from error
        except OSError as error:
            raise ServeError(f"{file}: {error.strerror}.") from error

    def lock(self) -> None:
        """Lock the folder for this process, unless it already is; ChangeError if another server uses it."""
        if self._lock.is_locked:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise ConflictError(
                f"{self.path}: another server uses this state folder; give each server its own --state."
            ) from error
        except OSError as error:
            raise ChangeError(
                f"{self.path}: {error.strerror}. Changes are rejected because they cannot be stored. Start the server "
                "with --state FOLDER, a writable folder that outlives the server."
            ) from error
        if self._read().revision != self._stored:
            self._lock.release()
            raise ConflictError(
                f"{self.path}: another server has changed this state since this one started; restart this server."
            )

    def write(self, state: State) -> None:
        """Replace the state atomically and durably; if that fails (ChangeError), the state is unchanged."""
        self.lock()
        try:
            write_atomically(self.path / FILE, state.model_dump_json(indent=2, exclude_none=True) + "\n")
        except OSError as error:
            raise ChangeError(f"{self.path}: not writable ({error.strerror}); changes are rejected.") from error
        self.state = state
        self._stored = state.revision

    def release(self) -> None:
        """Unlock the folder."""
        self._lock.release()
