"""Tests of radserve.host.service_user, in processes of their own."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT

UID = 65534
USER = pwd.getpwuid(UID).pw_name
PROGRAM = """
import json, os, sys
from radserve.errors import ServeError
from radserve.host import service_user
try:
    for name in json.loads(sys.argv[1]):
        service_user.become(name)
    service_user.warn_of_root()
except ServeError as error:
    sys.exit(str(error))
readable = os.access(sys.argv[2], os.R_OK)
with open("/dev/stdout", "w") as out:
    json.dump([os.getresuid(), os.getresgid(), os.getgroups(), os.environ.get("USER"), readable], out)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def become(file: Path, *names: str | None) -> subprocess.CompletedProcess[str]:
    """Become one user after the other."""
    arguments = [sys.executable, "-c", PROGRAM, json.dumps(names), str(file)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT)


@as_root
def test_root_becomes_the_service_user_for_good(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    done = become(secret, USER, USER)
    assert (done.returncode, done.stderr) == (0, "")
    users, groups, others, name, readable = json.loads(done.stdout)
    assert users == [UID] * 3
    assert groups == [UID] * 3
    assert others == [UID]
    assert name == USER
    assert not readable


@as_root
def test_without_a_service_user_root_stays_root_with_a_warning(tmp_path: Path) -> None:
    done = become(tmp_path, None)
    assert json.loads(done.stdout)[0] == [0] * 3
    assert "runs as root, and so do all workers" in done.stderr


def test_an_unknown_user_is_rejected(tmp_path: Path) -> None:
    done = become(tmp_path, "ghost")
    assert done.stderr == "--user ghost: unknown user; create it with 'useradd --system ghost'.\n"


@as_root
def test_only_root_can_become_another_user(tmp_path: Path) -> None:
    done = become(tmp_path, USER, "root")
    assert done.stderr == "--user root: only root can become another user; omit it.\n"
