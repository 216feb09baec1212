"""Selection, verification and unpacking of the archives to serve."""

import logging
import math
import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml

from handlers.profile import VerifiedProfile
from handlers.recipe import Recipe
from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.build.model_store import Entry, Index
from radserve.errors import ServeError

logger = logging.getLogger(__name__)

_STARTUP_TIMEOUT: Final = 120
"""Seconds that TorchServe gives a worker for its start if the archive has no startupTimeout."""


@dataclass(frozen=True)
class VerifiedModel:
    """A verified archive: index entry, recipe, sample image and the expected prediction for it.

    With a site profile, the recipe has its sections, and nothing is expected: workers verify the sample's prediction
    before they apply the profile.
    """

    entry: Entry
    recipe: Recipe
    sample: bytes
    expected: dict[str, object]
    profile: VerifiedProfile | None = None

    @property
    def path(self) -> str:
        """URL path of its predictions."""
        return f"/predictions/{self.entry.name}/{self.entry.version}"


def select(store: Path, names: Sequence[str], quarantined: Collection[str] = ()) -> list[VerifiedModel]:
    """Verify the archives to serve: NAME is its newest version, NAME/VERSION that one; without names, all.

    Archives in quarantine, by the index or by their digest in `quarantined`, are selected only by NAME/VERSION.
    """
    index = store_index.read(store)
    usable = Index(
        archives=tuple(item for item in index.archives if item.quarantine is None and item.sha256 not in quarantined)
    )
    for item in index.archives:
        if item not in usable.archives and (not names or item.name in names):
            logger.warning("%s %s is in quarantine, because it was rolled back", item.name, item.version)
    entries = [_find(index, usable, store, name) for name in names] or list(usable.archives)
    if not entries:
        problem = "every archive is in quarantine; name a version" if index.archives else "the model store is empty"
        raise ServeError(f"{store}: {problem}; run 'radserve build'.")
    recipes = [(entry, mar.verify(entry, store)) for entry in entries]
    return [VerifiedModel(entry, recipe, *mar.sample(store / entry.file, recipe)) for entry, recipe in recipes]


def with_profile(model: VerifiedModel, profiles: Sequence[VerifiedProfile]) -> VerifiedModel:
    """Apply the site profile of a version, if there is one; ServeError if it was fitted with another archive."""
    entry = model.entry
    for item in profiles:
        profile = item.profile
        if (profile.model, profile.version) != (entry.name, entry.version):
            continue
        if profile.archive != entry.sha256:
            raise ServeError(
                f"--profile: that of {profile.site} was fitted with archive {profile.archive[:12]} of {entry.name} "
                f"{entry.version}, but the model store has {entry.sha256[:12]}: recipe, weights or handlers differ. "
                "Run 'radserve calibrate --site' again."
            )
        return replace(model, recipe=profile.apply(model.recipe), expected={}, profile=item)
    return model


def require_one_each(profiles: Sequence[VerifiedProfile]) -> None:
    """Raise ServeError if a version has two site profiles."""
    for (name, version), count in Counter((item.profile.model, item.profile.version) for item in profiles).items():
        if count > 1:
            raise ServeError(f"--profile: {count} profiles for {name} {version}; give one for each version at most.")


def without_model(models: Sequence[VerifiedModel], profiles: Sequence[VerifiedProfile]) -> list[VerifiedProfile]:
    """Return the site profiles of versions that are not served, as after a rollback or before a rollout."""
    served = [model.profile for model in models]
    return [item for item in profiles if item not in served]


def unpack(entry: Entry, store: Path, folder: Path, startup_timeout: float) -> Path:
    """Unpack an archive into a subfolder with its file's name, from which TorchServe registers it.

    TorchServe itself unpacks in one of the threads that transfer predictions: they would wait for about a second.
    In the unpacked copy, workers get at least `startup_timeout` seconds for their start.
    """
    archive, target = store / entry.file, folder / entry.file
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.unpack_archive(archive, target, "zip")
        _allow_slow_start(target / "model-config.yaml", startup_timeout)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        reason = error.strerror or error  # shutil.ReadError has only a text
        raise ServeError(
            f"{archive}: cannot be unpacked into {folder}: {reason}. Check both, and the free space."
        ) from error
    return target


def _allow_slow_start(path: Path, seconds: float) -> None:
    """Raise a worker's limit to that of the server; else TorchServe restarts slow workers, which never get ready."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    limit = max(settings.get("startupTimeout", _STARTUP_TIMEOUT), math.ceil(seconds))
    path.write_text(yaml.safe_dump(settings | {"startupTimeout": limit}), encoding="utf-8")


def _find(index: Index, usable: Index, store: Path, requested: str) -> Entry:
    name, _, version = requested.partition("/")
    entry = index.find(name, version) if version else usable.find(name)
    if entry is None and not version and index.find(name) is not None:
        raise ServeError(
            f"{store}: every version of {name} is in quarantine, because it was rolled back. To serve one, name it: "
            f"{name}/VERSION."
        )
    if entry is None:
        available = ", ".join(f"{item.name}/{item.version}" for item in index.archives) or "none"
        raise ServeError(
            f"{store}: unknown model {requested!r}. Available: {available}. Build it with 'radserve build {name}'."
        )
    return entry
