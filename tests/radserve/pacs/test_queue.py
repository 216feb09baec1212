"""The queue: what it keeps when parts die, and when an image is analysed again."""

import resource
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from benchmarks.orthanc import SERIES, film
from radserve.errors import PacsError, PacsUnavailableError
from radserve.pacs import header as headers
from radserve.pacs.intake import Intake
from radserve.pacs.queue import Job, Queue, pause_after
from radserve.pacs.settings import Retry, Rule

RULE = Rule(name="all", model="chest-xray-cnn", when={})
OTHER = Rule(name="other", model="glioma", when={})
EAGER = Retry(first=0.001, longest=0.001, attempts=2)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with closing(Queue(tmp_path)) as queue:
        yield queue


def add(queue: Queue, number: int = 1, *rules: Rule) -> int:
    content = film(number)
    return queue.add(headers.read(content), content, rules or (RULE,))


def claim(queue: Queue) -> Job:
    job = queue.claim()
    assert job is not None
    return job


def finish(queue: Queue, archive: str) -> None:
    """Take a job through all states."""
    job = claim(queue)
    (queue.results / f"{job.id}-sr.dcm").write_bytes(b"result")
    queue.predicted(job, archive, [f"1.2.{job.id}"])
    queue.finish(job, "done")


def test_an_image_has_one_job_however_often_it_is_sent(queue: Queue) -> None:
    assert [add(queue), add(queue)] == [1, 0]
    job = claim(queue)
    assert add(queue) == 0
    assert (queue.images / job.file).read_bytes() == film(1)
    queue.finish(job, "done")
    assert add(queue) == 0
    assert queue.claim() is None
    assert list(queue.images.iterdir()) == []


def test_an_image_that_is_sent_again_is_analysed_by_a_new_archive_only(queue: Queue) -> None:
    add(queue, 1)
    finish(queue, "first")
    assert add(queue, 1) == 0
    add(queue, 2)
    finish(queue, "second")
    # A source that is read again does not send it again.
    assert queue.knows(str(headers.read(film(1)).SOPInstanceUID), [RULE])
    assert [add(queue, 1), add(queue, 2)] == [1, 0]


def test_a_rejected_or_dead_image_is_analysed_when_it_is_sent_again(queue: Queue) -> None:
    for state in ("rejected", "dead"):
        add(queue)
        queue.finish(claim(queue), state, "reason")
        assert queue.jobs()[0].reason == "reason"
    assert add(queue) == 1
    assert [job.state for job in queue.jobs()] == ["received"]
    assert [path.name for path in queue.images.iterdir()] == [claim(queue).file]


def test_an_image_is_kept_until_its_last_model_is_done(queue: Queue) -> None:
    add(queue, 1, RULE, OTHER)
    first, second = claim(queue), claim(queue)
    queue.finish(first, "done")
    assert (queue.images / second.file).exists()
    queue.finish(second, "done")
    assert not (queue.images / second.file).exists()


def test_a_file_that_cannot_be_deleted_does_not_keep_a_job_open(queue: Queue) -> None:
    add(queue)
    job = claim(queue)
    (queue.images / job.file).unlink()
    (queue.images / job.file).mkdir()
    queue.finish(job, "done")
    assert queue.jobs()[0].state == "done"


def test_another_process_continues_where_one_was_killed(tmp_path: Path) -> None:
    with closing(Queue(tmp_path)) as killed:
        add(killed, 1)
        add(killed, 2)
        add(killed, 3)
        predicting, storing = claim(killed), claim(killed)
        (killed.results / f"{storing.id}-sr.dcm").write_bytes(b"result")
        (killed.results / f"{predicting.id}-sr.dcm").write_bytes(b"half")
        killed.predicted(storing, "archive", ["1.2.3"])
        (killed.images / "orphan.dcm").write_bytes(b"not in the queue yet")
    with closing(Queue(tmp_path)) as queue:
        queue.recover()
        assert queue.counts() == {"received": 2, "predicting": 0, "storing": 1, "done": 0, "rejected": 0, "dead": 0}
        claimed = [claim(queue) for _ in range(3)]
        assert {job.id: job.state for job in claimed}[storing.id] == "storing"
        assert [path.name for path in queue.results.iterdir()] == [f"{storing.id}-sr.dcm"]
        assert {path.name for path in queue.images.iterdir()} == {job.file for job in claimed}
        assert queue.is_result("1.2.3")


@pytest.mark.parametrize("columns", [("series", "queued", "notice"), ("queued", "notice")], ids=["", "interrupted"])
def test_a_queue_of_an_earlier_release_keeps_its_jobs(tmp_path: Path, columns: tuple[str, ...]) -> None:
    with closing(Queue(tmp_path)) as queue:
        add(queue)
        queue.reject(headers.read(film(2)), "Rule 'a' does not match: AccessionNumber is A7, not A8.")
    with closing(sqlite3.connect(tmp_path / "queue.sqlite3", isolation_level=None)) as database:
        database.execute("DROP INDEX jobs_notice")
        for column in columns:
            database.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 0")
    with ThreadPoolExecutor(4) as pool:
        for opened in [pool.submit(Queue, tmp_path) for _ in range(4)]:
            opened.result().close()
    with closing(Queue(tmp_path)) as queue:
        assert queue.jobs()[0].reason == "No rule matches."
        job = claim(queue)
        assert (job.instance, job.series) == (f"{SERIES}.1", "" if "series" in columns else SERIES)
        assert 0 < job.queued <= job.changed
        assert queue.waiting_since() == job.queued


def test_outages_never_make_a_job_dead_and_failures_do(queue: Queue) -> None:
    add(queue)
    for _ in range(5):
        assert queue.retry(_claim_when_due(queue), "away", EAGER, counts=False) == "received"
    assert queue.retry(_claim_when_due(queue), "broken", EAGER, counts=True) == "received"
    assert queue.retry(_claim_when_due(queue), "broken", EAGER, counts=True) == "dead"
    assert queue.claim() is None
    assert queue.resend() == 1
    assert claim(queue).failures == 0


def _claim_when_due(queue: Queue) -> Job:
    while (job := queue.claim()) is None:
        pass
    return job


def test_a_missing_image_keeps_no_other_job_from_being_sent_again(queue: Queue) -> None:
    for number in (1, 2):
        add(queue, number)
        job = claim(queue)
        queue.finish(job, "dead", "reason")
        if number == 1:
            (queue.images / job.file).unlink()
    assert queue.resend() == 1
    missing, again = queue.jobs()[::-1]
    assert (missing.state, missing.reason) == ("dead", "The image is missing; send it again.")
    assert again.state == "received"
    with pytest.raises(PacsError, match="is missing"):
        queue.resend(missing.id)


def test_pauses_double_up_to_the_longest() -> None:
    settings = Retry(first=1, longest=60)
    for tries, seconds in ((0, 1), (1, 2), (5, 32), (6, 60), (1000, 60)):
        assert seconds / 2 <= pause_after(tries, settings) <= seconds


@contextmanager
def full_disk() -> Iterator[None]:
    """Let this process write no file of more than 64 kB: as with a full disk, a write raises OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_image_that_cannot_be_written_leaves_no_job_and_no_file(queue: Queue) -> None:
    intake, large = Intake(queue, [RULE], 0), film(1, PixelData=bytes(200_000))
    with full_disk(), pytest.raises(PacsUnavailableError):
        intake.receive(large)
    assert (queue.jobs(), list(queue.images.iterdir())) == ([], [])
    assert intake.receive(large) == "queued"


def test_old_jobs_are_forgotten_and_waiting_ones_are_kept(queue: Queue) -> None:
    add(queue, 1)
    finish(queue, "archive")
    add(queue, 2)
    queue.forget(before=2**40)
    assert [job.state for job in queue.jobs()] == ["received"]
    assert not queue.is_result("1.2.1")


def test_the_folder_is_readable_by_its_owner_only(queue: Queue, tmp_path: Path) -> None:
    add(queue)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in queue.images.iterdir()} == {0o600}
