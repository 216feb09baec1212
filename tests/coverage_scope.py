"""Coverage is measured in the tests of the packages that have a bound: tracing doubles the time of Python code."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent
MEASURED: Final = tuple(TESTS / name for name in ("handlers", "radserve/server", "radserve/versions"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Pause the coverage of pytest-cov during other tests."""
    controller = getattr(item.config.pluginmanager.get_plugin("_cov"), "cov_controller", None)
    if controller is None or any(item.path.is_relative_to(folder) for folder in MEASURED):
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()
