"""File of API keys: safe reading, and changes by one process at a time."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from radserve.auth import api_keys
from radserve.auth.api_keys import Key, Keys, Role
from radserve.errors import KeysError
from radserve.files import write_atomically


def create(path: Path, name: str, roles: Sequence[Role], expires: datetime | None = None) -> str:
    """Add a key, create the file if missing, and return the key's text, which is not stored; raises KeysError."""
    with _locked(path):
        keys = api_keys.parse(read(path), str(path)) if path.exists() else Keys()
        keys, text = keys.add(name, roles, expires)
        _write(path, keys)
    return text


def revoke(path: Path, key: str) -> Key:
    """Remove a key by its id or name, and return it; raises KeysError."""
    with _locked(path):
        keys, removed = api_keys.parse(read(path), str(path)).remove(key)
        _write(path, keys)
    return removed


def read(path: Path) -> bytes:
    """Read the file; raises KeysError if that fails, or if other users can write it: they could add keys.

    A file that other users can read only deserves a warning (`readable_by_others`): digests of random secrets reveal
    nothing, and secrets mounted by Docker and Kubernetes are readable by all users of the container.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise KeysError(f"{path}: other users can write this file and add keys; chmod go-w {path}")
            return file.read()
    except OSError as error:
        raise KeysError(
            f"{path}: {error.strerror}. Create a key with 'radserve keys create NAME --role predict --keys {path}'."
        ) from error


def readable_by_others(path: Path) -> bool:
    """Return whether other users can read a file of this user; mounted secrets belong to another user."""
    status = path.stat()
    return status.st_uid == os.geteuid() != 0 and bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the file for changes. The lock is a separate file, because the file itself is replaced."""
    if not path.parent.is_dir():  # filelock would create it
        raise KeysError(f"{path}: cannot be changed: no such folder.")
    try:
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
    except OSError as error:
        raise KeysError(f"{path}: cannot be changed: {error.strerror}.") from error


def _write(path: Path, keys: Keys) -> None:
    # The mode is kept: users who could read the keys, such as a container's user, must see revocations.
    write_atomically(path, keys.model_dump_json(indent=2) + "\n")
