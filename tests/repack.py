"""Modified archives for tests."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from radserve.build import model_store as store_index
from radserve.build.model_store import Entry

NAME = "chest-xray-cnn"
FILM = (Path(__file__).resolve().parents[1] / "archives" / NAME / "sample.png").read_bytes()


def entry_of(store: Path, name: str = NAME) -> Entry:
    """Return the entry of a model, by default the chest model."""
    entry = store_index.read(store).find(name)
    assert entry is not None
    return entry


def repack(store: Path, change: Callable[[dict[str, bytes]], None], model: str = NAME, **update: Any) -> Entry:
    """Change the content of a model's archive, by default the chest model's, and update the index."""
    old = entry_of(store, model)
    with zipfile.ZipFile(store / old.file) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    change(contents)
    named = old.model_copy(update=update)
    path = store / named.file
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in contents.items():
            packed.writestr(name, data)
    entry = named.model_copy(update={"sha256": store_index.sha256(path), "size": path.stat().st_size})
    store_index.write(store, store_index.read(store).put(entry))
    return entry


def without(name: str) -> Callable[[dict[str, bytes]], None]:
    """Return a change that removes a file."""

    def change(contents: dict[str, bytes]) -> None:
        del contents[name]

    return change


def with_recipe(**values: object) -> Callable[[dict[str, bytes]], None]:
    """Return a change that sets keys of the recipe."""
    return _with_document("archive.yaml", values)


def with_settings(**values: object) -> Callable[[dict[str, bytes]], None]:
    """Return a change that sets TorchServe's settings of the model."""
    return _with_document("model-config.yaml", values)


def _with_document(name: str, values: Mapping[str, object]) -> Callable[[dict[str, bytes]], None]:
    def change(contents: dict[str, bytes]) -> None:
        contents[name] = yaml.safe_dump(yaml.safe_load(contents[name]) | values).encode()

    return change
