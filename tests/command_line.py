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
    parameters = list(map(str, arguments))
    out, err = (TextIOWrapper(BytesIO(), write_through=True) for _ in range(2))
    with (
        chdir(ROOT),
        patch.dict(os.environ, os.environ if environment is None else environment, clear=True),
        patch.object(sys, "argv", ["radserve", *parameters]),
        patch.object(sys, "stdin", TextIOWrapper(BytesIO(stdin))),
        patch.object(sys, "stdout", out),
        patch.object(sys, "stderr", err),
    ):
        code = _exit_code()
    return CompletedProcess(parameters, code, _text(out), _text(err))


def _text(stream: TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _exit_code() -> int:
    try:
        main.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
            return 1
        return end.code or 0
    return 0
