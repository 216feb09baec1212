"""Synthetic glioma slices in the layout of the public download."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_slices(folder: Path, patients: int = 4) -> Path:
    """Write three slices of each patient, the first of which is empty."""
    for patient in range(patients):
        case = folder / "kaggle_3m" / f"TCGA_AA_000{patient}_20200101"
        case.mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(patient * 10 + number).integers(0, 255, (20, 24, 3), dtype=np.uint8)
            mask = np.zeros((20, 24), dtype=np.uint8)
            mask[5 : 5 + 3 * number, 5:9] = 255
            Image.fromarray(pixels).save(case / f"{case.name}_{number}.tif")
            Image.fromarray(mask).save(case / f"{case.name}_{number}_mask.tif")
    return folder
