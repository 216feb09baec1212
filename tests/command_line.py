"""Runs `radserve` in this process, because a process of its own needs longer for its imports than most commands run."""

import os
import sys
from collections.abc import Mapping
from contextlib import chdir
from io import BytesIO, TextIOWrapper
from subprocess import CompletedProcess
from unittest.mock import patch

from radserve.cli import main
from tests.server import ROOT


def run(*arguments: object, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run a command in the repository; an exception other than SystemExit fails the test."""
    words = list(map(str, arguments))
    out, err = BytesIO(), BytesIO()
    streams = {"stdout": TextIOWrapper(out, write_through=True), "stderr": TextIOWrapper(err, write_through=True)}
    with (
        chdir(ROOT),
        patch.dict(os.environ, os.environ if environment is None else environment, clear=True),
        patch.multiple(sys, argv=["radserve", *words], stdin=TextIOWrapper(BytesIO(stdin)), **streams),
    ):
        code = _exit_code()
    return CompletedProcess(words, code, out.getvalue().decode(), err.getvalue().decode())


def _exit_code() -> int:
    try:
        main.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
