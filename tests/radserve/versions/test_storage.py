"""What a server remembers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from radserve.errors import ChangeError, ConflictError, ServeError
from radserve.schema.rollout import RolloutSpec
from radserve.versions.deployment_spec import Deployment, Served, Versions
from radserve.versions.storage import FILE, Rollout, State, StateFolder, main_version, promoted, with_version

ROLLOUT = Rollout(
    plan=RolloutSpec(version="2.0.0"), before="1.0.0", actor="user test", started="2026-01-01T00:00:00+00:00"
)


def deployment(**shares: dict[str, float]) -> Deployment:
    return Deployment(
        models={
            name: Versions(versions={version: Served(share=share, workers=1) for version, share in versions.items()})
            for name, versions in shares.items()
        }
    )


def test_a_folder_that_does_not_exist_remembers_nothing_and_is_not_made(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    assert folder.state == State()
    assert not folder.path.exists()


def test_what_is_written_is_read_by_the_next(tmp_path: Path) -> None:
    first = StateFolder(tmp_path / "state")
    state = first.state.but(deployment=deployment(m={"1.0.0": 100}), rollouts={"m": ROLLOUT}, previous={"m": "0.9.0"})
    first.write(state)
    first.close()
    assert StateFolder(tmp_path / "state").state == state
    assert state.revision == 1
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_two_servers_cannot_both_change_it(tmp_path: Path) -> None:
    first, second = StateFolder(tmp_path), StateFolder(tmp_path)
    first.write(first.state.but())
    with pytest.raises(ConflictError, match="another server keeps its state there"):
        second.write(second.state.but())
    first.close()
    with pytest.raises(ConflictError, match="changed the state there since this one started; restart it"):
        second.write(second.state.but())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_refuses_changes(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ChangeError, match="--state FOLDER"):
        StateFolder(tmp_path / "state").take()


def test_where_a_file_stands_in_the_way_changes_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ChangeError, match="--state FOLDER"):
        StateFolder(tmp_path / "file" / "state").take()


@pytest.mark.parametrize("text", ["", "[]", '{"revision": -1}', '{"unknown": 1}', '{"previous": {"M": "1"}}'])
def test_a_state_that_cannot_be_read_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ServeError, match="Mend it, or remove it"):
        StateFolder(tmp_path)


def test_what_fails_is_taken_back_for_its_model_alone() -> None:
    before = State(deployment=deployment(a={"1.0.0": 100}, b={"1.0.0": 100}), previous={"a": "0.1.0"})
    changed = before.but(
        deployment=deployment(a={"1.0.0": 0, "2.0.0": 100}, b={"1.0.0": 0, "3.0.0": 100}),
        previous={"a": "1.0.0", "b": "1.0.0"},
        rollouts={"a": ROLLOUT},
    )
    undone = changed.undone(before, "a")
    assert undone.deployment == deployment(a={"1.0.0": 100}, b={"1.0.0": 0, "3.0.0": 100})
    assert undone.previous == {"a": "0.1.0", "b": "1.0.0"}
    assert undone.rollouts == {}
    assert undone.revision > changed.revision


def test_the_main_version_has_the_largest_share_and_of_equal_ones_is_the_newest() -> None:
    assert main_version({"1.0.0": Served(share=95), "2.0.0": Served(share=5)}) == "1.0.0"
    assert main_version({"1.9.0": Served(share=50), "1.10.0": Served(share=50)}) == "1.10.0"


def test_a_promotion_gives_all_to_one() -> None:
    found = promoted({"1.0.0": Served(share=100, workers=3), "2.0.0": Served(share=0)}, "2.0.0")
    assert found == {"1.0.0": Served(share=0, workers=3), "2.0.0": Served(share=100)}


def test_a_model_without_versions_is_gone() -> None:
    assert with_version(deployment(m={"1.0.0": 100}), "m", "1.0.0", None) == Deployment(models={})
