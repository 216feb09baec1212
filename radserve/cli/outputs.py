"""Writes masks, overlays, heat maps and DICOM objects of `radserve predict` as files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from radserve.cli.inputs import Source
from radserve.client import Client
from radserve.client.conditions import Assurances, Conditions
from radserve.client.predictions import Kind as Verb
from radserve.client.results import Results
from radserve.dicom.kinds import KINDS, Kind
from radserve.errors import InvalidCallError
from radserve.schema.domain import Repair
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation, Volume

if TYPE_CHECKING:
    from radserve.dicom.source import Source as Header

_MASK_KINDS: Final[tuple[Kind, ...]] = ("sr", "seg")


@dataclass(frozen=True)
class Slice:
    """A mask that is not written yet: its image, what the DICOM file declares, and the result."""

    source: Source
    header: "Header"
    result: Segmentation


@dataclass(frozen=True)
class Pictures:
    """Folders for pictures; None for pictures that are not written.

    Masks (`NAME.mask.png`, of frames `NAME.mask/1.png` ...) and overlays (`NAME.overlay.png`) are for segmentation
    models, heat maps (`NAME.heat.png`) for classifiers, DICOM objects (`NAME.sr.dcm`, `NAME.seg.dcm`, `NAME.sc.dcm`)
    for DICOM images; the masks of a series are `series-UID.seg.dcm` and `series-UID.sr.dcm`. `force` replaces existing
    files.
    """

    masks: Path | None = None
    overlays: Path | None = None
    heat: Path | None = None
    dicom: Path | None = None
    force: bool = False
    assurances: Assurances = field(default_factory=dict)  # of all images
    repair: Repair | None = None  # of all images

    @property
    def conditions(self) -> Conditions:
        """Conditions of all predictions."""
        return {"assurances": self.assurances, "repair": self.repair}

    @property
    def places(self) -> list[str]:
        """Folders of the PNG files, as sentences."""
        folders = {"Masks": self.masks, "Overlays": self.overlays, "Heat maps": self.heat}
        return [f"{kind} in {folder}." for kind, folder in folders.items() if folder is not None]

    def check(self, sources: Sequence[Source]) -> None:
        """Check that every picture has its own new path, outside of the folders with images."""
        if self.dicom is not None:
            _require_highdicom()
        targets = [target for source in sources for target in self._targets(source)]
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
        framed = [_target(self.masks, source, "mask") for source in sources] if self.masks else []
        existing = [] if self.force else [target for target in (*targets, *framed) if target.exists()]
        if existing:
            raise InvalidCallError(
                f"{existing[0]}: exists, as do {len(existing)} of {len(targets)} pictures; add --force to replace them."
            )

    def _targets(self, source: Source) -> Iterator[Path]:
        for folder, kind in ((self.masks, "mask"), (self.overlays, "overlay"), (self.heat, "heat")):
            if folder is not None:
                yield _target(folder, source, f"{kind}.png")
        if self.dicom is not None:
            for kind in KINDS:
                yield _target(self.dicom, source, f"{kind}.dcm")

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

    def save_frames(self, source: Source, content: bytes, results: Results) -> None:
        """Write the masks of a file with several frames, one for each, and its DICOM objects.

        Raises DicomError if there are none, InvalidCallError if one cannot be written.
        """
        masks = [item for item in results if isinstance(item, Segmentation)]
        for item in masks if self.masks else ():
            assert self.masks is not None
            self._write(_target(self.masks, source, "mask") / f"{item.image.frame}.png", item.mask.png)
        if self.dicom is None:
            return
        from radserve.dicom.objects import encode
        from radserve.dicom.requests import of_frames

        for kind, dataset in of_frames(content, results).items():
            self._write(_target(self.dicom, source, f"{kind}.dcm"), encode(dataset))

    def save_dicom(
        self, client: Client, source: Source, content: bytes, result: Prediction | Segmentation
    ) -> Slice | None:
        """Write the DICOM objects of a result, except its mask, which is returned.

        Raises DicomError if the image is not a valid DICOM file.
        """
        if self.dicom is None:
            return None
        from radserve.dicom import requests
        from radserve.dicom.objects import encode
        from radserve.dicom.source import read

        kinds: tuple[Kind, ...] = ("sc",) if isinstance(result, Segmentation) else KINDS
        for kind, item in requests.complete(client, content, result, kinds, **self.conditions).items():
            self._write(_target(self.dicom, source, f"{kind}.dcm"), encode(item))
        return Slice(source, read(content), result) if isinstance(result, Segmentation) else None

    def save_masks(self, slices: Sequence[Slice], volume: Volume | None = None) -> None:
        """Write the mask of an image, or those of a series as one object; raises DicomError if they cannot be one."""
        from radserve.dicom.objects import encode, of_slices

        objects = of_slices(tuple(item.header for item in slices), tuple(item.result for item in slices), volume)
        for kind, item in objects.items():
            self._write(self.mask_path(slices, kind), encode(item))

    def remove_masks(self, forms: Sequence[Sequence[Slice]]) -> None:
        """Remove what an earlier call wrote in another form, of single slices or of a series, if it may be replaced."""
        if self.force:
            for slices in forms:
                for kind in _MASK_KINDS:
                    self.mask_path(slices, kind).unlink(missing_ok=True)

    def mask_path(self, slices: Sequence[Slice], kind: Kind) -> Path:
        """Return the path of the mask of an image, or of a series."""
        assert self.dicom is not None  # there are no slices otherwise
        if len(slices) == 1:
            return _target(self.dicom, slices[0].source, f"{kind}.dcm")
        return self.dicom / f"series-{slices[0].header.dataset.SeriesInstanceUID}.{kind}.dcm"

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


def _require_highdicom() -> None:
    if find_spec("highdicom") is None:
        raise InvalidCallError("--dicom-out needs highdicom: pip install 'radserve[dicom]'.")
