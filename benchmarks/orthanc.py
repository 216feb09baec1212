"""Starts an Orthanc as a PACS on free ports, for benchmarks and tests, and makes films for it."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from PIL import Image as Pillow
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from benchmarks.server import CHECKOUT, free_ports

STUDY: Final = "1.2.826.0.1.3680043.8.498.7"
SERIES: Final = "1.2.826.0.1.3680043.8.498.8"


def film(number: int, **attributes: Any) -> bytes:
    """Return a synthetic chest film of a child as DICOM, the number in its SOP Instance UID."""
    sample = Pillow.open(CHECKOUT / "archives/chest-xray-cnn/sample.png").convert("L")
    pixels = np.array(sample, dtype=np.uint8)
    pixels[0, :4] = np.frombuffer(number.to_bytes(4), dtype=np.uint8)  # no two films are the same
    dataset = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": uid.DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": f"{SERIES}.{number}",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "StudyDate": time.strftime("%Y%m%d"),
        "StudyTime": "101112",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "AP",
        "PatientOrientation": ["L", "F"],
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientName": "Synthetic^Film",
        "PatientID": "S1",
        "PatientAge": "003Y",
        "InstanceNumber": number,
        "ImagerPixelSpacing": [0.2, 0.2],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes() + b"\0" * (pixels.size % 2),
    }
    for keyword, value in (values | attributes).items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


class Orthanc:
    """An Orthanc with the settings of docker/pacs, but for paths and addresses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http_port, self.dicom_port, self.loop_port = free_ports(3)
        self.url = f"http://127.0.0.1:{self.http_port}"
        self._process: subprocess.Popen[bytes] | None = None
        data = folder / "data"
        data.mkdir(parents=True)
        settings = json.loads((CHECKOUT / "docker/pacs/orthanc.json").read_text(encoding="utf-8")) | {
            "StorageDirectory": str(data),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "RemoteAccessAllowed": False,
            "DicomModalities": {"loop": ["RADSERVE", "127.0.0.1", self.loop_port]},
        }
        # Debian's place; that of the image is orthancteam/orthanc's.
        settings["Plugins"] = [path.replace("plugins-available", "plugins") for path in settings["Plugins"]]
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["Orthanc", self.folder / "orthanc.json"], stdout=log, stderr=log)
        wait_for(self._answers)

    def stop(self) -> None:
        """Stop; the stored objects remain."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            return httpx.get(f"{self.url}/system").is_success
        except httpx.TransportError:
            return False

    def store(self, content: bytes) -> None:
        """Store an object."""
        httpx.post(f"{self.url}/instances", content=content).raise_for_status()

    def objects(self, modality: str) -> list[dict[str, Any]]:
        """Return the tags of all objects of a modality."""
        query = {"Level": "Instance", "Query": {"Modality": modality}}
        found = httpx.post(f"{self.url}/tools/find", json=query, timeout=30).json()
        return [httpx.get(f"{self.url}/instances/{item}/simplified-tags", timeout=30).json() for item in found]

    def clear(self) -> None:
        """Delete all objects."""
        for patient in httpx.get(f"{self.url}/patients").json():
            httpx.delete(f"{self.url}/patients/{patient}").raise_for_status()


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """Run an Orthanc."""
    orthanc = Orthanc(folder)
    orthanc.start()
    try:
        yield orthanc
    finally:
        orthanc.stop()


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)
