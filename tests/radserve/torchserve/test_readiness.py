"""Tests of radserve.torchserve.readiness and radserve.torchserve.verified_models."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from handlers.profile import VerifiedProfile
from radserve.errors import ArchiveError, ServeError
from radserve.host.run_directory import RunDirectory
from radserve.torchserve.management import Management
from radserve.torchserve.readiness import Problem, Readiness, difference
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.torchserve.verified_models import require_one_each, select, with_profile, without_model
from tests.handlers.test_profile import site_profile
from tests.radserve.fake_torchserve import Running

ONE, TWO = (frozenset({("brightness", version)}) for version in ("1.0.0", "2.0.0"))


def problem(torchserve: Running, store: Path, run_directory: RunDirectory, *, infer: bool) -> Problem | None:
    """Check the readiness of a server with version 1.0.0 and one worker."""

    async def check() -> Problem | None:
        management = Management(run_directory, timeout=1.0)
        (model,) = select(store, ["brightness/1.0.0"])
        registry = ModelRegistry([ModelVersion(model, 1, datetime.now(UTC))], management, run_directory)
        readiness = Readiness(registry, torchserve.inference, lambda: list(registry))
        try:
            return await readiness.problem(infer=infer)
        finally:
            await readiness.close()
            await management.close()

    return asyncio.run(check())


@pytest.mark.parametrize("infer", [False, True])
def test_a_healthy_server_is_ready(torchserve: Running, store: Path, run_directory: RunDirectory, infer: bool) -> None:
    assert problem(torchserve, store, run_directory, infer=infer) is None
    assert torchserve.predictions.total() == int(infer)


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        ({"ready": 0}, "brightness 1.0.0: 0 of 1 workers are ready."),
        ({"prediction_status": 507}, "brightness 1.0.0: the request with its sample failed with status 507."),
        (
            {"prediction": {"label": "dark"}},
            "brightness 1.0.0: the prediction for its sample differs: label is dark, expected bright as at build time.",
        ),
    ],
)
def test_a_problem_is_described(
    torchserve: Running, store: Path, run_directory: RunDirectory, behavior: dict[str, Any], message: str
) -> None:
    for name, value in behavior.items():
        setattr(torchserve.behavior, name, value)
    assert problem(torchserve, store, run_directory, infer=True) == Problem(message, fatal=True, versions=ONE)


def test_a_silent_management_api_is_no_fault_of_a_model_that_answers(
    torchserve: Running, store: Path, run_directory: RunDirectory
) -> None:
    torchserve.behavior.delay = 2.0
    detail = "The management API does not respond (ReadTimeout)."
    assert problem(torchserve, store, run_directory, infer=False) == Problem(detail, fatal=False)
    torchserve.behavior.prediction_status = 503
    failed = "brightness 1.0.0: the request with its sample failed with status 503."
    assert problem(torchserve, store, run_directory, infer=False) == Problem(failed, fatal=True, versions=ONE)


async def suspicion(
    torchserve: Running, store: Path, run_directory: RunDirectory, failures: list[int], *, infer: bool = False
) -> Problem | None:
    """Check a server with two versions, of which the responses of the second one fail; see `Readiness.failures`."""
    torchserve._load("brightness-2.0.0.mar", 1)
    management = Management(run_directory, timeout=1.0)
    versions = [ModelVersion(model, 1, datetime.now(UTC)) for model in select(store, [])]
    registry = ModelRegistry(versions, management, run_directory)

    def count(_: str, version: str) -> int:
        return failures[min(torchserve.predictions.total(), len(failures) - 1)] if version == "2.0.0" else 0

    readiness = Readiness(registry, torchserve.inference, lambda: list(registry), count)
    try:
        return await readiness.problem(infer=infer)
    finally:
        await readiness.close()
        await management.close()


def test_a_problem_names_every_version_that_fails(
    torchserve: Running, store: Path, run_directory: RunDirectory
) -> None:
    torchserve.behavior.prediction_status = 500
    detail = "brightness 1.0.0: the request with its sample failed with status 500."
    problem = asyncio.run(suspicion(torchserve, store, run_directory, [0], infer=True))
    assert problem == Problem(detail, fatal=True, versions=ONE | TWO)


def test_a_version_that_hangs_does_not_concern_the_others(
    torchserve: Running, store: Path, run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.torchserve.readiness._SAMPLE_TIMEOUT", 0.3)
    torchserve.behavior.prediction_delay = 1.0
    detail = "brightness 2.0.0: its sample got no response within 0.3 s."
    problem = asyncio.run(suspicion(torchserve, store, run_directory, [5]))
    assert problem == Problem(detail, fatal=True, versions=TWO)


def test_only_a_suspicious_version_gets_its_sample(
    torchserve: Running, store: Path, run_directory: RunDirectory
) -> None:
    detail = "brightness 2.0.0: it answers its sample, but its last 5 responses to clients failed with 5xx."
    assert asyncio.run(suspicion(torchserve, store, run_directory, [5])) == Problem(detail, fatal=False, versions=TWO)
    assert dict(torchserve.predictions) == {("brightness", "2.0.0"): 1}


@pytest.mark.parametrize(("later", "fatal"), [(5, True), (0, False)])
def test_a_suspicious_version_that_has_answered_a_client_is_merely_busy(
    torchserve: Running, store: Path, run_directory: RunDirectory, later: int, fatal: bool
) -> None:
    torchserve.behavior.prediction_status = 503
    result = asyncio.run(suspicion(torchserve, store, run_directory, [5, later]))
    assert (result is not None and result.fatal) == fatal


def test_a_server_of_several_models_says_how_many_are_ready(
    torchserve: Running, store: Path, run_directory: RunDirectory
) -> None:
    torchserve.behavior.ready = 0
    detail = "0 of 2 models are ready. brightness 1.0.0: 0 of 1 workers are ready."
    assert asyncio.run(suspicion(torchserve, store, run_directory, [0])) == Problem(detail, fatal=True, versions=ONE)


def test_a_dead_server_is_not_ready(torchserve: Running, store: Path, run_directory: RunDirectory) -> None:
    torchserve.die()
    dead = Problem("The engine does not respond (ConnectError).", fatal=True)
    assert problem(torchserve, store, run_directory, infer=False) == dead


def test_select_verifies_all_or_the_named_archives(store: Path) -> None:
    assert [model.entry.version for model in select(store, [])] == ["1.0.0", "2.0.0"]
    assert [model.entry.version for model in select(store, ["brightness"])] == ["2.0.0"]
    (model,) = select(store, ["brightness/1.0.0"])
    assert (model.path, model.sample) == ("/predictions/brightness/1.0.0", b"sample of brightness 1.0.0")


def test_a_site_profile_is_applied_to_its_archive_only(store: Path) -> None:
    models = select(store, [])
    entry = models[0].entry
    fitted = VerifiedProfile(site_profile(archive=entry.sha256), "b" * 64)
    applied = [with_profile(model, [fitted]) for model in models]
    assert [model.profile for model in applied] == [fitted, None]
    assert applied[0].recipe.decision == fitted.profile.decision
    assert applied[1] == models[1]
    assert without_model(applied, [fitted]) == []
    with pytest.raises(ServeError, match=r"was fitted with archive c{12} of brightness 1\.0\.0, but the model"):
        with_profile(models[0], [VerifiedProfile(site_profile(archive="c" * 64), "b" * 64)])
    other = VerifiedProfile(site_profile(version="3.0.0"), "b" * 64)
    assert without_model([with_profile(model, [other]) for model in models], [other]) == [other]
    require_one_each([fitted, other])
    with pytest.raises(ServeError, match=r"2 profiles for brightness 3\.0\.0; give one"):
        require_one_each([fitted, other, other])


def test_a_worker_that_ignores_the_site_profile_is_not_ready(
    torchserve: Running, store: Path, run_directory: RunDirectory
) -> None:
    torchserve.behavior.prediction = {"profile": {"name": "other", "sha256": "b" * 64}}
    detail = "brightness 1.0.0: its worker does not apply the site profile; build the archive with this release."
    assert problem(torchserve, store, run_directory, infer=True) == Problem(detail, fatal=True, versions=ONE)


def test_select_rejects_unknown_models_and_empty_stores(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=r"unknown model 'chest'\. Available: brightness/1\.0\.0, "):
        select(store, ["chest"])
    with pytest.raises(ServeError, match="the model store is empty; run 'radserve build'"):
        select(tmp_path, [])


def test_select_rejects_damaged_archives(store: Path) -> None:
    archive = store / "brightness-1.0.0.mar"
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveError, match="sha256"):
        select(store, ["brightness/1.0.0"])


STORED = {"label": "b", "probabilities": {"a": 0.2, "b": 0.8}}


@pytest.mark.parametrize(
    ("prediction", "expected", "message"),
    [
        ({"label": "b", "probability": 0.8, "probabilities": {"a": 0.2001, "b": 0.7999}}, STORED, None),
        ({"label": "a", "probabilities": {"a": 0.2, "b": 0.8}}, STORED, "label is a, expected b"),
        ({"label": "b", "probabilities": {"a": 0.3, "b": 0.7}}, STORED, "probability of a is 0.3000, expected 0.2000"),
        ({"label": "b"}, STORED, "probability of a is missing"),
        ({"label": "g", "area": {"fraction": 0.1}}, {"label": "g", "fraction": 0.1}, None),
        ({"label": "g", "area": {"fraction": 0.2}}, {"label": "g", "fraction": 0.1}, "fraction is 0.2000"),
    ],
)
def test_difference_compares_label_probabilities_and_fraction(
    prediction: dict[str, Any], expected: dict[str, Any], message: str | None
) -> None:
    text = difference(prediction, expected)
    assert text is None if message is None else message in str(text)
