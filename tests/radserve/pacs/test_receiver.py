"""The C-STORE service: which status a sender reads."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE

from benchmarks.orthanc import film
from benchmarks.server import free_ports
from radserve.pacs import receiver
from radserve.pacs.intake import Intake
from radserve.pacs.queue import Queue
from radserve.pacs.receiver import Commitments
from radserve.pacs.settings import Receiver, Rule


@contextmanager
def running(folder: Path, free: int) -> Iterator[tuple[int, Queue]]:
    (port,) = free_ports(1)
    settings = Receiver(port=port, allowed=("FRIEND",))
    with closing(Queue(folder)) as queue:
        intake = Intake(queue, [Rule(name="all", model="chest-xray-cnn", when={})], free)
        with receiver.running(settings, intake, Commitments()):
            yield port, queue


def send(port: int, caller: str = "FRIEND", called: str = "RADSERVE") -> int | None:
    """Send a film; returns the status, None without an association."""
    dataset = dcmread(BytesIO(film(1)))
    entity = AE(ae_title=caller)
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    try:
        return int(association.send_c_store(dataset).Status)
    finally:
        association.release()


def test_a_film_of_a_known_caller_is_on_disk_when_its_sender_reads_success(tmp_path: Path) -> None:
    with running(tmp_path, 0) as (port, queue):
        assert [send(port, "STRANGER"), send(port, called="OTHER")] == [None, None]
        assert send(port) == receiver.SUCCESS
        (job,) = queue.jobs()
        assert dcmread(queue.images / job.file) == dcmread(BytesIO(film(1)))


def test_a_full_disk_is_out_of_resources(tmp_path: Path) -> None:
    with running(tmp_path, 2**60) as (port, queue):
        assert send(port) == receiver.OUT_OF_RESOURCES
        assert queue.jobs() == []
