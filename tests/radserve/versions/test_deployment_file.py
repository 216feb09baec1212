"""Tests of radserve.versions.deployment_file."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from radserve.errors import DeploymentError
from radserve.schema.deployment import Change, Deployment
from radserve.versions.deployment_file import changes, load, parse, to_yaml, validate

EXAMPLE = """\
models:
  chest:
    versions:
      1.0.0:
        share: 95
        workers: 2
      1.1.0:
        share: 5
  glioma:
    versions:
      '1.0':
        share: 100
"""


FEW = hypothesis_settings(max_examples=40, deadline=None)


def _shares(count: int) -> st.SearchStrategy[list[int]]:
    """Draw tenths of a percent that add up to 1000."""
    cuts = st.lists(st.integers(0, 1000), min_size=count - 1, max_size=count - 1).map(sorted)
    return cuts.map(lambda at: [high - low for low, high in zip([0, *at], [*at, 1000], strict=True)])


@st.composite
def _versions(draw: st.DrawFn, *, workers: st.SearchStrategy[int | None]) -> dict[str, Any]:
    known = ("0.0.0", "1.0", "1.0.0", "1.2.0", "1.10.0", "1.10")
    names = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True))
    shares = draw(_shares(len(names)))
    return {
        "versions": {
            name: {"share": share / 10, "workers": draw(workers)} for name, share in zip(names, shares, strict=True)
        }
    }


def _deployments(*, workers: st.SearchStrategy[int | None]) -> st.SearchStrategy[Deployment]:
    names = st.sampled_from(("chest", "glioma-unet", "no", "x1"))
    return st.dictionaries(names, _versions(workers=workers), max_size=3).map(
        lambda models: validate({"models": models}, "test")
    )


DEPLOYMENTS = _deployments(workers=st.none() | st.integers(1, 9))
DECLARED = _deployments(workers=st.integers(1, 9))


def _apply(current: Deployment, wanted: Deployment, steps: tuple[Change, ...]) -> Deployment:
    """Make the changes in their order."""
    state = {
        name: {version: item.model_dump() for version, item in model.versions.items()}
        for name, model in current.models.items()
    }
    for change in steps:
        target = wanted.find(change.model, change.version)
        versions = state.setdefault(change.model, {})
        if change.action == "unregister":
            del versions[change.version]
            continue
        assert target is not None
        if change.action == "register":
            versions[change.version] = {"share": 0.0, "workers": target.workers}
        elif change.action == "scale":
            versions[change.version]["workers"] = target.workers
        else:
            versions[change.version]["share"] = target.share
    return validate({"models": {name: {"versions": item} for name, item in state.items() if item}}, "state")


@FEW
@given(current=DECLARED, wanted=DECLARED)
def test_the_changes_turn_one_deployment_into_the_other(current: Deployment, wanted: Deployment) -> None:
    assert _apply(current, wanted, changes(current, wanted)) == wanted


@FEW
@given(current=DECLARED, wanted=DEPLOYMENTS)
def test_an_applied_deployment_needs_no_changes(current: Deployment, wanted: Deployment) -> None:
    assert changes(_apply(current, wanted, changes(current, wanted)), wanted) == ()


@FEW
@given(same=DEPLOYMENTS)
def test_a_deployment_does_not_differ_from_itself(same: Deployment) -> None:
    assert changes(same, same) == ()


@FEW
@given(current=DECLARED, wanted=DEPLOYMENTS)
def test_each_change_is_listed_once_and_names_its_version(current: Deployment, wanted: Deployment) -> None:
    steps = changes(current, wanted)
    assert len({(item.model, item.version, item.action) for item in steps}) == len(steps)
    assert all(item.detail.startswith(f"{item.model} {item.version}: ") for item in steps)


@FEW
@given(one=DEPLOYMENTS)
def test_a_written_deployment_is_read_unchanged(one: Deployment) -> None:
    assert parse(to_yaml(one), "test") == one
    assert parse(one.model_dump_json(), "test") == one


@FEW
@given(one=DEPLOYMENTS, seed=st.integers())
def test_equal_deployments_give_equal_text(one: Deployment, seed: int) -> None:
    names = list(one.models)
    random.Random(seed).shuffle(names)
    assert to_yaml(Deployment(models={name: one.models[name] for name in names})) == to_yaml(one)


@FEW
@given(text=st.text(st.sampled_from("models:{}[]&*!? \n-'\"1.0cshe#|>\0\t")))
def test_any_text_is_a_deployment_or_an_error(text: str) -> None:
    with suppress(DeploymentError):
        assert parse(to_yaml(parse(text, "d.yaml")), "again") == parse(text, "d.yaml")


def test_a_file_is_written_in_block_style() -> None:
    assert to_yaml(parse(EXAMPLE, "test")) == EXAMPLE


def test_whole_shares_are_written_without_a_fraction() -> None:
    one = parse("models: {chest: {versions: {1.0.0: {share: 98}, 1.1.0: {share: 1.5}, 1.2.0: {share: 0.5}}}}", "test")
    (model,) = json.loads(one.model_dump_json())["models"].values()
    assert [repr(item["share"]) for item in model["versions"].values()] == ["98", "1.5", "0.5"]


@pytest.mark.parametrize("settings", ["{}", "", "{share: 100}", "{share: 100.0}"])
def test_a_single_version_has_all_requests(settings: str) -> None:
    result = parse(f"models: {{chest: {{versions: {{1.0.0: {settings}}}}}}}", "test").find("chest", "1.0.0")
    assert result is not None
    assert (result.share, result.workers) == (100, None)


def test_an_unknown_version_is_not_found() -> None:
    one = parse(EXAMPLE, "test")
    assert one.find("chest", "1.2.0") is None
    assert one.find("lung", "1.0.0") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a deployment; it must begin with 'models:'"),
        ("- chest", "not a deployment"),
        ("chest: 1", "key 'models' is missing; key 'chest' is unknown (its value is 1)"),
        ("models: [", "line 1: "),
        ("models:\n  chest: {versions: {1.10: {}}}", "line 2: key 1.10 is a float, not text: quote it, '1.10'"),
        ("models:\n  no: {versions: {1.0.0: {}}}", "line 2: key no is a bool, not text: quote it, 'no'"),
        ("models: {chest: {versions: {1.0.0: {}, 1.0.0: {}}}}", "line 1: duplicate key '1.0.0'"),
        ("models: {[chest]: 1}", "a key must not be a list or a mapping"),
        ("models: 2020-13-45", "invalid YAML: month must be in 1..12"),
        ("models: " + "[" * 1000, "invalid YAML"),
        ("models: {Chest: {versions: {1.0.0: {}}}}", "key 'models.Chest' has value 'Chest': "),
        ("models: {chest: {versions: {v1: {}}}}", "key 'models.chest.versions.v1' has value 'v1': "),
        ("models: {chest: {versions: {}}}", "key 'models.chest.versions' has value {}: "),
        ("models: {chest: [1]}", "key 'models.chest' has value [1]: "),
        ("models: {chest: {versions: 1.0.0}}", "key 'models.chest.versions' has value '1.0.0': "),
        ("models: {chest: {versions: {1.0.0: 3}}}", "key 'models.chest.versions.1.0.0' has value 3: "),
        ("models: {chest: {versions: {1.0.0: {share: 5%}}}}", "1.0.0.share' has value '5%': "),
        ("models: {chest: {versions: {1.0.0: {share: 101}}}}", "1.0.0.share' has value 101: Input should be less"),
        ("models: {chest: {versions: {1.0.0: {share: 99.95}}}}", "has value 99.95: shares go in steps of 0.1"),
        ("models: {chest: {versions: {1.0.0: {share: .nan}}}}", "1.0.0.share' has value nan"),
        ("models: {chest: {versions: {1.0.0: {workers: 0}}}}", "1.0.0.workers' has value 0: Input should be greater"),
        ("models: {chest: {versions: {1.0.0: {workers: true}}}}", "1.0.0.workers' has value True: "),
        ("models: {chest: {versions: {1.0.0: {share: 50}}}}", "(1.0.0 50%) add up to 50%, not to 100%"),
        (
            "models: {chest: {versions: {1.0.0: {share: 95}, 1.1.0: {share: 5.1}}}}",
            "key 'models.chest': the shares of the versions (1.0.0 95%, 1.1.0 5.1%) add up to 100.1%, not to 100%",
        ),
        (
            "models: {chest: {versions: {1.0.0: {share: 95}, 1.1.0: {}}}}",
            "key 'models.chest.versions.1.1.0.share' is missing",
        ),
    ],
)
def test_an_invalid_file_is_rejected_with_key_and_value(text: str, message: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        parse(text, "d.yaml")
    assert str(caught.value).startswith("d.yaml: ")
    assert message in str(caught.value)


def test_all_problems_are_reported_together() -> None:
    text = "models: {chest: {versions: {1.0.0: {share: x, workers: y}}}, Lung: {}}"
    with pytest.raises(DeploymentError, match=r"share.*workers.*Lung"):
        parse(text, "d.yaml")


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"deployment\.yaml: No such file.*radserve models export"):
        load(tmp_path / "deployment.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"models: \xe9")
    with pytest.raises(DeploymentError, match=r"latin\.yaml: not UTF-8"):
        load(tmp_path / "latin.yaml")
    (tmp_path / "good.yaml").write_text(EXAMPLE, encoding="utf-8")
    assert load(tmp_path / "good.yaml") == parse(EXAMPLE, "test")


def test_merge_keys_are_allowed() -> None:
    text = "models: {chest: {versions: {1.0.0: &one {share: 50}, 1.1.0: {<<: *one}}}}"
    assert [item.share for item in parse(text, "test").models["chest"].versions.values()] == [50, 50]


def _details(current: str, wanted: str) -> list[str]:
    return [item.detail for item in changes(parse(current, "current"), parse(wanted, "wanted"))]


def test_changes_are_described_in_the_order_in_which_they_are_made() -> None:
    wanted = """
models:
  chest: {versions: {1.1.0: {share: 90, workers: 3}, 1.2.0: {share: 10}}}
  lung: {versions: {1.0.0: {workers: 1}}}
"""
    assert _details(EXAMPLE, wanted) == [
        "chest 1.2.0: new version, default number of workers",
        "chest 1.1.0: 3 workers",
        "chest 1.1.0: 90% of requests instead of 5%",
        "chest 1.2.0: 10% of requests instead of 0%",
        "chest 1.0.0: removed, with 95% of requests",
        "glioma 1.0: removed, with 100% of requests",
        "lung 1.0.0: new version, 1 worker",
        "lung 1.0.0: 100% of requests instead of 0%",
    ]


def test_workers_that_the_server_chooses_are_not_a_change() -> None:
    current = "models: {chest: {versions: {1.0.0: {workers: 2}}}}"
    assert _details(current, "models: {chest: {versions: {1.0.0: {}}}}") == []
    assert _details(current, "models: {chest: {versions: {1.0.0: {workers: 3}}}}") == [
        "chest 1.0.0: 3 workers instead of 2"
    ]
