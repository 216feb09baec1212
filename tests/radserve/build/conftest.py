"""A folder of models that tests change."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.repack import NAME


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Copy of a model's folder, for tests that change it."""
    folder = tmp_path / "archives"
    shutil.copytree(ROOT / "archives" / NAME, folder / NAME)
    return folder
