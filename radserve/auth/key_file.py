"""The file that keys are kept in: read with care, changed by one at a time, replaced in one step."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from radserve.auth import api_keys
from radserve.auth.api_keys import Key, Keys, Role
from radserve.errors import KeysError


def create(path: Path, name: str, roles: Sequence[Role], expires: datetime | None = None) -> str:
    """Make a key, and the file where there is none; return the key's text, which is not kept.

    Raises
    ------
    KeysError
        If the name is taken, or the file cannot be read or written.
    """
    with _locked(path):
        known = api_keys.parse(read(path), str(path)) if path.exists() else Keys()
        changed, text = known.add(name, roles, expires)
        _write(path, changed)
    return text


def revoke(path: Path, wanted: str) -> Key:
    """Remove the key of that id or name, and return what was kept of it.

    Raises
    ------
    KeysError
        If there is none, or the file cannot be read or written.
    """
    with _locked(path):
        changed, gone = api_keys.parse(read(path), str(path)).remove(wanted)
        _write(path, changed)
    return gone


def read(path: Path) -> bytes:
    """Read the file, unless others than its owner may write it: who writes it can give himself a key.

    That others may read it is only worth a warning (`readable_by_others`): digests of random secrets open
    nothing, and the secrets that Docker and Kubernetes mount are readable by all in their container.

    Raises
    ------
    KeysError
        If it cannot be read, or may be written by others.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise KeysError(f"{path}: others than its owner may write it, and so make keys; chmod go-w {path}")
            return file.read()
    except OSError as error:
        raise KeysError(
            f"{path}: {error.strerror}. Make a key with 'radserve keys create NAME --role predict --keys {path}'."
        ) from error


def readable_by_others(path: Path) -> bool:
    """Whether a file of our own may be read by others; mounted secrets belong to somebody else."""
    found = path.stat()
    return found.st_uid == os.geteuid() != 0 and bool(found.st_mode & (stat.S_IRGRP | stat.S_IROTH))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep others from changing the file; the lock is a file beside it, since the file itself is replaced."""
    try:
        with path.with_name(f".{path.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise KeysError(f"{path}: cannot be changed: {error.strerror}.") from error


def _write(path: Path, changed: Keys) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
    try:
        with contextlib.suppress(FileNotFoundError):
            # Whoever could read the keys before, a container's user say, has to read that one is revoked.
            before = path.stat()
            if os.geteuid() == 0:
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(changed.model_dump_json(indent=2).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - Path.replace hides that it is atomic
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
