import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from PIL import Image

from training import settings
from training.errors import RunError, SettingsError
from training.tune import Options, _search, _storage, tune

from .conftest import ROOT, copy_archive

pytestmark = pytest.mark.slow

QUICK = ("epochs=1", "batch=20", "average=0.5", "validation=0.2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """cifar10-lenet with a small search space."""
    folder = copy_archive(tmp_path / "archives", "cifar10-lenet")
    values = yaml.safe_load((folder / "training.yaml").read_text())
    values["tune"] = {
        "learning_rate": {"low": 1e-9, "high": 0.01, "log": True},
        "augmentation.rotation": {"low": 1, "high": 9, "whole": True},
    }
    (folder / "training.yaml").write_text(yaml.safe_dump(values))
    return folder


def _options(trials: int, *overrides: str, storage: str | None = None) -> Options:
    return Options(trials, storage, (*QUICK, *overrides), tracker="none")


def _states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials()]


def test_a_study_is_resumed_and_writes_the_best_settings_and_plots(
    folder: Path, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    first = [trial.params for trial in tune(folder, photographs, out, _options(2)).trials]
    assert len(first) == 2
    study = tune(folder, photographs, out, _options(3))
    assert _states(study) == [TrialState.COMPLETE] * 3
    assert [trial.params for trial in study.trials[:2]] == first
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 3

    best = settings.load(out / "training.yaml")
    assert best.learning_rate == study.best_params["learning_rate"]
    assert best.augmentation.rotation == study.best_params["augmentation.rotation"]
    assert (best.data, best.tune) == ("cifar10", settings.load(folder / "training.yaml").tune)
    for name in ("optimization_history", "intermediate_values", "parallel_coordinate", "slice", "param_importances"):
        page = (out / "plots" / f"{name}.html").read_text()
        assert "plotly.min.js" in page
        assert "https://cdn" not in page
        with Image.open(out / "plots" / f"{name}.png") as picture:
            assert min(picture.size) > 100
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 2
    assert (out / "plots" / "plotly.min.js").stat().st_size > 100_000


def test_the_best_settings_are_installed_on_request(folder: Path, photographs: Path, tmp_path: Path) -> None:
    before = (folder / "training.yaml").read_bytes()
    tune(folder, photographs, tmp_path / "first", _options(1))
    assert (folder / "training.yaml").read_bytes() == before
    tune(folder, photographs, tmp_path / "second", Options(1, None, QUICK, install=True, tracker="none"))
    assert (folder / "training.yaml").read_bytes() == (tmp_path / "second" / "training.yaml").read_bytes()


def test_a_trial_below_the_median_is_pruned(folder: Path, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    out.mkdir()
    study = optuna.create_study(
        study_name="cifar10-lenet", storage=f"sqlite:///{out / 'study.db'}", direction="maximize"
    )
    for rate in (0.003, 0.004, 0.005, 1e-9):
        study.enqueue_trial({"learning_rate": rate, "augmentation.rotation": 5})
    result = tune(folder, photographs, out, _options(4, "epochs=6"))
    assert _states(result) == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert len(result.trials[3].intermediate_values) == 4
    assert result.best_trial.number < 3
    assert settings.load(out / "training.yaml").learning_rate > 1e-3


def _leave_a_trial(storage: str) -> None:
    """Create a study with a running trial, whose worker died an hour ago."""
    opened = RDBStorage(storage)
    study = optuna.create_study(study_name="cifar10-lenet", storage=opened, direction="maximize")
    opened.record_heartbeat(study.ask()._trial_id)
    with opened.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
    opened.engine.dispose()


def test_two_processes_share_the_trials_of_one_study_and_replace_that_of_a_dead_one(
    folder: Path, photographs: Path, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    _leave_a_trial(storage)
    arguments = [sys.executable, "-m", "radserve", "tune", "cifar10-lenet", "--data", photographs]
    arguments += ["--archives", folder.parent, "--storage", storage, "--trials", 5, "--threads", 1, "--tracker", "none"]
    arguments += [part for change in QUICK for part in ("--set", change)]
    with (tmp_path / "log").open("w+") as log:
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        command = [*map(str, arguments), "--out", str(tmp_path / "one")]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log) as worker:
            deadline = time.monotonic() + 300
            while not (tmp_path / "one").exists():  # it has imported its packages: both open the study at once
                assert worker.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.002)
            tune(folder, photographs, tmp_path / "two", _options(5, storage=storage))
            assert worker.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    study = optuna.load_study(study_name="cifar10-lenet", storage=storage)
    assert _states(study)[0] == TrialState.FAIL
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(finished) == 5
    # A worker that starts a trial too many gives it up.
    assert _states(study)[1:].count(TrialState.FAIL) == len(study.trials) - 6 <= 1
    assert len({trial.params["learning_rate"] for trial in finished}) == 5
    runs = [{path.name for path in (tmp_path / name).glob("trial-*")} for name in ("one", "two")]
    assert not runs[0] & runs[1]
    assert runs[0] | runs[1] == {f"trial-{trial.number:04d}" for trial in finished}
    settings_files = [(tmp_path / name / "training.yaml").read_bytes() for name in ("one", "two")]
    assert settings_files[0] == settings_files[1]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # for the trial that the test begins itself
def test_a_trial_without_any_heartbeat_is_replaced(tmp_path: Path) -> None:
    """Its worker was killed before the first one, or is of a release without heartbeats."""
    storage = _storage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name="s")
    study.ask()

    def wait(_seconds: float) -> None:
        with storage.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-100 seconds')")
        waits.append(1)
        assert len(waits) < 4

    waits: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.tune.time.sleep", wait)
        _search(study, storage, lambda _trial: 1.0, 1)
    assert _states(study) == [TrialState.FAIL, TrialState.COMPLETE]
    assert len(waits) == 3  # a heartbeat of now, and a grace period of 180 seconds


@pytest.mark.filterwarnings("ignore:Encountered `nan` values")
def test_a_trial_that_diverges_counts_but_is_not_the_best(
    folder: Path, photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = "tune={learning_rate: {low: 1.0e+30, high: 1.0e+31}}"
    with caplog.at_level("WARNING"):
        study = tune(folder, photographs, tmp_path / "study", _options(1, changed))
    assert _states(study) == [TrialState.PRUNED]
    assert "trial 0: diverged" in caplog.text
    assert not (tmp_path / "study" / "training.yaml").exists()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # for the trial that the test begins itself
def test_workers_that_start_the_last_trial_at_once_run_it_once(tmp_path: Path) -> None:
    """Each sees the other's trial only after it has created its own."""
    storage = _storage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name="s")
    other = optuna.load_study(study_name="s", storage=study._storage)
    ran: list[optuna.Trial] = []
    ask = study.ask

    def ask_second(fixed_distributions: object = None) -> optuna.Trial:
        if not ran:
            ran.append(other.ask())
        return ask()

    study.ask = ask_second  # type: ignore[method-assign]
    numbers: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        numbers.append(trial.number)
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.tune.time.sleep", lambda _seconds: other.tell(ran[0], 2.0))
        _search(study, storage, objective, 1)
    assert numbers == []
    assert _states(study) == [TrialState.COMPLETE, TrialState.FAIL]


def test_an_invalid_storage_is_reported(
    folder: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)  # between attempts
    storage = f"sqlite:///{tmp_path / 'nowhere' / 'study.db'}"
    with pytest.raises(RunError, match=r"Cannot open the storage.*unable to open"):
        tune(folder, photographs, tmp_path / "study", _options(1, storage=storage))


def test_a_model_without_search_space_is_rejected(folder: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no key 'tune'"):
        tune(folder, photographs, tmp_path / "study", _options(1, "tune={}"))


def test_an_unknown_key_in_the_search_space_is_reported(folder: Path, photographs: Path, tmp_path: Path) -> None:
    changed = "tune={batches: {choices: [8, 16]}}"
    with pytest.raises(SettingsError, match="unknown key 'batches'"):
        tune(folder, photographs, tmp_path / "study", _options(1, changed))
