"""Messages about positive results: which results give one, what it says, and how it is delivered."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.orthanc import SERIES, STUDY, film
from radserve.dicom.objects import of_image
from radserve.pacs import header as headers
from radserve.pacs.queue import Job, Queue
from radserve.pacs.settings import Retry, Rule, Webhook
from radserve.pacs.webhook import Notifier, message
from radserve.schema.prediction import Prediction
from tests.radserve.scripted import Reply, Scripted, prediction

IMAGE = film(1, Rows=10, Columns=20, PixelData=bytes(200), AccessionNumber="A7")  # the size of scripted results
KEY = b"a secret of 24 characters"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
POSITIVE: dict[str, Any] = {
    "label": "pneumonia",
    "probability": 0.75,
    "probabilities": {"normal": 0.25, "pneumonia": 0.75},
    "positive": True,
}
RULE = Rule(name="all", model="chest", when={})


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with closing(Queue(tmp_path)) as queue:
        queue.add(headers.read(IMAGE), IMAGE, [RULE])
        yield queue


@pytest.fixture
def settings(odd: Scripted) -> Webhook:
    return Webhook(url=f"{odd.url}/hook?to=ward", secret=SECRET)


def claim(queue: Queue) -> Job:
    job = queue.claim()
    assert job is not None
    return job


def result(**changes: Any) -> Prediction:
    document = prediction(IMAGE, **(POSITIVE | changes))
    document["image"]["format"] = "dicom"
    return Prediction.model_validate(document)


def test_a_message_names_images_model_and_probability_but_no_patient(queue: Queue, settings: Webhook) -> None:
    positive = result()
    described = message(settings, claim(queue), IMAGE, positive)
    assert described is not None
    identifier, body = described
    assert identifier == of_image(IMAGE, positive)["sr"].SOPInstanceUID
    document = json.loads(body)
    assert document.pop("time")
    assert document.pop("notice") == "For research use only. Not for diagnosis."
    assert document == {
        "type": "finding.positive",
        "report_uid": identifier,
        "study_uid": STUDY,
        "series_uid": SERIES,
        "instance_uid": f"{SERIES}.1",
        "model": "chest",
        "version": "1.0.0",
        "archive_sha256": "a" * 64,
        "label": "pneumonia",
        "positive_probability": 0.75,
        "threshold": 0.5,
        "prevalence": positive.prevalence,
        "profile_sha256": None,
        "repair": None,
    }
    named = message(settings.model_copy(update={"patient_data": True}), queue.jobs()[0], IMAGE, positive)
    assert named is not None
    assert json.loads(named[1])["patient"] == {"PatientID": "S1", "AccessionNumber": "A7"}


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "normal", "probabilities": {"normal": 0.75, "pneumonia": 0.25}, "positive": False},
        {"certainty": {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}},
        {
            "domain": {
                "status": "unusual",
                "score": 3.0,
                "limit": 4.0,
                "percentile": 0.97,
                "mode": "warn",
                "reasons": [],
            }
        },
        {"warning": "Placeholder weights."},
        {"positive": None, "threshold": None},
    ],
    ids=["negative", "uncertain", "unusual", "warning", "no decision"],
)
def test_only_positive_results_without_doubts_give_a_message(
    queue: Queue, settings: Webhook, changes: dict[str, Any]
) -> None:
    assert message(settings, claim(queue), IMAGE, result(**changes)) is None


def verify(headers: dict[str, str], body: bytes) -> bool:
    """Verify a signature as docs/pacs.md says."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and hmac.compare_digest(expected, headers["webhook-signature"])


def test_a_message_is_repeated_until_it_is_confirmed_and_a_result_gives_no_second_one(
    odd: Scripted, queue: Queue, settings: Webhook
) -> None:
    replies = iter([503, 302, 400, 204])
    odd.script = lambda _: Reply(next(replies), headers={"Location": "/elsewhere"}, media_type=None)
    notifier = Notifier(settings, Retry(first=0.001, longest=0.001), queue)
    job, described = claim(queue), ("1.2.3", '{"label": "pneumonia"}')
    queue.predicted(job, "archive", ["1.2.3"], described)
    assert not notifier.deliver_next()  # the results are not stored yet
    queue.finish(job, "done")
    while queue.notices():
        notifier.deliver_next()
    assert [(item.path, item.headers["webhook-id"], item.body) for item in odd.requests] == [
        ("/hook?to=ward", "1.2.3", b'{"label": "pneumonia"}')
    ] * 4
    assert all(verify(dict(item.headers), item.body) for item in odd.requests)
    assert not verify(dict(odd.requests[0].headers), b'{"label": "normal"}')
    queue.predicted(job, "archive", ["1.2.3"], described)
    queue.finish(job, "done")
    assert queue.notices() == 0


def test_a_message_that_cannot_be_sent_does_not_block_others(queue: Queue) -> None:
    settings = Webhook.model_construct(url="http://a..b/x", secret=SECRET, timeout=1.0)
    job = claim(queue)
    queue.predicted(job, "archive", ["1.2.3"], ("1.2.3", "{}"))
    queue.finish(job, "done")
    assert Notifier(settings, Retry(first=100, longest=100), queue).deliver_next()
    assert queue.due_notice() is None


def test_a_message_is_due_once_any_job_with_its_result_is_done_and_its_deletion_is_logged(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.add(headers.read(IMAGE), IMAGE, [RULE.model_copy(update={"version": "1.0.0"})])
    jobs = claim(queue), claim(queue)
    for job in jobs:
        queue.predicted(job, "archive", ["1.2.3"], ("1.2.3", "{}"))
    queue.finish(jobs[1], "done")
    queue.finish(jobs[0], "dead", "reason")
    assert queue.notices() == 1
    queue.forget(2**40)
    assert queue.notices() == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"the message about job {jobs[0].id} was never delivered and is deleted"
    ]


def test_a_result_that_was_never_stored_gives_no_message_once_another_replaces_it(queue: Queue) -> None:
    job = claim(queue)
    queue.predicted(job, "old archive", ["1.2.3"], ("1.2.3", "{}"))
    queue.finish(job, "dead", "reason")
    queue.resend()
    queue.predicted(claim(queue), "new archive", ["1.2.4"], None)
    queue.finish(job, "done")
    assert queue.notices() == 0
