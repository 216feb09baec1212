"""Atomic replacement of files."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

PART_SUFFIX = ".part"
"""Suffix of the temporary files; a process that is killed while it writes leaves one behind."""


def create_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> bool:
    """Write a new file durably in one step; return False, and leave it unchanged, if the path exists."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=PART_SUFFIX)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()
    sync_folder(path.parent)
    return True


def write_atomically(path: Path, content: bytes | str, *, mode: int | None = None) -> None:
    """Replace a file durably in one step; readers see the old or the new content, never a part of it.

    The last of concurrent writers wins; take a lock (`filelock`) where the new content depends on the old one. After
    an OSError, `path` is unchanged. A symbolic link is replaced, not followed. Without a mode, the replaced file's is
    kept, and a new file can be read by its owner only (0600). The owner is kept if the process runs as root.
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
