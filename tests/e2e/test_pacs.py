"""The loop with a real Orthanc, a real server, and dcmtk."""

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from benchmarks.orthanc import SERIES, STUDY, Orthanc, film, running, wait_for
from benchmarks.pacs import loop, under_kills, write_settings
from radserve.pacs import sources
from radserve.pacs.intake import Intake
from radserve.pacs.queue import Queue
from radserve.pacs.settings import DicomWebSource, OrthancSource, Rule
from tests import command_line
from tests.radserve.scripted import Reply, Request, scripted
from tests.server import Server, free_ports

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def orthanc_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("pacs") / "orthanc") as orthanc:
        yield orthanc


@pytest.fixture
def orthanc(orthanc_process: Orthanc) -> Orthanc:
    """An Orthanc without objects."""
    orthanc_process.clear()
    return orthanc_process


def test_each_film_has_one_result_of_each_kind_in_its_study(orthanc: Orthanc, server: Server, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    changes = {"write": ["sr", "seg", "sc"], "status": {"address": f"127.0.0.1:{port}"}}
    settings = write_settings(orthanc, server.url, tmp_path / "pacs.yaml", **changes)
    check = command_line.run("pacs", settings, "--check")
    assert (check.returncode, check.stdout.count(": ok")) == (0, 3), check.stdout
    orthanc.store(film(1))
    orthanc.store(film(2, PatientAge="040Y"))
    with loop(settings) as process:
        wait_for(lambda: all(orthanc.objects(kind) for kind in ("SR", "SEG", "OT")))
        orthanc.store(film(3))
        status = f"http://127.0.0.1:{port}"
        wait_for(lambda: httpx.get(f"{status}/cases").json()["counts"]["done"] == 2)
        (rejected,) = httpx.get(f"{status}/cases?state=rejected").json()["cases"]
        assert (rejected["instance"], rejected["study"], rejected["series"]) == (f"{SERIES}.2", STUDY, SERIES)
        assert rejected["reason"] == "Rule 'children' does not match: age 40.0 is not below 6."
        metrics = httpx.get(f"{status}/metrics").text
        assert "radserve_pacs_results_total 6.0" in metrics
        assert 'radserve_pacs_jobs{state="done"} 2.0' in metrics
        assert f'radserve_pacs_poll_seconds{{source="{orthanc.url}"}} ' in metrics
        polled = f'radserve_pacs_polled_timestamp_seconds{{source="{orthanc.url}"}} '
        assert time.time() - float(metrics.partition(polled)[2].split()[0]) < 60
        process.terminate()
        process.join(60)
        assert process.exitcode == 0
    assert {kind: len(orthanc.objects(kind)) for kind in ("SR", "SEG", "OT")} == {"SR": 2, "SEG": 2, "OT": 2}
    assert {report["StudyInstanceUID"] for report in orthanc.objects("SR")} == {STUDY}
    jobs = command_line.run("pacs", settings, "--list", "all")
    assert "2 done, 1 rejected" in jobs.stderr
    explanation = command_line.run("pacs", settings, "--explain", STUDY).stdout
    assert "Rule 'children' does not match: age 40.0 is not below 6." in explanation
    assert "Ignored: RadServe made it." in explanation
    log = (tmp_path / "pacs.log").read_text()
    assert "Synthetic" not in log
    assert SERIES not in log


def test_what_arrives_by_c_store_is_stored_by_c_store_and_committed(
    orthanc: Orthanc, server: Server, tmp_path: Path
) -> None:
    destination = {"ae": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port, "commitment": True}
    receiver = {"port": orthanc.loop_port, "allowed": ["ORTHANC", "FRIEND"]}
    changes = {"sources": [], "receiver": receiver, "destinations": [destination]}
    settings = write_settings(orthanc, server.url, tmp_path / "pacs.yaml", **changes)
    (tmp_path / "film.dcm").write_bytes(film(1))
    with loop(settings):
        wait_for(lambda: _sent("FRIEND", orthanc, tmp_path / "film.dcm"))
        assert not _sent("STRANGER", orthanc, tmp_path / "film.dcm")
        wait_for(lambda: "1 done" in command_line.run("pacs", settings, "--list", "done").stderr)
        assert _sent("FRIEND", orthanc, tmp_path / "film.dcm")  # again
        # A result that comes back is not analysed.
        identifier = httpx.post(f"{orthanc.url}/tools/find", json={"Level": "Instance", "Query": {"Modality": "SR"}})
        httpx.post(f"{orthanc.url}/modalities/loop/store", content=identifier.json()[0]).raise_for_status()
    assert command_line.run("pacs", settings, "--list", "all").stderr == "1 done\n"
    assert len(orthanc.objects("SR")) == 1


def test_a_positive_finding_is_reported_once_although_the_loop_is_killed_meanwhile(
    orthanc: Orthanc, server: Server, tmp_path: Path
) -> None:
    with scripted() as receiver:
        webhook = {"url": f"{receiver.url}/hook", "secret": "a secret of 24 characters"}
        settings = write_settings(orthanc, server.url, tmp_path / "pacs.yaml", webhook=webhook)
        killed = threading.Event()

        def hang(_: Request) -> Reply:
            killed.wait(60)
            return Reply(503)

        receiver.script = hang
        orthanc.store(film(1))
        with loop(settings) as process:
            wait_for(lambda: len(receiver.requests) == 1)
            process.kill()
            process.join()
        killed.set()
        # The result is in the PACS; only the message is missing.
        (report,) = orthanc.objects("SR")
        receiver.script = lambda _: Reply(503 if len(receiver.requests) == 2 else 204, media_type=None)
        with loop(settings):
            wait_for(lambda: len(receiver.requests) == 3)
        orthanc.store(film(1))
        with loop(settings):
            orthanc.store(film(2))
            wait_for(lambda: len(receiver.requests) == 4)
    keys = [request.headers["webhook-id"] for request in receiver.requests]
    assert keys[:3] == [report["SOPInstanceUID"]] * 3
    assert keys[3] not in keys[:3]
    assert len({request.body for request in receiver.requests[:3]}) == 1
    message = json.loads(receiver.requests[0].body)
    assert (message["instance_uid"], message["study_uid"]) == (f"{SERIES}.1", STUDY)
    assert message["positive_probability"] >= message["threshold"]
    assert "Synthetic" not in receiver.requests[0].body.decode()
    assert len(orthanc.objects("SR")) == 2


def _sent(caller: str, orthanc: Orthanc, file: Path) -> bool:
    command = ["storescu", "-aet", caller, "-aec", "RADSERVE", "127.0.0.1", str(orthanc.loop_port), str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_studies_are_found_by_dicomweb(orthanc: Orthanc, tmp_path: Path) -> None:
    source = DicomWebSource(dicomweb=f"{orthanc.url}/dicom-web")
    with closing(Queue(tmp_path)) as queue, sources.opened(source) as studies:
        intake = Intake(queue, [Rule(name="all", model="chest-xray-cnn", when={"Modality": ("DX",)})], 0)
        orthanc.store(film(1))
        orthanc.store(film(2, Modality="US"))
        orthanc.store(film(3, StudyInstanceUID="1.2.3", StudyDate="20200101"))
        studies.poll(intake)
        studies.poll(intake)
        orthanc.store(film(4))
        studies.poll(intake)
        jobs = sorted((job.instance, job.state) for job in queue.jobs())
        assert jobs == [(f"{SERIES}.1", "received"), (f"{SERIES}.2", "rejected"), (f"{SERIES}.4", "received")]


def test_an_orthanc_is_read_from_now_on_unless_its_history_is_wanted(orthanc: Orthanc, tmp_path: Path) -> None:
    queued = {}
    for history in (False, True):
        source = OrthancSource(orthanc=orthanc.url, history=history)
        with closing(Queue(tmp_path / str(history))) as queue, sources.opened(source) as feed:
            intake = Intake(queue, [Rule(name="all", model="chest-xray-cnn", when={})], 0)
            orthanc.store(film(1 + history * 2))
            _read(feed, intake)
            orthanc.store(film(2 + history * 2))
            _read(feed, intake)
            queued[history] = {job.instance.rpartition(".")[2] for job in queue.jobs()}
    assert queued == {False: {"2"}, True: {"1", "2", "3", "4"}}


def _read(feed: sources.Source, intake: Intake) -> None:
    while feed.poll(intake):
        pass


def test_kills_and_outages_neither_lose_nor_repeat_a_result(orthanc: Orthanc, server: Server, tmp_path: Path) -> None:
    settings = write_settings(orthanc, server.url, tmp_path / "pacs.yaml")
    outcome = under_kills(orthanc, settings, 30, 4, seed=1, least=3)
    assert outcome.results == Counter({f"{SERIES}.{number}": 1 for number in range(1, 31)})
    assert outcome.kills >= 3
