"""Writes masks, overlays, heat maps and DICOM objects of `radserve predict` as files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from radserve.cli.dicom_series import Group
from radserve.cli.inputs import Source
from radserve.client import Client
from radserve.client.conditions import Assurances, Conditions
from radserve.client.predictions import Kind as Verb
from radserve.dicom.kinds import KINDS, Kind
from radserve.errors import InvalidCallError
from radserve.schema.domain import Repair
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation, Series

_OF_SERIES: Final[tuple[Kind, ...]] = ("sr", "seg")


@dataclass(frozen=True)
class Pictures:
    """Folders for pictures; None for pictures that are not written.

    Masks (`NAME.mask.png`) and overlays (`NAME.overlay.png`) are for segmentation models, heat maps (`NAME.heat.png`)
    for classifiers, DICOM objects (`NAME.sr.dcm`, `NAME.seg.dcm`, `NAME.sc.dcm`) for DICOM images; the slices of a
    series share theirs (`series-UID.sr.dcm`, `series-UID.seg.dcm`). `force` replaces existing files.
    """

    masks: Path | None = None
    overlays: Path | None = None
    heat: Path | None = None
    dicom: Path | None = None
    force: bool = False
    assurances: Assurances = field(default_factory=dict)  # of all images
    repair: Repair | None = None  # of all images
    series: list[str] = field(default_factory=list)  # names of the series whose objects are written

    @property
    def conditions(self) -> Conditions:
        """Conditions of all predictions."""
        return {"assurances": self.assurances, "repair": self.repair}

    def check(self, groups: Sequence[Group]) -> None:
        """Check that every picture has its own new path, outside of the folders with images."""
        sources = [source for group in groups for source in group.sources]
        targets = [target for group in groups for target in self._targets(group)]
        for target, count in Counter(targets).items():
            if count > 1:
                raise InvalidCallError(f"{target}: {count} images have this picture; send them one by one.")
        folders = {source.folder.resolve() for source in sources if source.folder is not None}
        images = {Path(source.name).resolve() for source in sources}
        for target in targets:
            path = target.resolve()
            # The next call would send the picture as an image.
            if path in images or not folders.isdisjoint(path.parents):
                raise InvalidCallError(f"{target}: is in a folder of images; choose another folder.")
        existing = [] if self.force else [target for target in targets if target.exists()]
        if existing:
            raise InvalidCallError(
                f"{existing[0]}: exists, as do {len(existing)} of {len(targets)} pictures; add --force to replace them."
            )

    def _targets(self, group: Group) -> Iterator[Path]:
        for folder, kind in ((self.masks, "mask"), (self.overlays, "overlay"), (self.heat, "heat")):
            if folder is not None:
                yield from (_target(folder, source, f"{kind}.png") for source in group.sources)
        if self.dicom is not None and group.uid is not None:
            yield from (self.dicom / f"{group.name}.{kind}.dcm" for kind in _OF_SERIES)
        elif self.dicom is not None:
            yield from (_target(self.dicom, source, f"{kind}.dcm") for source in group.sources for kind in KINDS)

    def save(self, client: Client, source: Source, content: bytes, result: Prediction | Segmentation) -> None:
        """Write the pictures of a result.

        Raises InvalidCallError if the model has none, or a file cannot be written.
        """
        name = result.model.name
        if isinstance(result, Prediction):
            if self.masks or self.overlays:
                raise InvalidCallError(f"{name} is a classifier and has no masks; use --explain DIR for heat maps.")
            if self.heat:
                heat = self._picture(client, content, result, "explanations")
                self._write(_target(self.heat, source, "heat.png"), heat)
            return
        if self.heat:
            raise InvalidCallError(f"{name} is a segmentation model; use --masks DIR or --overlays DIR.")
        if self.masks:
            self._write(_target(self.masks, source, "mask.png"), result.mask.png)
        if self.overlays:
            overlay = self._picture(client, content, result, "predictions")
            self._write(_target(self.overlays, source, "overlay.png"), overlay)

    def save_dicom(self, client: Client, source: Source, content: bytes, result: Prediction | Segmentation) -> None:
        """Write the DICOM objects of a result; raises DicomError if the image is not a valid DICOM file."""
        if self.dicom is None:
            return
        from radserve.dicom import requests
        from radserve.dicom.objects import encode

        objects = requests.complete(client, content, result, **self.conditions)
        for kind, item in objects.items():
            self._write(_target(self.dicom, source, f"{kind}.dcm"), encode(item))

    def save_series(self, name: str, contents: Sequence[bytes], series: Series) -> None:
        """Write the masks of a series as one object, with its report; raises DicomError if that is not possible."""
        if self.dicom is None:
            return
        from radserve.dicom.objects import encode, of_series

        for kind, item in of_series(contents, series, _OF_SERIES).items():
            self._write(self.dicom / f"{name}.{kind}.dcm", encode(item))
        self.series.append(name)

    def _picture(self, client: Client, content: bytes, result: Prediction | Segmentation, of: Verb) -> bytes:
        name, version = result.model.name, result.model.version
        return client.picture(name, content, version, of=of, size=result.image, **self.conditions)

    def _write(self, target: Path, content: bytes) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # "x" fails if another process created the file since `check`.
            with target.open("wb" if self.force else "xb") as file:
                file.write(content)
        except OSError as error:
            raise InvalidCallError(f"{target}: cannot be written ({error.strerror}).") from error


def _target(folder: Path, source: Source, suffix: str) -> Path:
    return folder / source.stem.with_name(f"{source.stem.name}.{suffix}")


def require_highdicom() -> None:
    """Raise InvalidCallError if DICOM objects cannot be written."""
    if find_spec("highdicom") is None:
        raise InvalidCallError("--dicom-out needs highdicom: pip install 'radserve[dicom]'.")
