"""The Lambda package: reproducible, complete, and independent of this environment."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from deploy.aws import lambda_package
from radserve.errors import BuildError
from tests.gateway.lambda_ import events
from tests.gateway.lambda_.runtime import FunctionError, function
from tests.gateway.lambda_.test_function import variables
from tests.proxy import Keys
from tests.server import ROOT

RUNTIME = ("awslambdaric", "simplejson", "snapshot_restore_py", "runtime_client*")
"""What Lambda's runtime brings of this; its boto3 is left out here, to show that nothing needs it at the start."""
START = """
import runpy, sys
sys.path[:0] = sys.argv[1:3]
del sys.argv[1:3]
runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("package") / "radserve-lambda.zip"
    lambda_package.build(target)
    return target


@pytest.fixture(scope="module")
def unpacked(package: Path) -> Path:
    folder = package.parent / "task"
    with zipfile.ZipFile(package) as opened:
        opened.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def runtime(package: Path) -> Path:
    """Return a folder with the packages of Lambda's runtime."""
    folder = package.parent / "runtime"
    folder.mkdir()
    site = Path(sysconfig.get_path("purelib"))
    for pattern in RUNTIME:
        for path in site.glob(pattern):
            (folder / path.name).symlink_to(path)
    return folder


def test_builds_are_reproducible_and_small(package: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    assert lambda_package.build(again) == package.stat().st_size < lambda_package.LIMIT
    assert again.read_bytes() == package.read_bytes()


def test_package_holds_gateway_and_no_model(package: Path) -> None:
    names = set(zipfile.ZipFile(package).namelist())
    assert {
        "gateway/lambda_/handler.py",
        "gateway/documentation/main.js",
        "fastapi_swagger/resources/swagger-ui-bundle.js",
        "gateway/static/index.html",
        "radserve/auth/api_keys.py",
        "handlers/errors.py",
    } <= names
    assert "gateway/backends/in_process.py" not in names
    packages = {name.partition("/")[0].removesuffix(".py") for name in names}
    assert not packages & {
        "torch",
        "numpy",
        "boto3",
        "botocore",
        "training",
        "ts",
        "PIL",
        "yaml",
        "uvicorn",
        "awslambdaric",
    }
    assert {name for name in names if name.startswith("handlers/") and name.endswith(".py")} == {
        "handlers/__init__.py",
        "handlers/colour_map.py",
        "handlers/errors.py",
        "handlers/json_lines.py",
        "handlers/tracing.py",
        "handlers/validation_error.py",
    }
    assert any(name.endswith("gateway/__pycache__/app.cpython-311.pyc") for name in names)


def test_package_runs_alone(unpacked: Path, runtime: Path, keys: Keys, tmp_path: Path) -> None:
    command = (sys.executable, "-I", "-S", "-c", START, str(unpacked), str(runtime))
    environment = variables(keys, "http://127.0.0.1:9")
    with function(tmp_path, environment, root=unpacked, command=command) as result:
        response = result.invoke(events.http("GET", "/live"))
        assert json.loads(events.content(response))["state"] == "live"
        described = json.loads(events.content(result.invoke(events.http("GET", "/api/openapi.json"))))
        assert described["info"]["version"] == "0.1.0"
    environment |= {"RADSERVE_GATEWAY_ARCHIVE": "model.mar"}
    with (
        function(tmp_path, environment, root=unpacked, command=command) as result,
        pytest.raises(FunctionError, match=r"in_process is not installed. Run pip install .radserve\[gateway,serve\]"),
    ):
        result.response()
    del environment["RADSERVE_GATEWAY_ARCHIVE"]
    environment |= {"RADSERVE_GATEWAY_SERVER_KEY": "ssm:/radserve/key"}
    with (
        function(tmp_path, environment, root=unpacked, command=command) as result,
        pytest.raises(FunctionError, match="RADSERVE_GATEWAY_SERVER_KEY names a secret; install boto3"),
    ):
        result.response()


def test_package_loads_with_1_5_seconds_of_cpu(unpacked: Path, keys: Keys) -> None:
    code = "import sys, time; begin = time.process_time(); sys.path.insert(0, sys.argv[1]); "
    code += "import gateway.lambda_.handler; print(time.process_time() - begin)"
    command = [sys.executable, "-I", "-S", "-c", code, str(unpacked)]
    environment = variables(keys, "http://127.0.0.1:9")
    seconds = [
        float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    ]
    assert min(seconds) < 1.5


def test_failing_uv_is_a_build_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{ROOT / '.venv-uv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(BuildError, match=r"sh docker/requirements\.sh lambda failed"):
        lambda_package.build(tmp_path / "x.zip", root=tmp_path)


def test_package_holds_every_module_except_two() -> None:
    left_out = {"gateway/backends/in_process.py", "gateway/cli.py"}
    all_of_them = {str(path.relative_to(ROOT)) for path in (ROOT / "gateway").rglob("*.py")}
    assert {str(path) for path in lambda_package.modules()} >= all_of_them - left_out
