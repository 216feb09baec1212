"""Builds the gateway's Lambda package from the lock file; identical inputs give identical bytes."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Annotated, Final

import typer

from radserve.errors import BuildError

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT: Final = 30 * 1024 * 1024
"""Largest zip in bytes. Lambda accepts 50 MB; each megabyte is fetched and unpacked at a cold start."""
PLATFORM: Final = "x86_64-manylinux2014"
"""Wheels for the C library of Amazon Linux 2, which python3.11 runs on; python3.12 and later have a newer one."""
_PYTHON: Final = "3.11"
_EXCLUDED_MODULES: Final = ("gateway.backends.in_process", "gateway.cli")
"""Modules that need torch or uvicorn."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_UNUSED_FILES: Final = re.compile(
    r"(^|/)(__pycache__|tests?|bin)/|\.(pyi|typed|so\.dSYM)$|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_.*)$"
)


def build(target: Path, python: str = _PYTHON, root: Path = ROOT) -> int:
    """Build the package.

    Parameters
    ----------
    target
        Zip file to write.
    python
        Version of Lambda's runtime. Bytecode is included only if this interpreter has the same version.
    root
        The checkout.

    Returns
    -------
    Size of the zip in bytes.

    Raises
    ------
    BuildError
        If uv cannot install the locked packages, or the zip exceeds `LIMIT`.
    """
    with tempfile.TemporaryDirectory(prefix="radserve-lambda-") as name:
        stage = Path(name) / "package"
        _install(stage, Path(name) / "requirements.txt", python, root)
        _copy(stage, root)
        _write_metadata(stage, root)
        for path in stage.rglob("*"):
            if path.is_file() and _UNUSED_FILES.search(str(path.relative_to(stage))):
                path.unlink()
        if python == f"{sys.version_info.major}.{sys.version_info.minor}":
            _compile(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        _zip(stage, target)
    size = target.stat().st_size
    if size > LIMIT:
        raise BuildError(f"{target} has {size} bytes; the limit for the package is {LIMIT}.")
    return size


def modules(root: Path = ROOT) -> list[Path]:
    """List the gateway's modules and all modules of the checkout that they import, relative to the root."""
    finder = ModuleFinder(path=[str(root)], excludes=list(_EXCLUDED_MODULES))
    for path in (root / "gateway").rglob("*.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if module not in _EXCLUDED_MODULES:
            finder.import_hook(module)
    return sorted(Path(module.__file__).relative_to(root) for module in finder.modules.values() if module.__file__)


def _install(stage: Path, requirements: Path, python: str, root: Path) -> None:
    requirements.write_text(_run(["sh", "docker/requirements.sh", "lambda"], root), encoding="utf-8")
    install = ["uv", "--quiet", "pip", "install", "--requirement", str(requirements), "--target", str(stage)]
    install += ["--python-platform", PLATFORM, "--python-version", python]
    install += ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy"]
    _run(install, root)


def _run(command: list[str], root: Path) -> str:
    path = f"{root / '.venv-uv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    if shutil.which("uv", path=path) is None:
        raise BuildError("uv is not installed; run scripts/setup.")
    environment = {**os.environ, "PATH": path}
    process = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise BuildError(f"{' '.join(command[:4])} failed: {process.stderr.strip()[-1000:]}")
    return process.stdout


def _copy(stage: Path, root: Path) -> None:
    folders = [root / "gateway" / name for name in ("static", "documentation")]
    static = [path.relative_to(root) for folder in folders for path in folder.rglob("*") if path.is_file()]
    for path in [*modules(root), *static, Path("LICENSE")]:
        (stage / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, stage / path)


def _write_metadata(stage: Path, root: Path) -> None:
    """Write the metadata from which `importlib.metadata` reads the version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = stage / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")


def _compile(stage: Path) -> None:
    """Add bytecode: Lambda's folder is read-only, so each cold start would compile every module again.

    `unchecked-hash`, because the zip has no real file times; a fixed hash seed, because it orders constants that are
    sets.
    """
    options = ["-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(stage), "-p", "/var/task"]
    command = [sys.executable, "-I", "-m", "compileall", *options, str(stage)]
    process = subprocess.run(command, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise BuildError(f"Compiling the package failed: {process.stdout.strip()[-500:]}")


def _zip(stage: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in stage.rglob("*") if path.is_file()):
            info = zipfile.ZipInfo(path.relative_to(stage).as_posix(), _EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())


def main(
    out: Annotated[Path, typer.Option(help="Zip file to write.")] = ROOT / "dist" / "radserve-lambda.zip",
    python: Annotated[str, typer.Option(help="Version of Lambda's runtime.")] = _PYTHON,
) -> None:
    """Build the gateway's Lambda package."""
    from radserve.build.model_store import sha256

    try:
        size = build(out, python)
    except BuildError as error:
        typer.echo(f"build-lambda: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{out}: {size / 1e6:.1f} MB, sha256 {sha256(out)}")


if __name__ == "__main__":
    typer.run(main)
