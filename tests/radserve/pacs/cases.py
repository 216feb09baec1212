"""A queue with a case in each state, and the endpoint that shows it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.orthanc import film
from radserve.pacs import header as headers
from radserve.pacs import status
from radserve.pacs.queue import Job, Queue
from radserve.pacs.settings import Retry, Rule, Status
from tests.server import free_ports

RULE = Rule(name="children", model="chest-xray-cnn", version="1.0.0", when={})
OUTAGE = "http://pacs.example/dicom-web cannot be reached (ConnectError)."
ADULT = "Rule 'children' does not match: age 40.0 is not below 6."
FAILURE = "http://pacs.example/dicom-web answers with status 400."


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint and its queue."""

    url: str
    queue: Queue


@contextmanager
def filled(folder: Path, token: str | None = None) -> Iterator[Endpoint]:
    """Serve a queue of five cases: 1 done, 2 rejected, 3 dead, 4 waits after two failures, 5 in analysis."""
    with closing(Queue(folder)) as queue:
        for number in (1, 2, 3, 4, 5):
            if number == 2:
                queue.reject(headers.read(film(2)), ADULT)
                continue
            queue.add(headers.read(film(number)), film(number), [RULE])
            job = _claim(queue)
            if number == 1:
                queue.finish(job, "done")
            elif number == 3:
                queue.retry(job, FAILURE, Retry(attempts=1), counts=True)
            elif number == 4:
                queue.retry(job, OUTAGE, Retry(first=0.001), counts=False)
                queue.retry(_claim(queue), OUTAGE, Retry(first=1000, longest=1000), counts=False)
        with status.running(Status(address=f"127.0.0.1:{free_ports(1)[0]}", token=token), queue) as port:
            yield Endpoint(f"http://127.0.0.1:{port}", queue)


def _claim(queue: Queue) -> Job:
    while (job := queue.claim()) is None:
        pass
    return job
