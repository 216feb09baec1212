"""Small valid archives in a model store, whose model a fake TorchServe can serve."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from radserve.build import model_store
from radserve.build.model_store import Entry
from tests.conftest import brightness_recipe

_HANDLER = """\
class Handler:
    def initialize(self, context):
        {initialize}
"""


def write_archive(
    store: Path,
    name: str = "brightness",
    version: str = "1.0.0",
    *,
    initialize: str = "pass",
    members: Mapping[str, str] | None = None,
    **recipe: Any,
) -> str:
    """Write a small valid archive into a model store, enter it into the index, and return its file name.

    Parameters
    ----------
    initialize
        Body of the handler's `initialize`, which the preflight check of a new version runs.
    members
        Further files of the archive.
    recipe
        Keys of the recipe that differ from `tests.conftest.brightness_recipe`.
    """
    file = f"{name}-{version}.mar"
    manifest = {"model": {"modelName": name, "modelVersion": version, "handler": "handler.py"}}
    files: Mapping[str, str] = {
        "MAR-INF/MANIFEST.json": json.dumps(manifest),
        "archive.yaml": yaml.safe_dump(brightness_recipe() | {"name": name, "version": version} | recipe),
        "model-config.yaml": "responseTimeout: 60\n",
        "program.pt2": "",
        "sample.png": f"sample of {name} {version}",
        "sample.json": json.dumps({"label": "bright", "probabilities": {"dark": 0.2, "bright": 0.8}}),
        "handlers/__init__.py": "",
        "handler.py": _HANDLER.format(initialize=initialize),
    } | dict(members or {})
    store.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(store / file, "w") as archive:
        for member, text in files.items():
            archive.writestr(member, text)
    sha256 = model_store.sha256(store / file)
    size = (store / file).stat().st_size
    entry = Entry(name=name, version=version, file=file, sha256=sha256, size=size, inputs="0" * 64)
    model_store.write(store, model_store.read(store).put(entry))
    return file
