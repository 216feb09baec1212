"""Service user: a server that root starts gives up root's rights, and so do all its processes."""

import contextlib
import logging
import os
import pwd
from pathlib import Path

from radserve.errors import ServeError

logger = logging.getLogger(__name__)


def become(name: str | None) -> None:
    """Become a user, with its groups and home; raise ServeError if this process may not."""
    if name is None:
        return
    try:
        user = pwd.getpwnam(name)
    except KeyError as error:
        raise ServeError(f"--user {name}: unknown user; create it with 'useradd --system {name}'.") from error
    if user.pw_uid == os.geteuid():
        return
    if os.geteuid() != 0:
        raise ServeError(f"--user {name}: only root can become another user; omit it.")
    for descriptor in (1, 2):  # nginx opens /dev/stdout again; container runtimes do the same
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_rdev != Path(os.devnull).stat().st_rdev:
                os.fchown(descriptor, user.pw_uid, user.pw_gid)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ |= {"HOME": user.pw_dir, "USER": name, "LOGNAME": name}


def warn_of_root() -> None:
    """Log that the processes that this one starts are root's."""
    if os.geteuid() == 0:
        logger.warning("runs as root, and so do all workers; set --user to a service user")
