"""Who may import whom (the design's rules)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"handlers", "radserve", "training", "gateway", "scripts", "tests", "benchmarks"}
MAY_IMPORT = {
    "handlers": {"handlers"},
    "training": {"handlers", "training"},
    "radserve": {"handlers", "radserve", "training"},
    "gateway": {"gateway", "radserve"},
}
MODEL_IN_THE_GATEWAY = Path("gateway", "backends", "in_process.py")
"""The one module of the gateway that loads a model by itself."""


def imported(path: Path) -> set[str]:
    """Return the project's packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {item.name.partition(".")[0] for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").partition(".")[0])
    return names & OURS


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_design_allows(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): imported(path) - MAY_IMPORT[package]
        for path in (ROOT / package).rglob("*.py")
        if imported(path) - MAY_IMPORT[package] and path != ROOT / MODEL_IN_THE_GATEWAY
    }
    assert wrong == {}


def test_the_gateway_loads_neither_torch_nor_the_handlers() -> None:
    loaded = modules_after("import gateway.lambda_.function, gateway.cli")
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "numpy", "PIL", "training", "boto3"}
    assert {name for name in loaded if name.startswith("handlers")} == {"handlers", "handlers.errors"}


def modules_after(statement: str) -> set[str]:
    """Return what is loaded after a statement in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_the_supervisor_does_not_load_torch() -> None:
    assert "torch" not in modules_after("import radserve.server.supervisor, radserve.cli.main")


def test_a_worker_loads_neither_the_exporter_nor_training_nor_torchvision() -> None:
    loaded = modules_after("import handlers.classification")
    assert not {name.partition(".")[0] for name in loaded} & {"training", "radserve", "lightning", "torchvision"}
    assert "torch._dynamo" not in loaded


def test_the_networks_need_torch_but_not_lightning() -> None:
    assert "lightning" not in modules_after("import training.networks")
