"""Finds new images by polling: the change feed of an Orthanc, or the studies of a DICOMweb service."""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol

import httpx
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from radserve.dicom.objects import encode
from radserve.dicom.source import quiet
from radserve.errors import DicomError, PacsError, PacsUnavailableError
from radserve.pacs import header as headers
from radserve.pacs import web
from radserve.pacs.intake import Intake
from radserve.pacs.settings import DicomWebSource, OrthancSource

_PAGE: Final = 100
_GIVE_UP_AFTER: Final = 900.0  # seconds since the first failure of an object
logger = logging.getLogger(__name__)


class Source(Protocol):
    """A PACS that is polled; `name` identifies its cursors."""

    name: str

    def poll(self, intake: Intake) -> bool:
        """Take new images into the queue; returns whether more are waiting. Raises PacsError."""

    def headers(self, study: str) -> Iterator[Dataset]:
        """Iterate over the headers of the objects of a study. Raises PacsError."""

    def check(self) -> None:
        """Raise PacsError unless the service answers."""


@contextmanager
def opened(settings: OrthancSource | DicomWebSource) -> Iterator[Source]:
    """Open the source of settings."""
    if isinstance(settings, OrthancSource):
        with web.rest(settings.orthanc, settings) as rest:
            yield OrthancFeed(settings.orthanc, rest, history=settings.history)
    else:
        with web.dicomweb(settings.dicomweb, settings) as client:
            yield DicomWebStudies(settings.dicomweb, client, settings.days)


class _Reader:
    """Reads objects, and gives up on one that the source lists but does not send while it sends others."""

    def __init__(self) -> None:
        self._failing: dict[str, float] = {}
        self._others: deque[Callable[[], bytes]] = deque(maxlen=3)  # files that it can read

    def take(self, key: str, intake: Intake, header: Callable[[], Dataset], file: Callable[[], bytes]) -> bool:
        """Take an object; returns False if it must be tried again."""
        identified = None
        try:
            identified = headers.require_identified(header())
            if intake.wants(identified):
                intake.receive(file())
        except PacsUnavailableError:
            raise
        except DicomError as error:
            logger.warning("ignored an object: %s", error)
        except PacsError as error:
            if self._may_recover(key):
                logger.warning("failed to read an object: %s", error)
                return False
            logger.error("gave up on an object: %s", error)  # noqa: TRY400
            intake.queue.reject(identified or _header_of(key), f"The source does not send it: {error}")
        else:
            self._others.append(file)
        self._failing.pop(key, None)
        return True

    def _may_recover(self, key: str) -> bool:
        now = time.monotonic()
        if now - self._failing.setdefault(key, now) < _GIVE_UP_AFTER:
            return True
        for file in self._others:
            with suppress(DicomError, PacsError):
                file()
                return False
        self._failing[key] = now  # an outage of the source says nothing about the object
        return True


def _header_of(key: str) -> Dataset:
    header = Dataset()
    with quiet():
        header.SOPInstanceUID, header.StudyInstanceUID = key, ""
    return header


class OrthancFeed:
    """Change feed of an Orthanc; the cursor is the number of the last change."""

    def __init__(self, name: str, client: httpx.Client, *, history: bool = False) -> None:
        self.name = name
        self._client = client
        self._history = history
        self._reader = _Reader()
        self._handled: set[tuple[int, str]] = set()  # of a page that is read again

    def poll(self, intake: Intake) -> bool:
        """Take the images of one page of changes."""
        cursor = intake.queue.cursor(self.name)
        if cursor is None:
            cursor = 0 if self._history else self._json("GET", "/changes?last")["Last"]
            if cursor and intake.queue.has_cursors():
                logger.warning("%s is a new source; its earlier images are skipped", self.name)
            intake.queue.advance(self.name, cursor)
        page = self._json("GET", "/changes", params={"since": cursor, "limit": _PAGE})
        new = {(change["Seq"], change["ID"]) for change in page["Changes"] if change["ChangeType"] == "NewInstance"}
        for change in sorted(new - self._handled):
            if self._take(change[1], intake):
                self._handled.add(change)
        if new - self._handled:
            return False
        self._handled.clear()
        # A database that was set up again counts from the start.
        last = 0 if page["Last"] < cursor and not page["Changes"] else page["Last"]
        if last != cursor:
            intake.queue.advance(self.name, last)
        return not page["Done"]

    def headers(self, study: str) -> Iterator[Dataset]:
        """Iterate over the headers of the objects of a study."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study}}
        for identifier in self._json("POST", "/tools/find", json=query):
            yield self._header(identifier)

    def check(self) -> None:
        """Raise PacsError unless the service answers."""
        self._json("GET", "/system")

    def _take(self, identifier: str, intake: Intake) -> bool:
        path = f"/instances/{identifier}/file"
        return self._reader.take(
            identifier, intake, lambda: self._header(identifier), lambda: self._request("GET", path).content
        )

    def _header(self, identifier: str) -> Dataset:
        header = Dataset()
        with quiet():
            for keyword, value in self._json("GET", f"/instances/{identifier}/simplified-tags").items():
                if isinstance(value, str) and keyword.isalnum():
                    _set(header, keyword, value)
        return header

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with web.errors(self.name):
            return self._request(method, path, **options).json()

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with web.errors(self.name):
            reply = self._client.request(method, path, **options)
            if reply.status_code == HTTPStatus.NOT_FOUND and path.startswith("/instances/"):
                raise DicomError("The source no longer has it.")
            reply.raise_for_status()
            return reply


def _set(header: Dataset, keyword: str, value: str) -> None:
    try:
        setattr(header, keyword, value.split("\\") if "\\" in value else value)
    except (TypeError, ValueError):
        return  # a damaged value counts as absent


class DicomWebStudies:
    """Studies of the last days of a DICOMweb service; the cursor of a study is the number of its instances."""

    def __init__(self, name: str, client: DICOMwebClient, days: int) -> None:
        self.name = name
        self._client = client
        self._days = days
        self._reader = _Reader()
        self._handled: defaultdict[str, set[str]] = defaultdict(set)  # by study that is read again

    def poll(self, intake: Intake) -> bool:
        """Take the images of all studies that have more instances than before."""
        with web.errors(self.name):
            for study in self._studies():
                uid, count = str(study.StudyInstanceUID), int(study.get("NumberOfStudyRelatedInstances") or 0)
                if (not count or count != intake.queue.cursor(self.name, uid)) and self._take_study(uid, intake):
                    intake.queue.advance(self.name, count, uid)
                    self._handled.pop(uid, None)
        return False

    def headers(self, study: str) -> Iterator[Dataset]:
        """Iterate over the headers of the objects of a study."""
        with web.errors(self.name), quiet():
            for document in self._client.retrieve_study_metadata(study):
                yield Dataset.from_json(document)

    def check(self) -> None:
        """Raise PacsError unless the service answers."""
        with web.errors(self.name):
            self._client.search_for_studies(limit=1)

    def _studies(self) -> Iterator[Dataset]:
        today = datetime.now(UTC).astimezone().date()
        filters = {"StudyDate": f"{today - timedelta(self._days):%Y%m%d}-{today + timedelta(1):%Y%m%d}"}
        offset = 0
        while True:
            page = self._client.search_for_studies(
                limit=_PAGE, offset=offset, search_filters=filters, fields=["NumberOfStudyRelatedInstances"]
            )
            yield from (Dataset.from_json(document) for document in page)
            if len(page) < _PAGE:
                return
            offset += _PAGE

    def _take_study(self, uid: str, intake: Intake) -> bool:
        try:
            handled = self._handled[uid]
            return all([self._take(header, intake, handled) for header in self.headers(uid)])  # noqa: C419 - try all
        except PacsUnavailableError:
            raise
        except PacsError as error:
            logger.warning("failed to read a study: %s", error)  # the next one may be readable
            return False

    def _take(self, header: Dataset, intake: Intake, handled: set[str]) -> bool:
        key = str(header.get("SOPInstanceUID") or "")
        if key not in handled and self._reader.take(key, intake, lambda: header, lambda: self._file(header)):
            handled.add(key)
        return key in handled

    def _file(self, header: Dataset) -> bytes:
        uids = header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID
        with web.errors(self.name), quiet():
            return encode(self._client.retrieve_instance(*uids))
