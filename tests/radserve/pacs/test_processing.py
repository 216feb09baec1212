"""What becomes of a job after each kind of failure."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from benchmarks.orthanc import film
from radserve.client import Client
from radserve.pacs import header as headers
from radserve.pacs.processing import Processor
from radserve.pacs.queue import Job, Queue
from radserve.pacs.receiver import Commitments
from radserve.pacs.settings import Settings
from radserve.schema.segmentation import Segmentation
from tests.radserve.dicom.test_frames import enhanced, series
from tests.radserve.scripted import Reply, Request, Scripted, document, prediction, problem

IMAGE = film(1, Rows=10, Columns=20, PixelData=bytes(200))  # the size of scripted results
VALID: dict[str, Any] = {
    "sources": [{"orthanc": "http://127.0.0.1:1"}],
    "rules": [{"name": "all", "model": "chest"}],
    "destinations": [{"stow": "http://127.0.0.1:1"}],
    "retry": {"first": 0.001, "longest": 0.001, "attempts": 1},
    "write": ["seg"],
}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with closing(Queue(tmp_path)) as queue:
        yield queue


@pytest.fixture
def processor(odd: Scripted, queue: Queue, tmp_path: Path) -> Iterator[Processor]:
    """A processor with an image in its queue; the first failure that counts makes a job dead."""
    settings = Settings.model_validate(VALID | {"folder": tmp_path, "server": {"url": odd.url}})
    queue.add(headers.read(IMAGE), IMAGE, settings.rules)
    with Client(odd.url, retries=0) as client:
        yield Processor(settings, queue, client, Commitments())


def only(queue: Queue) -> Job:
    (job,) = queue.jobs()
    return job


@pytest.mark.parametrize(
    ("status", "state"),
    [*((status, "received") for status in (401, 403, 404, 429, 502, 503, 504)), (500, "dead"), (422, "rejected")],
)
def test_only_failures_that_may_be_due_to_the_image_count(
    odd: Scripted, queue: Queue, processor: Processor, status: int, state: str
) -> None:
    odd.say(problem(status, "Failed", "It failed."))
    assert processor.process_next()
    assert only(queue).state == state


@pytest.mark.parametrize(
    ("marked", "status", "state"),
    [
        ([True, True], 422, "storing"),
        ([True, None], 422, "storing"),
        ([True, None], 503, "received"),
        ([None], 422, "rejected"),
    ],
)
def test_all_frames_of_an_object_have_one_segmentation(
    odd: Scripted, queue: Queue, tmp_path: Path, marked: list[bool | None], status: int, state: str
) -> None:
    content = enhanced(2)
    answer = series(content, marked)
    items = [
        {**item.raw, "model": item.raw["model"] | {"name": "chest"}}
        if isinstance(item, Segmentation)
        else item.model_dump(exclude_none=True) | {"status": status}
        for item in answer.predictions
    ]
    odd.say(document({"predictions": items, "volume": answer.volume.model_dump(exclude_none=True)}))
    settings = Settings.model_validate(VALID | {"folder": tmp_path, "server": {"url": odd.url}})
    queue.add(headers.read(content), content, settings.rules)
    with Client(odd.url, retries=0) as client:
        assert Processor(settings, queue, client, Commitments()).process_next()
    assert only(queue).state == state
    frames = [dcmread(path).NumberOfFrames for path in queue.result_files(only(queue))]
    assert frames == ([marked.count(True)] if state == "storing" else [])


def test_an_image_whose_result_has_none_of_the_objects_is_rejected(
    odd: Scripted, queue: Queue, processor: Processor
) -> None:
    missing = problem(404, "Not found", "It has no heat map.")
    image = prediction(IMAGE)["image"] | {"format": "dicom"}
    result = document(prediction(IMAGE, image=image))
    odd.script = lambda request: missing if "/explanations/" in request.path else result
    assert processor.process_next()
    assert (only(queue).state, only(queue).reason) == (
        "rejected",
        "The result has none of the objects of the setting 'write'.",
    )


def test_an_outcome_that_cannot_be_written_is_written_later(odd: Scripted, queue: Queue, processor: Processor) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(_: Request) -> Reply:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
        return problem(422, "Rejected", "It is not a film.")

    odd.script = fill_disk
    try:
        with pytest.raises(sqlite3.OperationalError):
            processor.process_next()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert only(queue).state == "predicting"
    assert not processor.process_next()
    assert only(queue).state == "rejected"
