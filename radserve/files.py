"""Atomic replacement of files."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

PART_SUFFIX = ".part"
"""Suffix of the temporary files; a process that is killed while it writes leaves one behind."""


def write_atomically(path: Path, content: bytes | str, *, mode: int | None = None) -> None:
    """Replace a file in one step; readers see the old or the new content, never a part of it.

    The content is on disk when this returns. Concurrent writers do not damage each other's files, the last one
    wins; take a lock (`filelock`) where the new content depends on the old one.

    Parameters
    ----------
    path
        File to write; its folder must exist. A symbolic link is replaced, not followed.
    content
        Text is encoded as UTF-8.
    mode
        Permission bits, regardless of the umask. None keeps those of the file that is replaced; a new file can be
        read by its owner only (0600). The owner of a replaced file is kept if the process runs as root.

    Raises
    ------
    OSError
        If the file cannot be written; `path` is unchanged, and the temporary file is removed.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=PART_SUFFIX)
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content.encode() if isinstance(content, str) else content)
            with contextlib.suppress(FileNotFoundError):
                existing = path.stat()
                mode = stat.S_IMODE(existing.st_mode) if mode is None else mode
                if os.geteuid() == 0:
                    os.fchown(descriptor, existing.st_uid, existing.st_gid)
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that files renamed into it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
