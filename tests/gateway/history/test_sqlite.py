"""SQLite history: permissions, schema, several processes, many rows."""

import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.errors import HistoryError
from gateway.history import History, Query, Result
from gateway.history.cursor import Position, microseconds
from gateway.history.sqlite import SqliteHistory
from tests.gateway.history.conftest import Store
from tests.gateway.history.results import DETAILS, all_of, result
from tests.server import ROOT

ROWS = 100_000
WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.history.sqlite import SqliteHistory
from tests.gateway.history.results import result

async def main():
    history = SqliteHistory(Path(sys.argv[1]))
    for number in range(150):
        await history.add([result(number, client=sys.argv[2]), result(number, client=sys.argv[2])])
    await history.close()

asyncio.run(main())
"""


FILL = """
INSERT INTO results
WITH RECURSIVE numbers (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < :rows - 1)
SELECT NULL, printf('00000000-0000-7000-8000-%012x', :rows - number), :time - 80000 * number, :verb,
       iif(number % 2, 'brain', 'chest'), :version, :sha256, :image_sha256, :label, :probability, :positive,
       NULL, NULL, :certainty, :prevalence, :profile, :client,
       printf('film %d.png', number), printf('film %d.png', number), :request_id, :explained,
       :group_id, :group_index, :group_size
FROM numbers
"""
FIRST = result()
_OLD_TABLE = """
CREATE TABLE results (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    time INTEGER NOT NULL,
    verb TEXT NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    image_sha256 TEXT NOT NULL,
    label TEXT NOT NULL,
    probability REAL,
    positive INTEGER,%s
    client TEXT NOT NULL,
    filename TEXT,
    folded TEXT,
    request_id TEXT NOT NULL
) STRICT;
CREATE INDEX results_time ON results (time, id);
CREATE INDEX results_model ON results (model, time, id);
CREATE INDEX results_label ON results (label, time, id);
CREATE INDEX results_client ON results (client, time, id);
PRAGMA user_version = %d;
"""
_SECOND = "domain TEXT, repair TEXT, certainty TEXT, prevalence REAL, profile TEXT,"
OLD_SCHEMAS = {
    1: _OLD_TABLE % ("", 1),
    2: _OLD_TABLE % (_SECOND, 2),
    3: _OLD_TABLE % (f"{_SECOND} explained INTEGER NOT NULL DEFAULT 0,", 3),
}
"""Files as older releases create them."""


def row(number: int) -> Result:
    """Return a row by its number; 0 is the newest."""
    changes = {
        "id": f"00000000-0000-7000-8000-{ROWS - number:012x}",
        "time": FIRST.time - timedelta(milliseconds=80 * number),
        "model": ("chest", "brain")[number % 2],
        "filename": f"film {number}.png",
    }
    return FIRST.model_copy(update=changes)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with many rows."""
    path = tmp_path_factory.mktemp("filled") / "history.sqlite3"
    values = FIRST.model_dump() | {"rows": ROWS, "time": microseconds(FIRST.time)}

    async def fill() -> None:
        history = SqliteHistory(path)
        await history._writer.run(lambda connection: connection.execute(FILL, values))
        await history.close()

    asyncio.run(fill())
    return path


def test_last_page_of_100_000_rows_is_as_fast_as_first(filled: Path) -> None:

    async def work() -> tuple[float, float]:
        history = SqliteHistory(filled)

        async def seconds(after: str | None, expected: list[Result]) -> float:
            results = []
            for _ in range(15):
                begin = time.perf_counter()
                page = await history.find(Query(cursor=after))
                results.append(time.perf_counter() - begin)
                assert list(page.results) == expected
            return statistics.median(results)

        first = await seconds(None, [row(number) for number in range(25)])
        last = await seconds(Position.of(row(ROWS - 26)).cursor, [row(number) for number in range(ROWS - 25, ROWS)])
        await history.close()
        return first, last

    first, last = asyncio.run(work())
    assert abs(first - last) < 0.05


def test_every_query_uses_an_index(filled: Path) -> None:
    statements: list[str] = []

    async def work() -> None:
        history = SqliteHistory(filled)
        await history._reader.run(lambda connection: connection.set_trace_callback(statements.append))
        for query in (
            Query(),
            Query(model="chest"),
            Query(client="ward-7", model="brain", text="film 9"),
            Query(image="a" * 64, model="chest"),
            Query(group="g", client="ward-7"),
            Query(label="none", since=row(500).time, until=row(10).time, cursor=Position.of(row(50)).cursor),
        ):
            await history.find(query)
        await history.close()

    asyncio.run(work())
    pages = [statement for statement in statements if "INDEXED BY" in statement]
    assert len(pages) == 9
    with sqlite3.connect(filled) as connection:
        plans = [str(connection.execute(f"EXPLAIN QUERY PLAN {page}").fetchall()) for page in pages]
    connection.close()
    for plan in plans:
        assert "SEARCH results USING" in plan
        assert "TEMP B-TREE" not in plan
        assert "SCAN results" not in plan


def test_rare_text_is_searched_in_limited_steps(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.history.sqlite._MAX_EXAMINED", 1000)

    async def work() -> None:
        history = SqliteHistory(filled)
        page = await history.find(Query(text="film 4200.png"))
        assert (page.results, page.next) == ((), Position.of(row(999)).cursor)
        page = await history.find(Query(text="film 4200.png", model="chest", cursor=Position.of(row(3999)).cursor))
        assert page.results == (row(4200),)
        assert page.next is not None
        page = await history.find(Query(text="film 1", limit=2))
        assert page.results == (row(1), row(10))
        page = await history.find(Query(text="film 1", limit=2, cursor=page.next))
        assert page.results == (row(11), row(12))
        page = await history.find(Query(text="nothing", cursor=Position.of(row(ROWS - 900)).cursor))
        assert (page.results, page.next) == ((), None)
        await history.close()

    asyncio.run(work())


def test_two_processes_create_and_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.sqlite3"
    names = ("one", "other")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    outcomes = [writer.communicate(timeout=60)[1] for writer in writers]
    assert outcomes == ["", ""]

    async def work() -> list[int]:
        history = SqliteHistory(path)
        results = [len(await all_of(history, Query(client=name, limit=200))) for name in names]
        await history.close()
        return results

    assert asyncio.run(work()) == [300, 300]


def test_file_is_private(sqlite_store: Store) -> None:
    path = Path(sqlite_store.url.removeprefix("sqlite:"))

    async def work(history: History) -> None:
        await history.add([result()])
        assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
            f"{path.name}{end}": 0o600 for end in ("", "-wal", "-shm", ".lock")
        }

    before = os.umask(0)
    try:
        sqlite_store.run(work)
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_deleted_data_is_overwritten(sqlite_store: Store) -> None:
    kept = result(filename="Doe^Jane.dcm")

    async def work(history: History) -> None:
        await history.add([kept, result(1)])
        await history.delete(kept.id)

    sqlite_store.run(work)
    path = Path(sqlite_store.url.removeprefix("sqlite:"))
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}
    assert b"doe^jane" not in path.read_bytes().lower()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ("PRAGMA user_version = 5", "schema 5, but this release reads schema 4"),
        ("CREATE TABLE patients (name)", "schema 0"),
    ],
)
def test_file_with_other_schema_is_unchanged(tmp_path: Path, prepare: str, message: str) -> None:
    path = tmp_path / "other.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute(prepare)
    connection.close()
    before = path.read_bytes()

    async def work() -> None:
        history = SqliteHistory(path)
        with pytest.raises(HistoryError, match=message):
            await history.ping()
        await history.close()

    asyncio.run(work())
    assert path.read_bytes() == before


def test_unusable_file_error_names_path_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    path.write_text("no database" * 100)
    kept = result()

    async def work() -> None:
        history = SqliteHistory(path)
        for attempt in (history.add([kept]), history.find(Query()), history.ping()):
            with pytest.raises(HistoryError, match=r"history\.sqlite3 is unavailable: file is not a database"):
                await attempt
        path.unlink()
        await history.add([kept])
        assert await history.get(kept.id) == kept
        await history.close()

    asyncio.run(work())


def test_locked_file_raises_before_timeout(sqlite_store: Store) -> None:
    path = Path(sqlite_store.url.removeprefix("sqlite:"))

    async def work(history: History) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        with pytest.raises(HistoryError, match="locked"):
            await history.add([result()])
        assert time.monotonic() - begin < 1
        assert (await history.find(Query())).results == ()  # reads are not blocked
        other.execute("ROLLBACK")
        other.close()
        await history.add([result()])

    sqlite_store.run(work)


@pytest.mark.parametrize("release", [1, 2, 3])
def test_a_file_of_an_older_release_is_converted(tmp_path: Path, release: int) -> None:
    path = tmp_path / "history.sqlite3"
    prediction, explanation = result(1, filename="Film.png"), result(2, verb="explanations", explained=True)
    new = result(
        domain="unusual",
        certainty="uncertain",
        prevalence=0.001,
        profile="st-marys",
        group_id="g",
        group_index=1,
        group_size=2,
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(OLD_SCHEMAS[release])
        for item in (prediction, explanation):
            values = item.model_dump() | {"time": microseconds(item.time), "folded": (item.filename or "").casefold()}
            columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(results)") if name != "row"]
            insert = f"INSERT INTO results ({', '.join(columns)}) VALUES (:{', :'.join(columns)})"
            connection.execute(insert, values)

    async def work() -> None:
        for _ in range(2):
            history = SqliteHistory(path)
            await history.add([new], {new.id: DETAILS})
            assert (await history.find(Query())).results == (new, prediction, explanation)
            assert (await history.find(Query(explain=True))).results == (explanation,)
            assert (await history.find(Query(image=prediction.image_sha256))).results == (prediction,)
            assert (await history.find(Query(text="film"))).results == (prediction,)
            assert (await history.find(Query(group="g"))).results == (new,)
            assert (await history.details(new.id), await history.details(prediction.id)) == (DETAILS, None)
            await history.close()
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(f"PRAGMA user_version = {release}")  # as a gateway of the older release does

    asyncio.run(work())
