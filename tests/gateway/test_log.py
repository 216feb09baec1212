"""Logs of gateway and server hold requests, but no keys, images or names."""

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from tests import gateways
from tests.gateways import Gateway
from tests.proxy import Keys
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATIENT = "Dorothea^Quimbysmith"
NUMBER = "MRN-558817-Q"
FILE = "quimbysmith-thorax.dcm"
PATH = f"/api/predictions/{NAME}"


@pytest.fixture(scope="module")
def gateway(server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with keys and debug logging."""
    with gateways.gateway(server, tmp_path_factory.mktemp("gateway"), keys=keys.file, log="DEBUG") as started:
        yield started


def film(patient: str = PATIENT) -> bytes:
    """Return a DICOM file of a patient."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID = patient, NUMBER
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 160, 160, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = np.arange(160 * 160, dtype=np.uint8).tobytes()
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def ask_in_all_ways(http: httpx.Client, key: str) -> list[httpx.Response]:
    """Send key, name and image in every place of a request."""
    image, named = film(), {"X-API-Key": key}
    encoded = base64.b64encode(image).decode()
    query = {"key": key, "patient": PATIENT, "X-API-Key": key}
    wrong = key[:-8] + "deadbeef"
    return [
        http.post(PATH, content=image, headers=named | {"X-Filename": FILE}),
        http.post(PATH, content=image, headers={"Authorization": f"Bearer {key}"}),
        http.post(PATH, files={"file": (FILE, image)}, headers=named),
        http.post(PATH, files=[("file", (FILE, image)), ("file", (PATIENT, b"no image"))], headers=named),
        http.post(PATH, json={"image": encoded}, headers=named),
        http.post(PATH, json={"image": encoded[:200]}, headers=named),
        http.post(PATH, json={"url": f"https://{key}@{FILE}/{PATIENT}?{key}"}, headers=named),
        http.post(PATH, json={"object": f"{PATIENT}/{key}"}, headers=named),
        http.post(PATH, content=image[:700], headers=named),
        http.post(PATH, content=image, headers=named, params=query),
        http.post(PATH, content=image, headers={"X-API-Key": wrong}),
        http.post(PATH, content=image, headers={"Authorization": f"Basic {key}"}, params=query),
        http.post(PATH, content=image, params=query),
        http.get("/api/results", params={"text": PATIENT, "since": PATIENT, "key": key}, headers=named),
        http.get("/", params=query),
    ]


def test_logs_hold_no_key_name_or_image(gateway: Gateway, server: Server, keys: Keys) -> None:
    before = len(server.log.read_text())
    key = keys.texts["predict"]
    with httpx.Client(base_url=gateway.url, timeout=30) as http:
        responses = ask_in_all_ways(http, key)
    codes = [response.status_code for response in responses]
    assert codes[:5] == [200] * 5, [response.text for response in responses]
    assert {401, 400, 422} <= set(codes)
    logs = {"gateway": complete(gateway.log, responses[-1]), "server": server.log.read_text()[before:]}
    for where, text in logs.items():
        for part in (key, key[22:], key[-8:], "deadbeef", *PATIENT.split("^"), NUMBER, FILE, "quimbysmith"):
            assert part.lower() not in text.lower(), f"{where}: {part}"
        for image in (base64.b64encode(film())[:60].decode(), "DICM", "\\u0000\\u0001\\u0002\\u0003"):
            assert image not in text, f"{where}: {image}"
    assert len(logs["server"].splitlines()) >= 5  # the log is not empty


def complete(log: Path, last: httpx.Response) -> str:
    """Return a log once it holds the last request."""
    deadline = time.monotonic() + 5
    while last.headers["x-request-id"] not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return log.read_text()


def test_request_is_logged_in_one_line(gateway: Gateway, keys: Keys) -> None:
    headers = {"X-API-Key": keys.texts["predict"], "X-Request-Id": "the-one"}
    response = httpx.post(f"{gateway.url}{PATH}?patient={PATIENT}", content=film(), headers=headers)
    assert (response.status_code, response.headers["x-request-id"]) == (422, "the-one")  # an unknown parameter
    lines = [json.loads(line) for line in complete(gateway.log, response).splitlines() if "the-one" in line]
    assert [line["logger"] for line in lines] == ["gateway.access"]
    assert lines[0]["message"].startswith(f"POST {PATH} 422 in ")
    assert "test-predict" in lines[0]["message"]


def test_probes_are_not_logged(gateway: Gateway) -> None:
    response = httpx.get(f"{gateway.url}/live")
    last = httpx.get(f"{gateway.url}/api/nothing")
    assert response.headers["x-request-id"] not in complete(gateway.log, last)
