"""`deployment.yaml`: what is wrong with it is said, and what it changes is exactly what it says."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radserve.errors import DeploymentError
from radserve.versions.deployment_spec import Change, Deployment, changes, load, parse, to_yaml, validate

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


FEW = settings(max_examples=40, deadline=None)


def _shares(count: int) -> st.SearchStrategy[list[int]]:
    """Tenths of percent that add up to 1000."""
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


def _apply(have: Deployment, want: Deployment, todo: tuple[Change, ...]) -> Deployment:
    """Do what the changes say, and nothing else, in their order."""
    state = {
        name: {version: item.model_dump() for version, item in model.versions.items()}
        for name, model in have.models.items()
    }
    for change in todo:
        wanted = want.find(change.model, change.version)
        versions = state.setdefault(change.model, {})
        if change.action == "unregister":
            del versions[change.version]
            continue
        assert wanted is not None
        if change.action == "register":
            versions[change.version] = {"share": 0.0, "workers": wanted.workers}
        elif change.action == "scale":
            versions[change.version]["workers"] = wanted.workers
        else:
            versions[change.version]["share"] = wanted.share
    return validate({"models": {name: {"versions": item} for name, item in state.items() if item}}, "state")


@FEW
@given(have=DECLARED, want=DECLARED)
def test_what_the_changes_say_makes_one_the_other(have: Deployment, want: Deployment) -> None:
    assert _apply(have, want, changes(have, want)) == want


@FEW
@given(have=DECLARED, want=DEPLOYMENTS)
def test_after_it_was_applied_nothing_is_left_to_do(have: Deployment, want: Deployment) -> None:
    assert changes(_apply(have, want, changes(have, want)), want) == ()


@FEW
@given(same=DEPLOYMENTS)
def test_a_deployment_does_not_differ_from_itself(same: Deployment) -> None:
    assert changes(same, same) == ()


@FEW
@given(have=DECLARED, want=DEPLOYMENTS)
def test_each_change_is_one_of_its_own_and_says_what_it_is_about(have: Deployment, want: Deployment) -> None:
    todo = changes(have, want)
    assert len({(item.model, item.version, item.action) for item in todo}) == len(todo)
    assert all(item.detail.startswith(f"{item.model} {item.version}: ") for item in todo)


@FEW
@given(one=DEPLOYMENTS)
def test_a_deployment_is_read_as_it_was_written(one: Deployment) -> None:
    assert parse(to_yaml(one), "test") == one
    assert parse(one.model_dump_json(), "test") == one


@FEW
@given(one=DEPLOYMENTS, seed=st.integers())
def test_the_same_deployment_is_the_same_text(one: Deployment, seed: int) -> None:
    names = list(one.models)
    random.Random(seed).shuffle(names)
    assert to_yaml(Deployment(models={name: one.models[name] for name in names})) == to_yaml(one)


@FEW
@given(text=st.text(st.sampled_from("models:{}[]&*!? \n-'\"1.0cshe#|>\0\t")))
def test_whatever_the_text_it_is_a_deployment_or_an_error(text: str) -> None:
    with suppress(DeploymentError):
        assert parse(to_yaml(parse(text, "d.yaml")), "again") == parse(text, "d.yaml")


def test_a_file_is_written_as_people_write_it() -> None:
    assert to_yaml(parse(EXAMPLE, "test")) == EXAMPLE


def test_shares_are_whole_numbers_in_json_where_they_are() -> None:
    one = parse("models: {chest: {versions: {1.0.0: {share: 98}, 1.1.0: {share: 1.5}, 1.2.0: {share: 0.5}}}}", "test")
    (model,) = json.loads(one.model_dump_json())["models"].values()
    assert [repr(item["share"]) for item in model["versions"].values()] == ["98", "1.5", "0.5"]


@pytest.mark.parametrize("said", ["{}", "", "{share: 100}", "{share: 100.0}"])
def test_a_version_that_is_alone_has_all_requests(said: str) -> None:
    found = parse(f"models: {{chest: {{versions: {{1.0.0: {said}}}}}}}", "test").find("chest", "1.0.0")
    assert found is not None
    assert (found.share, found.workers) == (100, None)


def test_what_is_not_served_is_not_found() -> None:
    one = parse(EXAMPLE, "test")
    assert one.find("chest", "1.2.0") is None
    assert one.find("lung", "1.0.0") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no deployment; it begins with 'models:'"),
        ("- chest", "holds no deployment"),
        ("chest: 1", "key 'models' is missing; key 'chest' is not known (its value is 1)"),
        ("models: [", "line 1: "),
        ("models:\n  chest: {versions: {1.10: {}}}", "line 2: key 1.10 is read as float, not as text: write '1.10'"),
        ("models:\n  no: {versions: {1.0.0: {}}}", "line 2: key no is read as bool, not as text: write 'no'"),
        ("models: {chest: {versions: {1.0.0: {}, 1.0.0: {}}}}", "line 1: key '1.0.0' stands there twice"),
        ("models: {[chest]: 1}", "a key that is itself a list"),
        ("models: 2020-13-45", "not YAML: month must be in 1..12"),
        ("models: " + "[" * 5000, "not YAML"),
        ("models: {Chest: {versions: {1.0.0: {}}}}", "key 'models.Chest' has value 'Chest': names are small letters"),
        ("models: {chest: {versions: {v1: {}}}}", "key 'models.chest.versions.v1' has value 'v1': versions are 1.0.0"),
        ("models: {chest: {versions: {}}}", "key 'models.chest.versions' has value {}: it names no version"),
        ("models: {chest: [1]}", "key 'models.chest' has value [1]: it must hold keys and values"),
        ("models: {chest: {versions: 1.0.0}}", "key 'models.chest.versions' has value '1.0.0': it must hold keys"),
        ("models: {chest: {versions: {1.0.0: 3}}}", "key 'models.chest.versions.1.0.0' has value 3: it must hold keys"),
        ("models: {chest: {versions: {1.0.0: {share: 5%}}}}", "1.0.0.share' has value '5%': it must be a number of"),
        ("models: {chest: {versions: {1.0.0: {share: 101}}}}", "1.0.0.share' has value 101: Input should be less"),
        ("models: {chest: {versions: {1.0.0: {share: 99.95}}}}", "has value 99.95: shares go in steps of 0.1"),
        ("models: {chest: {versions: {1.0.0: {share: .nan}}}}", "1.0.0.share' has value nan"),
        ("models: {chest: {versions: {1.0.0: {workers: 0}}}}", "1.0.0.workers' has value 0: Input should be greater"),
        ("models: {chest: {versions: {1.0.0: {workers: true}}}}", "1.0.0.workers' has value True: it must be a whole"),
        ("models: {chest: {versions: {1.0.0: {share: 50}}}}", "(1.0.0 50 %) add up to 50 %, not to 100 %"),
        (
            "models: {chest: {versions: {1.0.0: {share: 95}, 1.1.0: {share: 5.1}}}}",
            "key 'models.chest': the shares of the versions (1.0.0 95 %, 1.1.0 5.1 %) add up to 100.1 %, not to 100 %",
        ),
        (
            "models: {chest: {versions: {1.0.0: {share: 95}, 1.1.0: {}}}}",
            "key 'models.chest.versions.1.1.0.share' is missing, and each of several versions needs it",
        ),
    ],
)
def test_what_is_wrong_is_named_with_key_and_value(text: str, said: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        parse(text, "d.yaml")
    assert str(caught.value).startswith("d.yaml: ")
    assert said in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = "models: {chest: {versions: {1.0.0: {share: x, workers: y}}}, Lung: {}}"
    with pytest.raises(DeploymentError, match=r"share.*workers.*Lung"):
        parse(text, "d.yaml")


def test_a_file_that_is_not_there_is_named_with_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"deployment\.yaml: No such file.*radserve models export"):
        load(tmp_path / "deployment.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"models: \xe9")
    with pytest.raises(DeploymentError, match=r"latin\.yaml: not UTF-8"):
        load(tmp_path / "latin.yaml")
    (tmp_path / "good.yaml").write_text(EXAMPLE, encoding="utf-8")
    assert load(tmp_path / "good.yaml") == parse(EXAMPLE, "test")


def _details(have: str, want: str) -> list[str]:
    return [item.detail for item in changes(parse(have, "have"), parse(want, "want"))]


def test_changes_are_sentences_in_the_order_in_which_they_are_done() -> None:
    want = """
models:
  chest: {versions: {1.1.0: {share: 90, workers: 3}, 1.2.0: {share: 10}}}
  lung: {versions: {1.0.0: {workers: 1}}}
"""
    assert _details(EXAMPLE, want) == [
        "chest 1.2.0: is registered with as many workers as the server gives it",
        "chest 1.1.0: gets 3 workers",
        "chest 1.1.0: gets 90 % of requests instead of 5 %",
        "chest 1.2.0: gets 10 % of requests instead of 0 %",
        "chest 1.0.0: is unregistered, with its 95 % of requests",
        "glioma 1.0: is unregistered, with its 100 % of requests",
        "lung 1.0.0: is registered with 1 worker",
        "lung 1.0.0: gets 100 % of requests instead of 0 %",
    ]


def test_workers_that_are_left_to_the_server_are_no_change() -> None:
    have = "models: {chest: {versions: {1.0.0: {workers: 2}}}}"
    assert _details(have, "models: {chest: {versions: {1.0.0: {}}}}") == []
    assert _details(have, "models: {chest: {versions: {1.0.0: {workers: 3}}}}") == [
        "chest 1.0.0: gets 3 workers instead of 2"
    ]
