"""A worker's handler, shared by the tests of what it answers."""

from pathlib import Path

import pytest

from handlers.classification import Classification
from tests.handlers.batch import context


@pytest.fixture
def service(brightness_archive: Path) -> Classification:
    handler = Classification()
    handler.initialize(context(brightness_archive, []))
    return handler
