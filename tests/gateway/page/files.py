"""Files to analyse on the page."""

from typing import Any

import numpy as np
from PIL import Image as Pillow
from playwright.sync_api import FilePayload, Page

from tests.conftest import ROOT
from tests.handlers.images import dicom, saved

SAMPLE = ROOT / "archives" / "chest-xray-cnn" / "sample.png"


def payload(name: str, content: bytes) -> FilePayload:
    """Return a file for an input element, without a media type."""
    return {"name": name, "mimeType": "", "buffer": content}


def jpeg() -> bytes:
    """Return the sample as JPEG."""
    return saved(Pillow.open(SAMPLE), "JPEG", quality=95)


def inverted_dicom() -> bytes:
    """Return the sample as DICOM with inverted values (MONOCHROME1), which browsers cannot show."""
    pixels = 4095 - np.asarray(Pillow.open(SAMPLE)).astype(np.uint16) * 16
    shown: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2048, "WindowWidth": 4096}
    return dicom(pixels, Modality="DX", BodyPartExamined="CHEST", ViewPosition="PA", **shown)


def pick(page: Page, name: str) -> None:
    """Choose another model."""
    page.get_by_role("button", name="Change", exact=True).click()
    page.locator(f"[data-name={name}]").click()


def choose(page: Page, *files: FilePayload) -> None:
    """Choose files."""
    page.set_input_files("#pick", list(files))
