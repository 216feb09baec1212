"""Tests of radserve.proxy.traffic_split."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory, proxy_lock, proxy_running
from radserve.proxy import traffic_split
from radserve.proxy.configuration import _buckets
from radserve.proxy.traffic_split import BUCKETS, Routing

PERCENT = st.floats(0, 100)
TENTHS = st.integers(0, BUCKETS).map(lambda number: number / 10)


def canary(new: float) -> Routing:
    return Routing({"chest": {"1.1.0": new, "1.0.0": 100 - new}})


def targets(runtime: RunDirectory, kind: str, name: str) -> list[str | None]:
    """Return the name of the folder to which each bucket links."""
    paths = [runtime.routing / kind / name / "/".join(f"{bucket:03}") for bucket in range(BUCKETS)]
    return [path.resolve(strict=True).name if path.exists() else None for path in paths]


@given(PERCENT)
def test_every_bucket_has_a_version_and_their_number_matches_the_share(new: float) -> None:
    counts = Counter(canary(new).table("chest"))
    assert counts.total() == BUCKETS
    assert counts["1.1.0"] == round(new * BUCKETS / 100)


@given(TENTHS, TENTHS)
def test_a_growing_share_keeps_its_buckets(one: float, other: float) -> None:
    few, many = (canary(share).table("chest") for share in sorted((one, other)))
    assert all(after == before for before, after in zip(few, many, strict=True) if before == "1.1.0")


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_each_share_of_several_versions_is_exact_to_one_bucket(weights: list[int]) -> None:
    shares = {f"1.{number}": 100 * weight / sum(weights) for number, weight in enumerate(weights)}
    table = Routing({"chest": shares}).table("chest")
    assert len(table) == BUCKETS
    assert all(abs(table.count(version) - share * BUCKETS / 100) <= 1 for version, share in shares.items())


def test_split_clients_has_the_buckets_of_the_tables() -> None:
    lines = _buckets().split("; ")
    assert len(lines) == BUCKETS
    assert (lines[0], lines[47], lines[-1]) == ("0.1% 0/0/0", "0.1% 0/4/7", "* 9/9/9;")


@pytest.mark.parametrize("new", [0, 0.1, 5, 12.3, 33.3, 50, 99.9, 100])
def test_written_tables_link_each_bucket_to_its_version(tmp_path: Path, new: float) -> None:
    wanted = Routing({"chest": {"1.1.0": new, "1.0.0": 100 - new}, "other": {"2.0": 100}}, {"chest": new})
    traffic_split.write(wanted, RunDirectory(tmp_path))
    assert targets(RunDirectory(tmp_path), "shares", "chest") == wanted.table("chest")
    assert targets(RunDirectory(tmp_path), "shares", "other") == ["2.0"] * BUCKETS
    copied = [name is not None for name in targets(RunDirectory(tmp_path), "shadow", "chest")]
    assert copied == [bucket in wanted.copied("chest") for bucket in range(BUCKETS)]


def test_a_table_has_few_entries(tmp_path: Path) -> None:
    traffic_split.write(canary(5), RunDirectory(tmp_path))
    assert len(list((tmp_path / "routing" / "shares" / "chest").rglob("*"))) == 20


@pytest.mark.parametrize("kind", ["closed", "registered"])
def test_each_closed_or_registered_version_is_a_file(kind: str, tmp_path: Path) -> None:
    traffic_split.write(Routing(**{kind: {("chest", "1.1.0"), ("chest", "1.2.0")}}), RunDirectory(tmp_path))  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "routing").iterdir()] == [kind]
    assert sorted(path.name for path in (tmp_path / "routing" / kind / "chest").iterdir()) == ["1.1.0", "1.2.0"]


def test_links_work_under_another_path(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    traffic_split.write(canary(50), RunDirectory(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert set(targets(RunDirectory(tmp_path / "there"), "shares", "chest")) == {"1.0.0", "1.1.0"}


def test_identical_tables_are_not_rewritten_and_old_ones_are_removed(tmp_path: Path) -> None:
    runtime = RunDirectory(tmp_path)
    traffic_split.write(canary(5), runtime)
    tables = runtime.routing.resolve().stat()
    traffic_split.write(canary(5), runtime)
    assert runtime.routing.resolve().stat().st_ino == tables.st_ino
    for share in (10, 20, 30, 20):
        traffic_split.write(canary(share), runtime)
        assert targets(runtime, "shares", "chest").count("1.1.0") == share * 10
    assert len(list(tmp_path.glob("routing.*"))) == 2  # current and previous
    traffic_split.write(Routing(), runtime)
    assert list(runtime.routing.iterdir()) == []


def test_an_incomplete_draft_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    runtime = RunDirectory(tmp_path)
    (tmp_path / "routing.draft" / "shares" / "chest" / "0").mkdir(parents=True)
    (tmp_path / "routing.link").symlink_to("nowhere")
    traffic_split.write(canary(50), runtime)
    assert targets(runtime, "shares", "chest") == canary(50).table("chest")
    assert not list(tmp_path.glob("routing.draft")) + list(tmp_path.glob("routing.link"))


def test_a_new_run_starts_without_tables(tmp_path: Path) -> None:
    runtime = RunDirectory(tmp_path)
    traffic_split.write(canary(50), runtime)
    for leftover in (runtime.control, runtime.traffic):
        leftover.touch()
    runtime.prepare()
    assert not list(tmp_path.glob("routing*")) + list(tmp_path.glob("versions"))
    assert not runtime.control.exists() | runtime.traffic.exists()
    traffic_split.write(canary(50), runtime)
    assert targets(runtime, "shares", "chest") == canary(50).table("chest")


@pytest.mark.parametrize(
    ("shares", "shadow", "message"),
    [
        ({"chest": {"1.0.0": 90, "1.1.0": 5}}, {}, "chest must add up to 100 %; they are 1.0.0 90 %, 1.1.0 5 %"),
        ({"chest": {"1.0.0": 110, "1.1.0": -10}}, {}, "must add up to 100 %"),
        ({"chest": {}}, {}, "they are empty"),
        ({}, {"chest": 5}, "chest has no shares"),
        ({"chest": {"1.0.0": 100}}, {"chest": 101}, "shadow share of chest is 101 %"),
    ],
)
def test_inconsistent_shares_are_rejected(
    shares: dict[str, dict[str, float]], shadow: dict[str, float], message: str
) -> None:
    with pytest.raises(ServeError, match=message):
        Routing(shares, shadow)


def test_rounded_thirds_are_accepted() -> None:
    assert len(Routing({"chest": {"1.0": 33.33, "1.1": 33.33, "1.2": 33.33}}).table("chest")) == BUCKETS


def test_no_proxy_runs_without_a_lock(tmp_path: Path) -> None:
    assert not proxy_running(RunDirectory(tmp_path))
    proxy_lock(RunDirectory(tmp_path).proxy).touch()
    assert not proxy_running(RunDirectory(tmp_path))
