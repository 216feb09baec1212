"""Works through the queue: analyses images, and stores their results."""

import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset

from radserve.client import Client
from radserve.client.results import Results
from radserve.dicom.objects import encode
from radserve.dicom.requests import complete, of_frames
from radserve.dicom.source import quiet
from radserve.errors import (
    DicomError,
    PacsUnavailableError,
    ProblemError,
    RadServeError,
    RejectedRequestError,
    ResponseTimeoutError,
    ServerFailedError,
    UnreachableError,
)
from radserve.files import write_atomically
from radserve.pacs import destinations, webhook
from radserve.pacs.metrics import FAILURES, RESULTS, SECONDS
from radserve.pacs.queue import Job, Queue
from radserve.pacs.receiver import Commitments
from radserve.pacs.settings import Settings
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation

_REJECTIONS: Final = frozenset({400, 406, 413, 415, 422})
"""Statuses that the same image would get again."""
_OUTAGES: Final = frozenset({401, 403, 404, 408, 429, 502, 503, 504})
"""Statuses that say nothing about the image; 404 is about the model."""
logger = logging.getLogger(__name__)


class Processor:
    """Processes jobs; safe for threads."""

    def __init__(self, settings: Settings, queue: Queue, client: Client, commitments: Commitments) -> None:
        self._settings = settings
        self._queue = queue
        self._client = client
        self._commitments = commitments
        self._unrecorded: deque[Callable[[], None]] = deque()

    def process_next(self) -> bool:
        """Process a job; returns False if none is due."""
        self._record()
        job = self._queue.claim()
        if job is None:
            return False
        step = "store" if job.state == "storing" else "predict"
        try:
            if step == "predict":
                self._predict(job)
            step = "store"
            self._store(job)
        except Exception as error:  # noqa: BLE001 - no job may end a worker
            self._unrecorded.append(partial(self._fail, job, step, error))
        else:
            self._unrecorded.append(partial(self._queue.finish, job, "done"))
        self._record()
        return True

    def _record(self) -> None:
        """Record the outcomes of jobs; those that the disk does not take now are kept, or the jobs stay claimed."""
        while self._unrecorded:
            outcome = self._unrecorded.popleft()
            try:
                outcome()
            except (OSError, sqlite3.Error):
                self._unrecorded.appendleft(outcome)
                raise

    def _predict(self, job: Job) -> None:
        """Write the results of a job to disk, and then record them: storing starts from there after a restart."""
        content = (self._queue.images / job.file).read_bytes()
        with SECONDS.labels("predict").time():
            results = self._client.predict_frames(job.model, content, job.version)
            result, kinds = _key_result(results), self._settings.kinds(job.rule)
            if result.image.frame is None:
                objects = complete(self._client, content, result, kinds)
            else:
                objects = of_frames(content, results, kinds)
        if not objects:
            raise DicomError("The result has none of the objects of the setting 'write'.")
        for path in self._queue.result_files(job):
            path.unlink()
        for kind, item in objects.items():
            write_atomically(self._queue.results / f"{job.id}-{kind}.dcm", encode(item), mode=0o600)
        archive = result.model.sha256 or result.model.version
        settings = self._settings.webhook
        notice = None if settings is None else webhook.message(settings, job, content, result)
        self._queue.predicted(job, archive, [str(item.SOPInstanceUID) for item in objects.values()], notice)

    def _store(self, job: Job) -> None:
        with quiet(), SECONDS.labels("store").time():
            objects: Sequence[Dataset] = [dcmread(path) for path in self._queue.result_files(job)]
            for destination in self._settings.destinations:
                destinations.store(destination, objects, self._commitments)
                RESULTS.inc(len(objects))

    def _fail(self, job: Job, step: str, error: Exception) -> None:
        FAILURES.labels(step).inc()
        if isinstance(error, DicomError) or (isinstance(error, RejectedRequestError) and error.status in _REJECTIONS):
            self._queue.finish(job, "rejected", str(error))
            logger.info("job %d is rejected", job.id)
            return
        state = self._queue.retry(job, _reason(error), self._settings.retry, counts=not _is_outage(error))
        # The message of an unexpected error may quote the image.
        logger.warning("job %d failed (%s, %s) and is %s", job.id, step, type(error).__name__, state)


def _key_result(results: Results) -> Prediction | Segmentation:
    """Return the result with the largest mask; raises an error if none has one, or one lacks it by a passing fault."""
    rejections = [item for item in results if isinstance(item, RejectedImage)]
    for item in rejections:
        if item.status not in _REJECTIONS:
            raise ServerFailedError(item.status, item.title, item.detail)
    if len(rejections) == len(results):
        raise DicomError(rejections[0].detail)
    analysed = [item for item in results if not isinstance(item, RejectedImage)]
    return max(analysed, key=lambda item: item.area.pixels if isinstance(item, Segmentation) else 0)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, RadServeError) else type(error).__name__


def _is_outage(error: Exception) -> bool:
    """Return whether a failure says nothing about the job: its peer is away, or a disk is full."""
    if isinstance(error, ResponseTimeoutError):
        return False  # an image that takes too long would be sent forever
    if isinstance(error, ProblemError):
        return error.status in _OUTAGES
    return isinstance(
        error, UnreachableError | PacsUnavailableError | OSError | sqlite3.OperationalError
    ) and not isinstance(error, FileNotFoundError)
