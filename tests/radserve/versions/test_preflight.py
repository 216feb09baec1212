"""Tests of radserve.versions.preflight with real processes."""

import os
import sys
from pathlib import Path

import pytest

from radserve.errors import ChangeError, VersionFailedError
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import verified_models, worker_start
from radserve.versions import preflight
from tests.radserve.minimal_archive import write_archive

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def check(folder: Path, initialize: str, max_seconds: float = 30.0, python: str = sys.executable) -> None:
    write_archive(folder / "store", initialize=initialize)
    (model,) = verified_models.select(folder / "store", ["brightness"])
    unpacked = verified_models.unpack(model.entry, folder / "store", folder, 30)
    await preflight.check(model, unpacked, folder / "store", 1, max_seconds, python)


async def test_an_archive_whose_handler_starts_passes(tmp_path: Path) -> None:
    await check(tmp_path, "assert context.system_properties['model_dir']")


async def test_workers_have_precedence(tmp_path: Path) -> None:
    await check(tmp_path, f"import os; assert os.nice(0) == {os.nice(0) + 5}")


@pytest.mark.parametrize(
    ("initialize", "message"),
    [
        ("raise ValueError('bad weights')", "brightness 1.0.0: does not start: ValueError: bad weights"),
        ("raise SystemExit(7)", "brightness 1.0.0: does not start: exit code 7 without an error message."),
        ("import os; os.kill(os.getpid(), 11)", "brightness 1.0.0: does not start: exit code -11"),
    ],
)
async def test_a_handler_that_fails_is_reported_with_its_last_error_line(
    tmp_path: Path, initialize: str, message: str
) -> None:
    with pytest.raises(VersionFailedError) as caught:
        await check(tmp_path, initialize)
    assert str(caught.value).startswith(message)


async def test_a_lack_of_the_fork_server_is_not_the_reason_of_a_failure(tmp_path: Path) -> None:
    launcher = worker_start.write_launcher(RunDirectory(tmp_path))
    with pytest.raises(VersionFailedError, match="exit code 7 without an error message"):
        await check(tmp_path, "raise SystemExit(7)", python=launcher)


@pytest.mark.parametrize(
    ("initialize", "message"),
    [("import time; time.sleep(60)", r"did not start within 0\.5 s"), ("import os; os.kill(os.getpid(), 9)", "killed")],
)
async def test_a_slow_server_and_a_lack_of_memory_are_no_verdict_about_the_version(
    tmp_path: Path, initialize: str, message: str
) -> None:
    with pytest.raises(ChangeError, match=rf"brightness 1\.0\.0: .*{message}") as caught:
        await check(tmp_path, initialize, max_seconds=0.5 if "sleep" in initialize else 30.0)
    assert not isinstance(caught.value, VersionFailedError)
