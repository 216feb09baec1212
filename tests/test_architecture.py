"""Who may import whom (docs/architecture.md)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
BASE: Final = (
    "radserve.errors",
    "radserve.files",
    "radserve.image_files",
    "radserve.logging",
    "radserve.spreadsheet",
    "radserve.tracing",
    "radserve.validation_error",
)
"""Modules of a few lines that any package of radserve may use."""
MAY_IMPORT: Final = {
    "handlers": (),
    "training": ("handlers",),
    "radserve.errors": ("handlers",),
    "radserve.files": (),
    "radserve.image_files": ("radserve.errors",),
    "radserve.logging": ("handlers",),
    "radserve.spreadsheet": (),
    "radserve.tracing": ("handlers",),
    "radserve.validation_error": ("handlers",),
    "radserve.schema": ("radserve.errors", "radserve.validation_error"),
    "radserve.client": ("radserve.schema", *BASE),
    "radserve.dicom": ("radserve.client", "radserve.schema", *BASE),
    "radserve.host": BASE,
    "radserve.auth": ("radserve.host", *BASE),
    "radserve.build": ("handlers", "training", "radserve.schema", "radserve.host", *BASE),
    "radserve.store": ("handlers", "radserve.auth", "radserve.build", "radserve.host", *BASE),
    "radserve.batch": (
        "radserve.build",
        "radserve.client",
        "radserve.host",
        "radserve.schema",
        "radserve.store",
        *BASE,
    ),
    "radserve.site": ("handlers", "training", "radserve.build", "radserve.store", *BASE),
    "radserve.torchserve": ("handlers", "radserve.build", "radserve.host", "radserve.schema", *BASE),
    "radserve.rayserve": ("radserve.host", "radserve.torchserve", *BASE),
    "radserve.proxy": ("radserve.auth", "radserve.build", "radserve.host", "radserve.torchserve", *BASE),
    "radserve.versions": (
        "handlers",
        "radserve.build",
        "radserve.host",
        "radserve.proxy",
        "radserve.schema",
        "radserve.torchserve",
        *BASE,
    ),
    "radserve.server": (
        "handlers",
        "radserve.auth",
        "radserve.build",
        "radserve.host",
        "radserve.proxy",
        "radserve.rayserve",
        "radserve.schema",
        "radserve.torchserve",
        "radserve.versions",
        *BASE,
    ),
    "radserve.pacs": ("radserve.client", "radserve.dicom", "radserve.host", "radserve.schema", *BASE),
    "radserve.deploy": ("radserve.build", "radserve.store", *BASE),
    "gateway": ("radserve.auth", "radserve.client", "radserve.dicom", "radserve.host", "radserve.schema", *BASE),
}
"""Package -> the packages that it may import. `radserve.cli` may import all of them, and nothing imports it."""
EXCEPTIONS: Final = {
    "gateway/backends/in_process.py": ("radserve.build",),
    "radserve/schema/html.py": ("handlers",),
}
"""Module -> what it may import besides: the gateway's optional backend runs a model in its own process;
notebooks show heat maps in the colours of the pictures that the handlers draw."""

UNBOUND: Final = {"radserve", "radserve.__main__", "radserve.cli"}
"""The command line and what starts it."""


def package(name: str) -> str:
    """Return the package that a module belongs to: `radserve.server` for `radserve.server.drain`."""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "radserve" and rest else first


def modules() -> dict[str, Path]:
    """Return every module of the library by its dotted name."""
    results = {}
    for top in ("gateway", "handlers", "radserve", "training"):
        for path in (ROOT / top).rglob("*.py"):
            results[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return results


MODULES: Final = modules()


def imports(path: Path) -> Iterator[str]:
    """Return the modules of the project that a module imports anywhere, also within functions."""
    tops = {"gateway", "handlers", "radserve", "training", "scripts", "tests", "benchmarks"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{item.name}" for item in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        yield from (name for name in names if name.partition(".")[0] in tops)


@pytest.mark.parametrize("name", sorted({package(name) for name in MODULES} - UNBOUND))
def test_a_package_imports_only_what_the_table_allows(name: str) -> None:
    wrong = []
    for module, path in MODULES.items():
        if package(module) != name:
            continue
        allowed = {name, *MAY_IMPORT[name], *EXCEPTIONS.get(str(path.relative_to(ROOT)), ())}
        wrong += [f"{module} -> {target}" for target in imports(path) if package(target) not in allowed]
    assert wrong == []


def test_nothing_imports_the_command_line() -> None:
    importers = {
        module for module, path in MODULES.items() for name in imports(path) if package(name) == "radserve.cli"
    }
    assert {module for module in importers if package(module) != "radserve.cli"} == {"radserve.__main__"}


def test_modules_and_packages_have_no_import_cycle() -> None:
    graph = {module: {name for name in imports(path) if name != module} for module, path in MODULES.items()}
    TopologicalSorter(graph).prepare()
    packages: dict[str, set[str]] = {}
    for module, targets in graph.items():
        packages.setdefault(package(module), set()).update(package(name) for name in targets)
    TopologicalSorter({name: targets - {name} for name, targets in packages.items()}).prepare()


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unloaded"),
    [
        ("import radserve.cli.main", {"boto3", "cryptography", "handlers.recipe", "httpx", "ray", "torch", "training"}),
        ("import radserve.batch.shard", {"ray", "torch"}),
        ("import radserve.client", {"boto3", "numpy", "PIL", "torch", "training", "yaml"}),
        ("import radserve.schema", {"httpx", "numpy", "torch"}),
        ("import radserve.server.supervisor", {"boto3", "numpy", "opentelemetry", "torch", "training"}),
        (
            "import gateway.lambda_.function, gateway.cli",
            {"boto3", "handlers.recipe", "numpy", "PIL", "pydicom", "torch", "training"},
        ),
        (
            "import handlers.classification",
            {"lightning", "matplotlib", "opentelemetry", "pydicom", "radserve", "torch._dynamo", "torchvision"},
        ),
        ("import training.networks", {"lightning"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_import_does_not_load(statement: str, unloaded: set[str]) -> None:
    assert not loaded_by(statement) & unloaded
