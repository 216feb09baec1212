"""Which version of a model answers a request: the tables that the front reads, so that shares change without a reload.

Below `Runtime.routing`, a link that is replaced in one step:

    shares/NAME/0/4/7       for each of a thousand buckets of requests, leads to a folder named after the version that
                            answers them
    shadow/NAME/0/4/7       exists where a bucket's requests are copied
    closed/NAME/VERSION     a file for each version that nobody may ask by its path

A request falls into a bucket by its client's id, or by chance (radserve/proxy/nginx.conf.template). A hundred or ten
buckets that lead to the same are one link to it: a folder at the end of the way holds links 0 to 9 to itself. So a
table has twenty entries, not a thousand. Links are relative, so that a front may see the folder in another place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory

BUCKETS: Final = 1000
"""A bucket is named by three digits."""
_TOLERANCE: Final = 0.05
"""Percent by which shares may miss 100: thirds cannot be written."""


@dataclass(frozen=True)
class Routing:
    """How requests are shared out.

    Attributes
    ----------
    shares
        Percent of each version, by model; only of the models whose traffic is split. The order counts: the
        first version has the buckets from 0 upward, so what is put first (the candidate) keeps its clients as it grows.
    shadow
        Percent of the requests that are copied, by model; each of these has shares as well.
    closed
        Name and version of those that are not answered when they are asked by their path.

    Raises
    ------
    ServeError
        If shares do not make 100 %, or a model is copied that has none.
    """

    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shadow: Mapping[str, float] = field(default_factory=dict)
    closed: Collection[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        for name, versions in self.shares.items():
            total = sum(versions.values())
            if abs(total - 100) > _TOLERANCE or min(versions.values(), default=0) < 0:
                said = ", ".join(f"{version} {share:g} %" for version, share in versions.items())
                raise ServeError(f"The shares of {name} have to make 100 %; they are {said or 'none'}.")
        for name, percent in self.shadow.items():
            if name not in self.shares:
                raise ServeError(f"{name} has no shares, so nobody could say which version a copy is compared with.")
            if not 0 <= percent <= 100:
                raise ServeError(f"{percent:g} % of the requests of {name} cannot be copied; give 0 to 100.")

    def table(self, name: str) -> list[str]:
        """Return the version of each bucket of a model."""
        versions = self.shares[name]
        edges = [0]
        passed = 0.0
        for share in versions.values():
            passed += share
            edges.append(_buckets(passed))
        edges[-1] = BUCKETS
        return [
            version
            for version, first, end in zip(versions, edges, edges[1:], strict=False)
            for _ in range(min(first, BUCKETS), min(end, BUCKETS))
        ]

    def copied(self, name: str) -> range:
        """Return the buckets of a model whose requests are copied."""
        return range(_buckets(self.shadow.get(name, 0.0)))

    @property
    def _digest(self) -> str:
        shares = [[name, list(versions.items())] for name, versions in sorted(self.shares.items())]
        content = json.dumps([shares, sorted(self.shadow.items()), sorted(self.closed)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def write(routing: Routing, runtime: RunDirectory) -> None:
    """Have requests shared out so from now on; what runs already is finished where it is.

    One process at a time may do it, the one that has the folder to itself (`radserve.host.run_directory.opened`).
    """
    made = runtime.folder / f"routing.{routing._digest}"  # noqa: SLF001 - of this module
    if not made.exists():
        _make(routing, runtime, made)
    before = _target(runtime.routing)
    if before == made.name:
        return
    link = runtime.folder / "routing.link"
    link.unlink(missing_ok=True)
    link.symlink_to(made.name)
    link.rename(runtime.routing)
    # The one before is kept: a request may be on its way through it.
    for left in runtime.folder.glob("routing.*"):
        if left.name not in (made.name, before):
            shutil.rmtree(left, ignore_errors=True)


def _make(routing: Routing, runtime: RunDirectory, target: Path) -> None:
    """Build the tables aside, so that a folder of that name is always whole."""
    draft = runtime.folder / "routing.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    for name in routing.shares:
        table = routing.table(name)
        ends = {version: _end(runtime, version) for version in set(table)}
        _grow(draft / "shares" / name, [ends[version] for version in table])
    for name in routing.shadow:
        copied = routing.copied(name)
        end = _end(runtime, "copied")
        _grow(draft / "shadow" / name, [end if bucket in copied else None for bucket in range(BUCKETS)])
    for name, version in routing.closed:
        folder = draft / "closed" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / version).touch(mode=0o600)
    draft.rename(target)


def _end(runtime: RunDirectory, name: str) -> Path:
    """Make the folder at the end of ways: whatever digits are left lead back to it."""
    folder = runtime.versions / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for digit in range(10):
        with contextlib.suppress(FileExistsError):
            (folder / str(digit)).symlink_to(".")
    return folder


def _grow(folder: Path, ends: Sequence[Path | None]) -> None:
    """Lead to the ends by a digit, and from where it does not tell them apart, by one more."""
    folder.mkdir(mode=0o700, parents=True)
    tenth = len(ends) // 10
    for digit in range(10):
        branch = ends[digit * tenth : (digit + 1) * tenth]
        if len(set(branch)) > 1:
            _grow(folder / str(digit), branch)
        elif branch[0] is not None:
            (folder / str(digit)).symlink_to(os.path.relpath(branch[0], folder))


def _target(link: Path) -> str | None:
    try:
        return link.readlink().name
    except FileNotFoundError:
        return None


def _buckets(percent: float) -> int:
    return round(percent * BUCKETS / 100)
