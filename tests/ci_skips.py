"""Skipping in CI; imports nothing that takes time."""

import os
from collections.abc import Generator
from typing import Final

import pytest

CI_SKIPS: Final = (
    "needs kustomize or kubectl",  # neither Debian 12 nor PyPI has a version that reads components
    "needs docker compose",  # Debian 12 has version 1; podman-compose reads the files in the other tests
    "there is a CUDA device",
    "only root can",
    "root may write everywhere",
)
"""Reasons to skip that hold in CI as well."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, fail a test that skips for lack of data or tools: it would otherwise never run anywhere."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(text in reason for text in CI_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} skipped in CI. {reason}"
    return report
