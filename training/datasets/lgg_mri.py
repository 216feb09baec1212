"""Lower-grade glioma slices with masks (Buda, Saha, Mazurowski 2019), in the layout of the public download.

`kaggle_3m/<case>/<case>_<N>.tif` has pre-contrast, FLAIR and post-contrast as three channels,
`<case>_<N>_mask.tif` the tumour. Other suffixes are accepted as well.
"""

import re
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Pillow

from training.datasets.duplicates import join
from training.datasets.example import Example, sha256
from training.errors import DataError

LABELS: Final = ("background", "tumour")
_SUFFIXES: Final = (".tif", ".tiff", ".png", ".webp")
_PATIENT: Final = re.compile(r"(TCGA_[A-Z0-9]{2}_[A-Z0-9]{4})_\d{8}")
_MASK: Final = "_mask"


def find(folder: Path) -> tuple[Example, ...]:
    """List the slices of a folder in a fixed order; a slice with any tumour has the label `tumour`.

    The folder contains `kaggle_3m`, or the folders of the cases directly.
    """
    return join([_example(path, mask, _top(folder)) for path, mask in files(folder)])


def files(folder: Path) -> list[tuple[Path, Path]]:
    """List the slices and masks of a folder, without reading them; `DataError` lists every file without its other."""
    top = _top(folder)
    if not top.is_dir():
        raise DataError(f"{folder}: folder not found. Give the one that contains kaggle_3m/<case>.")
    cases = sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))
    pairs = [pair for case in cases for pair in _case(case)]
    if not pairs:
        raise DataError(f"{folder}: contains no slices ({', '.join(_SUFFIXES)}) in kaggle_3m/<case>.")
    missing = [path.relative_to(top).as_posix() for path, mask in pairs if mask is None]
    if missing:
        raise DataError(
            f"{top}: {len(missing)} files lack their mask (<slice>{_MASK}) or their slice. Add it, or remove: "
            f"{', '.join(missing)}."
        )
    return [(path, mask) for path, mask in pairs if mask is not None]


def _top(folder: Path) -> Path:
    return folder / "kaggle_3m" if (folder / "kaggle_3m").is_dir() else folder


def patient(case: str) -> str:
    """Return the patient of a case from its published name."""
    match = _PATIENT.fullmatch(case)
    if match is None:
        raise DataError(f"{case}: unknown name, so the patient is unknown. Expected TCGA_<site>_<number>_<date>.")
    return match[1]


def read_mask(path: Path) -> Pillow.Image:
    """Read a mask as an image of mode `L`, 255 inside the tumour and 0 elsewhere; `DataError` if it is broken."""
    try:
        with Pillow.open(path) as image:
            return image.convert("L").point(lambda value: 255 if value else 0)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as a mask: {error} Repair or remove the file.") from error


def _case(case: Path) -> list[tuple[Path, Path | None]]:
    """Pair the slices of a case with their masks, in the order of the slices; masks without a slice come last."""
    files = {path.stem: path for path in case.iterdir() if path.suffix.lower() in _SUFFIXES}
    images = {stem: path for stem, path in files.items() if not stem.endswith(_MASK)}
    masks = [stem for stem in sorted(files.keys() - images.keys()) if stem.removesuffix(_MASK) not in images]
    pairs = [(path, files.get(stem + _MASK)) for stem, path in sorted(images.items(), key=_order)]
    return [*pairs, *((files[stem], None) for stem in masks)]


def _order(item: tuple[str, Path]) -> tuple[int, str]:
    number = item[0].rpartition("_")[2]
    return (int(number) if number.isdecimal() else -1, item[0])


def _example(path: Path, mask: Path, top: Path) -> Example:
    label = LABELS[bool(np.asarray(read_mask(mask)).any())]
    digest = sha256(path.read_bytes() + mask.read_bytes())
    return Example(path.relative_to(top).as_posix(), path, label, patient(path.parent.name), digest, mask)
