"""Traffic split: tables in the run directory that nginx reads for every request, so shares change without a reload.

`RunDirectory.routing` is a link that is replaced atomically. It leads to:

    shares/NAME/0/4/7       one path per bucket of requests (1000), linked to a folder named after the version
    shadow/NAME/0/4/7       exists for each bucket whose requests are copied
    registered/NAME/VERSION a file for each version; requests for others are rejected. None if the folder is missing
    closed/NAME/VERSION     a file for each version that cannot be requested by its path

nginx chooses the bucket by the client's id, or at random (radserve/proxy/nginx.conf.template). Ten or a hundred
buckets with the same target share one link, because the target folder links 0 to 9 to itself: a table has about twenty
entries, not a thousand. Links are relative, because the proxy may see the run directory under another path.
"""

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

BUCKETS: Final = 1000  # number of buckets; each is named by three digits
_TOLERANCE: Final = 0.05  # percent by which the sum of shares may differ from 100: thirds have no exact decimal


@dataclass(frozen=True)
class Routing:
    """Distribution of requests among versions.

    Attributes
    ----------
    shares
        Percent of each version, by model, for models with split traffic. Order matters: the first version gets the
        buckets from 0 upward, so the version listed first (the candidate) keeps its clients as its share grows.
    shadow
        Percent of requests that are copied, by model; each of these models has shares as well.
    closed
        Name and version of those that cannot be requested by their path.
    registered
        Name and version of all versions; empty if unknown.
    """

    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shadow: Mapping[str, float] = field(default_factory=dict)
    closed: Collection[tuple[str, str]] = frozenset()
    registered: Collection[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        for name, versions in self.shares.items():
            total = sum(versions.values())
            if abs(total - 100) > _TOLERANCE or min(versions.values(), default=0) < 0:
                shares = ", ".join(f"{version} {share:g} %" for version, share in versions.items())
                raise ServeError(f"The shares of {name} must add up to 100 %; they are {shares or 'empty'}.")
        for name, percent in self.shadow.items():
            if name not in self.shares:
                raise ServeError(f"{name} has no shares, so copies have no version to compare with.")
            if not 0 <= percent <= 100:
                raise ServeError(f"The shadow share of {name} is {percent:g} %; it must be 0 to 100 %.")

    def table(self, name: str) -> list[str]:
        """Return the version of each bucket of a model."""
        versions = self.shares[name]
        edges = [0]
        total = 0.0
        for share in versions.values():
            total += share
            edges.append(_buckets(total))
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
    def digest(self) -> str:
        """Short digest of the content."""
        shares = [[name, list(versions.items())] for name, versions in sorted(self.shares.items())]
        content = json.dumps([shares, sorted(self.shadow.items()), sorted(self.closed), sorted(self.registered)])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def write(routing: Routing, run_directory: RunDirectory) -> None:
    """Distribute new requests as given; only the process that `opened` the run directory may call this."""
    tables = run_directory.folder / f"routing.{routing.digest}"
    if not tables.exists():
        _write_tables(routing, run_directory, tables)
    previous = run_directory.routing.readlink().name if run_directory.routing.is_symlink() else None
    if previous == tables.name:
        return
    link = run_directory.folder / "routing.link"
    link.unlink(missing_ok=True)
    link.symlink_to(tables.name)
    link.rename(run_directory.routing)
    # The previous tables are kept, because nginx may be following a path in them.
    for leftover in run_directory.folder.glob("routing.*"):
        if leftover.name not in (tables.name, previous):
            shutil.rmtree(leftover, ignore_errors=True)


def clear(run_directory: RunDirectory) -> None:
    """Remove the tables, which needs no space: the requests of each model then go to TorchServe's default version."""
    run_directory.routing.unlink(missing_ok=True)


def _write_tables(routing: Routing, run_directory: RunDirectory, target: Path) -> None:
    """Write the tables to a draft and rename it, so that `target` is always complete."""
    draft = run_directory.folder / "routing.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    for name in routing.shares:
        table = routing.table(name)
        ends = {version: _end(run_directory, version) for version in set(table)}
        _link_buckets(draft / "shares" / name, [ends[version] for version in table])
    for name in routing.shadow:
        copied = routing.copied(name)
        end = _end(run_directory, "copied")
        _link_buckets(draft / "shadow" / name, [end if bucket in copied else None for bucket in range(BUCKETS)])
    for kind, pairs in (("closed", routing.closed), ("registered", routing.registered)):
        for name, version in pairs:
            folder = draft / kind / name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / version).touch(mode=0o600)
    draft.rename(target)


def _end(run_directory: RunDirectory, name: str) -> Path:
    """Create the target folder of buckets; any remaining digits of a path lead back to it."""
    folder = run_directory.versions / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for digit in range(10):
        with contextlib.suppress(FileExistsError):
            (folder / str(digit)).symlink_to(".")
    return folder


def _link_buckets(folder: Path, ends: Sequence[Path | None]) -> None:
    """Link each digit to its target, or to a subfolder if the next digit distinguishes several targets."""
    folder.mkdir(mode=0o700, parents=True)
    tenth = len(ends) // 10
    for digit in range(10):
        branch = ends[digit * tenth : (digit + 1) * tenth]
        if len(set(branch)) > 1:
            _link_buckets(folder / str(digit), branch)
        elif branch[0] is not None:
            (folder / str(digit)).symlink_to(os.path.relpath(branch[0], folder))


def _buckets(percent: float) -> int:
    return round(percent * BUCKETS / 100)
