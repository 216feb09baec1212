"""Reports positive results to a URL, signed as Standard Webhooks prescribes (https://www.standardwebhooks.com).

The queue keeps a message until the receiver has confirmed it. A message may arrive twice, with the same `webhook-id`.
"""

import base64
import hashlib
import hmac
import json
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from radserve.dicom.objects import report_uid
from radserve.dicom.source import quiet
from radserve.pacs.metrics import FAILURES, SECONDS
from radserve.pacs.queue import Job, Queue
from radserve.pacs.settings import Retry, Webhook
from radserve.schema.prediction import ImageResult, Prediction

_PATIENT: Final = ("PatientID", "AccessionNumber")
logger = logging.getLogger(__name__)


def message(settings: Webhook, job: Job, content: bytes, result: ImageResult) -> tuple[str, str] | None:
    """Return identifier and body of the message about a result; None unless it is positive and without doubts."""
    if not result.positive or result.doubts:
        return None
    identifier = report_uid(content, result)
    body: dict[str, Any] = {
        "type": "finding.positive",
        "time": (result.time or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "report_uid": identifier,
        "study_uid": job.study,
        "series_uid": job.series,
        "instance_uid": job.instance,
        "model": result.model.name,
        "version": result.model.version,
        "archive_sha256": result.model.sha256,
        "label": result.label,
        "positive_probability": result.positive_probability if isinstance(result, Prediction) else None,
        "threshold": result.threshold,
        "prevalence": result.prevalence if isinstance(result, Prediction) else None,
        "profile_sha256": None if result.profile is None else result.profile.sha256,
        "repair": result.repair,
        "notice": "For research use only. Not for diagnosis.",
    }
    if settings.patient_data:
        with quiet():
            header = dcmread(DicomBytesIO(content), stop_before_pixels=True, specific_tags=list(_PATIENT))
            body["patient"] = {keyword: str(header.get(keyword) or "") for keyword in _PATIENT}
    return identifier, json.dumps(body)


def signature(key: bytes, identifier: str, timestamp: int, body: str) -> str:
    """Return the value of `webhook-signature`."""
    digest = hmac.digest(key, f"{identifier}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


class Notifier:
    """Delivers messages one after the other; one that fails is sent again later, until the queue forgets it."""

    def __init__(self, settings: Webhook, retry: Retry, queue: Queue) -> None:
        self._settings = settings
        self._retry = retry
        self._queue = queue

    def deliver_next(self) -> bool:
        """Deliver a message; returns False if none is due."""
        notice = self._queue.due_notice()
        if notice is None:
            return False
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": notice.uid,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._settings.key, notice.uid, now, notice.body),
        }
        try:
            with SECONDS.labels("notify").time():
                reply = httpx.post(
                    self._settings.url, content=notice.body, headers=headers, timeout=self._settings.timeout
                )
                outcome = "" if reply.is_success else f"status {reply.status_code}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the next message must not wait
            outcome = type(error).__name__
        if outcome:
            FAILURES.labels("notify").inc()
            logger.warning("the message about job %d was not delivered (%s)", notice.job, outcome)
            self._queue.postpone(notice, self._retry)
        else:
            self._queue.delivered(notice)
        return True
