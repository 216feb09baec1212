"""Stores results in a PACS: STOW-RS, or C-STORE with storage commitment."""

import contextlib
import logging
from collections.abc import Hashable, Sequence
from http import HTTPStatus
from typing import Any, Final

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from radserve.errors import PacsError, PacsUnavailableError
from radserve.pacs import web
from radserve.pacs.receiver import SUCCESS, Commitments
from radserve.pacs.settings import StoreDestination, StowDestination

_WARNINGS: Final = range(0xB000, 0xC000)  # stored with a remark (PS3.4 table B.2-1)
_NO_SPACE: Final = range(0xA700, 0xA800)
_DUPLICATE: Final = 0x0111  # UIDs of results depend on image and archive alone: it is stored already
logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)  # its records name objects


def store(
    destination: StowDestination | StoreDestination, objects: Sequence[Dataset], commitments: Commitments
) -> None:
    """Store results; one that is stored already counts as stored. Raises PacsError, PacsUnavailableError."""
    if isinstance(destination, StowDestination):
        _stow(destination, objects)
    else:
        _c_store(destination, objects, commitments)


def check(destination: StowDestination | StoreDestination) -> None:
    """Raise PacsError unless the destination answers a query (STOW) or C-ECHO."""
    if isinstance(destination, StowDestination):
        with web.errors(destination.stow), web.dicomweb(destination.stow, destination) as client:
            client.search_for_studies(limit=1)
        return
    with _Association(destination, [], None) as association:
        status = association.send_c_echo()
    _require_success(destination, status)


def _stow(destination: StowDestination, objects: Sequence[Dataset]) -> None:
    with web.errors(destination.stow), web.dicomweb(destination.stow, destination) as client:
        reply = _post(client, destination, objects)
    failed = reply.get("FailedSOPSequence") or []
    codes = {int(item.get("FailureReason") or 0) for item in failed} - {_DUPLICATE}
    if codes:
        kind = PacsUnavailableError if any(code in _NO_SPACE for code in codes) else PacsError
        raise kind(f"{destination.stow} did not store results (reason {', '.join(f'{code:04X}' for code in codes)}).")
    if len(failed) + len(reply.get("ReferencedSOPSequence") or []) < len(objects):
        raise PacsError(f"{destination.stow} did not confirm that it stored the results.")


def _post(client: DICOMwebClient, destination: StowDestination, objects: Sequence[Dataset]) -> Dataset:
    try:
        return client.store_instances(objects)
    except requests.HTTPError as error:
        if error.response is None:
            raise
        status = error.response.status_code
        if status == HTTPStatus.CONFLICT:  # nothing is stored, and the body says why (PS3.18 table 10.5.3-1)
            with contextlib.suppress(ValueError):
                return Dataset.from_json(error.response.json())
        if status == HTTPStatus.NOT_FOUND or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise PacsUnavailableError(f"{destination.stow} answers with status {status}.") from error
        raise


def _c_store(destination: StoreDestination, objects: Sequence[Dataset], commitments: Commitments) -> None:
    key = (destination, *(str(item.SOPInstanceUID) for item in objects))
    with _Association(destination, objects, commitments) as association:
        if not commitments.awaits(key):
            _send(destination, objects, association)
        if destination.commitment:
            _request_commitment(destination, objects, association, commitments, key)
            commitments.wait(key, destination.timeout)


def _send(destination: StoreDestination, objects: Sequence[Dataset], association: Any) -> None:
    for item in objects:
        try:
            status = association.send_c_store(item)
        except ValueError as error:
            raise PacsError(f"{destination.ae} does not accept objects of this class.") from error
        _require_success(destination, status)


def _request_commitment(
    destination: StoreDestination,
    objects: Sequence[Dataset],
    association: Any,
    commitments: Commitments,
    key: Hashable,
) -> None:
    """Ask the destination to confirm that it keeps the objects; the report may come on this or another association."""
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = [_reference(item) for item in objects]
    commitments.expect(key, request.TransactionUID)
    model = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    try:
        _require_success(destination, association.send_n_action(request, 1, *model)[0])
    except ValueError as error:
        commitments.forget(key)
        raise PacsError(f"{destination.ae} does not offer storage commitment.") from error
    except PacsError:
        commitments.forget(key)  # no report follows
        raise


def _reference(item: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = item.SOPClassUID, item.SOPInstanceUID
    return reference


class _Association:
    """Association with a destination for C-STORE of objects; for C-ECHO without any."""

    def __init__(
        self, destination: StoreDestination, objects: Sequence[Dataset], commitments: Commitments | None
    ) -> None:
        self._destination = destination
        self._entity = AE(ae_title=destination.calling)
        self._entity.acse_timeout = self._entity.dimse_timeout = destination.timeout
        self._entity.connection_timeout = min(destination.timeout, 10.0)
        for pair in {(str(item.SOPClassUID), str(item.file_meta.TransferSyntaxUID)) for item in objects}:
            self._entity.add_requested_context(*pair)
            if not UID(pair[1]).is_compressed:
                self._entity.add_requested_context(pair[0], ImplicitVRLittleEndian)  # the one that every peer accepts
        if not objects:
            self._entity.add_requested_context(Verification)
        if objects and destination.commitment:
            self._entity.add_requested_context(StorageCommitmentPushModel)
        self._handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, commitments.report)] if commitments else []

    def __enter__(self) -> Any:
        destination = self._destination
        self._association: Any = self._entity.associate(
            destination.host, destination.port, ae_title=destination.ae, evt_handlers=self._handlers
        )
        if not self._association.is_established:
            raise PacsUnavailableError(f"{destination.ae} accepts no association.")
        return self._association

    def __exit__(self, *_: object) -> None:
        self._association.release()


def _require_success(destination: StoreDestination, status: Dataset) -> None:
    if "Status" not in status:
        raise PacsUnavailableError(f"{destination.ae} closed the association or did not answer in time.")
    code = int(status.Status)
    if code not in (SUCCESS, _DUPLICATE) and code not in _WARNINGS:
        kind = PacsUnavailableError if code in _NO_SPACE else PacsError
        raise kind(f"{destination.ae} answers with status {code:04X}.")
