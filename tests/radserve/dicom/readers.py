"""Programs of others that read and validate DICOM files."""

import subprocess
from pathlib import Path

from pydicom.dataset import Dataset

from radserve.dicom.objects import encode


def problems(item: Dataset, folder: Path) -> list[str]:
    """Return the errors and warnings of dciodvfy (dicom3tools) about an object."""
    path = save(item, folder)
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Warning"))]


def report_text(item: Dataset, folder: Path) -> str:
    """Return a structured report as text (dsrdump of DCMTK), which fails if its content is invalid."""
    command = ["dsrdump", "+Pc", "+Pl", str(save(item, folder))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return str(done.stdout)


def save(item: Dataset, folder: Path) -> Path:
    """Write an object to a file."""
    path = folder / f"{item.SOPInstanceUID}.dcm"
    path.write_bytes(encode(item))
    return path
