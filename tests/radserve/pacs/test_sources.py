"""A source that lists an image and does not send it."""

from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.orthanc import SERIES, STUDY, film
from radserve.pacs import sources
from radserve.pacs.intake import Intake
from radserve.pacs.queue import Queue
from radserve.pacs.settings import DicomWebSource, OrthancSource, Rule
from tests.radserve.scripted import Reply, Request, Script, Scripted, document

CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
RULE = Rule(name="all", model="chest", when={})
BOUNDARY = 'multipart/related; type="application/dicom"; boundary=B'


def orthanc(request: Request) -> Reply:
    """Reply as an Orthanc with two images, the first of which it cannot read."""
    if request.path.startswith("/changes"):
        changes = [{"ChangeType": "NewInstance", "ID": number, "Seq": int(number)} for number in ("1", "2")]
        return document({"Changes": changes, "Last": 2, "Done": True})
    _, _, number, kind = request.path.split("/")
    if kind == "file":
        return Reply(500) if number == "1" else Reply(200, film(2), "application/dicom")
    tags = {"SOPClassUID": CLASS, "StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "Rows": "4"}
    return document(tags | {"SOPInstanceUID": f"{SERIES}.{number}"})


def orthanc_without_header(request: Request) -> Reply:
    """Reply so for the header of the first image, too."""
    return Reply(500) if request.path.startswith("/instances/1/") else orthanc(request)


def dicomweb(request: Request) -> Reply:
    """Reply as a DICOMweb service with the same images, and a study that it cannot read."""
    if "/instances/" in request.path:
        part = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + film(2) + b"\r\n--B--"
        return Reply(500) if request.path.endswith(".1") else Reply(200, part, BOUNDARY)
    if request.path.endswith("/metadata"):
        if "/9.9/" in request.path:
            return Reply(500)
        return document([_json(number) for number in (1, 2)], media_type="application/dicom+json")
    studies = [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in ("9.9", STUDY)]
    count = {"00201208": {"vr": "IS", "Value": [2]}}
    return document([study | count for study in studies], media_type="application/dicom+json")


def _json(number: int) -> dict[str, object]:
    uids = {"00080016": CLASS, "00080018": f"{SERIES}.{number}", "0020000D": STUDY, "0020000E": SERIES}
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()} | {"00280010": {"vr": "US", "Value": [4]}}


@pytest.mark.parametrize("script", [orthanc, orthanc_without_header, dicomweb])
def test_an_image_that_is_not_sent_delays_no_other_and_is_rejected_once_it_alone_fails(
    odd: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    monkeypatch.setattr(sources, "_GIVE_UP_AFTER", 0.0)
    feed = script is not dicomweb
    settings = OrthancSource(orthanc=odd.url, history=True) if feed else DicomWebSource(dicomweb=odd.url)
    with closing(Queue(tmp_path)) as queue, sources.opened(settings) as source:
        key, before = ("", 0) if feed else (STUDY, None)
        states = []
        outage: Script = lambda request: Reply(500) if "/instances/" in request.path else script(request)  # noqa: E731
        for odd.script in (script, outage, script):
            source.poll(Intake(queue, [RULE], 0))
            jobs = sorted((job.instance, job.state) for job in queue.jobs())
            states.append((jobs, queue.cursor(source.name, key)))
    taken = (f"{SERIES}.2", "received")
    lost = "1" if script is orthanc_without_header else f"{SERIES}.1"
    assert states == [([taken], before), ([taken], before), ([(lost, "rejected"), taken], 2)]
    assert sum("/2/simplified-tags" in request.path for request in odd.requests) == feed


def test_a_new_source_whose_images_are_skipped_is_logged(
    odd: Scripted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd.script = orthanc
    with closing(Queue(tmp_path)) as queue, sources.opened(OrthancSource(orthanc=odd.url)) as source:
        queue.advance("old", 7)
        source.poll(Intake(queue, [RULE], 0))
    assert "is a new source" in caplog.text
