"""Trying an archive in a process of its own before TorchServe hears of it.

TorchServe says of a worker that died only that it died, and starts it again and again. So a version first goes
through what a worker does at its start, where what it dies of can be read.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from handlers import worker
from radserve.build.model_store import FILE
from radserve.errors import VersionFailedError
from radserve.host.process import die_with_parent
from radserve.torchserve.verified_models import VerifiedModel

_PROGRAM: Final = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
folder = sys.argv[1]
sys.path.insert(0, folder)  # the archive's own code, as in TorchServe
stem = json.loads((Path(folder) / "MAR-INF" / "MANIFEST.json").read_text())["model"]["handler"].removesuffix(".py")
module = __import__(stem)
(service,) = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == stem]
context = SimpleNamespace(system_properties={"model_dir": folder, "gpu_id": None, "batch_size": 1}, metrics=None)
service().initialize(context)
"""
_LAST_WORDS: Final = 300


async def check(served: VerifiedModel, store: Path, scratch: Path, threads: int, patience: float) -> None:
    """Do with an archive what a worker does at its start.

    Parameters
    ----------
    scratch
        Folder to unpack it in.
    threads
        Threads that the process may use.
    patience
        Seconds until it must be done.

    Raises
    ------
    Failed
        With what the process said last.
    """
    entry = served.entry
    folder = Path(tempfile.mkdtemp(prefix="preflight-", dir=scratch))
    try:
        await asyncio.to_thread(_unpack, store / entry.file, folder)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROGRAM,
            str(folder),
            cwd=folder,
            env=_environment(store, threads),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), patience)
        except TimeoutError as error:
            raise VersionFailedError(f"{entry.name} {entry.version}: did not start within {patience:g} s.") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if process.returncode != 0:
        raise VersionFailedError(f"{entry.name} {entry.version}: does not start: {_reason(said, process.returncode)}")


def _unpack(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)  # the members were verified; zipfile keeps them inside the folder


def _environment(store: Path, threads: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    number = str(threads)
    own = {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number, "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | own | {worker.INDEX: str(store / FILE), "CUDA_VISIBLE_DEVICES": ""}


def _reason(said: bytes, code: int | None) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][:_LAST_WORDS] if lines else f"its process ended with {code} and said nothing."
