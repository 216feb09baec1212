"""Takes images from the sources into the queue."""

import shutil
import sqlite3
from collections.abc import Sequence
from typing import Literal

from pydicom.dataset import Dataset

from radserve.errors import PacsUnavailableError
from radserve.pacs import header as headers
from radserve.pacs import rules
from radserve.pacs.metrics import RECEIVED
from radserve.pacs.queue import Queue
from radserve.pacs.rules import Decision
from radserve.pacs.settings import Rule

Outcome = Literal["queued", "known", "ignored", "rejected"]


class Intake:
    """Decides by the rules what happens to an object, and queues it."""

    def __init__(self, queue: Queue, rules: Sequence[Rule], free: int) -> None:
        self.queue = queue
        self._rules = rules
        self._free = free

    def decide(self, header: Dataset) -> Decision:
        """Return what happens to an object."""
        if self.queue.is_result(str(header.SOPInstanceUID)):
            return Decision("RadServe made it", ())
        return rules.decide(self._rules, header)

    def wants(self, header: Dataset) -> bool:
        """Return whether the file of a header is needed; records why not."""
        decision = self.decide(header)
        if decision.matches:
            known = self.queue.knows(str(header.SOPInstanceUID), decision.matches)
            if known:
                RECEIVED.labels("known").inc()
            return not known
        self._refuse(header, decision)
        return False

    def receive(self, content: bytes) -> Outcome:
        """Queue an object; what is queued is durable.

        Raises DicomError for a damaged file, and PacsUnavailableError if the disk is full.
        """
        header = headers.read(content)
        decision = self.decide(header)
        if not decision.matches:
            return self._refuse(header, decision)
        self._require_space()
        try:
            added = self.queue.add(header, content, decision.matches)
        except (OSError, sqlite3.OperationalError) as error:
            raise PacsUnavailableError(f"The image cannot be written ({error.__class__.__name__}).") from error
        outcome: Outcome = "queued" if added else "known"
        RECEIVED.labels(outcome).inc()
        return outcome

    def _refuse(self, header: Dataset, decision: Decision) -> Outcome:
        outcome: Outcome = "ignored" if decision.ignored is not None else "rejected"
        if outcome == "rejected":
            try:
                self.queue.reject(header, decision.reason)
            except sqlite3.OperationalError as error:
                raise PacsUnavailableError("The queue cannot be written.") from error
        RECEIVED.labels(outcome).inc()
        return outcome

    def _require_space(self) -> None:
        free = shutil.disk_usage(self.queue.images).free
        if free < self._free:
            raise PacsUnavailableError(f"{free} bytes are free, less than the setting 'free', {self._free}.")
