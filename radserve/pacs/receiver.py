"""C-STORE service: images are on disk before their sender reads success. Receives confirmations of storage, too."""

import logging
import threading
from collections.abc import Callable, Hashable, Iterator
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
    """Confirmations of storage that are awaited (PS3.4 annex J); a key names the objects and their destination."""

    def __init__(self) -> None:
        self._keys: dict[str, Hashable] = {}  # by transaction: a late report counts, too
        self._events: dict[Hashable, threading.Event] = {}
        self._failures: dict[Hashable, int] = {}

    def awaits(self, key: Hashable) -> bool:
        """Return whether a confirmation was requested, and has not been read."""
        return key in self._events

    def expect(self, key: Hashable, transaction: str) -> None:
        """Announce a transaction, before it is requested."""
        self._events.setdefault(key, threading.Event())
        self._keys[transaction] = key

    def report(self, event: Any) -> tuple[int, None]:
        """Handle N-EVENT-REPORT."""
        information = event.event_information
        key = self._keys.get(str(information.get("TransactionUID", "")))
        if key is not None and (event_of_key := self._events.get(key)) is not None:
            self._failures[key] = len(information.get("FailedSOPSequence") or [])
            event_of_key.set()
        return SUCCESS, None

    def wait(self, key: Hashable, seconds: float) -> None:
        """Wait for a confirmation; raises PacsError if an object was not kept, PacsUnavailableError if none arrived."""
        if not self._events[key].wait(seconds):
            raise PacsUnavailableError(f"No storage commitment arrived within {seconds:g} s.")
        if failed := self.forget(key):
            raise PacsError(f"The receiver did not commit to {failed} of the results.")

    def forget(self, key: Hashable) -> int:
        """Expect no report any more; returns the number of objects that were not kept."""
        self._events.pop(key, None)
        self._keys = {transaction: item for transaction, item in self._keys.items() if item != key}
        return self._failures.pop(key, 0)


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
