"""Writes the masks of `radserve predict --dicom-out` at the end of a call: one object for the slices of a series."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import typer

from radserve.cli.inputs import STDIN, Source
from radserve.cli.outputs import Pictures, Slice
from radserve.cli.report import Outcome, Problem
from radserve.cli.terminal import counted, safe
from radserve.errors import DicomError
from radserve.schema.segmentation import Volume

_NO_VOLUME: Final = "The slices were analysed one by one, so their volume was not measured."


@dataclass
class Masks:
    """Masks of one call by SeriesInstanceUID, and how many images and series have DICOM objects."""

    pictures: Pictures
    _series: dict[str, list[Slice]] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)  # names of images without a result
    _single: int = 0
    _framed: set[str] = field(default_factory=set)  # names of files that are counted
    _sizes: list[int] = field(default_factory=list)  # numbers of slices of the series with common objects
    _missing: dict[str, list[str]] = field(default_factory=dict)  # images without objects by reason

    def add(self, outcome: Outcome) -> None:
        """Keep the mask of an outcome."""
        if isinstance(outcome.result, Problem):
            self._failed.add(outcome.file)
        elif outcome.without_dicom is not None:
            self._framed.add(outcome.file)
            self._missing.setdefault(outcome.without_dicom, []).append(outcome.file)
        elif outcome.mask is not None:
            self._series.setdefault(outcome.mask.header.dataset.SeriesInstanceUID, []).append(outcome.mask)
        else:
            self._single += outcome.frame is None or outcome.file not in self._framed
            self._framed.add(outcome.file)

    def write(self, listed: Sequence[Source], excluded: Collection[Source] = ()) -> None:
        """Write all masks, and print which images have no objects.

        `listed` are the images of the command line; `--limit` excluded some of them.
        """
        failed, others = self._absent(listed)
        for uid, slices in self._series.items():
            if len(slices) > 1:
                reason = _absence(others.get(uid), excluded) or self._save_series(slices, failed.get(uid, 0))
                if not reason:
                    self.pictures.remove_masks([[item] for item in slices])
                    continue
                _warn(f"{reason} Each slice of the series has its own SEG and SR.")
                self.pictures.remove_masks([slices])
            for item in slices:
                self._save(item)
        for reason, files in self._missing.items():
            several = f"{len(files)} images not written as DICOM, such as {files[0]}: {reason}"
            _warn(several if len(files) > 1 else f"{files[0]}: not written as DICOM. {reason}")

    @property
    def missing(self) -> int:
        """Number of results without DICOM objects."""
        return sum(map(len, self._missing.values()))

    @property
    def counts(self) -> list[str]:
        """Number of images and series with DICOM objects, as a sentence."""
        if self.pictures.dicom is None:
            return []
        if not self._sizes and not self._single:
            return ["No DICOM objects were written."]
        series = f"{len(self._sizes)} series of {counted(sum(self._sizes), 'slice')}, " if self._sizes else ""
        return [f"DICOM objects in {self.pictures.dicom}: {series}{counted(self._single, 'single image')}."]

    def _absent(self, listed: Sequence[Source]) -> tuple[dict[str, int], dict[str, Source]]:
        """Return, by series, the number of slices without a result, and a slice that was not sent or is not valid."""
        failed: dict[str, int] = {}
        others: dict[str, Source] = {}
        several = {uid for uid, slices in self._series.items() if len(slices) > 1}
        present = {item.source for slices in self._series.values() for item in slices}
        for source in listed:
            if several <= others.keys():
                break  # the other files, which may be many, make no difference
            if source not in present:
                uid = _series_uid(source)
                if uid is not None and source.name in self._failed:
                    failed[uid] = failed.get(uid, 0) + 1
                elif uid is not None:
                    others.setdefault(uid, source)
        return failed, others

    def _save_series(self, slices: Sequence[Slice], failed: int) -> str:
        """Write the masks of a series as one object; return why that is not possible."""
        path = self.pictures.mask_path(slices, "seg")
        if path.exists() and not self.pictures.force:
            return f"{path}: exists; add --force to replace it."
        try:
            self.pictures.save_masks(slices, _volume(slices, failed))
        except DicomError as error:
            return _reason(slices) or f"{slices[0].source.name}: {error}"
        self._sizes.append(len(slices))
        return ""

    def _save(self, item: Slice) -> None:
        try:
            self.pictures.save_masks([item])
        except DicomError as error:
            self._missing.setdefault(str(error), []).append(item.source.name)
        else:
            self._single += 1


def _warn(text: str) -> None:
    typer.echo(safe(text).plain, err=True)


def _absence(source: Source | None, excluded: Collection[Source]) -> str:
    if source is None:
        return ""
    if source in excluded:
        return f"{source.name}: not sent because of --limit, so the series is incomplete."
    return f"{source.name}: this slice has no DICOM result in this call."


def _volume(slices: Sequence[Slice], failed: int) -> Volume:
    results = [item.result for item in slices]
    positive, pixels = sum(item.positive is True for item in results), sum(item.area.pixels for item in results)
    return Volume(slices=len(slices) + failed, positive_slices=positive, pixels=pixels, reason=_NO_VOLUME)


def _series_uid(source: Source) -> str | None:
    """Return the SeriesInstanceUID of a DICOM file (PS3.10), None for any other image."""
    from pydicom import dcmread

    from radserve.dicom.source import FAULTS, quiet

    if source.name == STDIN:
        return None
    try:
        with quiet():
            file = dcmread(source.name, force=True, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            return str(file.SeriesInstanceUID)
    except FAULTS:
        return None


def _reason(slices: Sequence[Slice]) -> str:
    """Name two slices that have no common object, and say why; empty if all have one."""

    def differ(*items: Slice) -> str:
        from radserve.dicom.objects import require_one_series

        try:
            require_one_series([item.header for item in items])
        except DicomError as error:
            return str(error)
        return ""

    count = bisect_left(range(len(slices) + 1), 1, key=lambda count: bool(differ(*slices[:count])))
    if count > len(slices):
        return ""
    *others, last = slices[:count]
    return next(f"{item.source.name} and {last.source.name}: {why}" for item in others if (why := differ(item, last)))
