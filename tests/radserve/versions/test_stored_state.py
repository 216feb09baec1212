"""Tests of radserve.versions.stored_state."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from radserve.errors import ChangeError, ConflictError, ServeError
from radserve.schema.deployment import DeployedModel, DeployedVersion, Deployment
from radserve.schema.rollout import RolloutSpec
from radserve.versions.stored_state import FILE, RolloutRecord, State, StateFolder, main_version

ROLLOUT = RolloutRecord(
    plan=RolloutSpec(version="2.0.0"), before="1.0.0", actor="user test", started=datetime(2026, 1, 1, tzinfo=UTC)
)


def deployment(**shares: dict[str, float]) -> Deployment:
    return Deployment(
        models={
            name: DeployedModel(
                versions={version: DeployedVersion(share=share, workers=1) for version, share in versions.items()}
            )
            for name, versions in shares.items()
        }
    )


def test_a_missing_folder_is_an_empty_state_and_is_not_created(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    assert folder.state == State()
    assert not folder.path.exists()


def test_a_written_state_is_read_by_the_next_server(tmp_path: Path) -> None:
    first = StateFolder(tmp_path / "state")
    state = first.state.updated(
        deployment=deployment(m={"1.0.0": 100}), rollouts={"m": ROLLOUT}, previous={"m": "0.9.0"}
    )
    first.write(state)
    first.release()
    assert StateFolder(tmp_path / "state").state == state
    assert state.revision == 1
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_two_servers_cannot_both_change_a_state(tmp_path: Path) -> None:
    first, second = StateFolder(tmp_path), StateFolder(tmp_path)
    first.write(first.state.updated())
    first.lock()
    with pytest.raises(ConflictError, match="another server uses this state folder"):
        second.write(second.state.updated())
    first.release()
    with pytest.raises(ConflictError, match="has changed this state since this one started; restart this server"):
        second.write(second.state.updated())


def test_a_file_in_place_of_the_folder_rejects_changes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ChangeError, match="--state FOLDER"):
        StateFolder(tmp_path / "file" / "state").lock()


def test_a_state_that_cannot_be_written_is_unchanged(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    before = folder.state
    (tmp_path / FILE).mkdir()
    folder.lock = lambda: None  # type: ignore[method-assign] # it would read the folder in place of the file
    with pytest.raises(ChangeError, match="not writable"):
        folder.write(before.updated())
    assert folder.state is before


@pytest.mark.parametrize("text", ["", "[]", '{"revision": -1}', '{"unknown": 1}', '{"previous": {"M": "1"}}'])
def test_an_invalid_state_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ServeError, match="Repair the file, or delete it"):
        StateFolder(tmp_path)


def test_an_unreadable_state_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ServeError, match=r"state\.json: Is a directory"):
        StateFolder(tmp_path)


def test_a_reverted_change_leaves_other_models_as_they_are_now(tmp_path: Path) -> None:
    before = State(deployment=deployment(a={"1.0.0": 100}, b={"1.0.0": 100}), previous={"a": "0.1.0"})
    changed = before.updated(
        deployment=deployment(a={"1.0.0": 0, "2.0.0": 100}, b={"1.0.0": 0, "3.0.0": 100}),
        previous={"a": "1.0.0", "b": "1.0.0"},
        rollouts={"a": ROLLOUT},
    )
    reverted = changed.reverted(before, "a")
    assert reverted.deployment == deployment(a={"1.0.0": 100}, b={"1.0.0": 0, "3.0.0": 100})
    assert reverted.previous == {"a": "0.1.0", "b": "1.0.0"}
    assert reverted.rollouts == {}
    assert reverted.revision > changed.revision


def test_the_main_version_has_the_largest_share_and_of_equal_shares_is_the_newest() -> None:
    assert main_version({"1.0.0": DeployedVersion(share=95), "2.0.0": DeployedVersion(share=5)}) == "1.0.0"
    assert main_version({"1.9.0": DeployedVersion(share=50), "1.10.0": DeployedVersion(share=50)}) == "1.10.0"


def test_new_shares_make_the_former_main_version_the_target_of_a_rollback() -> None:
    state = State(deployment=deployment(m={"1.0.0": 100, "2.0.0": 0}))
    promoted = state.with_shares("m", {"2.0.0": 100})
    assert promoted.deployment == deployment(m={"1.0.0": 0, "2.0.0": 100})
    assert promoted.previous == {"m": "1.0.0"}
    assert state.with_shares("m", {"1.0.0": 60, "2.0.0": 40}).previous == {}


def test_a_model_without_versions_is_removed() -> None:
    state = State(deployment=deployment(m={"1.0.0": 100}))
    assert state.with_version("m", "1.0.0", None).deployment == Deployment(models={})
