"""Finds new images by polling: the change feed of an Orthanc, or the studies of a DICOMweb service."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Protocol

import httpx
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from radserve.dicom.objects import encode
from radserve.dicom.source import quiet
from radserve.errors import DicomError
from radserve.pacs import header as headers
from radserve.pacs import web
from radserve.pacs.intake import Intake
from radserve.pacs.settings import DicomWebSource, OrthancSource

_PAGE: Final = 100
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
            yield OrthancFeed(settings.orthanc, rest)
    else:
        with web.dicomweb(settings.dicomweb, settings) as client:
            yield DicomWebStudies(settings.dicomweb, client, settings.days)


class OrthancFeed:
    """Change feed of an Orthanc; the cursor is the number of the last change."""

    def __init__(self, name: str, client: httpx.Client) -> None:
        self.name = name
        self._client = client

    def poll(self, intake: Intake) -> bool:
        """Take the images of one page of changes."""
        cursor = intake.queue.cursor(self.name)
        with web.errors(self.name):
            page = self._json("GET", "/changes", params={"since": cursor, "limit": _PAGE})
            for change in page["Changes"]:
                if change["ChangeType"] == "NewInstance":
                    self._take(change["ID"], intake)
            # A database that was set up again counts from the start.
            last = 0 if page["Last"] < cursor and not page["Changes"] else page["Last"]
        if last != cursor:
            intake.queue.advance(self.name, last)
        return not page["Done"]

    def headers(self, study: str) -> Iterator[Dataset]:
        """Iterate over the headers of the objects of a study."""
        with web.errors(self.name):
            query = {"Level": "Instance", "Query": {"StudyInstanceUID": study}}
            for identifier in self._json("POST", "/tools/find", json=query):
                yield self._header(identifier)

    def check(self) -> None:
        """Raise PacsError unless the service answers."""
        with web.errors(self.name):
            self._json("GET", "/system")

    def _take(self, identifier: str, intake: Intake) -> None:
        try:
            if intake.wants(headers.require_identified(self._header(identifier))):
                reply = self._client.get(f"/instances/{identifier}/file")
                reply.raise_for_status()
                intake.receive(reply.content)
        except DicomError as error:
            logger.warning("ignored an object: %s", error)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:  # deleted since
                raise

    def _header(self, identifier: str) -> Dataset:
        header = Dataset()
        with quiet():
            for keyword, value in self._json("GET", f"/instances/{identifier}/simplified-tags").items():
                if isinstance(value, str) and keyword.isalnum():
                    _set(header, keyword, value)
        return header

    def _json(self, method: str, path: str, **options: Any) -> Any:
        reply = self._client.request(method, path, **options)
        reply.raise_for_status()
        return reply.json()


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

    def poll(self, intake: Intake) -> bool:
        """Take the images of all studies that have more instances than before."""
        with web.errors(self.name):
            for study in self._studies():
                uid, count = str(study.StudyInstanceUID), int(study.get("NumberOfStudyRelatedInstances") or 0)
                if not count or count != intake.queue.cursor(self.name, uid):
                    for header in self.headers(uid):
                        self._take(header, intake)
                    intake.queue.advance(self.name, count, uid)
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
        filters = {"StudyDate": f"{_text(today - timedelta(self._days))}-{_text(today + timedelta(1))}"}
        offset = 0
        while True:
            page = self._client.search_for_studies(
                limit=_PAGE, offset=offset, search_filters=filters, fields=["NumberOfStudyRelatedInstances"]
            )
            yield from (Dataset.from_json(document) for document in page)
            if len(page) < _PAGE:
                return
            offset += _PAGE

    def _take(self, header: Dataset, intake: Intake) -> None:
        try:
            if intake.wants(headers.require_identified(header)):
                with quiet():
                    file = self._client.retrieve_instance(
                        header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID
                    )
                    content = encode(file)
                intake.receive(content)
        except DicomError as error:
            logger.warning("ignored an object: %s", error)


def _text(day: date) -> str:
    return day.strftime("%Y%m%d")
