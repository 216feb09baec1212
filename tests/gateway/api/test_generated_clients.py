"""Clients that are generated from the OpenAPI document make predictions."""

import base64
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.gateway.application import gateway, serving

IMAGE = b"\x89PNG one"
TOOLS = ROOT / ".venv-typescript" / "node_modules"
CONFIGURATION = """\
post_hooks: []
package_name_override: generated_client
content_type_overrides: {image/png: application/octet-stream}
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(gateway()) as result:
        yield f"http://{result}"


@pytest.fixture
def description(tmp_path: Path) -> Path:
    """Write the OpenAPI document."""
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(gateway().openapi()))
    return path


def run(*command: str | Path, folder: Path) -> str:
    """Run a command that must succeed; return its output."""
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def generated(description: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Generate a Python package, and return a function that imports its modules."""
    (tmp_path / "configuration.yaml").write_text(CONFIGURATION)
    options = ["--path", str(description), "--meta", "none", "--output-path", "generated_client", "--fail-on-warning"]
    tool = Path(sys.executable).with_name("openapi-python-client")
    run(tool, "generate", "--config", "configuration.yaml", *options, folder=tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: importlib.import_module(f"generated_client.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "generated_client"]:
        del sys.modules[name]


def test_a_client_of_openapi_python_client_makes_predictions(generated: Any, address: str) -> None:
    with generated("client").Client(base_url=address) as client:
        predict(generated, client)


def predict(generated: Any, client: Any) -> None:
    """Make a prediction with each kind of body."""
    models, api = generated("models"), "api.predictions"
    file, chosen = generated("types").File, {"client": client, "name": "chest"}

    prediction = generated(f"{api}.predict_image").sync(body=file(BytesIO(IMAGE)), **chosen)
    assert isinstance(prediction, models.Prediction)
    assert (prediction.label, prediction.probability, prediction.model.version) == ("normal", 0.75, "1.0.0")

    encoded = base64.b64encode(IMAGE).decode()
    for body in (models.EncodedImage(image=encoded), models.EncodedImages([models.Instance(encoded)])):
        result = generated(f"{api}.predict_json").sync(body=body, **chosen)
        items = result.predictions if isinstance(result, models.ResultList) else [result]
        assert [(type(item), item.label) for item in items] == [(models.Prediction, "normal")]

    form = models.FilesForm([file(BytesIO(IMAGE), "a.png"), file(BytesIO(IMAGE), "b.png")])
    result = generated(f"{api}.predict_files_with_version").sync(body=form, version="1.0.0", **chosen)
    assert [item.filename for item in result.predictions] == ["a.png", "b.png"]

    explanation = generated(f"{api}.explain_image").sync(body=file(BytesIO(IMAGE)), **chosen)
    assert isinstance(explanation, models.Explanation)
    problem = generated(f"{api}.predict_image").sync(client=client, name="X", body=file(BytesIO(IMAGE)))
    assert isinstance(problem, models.ProblemDetails)
    assert problem.status == 422


def test_a_client_of_openapi_typescript_makes_predictions(description: Path, tmp_path: Path, address: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    if not (TOOLS / ".package-lock.json").is_file():
        pytest.skip("needs openapi-typescript; run scripts/setup-typescript")
    (tmp_path / "node_modules").symlink_to(TOOLS)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(Path(__file__).parent / "typescript" / "client.ts", tmp_path)
    run("node", "node_modules/openapi-typescript/bin/cli.js", description, "-o", "schema.d.ts", folder=tmp_path)
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable"]
    run("node", "node_modules/typescript/bin/tsc", *options, "client.ts", folder=tmp_path)
    output = run("node", "client.js", address, base64.b64encode(IMAGE).decode(), folder=tmp_path)
    result = json.loads(output)
    label, rejection = result.pop("list")
    assert label == "normal"
    assert "base64" in rejection
    assert result == {
        "json": ["normal"],
        "bytes": ["normal"],
        "form": ["normal", "normal"],
        "tensor": ["normal"],
        "problem": 422,
    }
