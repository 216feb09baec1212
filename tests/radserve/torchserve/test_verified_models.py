"""Tests of radserve.torchserve.verified_models; tests/radserve/server tests which archives are selected."""

from pathlib import Path

import pytest
import yaml

from radserve.errors import ServeError
from radserve.torchserve.verified_models import select, unpack
from tests.radserve.minimal_archive import write_archive


def test_an_unpacked_archive_has_the_name_of_its_file_and_replaces_what_a_killed_run_left(tmp_path: Path) -> None:
    write_archive(tmp_path)
    (model,) = select(tmp_path, [])
    folder = tmp_path / "models" / model.entry.file
    folder.mkdir(parents=True)
    (folder / "left.py").touch()
    assert unpack(model.entry, tmp_path, tmp_path / "models", 10.0) == folder
    assert (folder / model.recipe.sample).read_bytes() == model.sample
    assert (folder / "MAR-INF" / "MANIFEST.json").exists()
    assert not (folder / "left.py").exists()


def test_an_archive_that_cannot_be_unpacked_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    write_archive(tmp_path)
    (model,) = select(tmp_path, [])
    (tmp_path / "models").touch()
    with pytest.raises(
        ServeError, match=r"brightness-1\.0\.0\.mar: cannot be unpacked into .*/models: Not a directory"
    ):
        unpack(model.entry, tmp_path, tmp_path / "models", 10.0)


@pytest.mark.parametrize(("server", "worker"), [(400.0, 400), (120.5, 121), (60.0, 120)])
def test_a_worker_may_start_for_as_long_as_the_server(server: float, worker: int, tmp_path: Path) -> None:
    write_archive(tmp_path)
    (model,) = select(tmp_path, [])
    archive = (tmp_path / model.entry.file).read_bytes()
    folder = unpack(model.entry, tmp_path, tmp_path / "models", server)
    settings = yaml.safe_load((folder / "model-config.yaml").read_text())
    assert settings == {"responseTimeout": 60, "startupTimeout": worker}
    assert (tmp_path / model.entry.file).read_bytes() == archive
