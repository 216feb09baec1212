"""Which replies of a PACS count as stored, as an outage, and as a failure."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from benchmarks.orthanc import film
from radserve.errors import PacsError, PacsUnavailableError
from radserve.pacs import destinations
from radserve.pacs.receiver import Commitments
from radserve.pacs.settings import StoreDestination, StowDestination
from tests.radserve.scripted import Reply, Scripted, document

OBJECT = dcmread(BytesIO(film(1)))


def not_stored(reason: int, status: int = 409, media_type: str = "application/dicom+json") -> Reply:
    """Reply as a STOW-RS service that does not store an object."""
    item = {"00081197": {"vr": "US", "Value": [reason]}}
    return document({"00081198": {"vr": "SQ", "Value": [item]}}, status, media_type)


STORED = document({"00081199": {"vr": "SQ", "Value": [{}]}})


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (STORED, None),
        (not_stored(0x0111), None),  # duplicate
        (not_stored(0xA700, 202, "application/dicom+json; charset=utf-8"), PacsUnavailableError),
        (Reply(202), PacsError),
        (not_stored(0xA700), PacsUnavailableError),  # out of resources
        (not_stored(0x0110), PacsError),
        (Reply(409, b"{", "text/plain"), PacsError),
        (Reply(400), PacsError),
        *((Reply(status), PacsUnavailableError) for status in (401, 404, 500, 503)),
    ],
)
def test_replies_of_stow(odd: Scripted, reply: Reply, expected: type[PacsError] | None) -> None:
    odd.say(reply)
    raised = None
    try:
        destinations.store(StowDestination(stow=odd.url), [OBJECT], Commitments())
    except PacsError as error:
        raised = type(error)
    assert raised is expected


class Peer:
    """C-STORE service that accepts the default syntax only, and has every object already."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.transactions: list[str] = []
        self.commitments = Commitments()

    def store(self, event: Any) -> int:
        self.stored.append(event.request.AffectedSOPInstanceUID)
        return 0x0111

    def commit(self, event: Any) -> tuple[int, None]:
        """Confirm the first transaction when there is a second one."""
        self.transactions.append(event.action_information.TransactionUID)
        if len(self.transactions) > 1:
            report = Dataset()
            report.TransactionUID = self.transactions[0]
            self.commitments.report(SimpleNamespace(event_information=report))
        return 0x0000, None


@contextmanager
def running(peer: Peer, *, commitment: bool) -> Iterator[StoreDestination]:
    service = AE(ae_title="PEER")
    service.add_supported_context(OBJECT.SOPClassUID, ImplicitVRLittleEndian)
    if commitment:
        service.add_supported_context(StorageCommitmentPushModel)
    handlers: Any = [(evt.EVT_C_STORE, peer.store), (evt.EVT_N_ACTION, peer.commit)]
    server = service.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    port = server.server_address[1]
    try:
        yield StoreDestination(ae="PEER", host="127.0.0.1", port=port, commitment=True, timeout=1)
    finally:
        service.shutdown()
        server.server_close()


def test_a_late_commitment_counts_and_objects_are_sent_once() -> None:
    peer = Peer()
    with running(peer, commitment=True) as destination:
        with pytest.raises(PacsUnavailableError, match="No storage commitment arrived"):
            destinations.store(destination, [OBJECT], peer.commitments)
        destinations.store(destination, [OBJECT], peer.commitments)
    assert (len(peer.stored), len(peer.transactions)) == (1, 2)


def test_a_peer_without_commitment_is_an_error() -> None:
    peer = Peer()
    with running(peer, commitment=False) as destination:
        for _ in range(2):
            with pytest.raises(PacsError, match="PEER does not offer storage commitment"):
                destinations.store(destination, [OBJECT], peer.commitments)
    assert len(peer.stored) == 2
