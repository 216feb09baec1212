"""The gateway's Lambda package: a zip of equal bytes for equal inputs, from the lock file alone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from radserve.errors import BuildError

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT: Final = 30 * 1024 * 1024
"""Largest zip. Lambda takes 50 MB directly; each megabyte is fetched and unpacked at a cold start."""
PLATFORM: Final = "x86_64-manylinux2014"
"""Wheels for the C library of Amazon Linux 2, which python3.11 still runs on; python3.12 and later have a newer one."""
_PYTHON: Final = "3.11"
_LEFT_OUT: Final = ("gateway.backends.in_process", "gateway.cli")
"""Modules that need torch, or uvicorn."""
_PRUNED: Final = ("boto3", "rich", "stamina", "typer", "uvicorn")
"""Packages that the function does not need, or that Lambda's runtime has."""
_OURS: Final = ("gateway", "radserve", "handlers")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_CLUTTER: Final = re.compile(
    r"(^|/)(__pycache__|tests?|bin)/|\.(pyi|typed|so\.dSYM)$|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_.*)$"
)


def build(target: Path, python: str = _PYTHON, root: Path = ROOT) -> int:
    """Build the package.

    Parameters
    ----------
    python
        Version of the runtime; its bytecode goes along only if this interpreter has the same.

    Returns
    -------
    Bytes of the zip.

    Raises
    ------
    BuildError
        If uv cannot install what the lock file says, or the zip is too large.
    """
    with tempfile.TemporaryDirectory(prefix="radserve-lambda-") as name:
        stage = Path(name) / "package"
        _install(stage, Path(name), python, root)
        _copy(stage, root)
        _describe(stage, root)
        _strip(stage)
        if python == f"{sys.version_info.major}.{sys.version_info.minor}":
            _compile(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        _zip(stage, target)
    size = target.stat().st_size
    if size > LIMIT:
        raise BuildError(f"{target}: has {size} bytes, above the {LIMIT} that the package may have.")
    return size


def modules(root: Path = ROOT) -> list[Path]:
    """Find the gateway's modules and all of ours that they import, at any depth, relative to the root."""
    waiting = [_dotted(path.relative_to(root)) for path in (root / "gateway").rglob("*.py")]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or name in _LEFT_OUT:
            continue
        path = _path(name, root)
        if path is None:  # a name within a module
            continue
        found.add(name)
        waiting += [*_parents(name), *_imports(root / path)]
    return sorted(path for path in (_path(name, root) for name in found) if path is not None)


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _parents(name: str) -> list[str]:
    return [name.rpartition(".")[0]] if "." in name else []


def _path(name: str, root: Path) -> Path | None:
    base = Path(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if (root / path).is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names if item.name.startswith(_OURS))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_OURS):
            yield str(node.module)
            yield from (f"{node.module}.{item.name}" for item in node.names)


def _install(stage: Path, folder: Path, python: str, root: Path) -> None:
    requirements = folder / "requirements.txt"
    pruned = [word for name in _PRUNED for word in ("--prune", name)]
    export = ["export", "--locked", "--extra", "gateway", "--no-emit-project", "--no-header", "--no-annotate", *pruned]
    _uv([*export, "--output-file", str(requirements)], root)
    target = ["pip", "install", "--target", str(stage), "--python-platform", PLATFORM, "--python-version", python]
    locked = ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy"]
    _uv([*target, *locked, "--requirement", str(requirements)], root)


def _uv(words: list[str], root: Path) -> None:
    uv = shutil.which("uv", path=f"{root / '.venv-uv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise BuildError("uv is not installed; scripts/setup installs it.")
    done = subprocess.run([uv, "--quiet", *words], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"uv {words[0]} failed: {done.stderr.strip()[-1000:]}")


def _copy(stage: Path, root: Path) -> None:
    static = [path.relative_to(root) for path in (root / "gateway" / "static").rglob("*") if path.is_file()]
    for path in [*modules(root), *static, Path("LICENSE")]:
        (stage / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, stage / path)


def _describe(stage: Path, root: Path) -> None:
    """Let `importlib.metadata` know our version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = stage / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")


def _strip(stage: Path) -> None:
    for path in stage.rglob("*"):
        if path.is_file() and _CLUTTER.search(str(path.relative_to(stage))):
            path.unlink()


def _compile(stage: Path) -> None:
    """Put the bytecode beside the modules: Lambda's folder is read-only, so each cold start would compile them anew.

    Its checks are off, as a zip's times say nothing; hashes of strings are fixed, as they order what sets become.
    """
    options = ["-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(stage), "-p", "/var/task"]
    command = [sys.executable, "-I", "-m", "compileall", *options, str(stage)]
    done = subprocess.run(command, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"compiling the package failed: {done.stdout.strip()[-500:]}")


def _zip(stage: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(path for path in stage.rglob("*") if path.is_file()):
            info = zipfile.ZipInfo(path.relative_to(stage).as_posix(), _EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, path.read_bytes())


def command(
    out: Annotated[Path, typer.Option(help="The zip to write.")] = ROOT / "dist" / "radserve-lambda.zip",
    python: Annotated[str, typer.Option(help="Version of Lambda's runtime.")] = _PYTHON,
) -> None:
    """Build the gateway's Lambda package."""
    from radserve.build.model_store import sha256

    try:
        size = build(out, python)
    except BuildError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{out}: {size / 1e6:.1f} MB, sha256 {sha256(out)}")


if __name__ == "__main__":
    typer.run(command)
