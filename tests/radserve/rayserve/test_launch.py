"""Tests of radserve.rayserve.launch; tests/e2e/test_ray.py runs what it starts."""

from pathlib import Path

import pytest

from radserve.errors import ServeError
from radserve.rayserve import launch


def test_a_store_of_versions_to_pull_is_rejected(tmp_path: Path) -> None:
    launch.require_supported(None, pulls=False)
    with pytest.raises(ServeError, match=r"cannot pull versions .* omit --store"):
        launch.require_supported(None, pulls=True)


def test_a_run_directory_that_is_too_long_for_sockets_of_ray_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    launch.require_supported(Path("/run/radserve"), pulls=False)
    with pytest.raises(ServeError, match="too long for Ray's unix sockets"):
        launch.require_supported(Path("/srv/hospital/department-of-radiology/run"), pulls=False)
    monkeypatch.setattr("tempfile.tempdir", "/srv/hospital/department-of-radiology")
    with pytest.raises(ServeError, match=r"TMPDIR /srv/hospital/department-of-radiology: too long .*--runtime"):
        launch.require_supported(None, pulls=False)


def test_a_rollout_in_progress_is_rejected() -> None:
    launch.require_no_rollouts({})
    with pytest.raises(ServeError, match="cannot continue the rollout of brightness"):
        launch.require_no_rollouts({"brightness": None})
