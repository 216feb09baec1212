"""Headers that order slices."""

import base64
from io import BytesIO

import numpy as np
import pytest
from playwright.sync_api import Page
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.gateway.page.slices import slice_dicom
from tests.handlers.images import dicom, film, saved

pytestmark = pytest.mark.e2e
HEADERS = """async files => {
    const { readHeader } = await import("/js/dicom_header.js");
    return files.map((text) => readHeader(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer));
}"""


def with_sequence(content: bytes, *, undefined: bool) -> bytes:
    """Return a DICOM file with nested sequences before the elements that order slices."""
    dataset = dcmread(BytesIO(content))
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "1"
    inner.InstanceNumber = 99  # of another object
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    dataset.ReferencedImageSequence = Sequence([outer, outer])
    for item, name in ((dataset, "ReferencedImageSequence"), (outer, "PurposeOfReferenceCodeSequence")):
        item[name].is_undefined_length = undefined
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def test_headers_are_read_in_every_syntax(modules: Page) -> None:
    readable = [
        slice_dicom(12.5, 3, syntax)
        for syntax in (
            uid.ExplicitVRLittleEndian,
            uid.ImplicitVRLittleEndian,
            uid.JPEG2000Lossless,
        )
    ]
    readable += [with_sequence(slice_dicom(12.5, 3), undefined=undefined) for undefined in (True, False)]
    readable += [with_sequence(slice_dicom(12.5, 3, uid.ImplicitVRLittleEndian), undefined=True)]
    unread = (uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    others = [*(slice_dicom(12.5, 3, syntax) for syntax in unread), saved(film(), "PNG"), b""]
    plain = dicom(film(), SliceThickness="", InstanceNumber=None, ImagePositionPatient=[1, 2, 3])
    cut = slice_dicom(12.5, 3)[:600]
    headers = modules.evaluate(
        HEADERS, [base64.b64encode(item).decode() for item in (*readable, *others, plain, cut, *fuzz())]
    )
    expected = {
        "patient": "SECRET-4711",
        "study": None,
        "frame": None,
        "series": "1.2.826.0.1.3680043.8.498.7",
        "modality": "MR",
        "instance": 3,
        "position": [-32, -32, 12.5],
        "orientation": [1, 0, 0, 0, 1, 0],
        "thickness": 4,
        "between": None,
        "frames": None,
        "rows": 64,
        "columns": 64,
    }
    assert headers[: len(readable)] == [expected] * len(readable)
    headers = headers[len(readable) :]
    assert headers[: len(others)] == [None] * len(others)
    headers = headers[len(others) :]
    assert headers[0] == dict.fromkeys(expected) | {
        "patient": "SECRET-4711",
        "modality": "DX",
        "position": [1, 2, 3],
        "frames": None,
        "rows": 40,
        "columns": 48,
    }
    assert headers[1]["series"] in (None, expected["series"])  # and none of the damaged files raises an error


def fuzz() -> list[bytes]:
    """Return damaged copies of a slice."""
    content = with_sequence(slice_dicom(12.5, 3), undefined=True)[:1200]
    random = np.random.default_rng(1)
    copies = []
    for _ in range(200):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(132, len(content), 20)] = random.integers(0, 256, 20)
        copies.append(damaged.tobytes())
    nested = (
        content[:132]
        + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
        + b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" * 10_000
    )
    return [*copies, nested]
