"""C-STORE service: images are on disk before their sender reads success. Receives confirmations of storage, too."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from radserve.errors import DicomError, PacsError, PacsUnavailableError
from radserve.pacs.intake import Intake
from radserve.pacs.settings import Receiver

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700  # PS3.4 table B.2-1
CANNOT_UNDERSTAND: Final = 0xC000
logger = logging.getLogger(__name__)
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # its records name objects and callers


class Commitments:
    """Confirmations of storage that are awaited, by transaction (PS3.4 annex J)."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._failures: dict[str, list[str]] = {}

    def expect(self, transaction: str) -> None:
        """Announce a transaction, before it is requested."""
        self._events[transaction] = threading.Event()

    def report(self, event: Any) -> tuple[int, None]:
        """Handle N-EVENT-REPORT."""
        information = event.event_information
        transaction = str(information.get("TransactionUID", ""))
        failed = [str(item.ReferencedSOPInstanceUID) for item in information.get("FailedSOPSequence", [])]
        if transaction in self._events:
            self._failures[transaction] = failed
            self._events[transaction].set()
        return SUCCESS, None

    def wait(self, transaction: str, seconds: float) -> None:
        """Wait for a confirmation; raises PacsError if an object was not kept, or none arrived."""
        arrived = self._events[transaction].wait(seconds)
        del self._events[transaction]
        failed = self._failures.pop(transaction, [])
        if not arrived:
            raise PacsUnavailableError(f"No storage commitment arrived within {seconds:g} s.")
        if failed:
            raise PacsError(f"The receiver did not commit to {len(failed)} of the results.")


@contextmanager
def running(settings: Receiver, intake: Intake, commitments: Commitments) -> Iterator[None]:
    """Run the service."""
    service = AE(ae_title=settings.ae)
    service.require_called_aet = True
    service.require_calling_aet = list(settings.allowed)
    syntaxes = [str(item) for item in AllTransferSyntaxes]
    for context in AllStoragePresentationContexts:
        service.add_supported_context(str(context.abstract_syntax), syntaxes)
    service.add_supported_context(Verification)
    service.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    handlers: list[tuple[Any, Callable[..., Any]]] = [
        (evt.EVT_C_STORE, lambda event: _store(event, intake)),
        (evt.EVT_N_EVENT_REPORT, commitments.report),
    ]
    try:
        server = service.start_server((settings.host, settings.port), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    except OSError as error:
        raise PacsError(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.") from error
    try:
        yield
    finally:
        service.shutdown()
        if server is not None:
            server.server_close()


def _store(event: Any, intake: Intake) -> int:
    try:
        intake.receive(event.encoded_dataset())
    except PacsUnavailableError as error:
        logger.error("refused an image: %s", error)  # noqa: TRY400 - no traceback of a full disk
        return OUT_OF_RESOURCES
    except DicomError as error:
        logger.warning("refused an object: %s", error)
        return CANNOT_UNDERSTAND
    return SUCCESS
