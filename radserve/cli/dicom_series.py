"""Slices of DICOM series, whose results `radserve predict --dicom-out` writes as one object."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from radserve.cli.inputs import STDIN, Source
from radserve.cli.terminal import counted
from radserve.client import Client
from radserve.client.conditions import Conditions
from radserve.errors import DicomError, RejectedRequestError
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation, Series, Volume

_MAX_IMAGES: Final = 160
_MAX_BYTES: Final = 24_000_000  # of the images of one request, which base64 lengthens by a third; as the page
_SPLIT: Final = "The series was too large for one request, so its volume was not measured."


@dataclass(frozen=True)
class Group:
    """Images that are analysed together: one, or the slices of the DICOM series `uid`.

    `missing` slices of the series are not in this call.
    """

    sources: tuple[Source, ...]
    uid: str | None = None
    missing: int = 0

    @property
    def name(self) -> str:
        """Name of the objects of a series."""
        return f"series-{self.uid}"


def alone(sources: Iterable[Source]) -> list[Group]:
    """Return a group for each image."""
    return [Group((source,)) for source in sources]


def groups(listed: Sequence[Source], pending: Sequence[Source]) -> tuple[list[Group], list[str]]:
    """Group the pending images by series, in the order of their first images; the series are those of all listed ones.

    Also returns notes about series whose slices have no common result, and are therefore analysed one by one.
    """
    series: dict[str, list[Source]] = {}
    for source in listed:
        if (uid := _series_uid(source)) is not None:
            series.setdefault(uid, []).append(source)
    notes: list[str] = []
    together: dict[Source, str] = {}
    for uid, slices in series.items():
        if len(slices) > 1:
            reason = _separate(slices)
            together |= {} if reason else dict.fromkeys(slices, uid)
            notes += [f"Series {uid}, {len(slices)} slices: one result for each slice. {reason}"] if reason else []
    members: dict[str | Source, list[Source]] = {}
    for source in pending:
        members.setdefault(together.get(source, source), []).append(source)
    return [
        Group(tuple(slices), key, len(series[key]) - len(slices)) if isinstance(key, str) else Group(tuple(slices))
        for key, slices in members.items()
    ], notes


def _series_uid(source: Source) -> str | None:
    """Return the valid SeriesInstanceUID of a DICOM file (PS3.10), None for any other image."""
    from pydicom import dcmread
    from pydicom.uid import UID

    from radserve.dicom.source import FAULTS, quiet

    if source.name == STDIN:
        return None
    try:
        with quiet():
            file = dcmread(source.name, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            uid = UID(file.SeriesInstanceUID)
    except FAULTS:
        return None
    return str(uid) if uid.is_valid else None


def _separate(slices: Sequence[Source]) -> str:
    """Return why slices have no common result; empty if they have one. The server rejects damaged slices later."""
    from radserve.dicom.objects import require_one_series
    from radserve.dicom.source import read

    valid = []
    for source in slices:
        try:
            valid.append(read(Path(source.name).read_bytes()))
        except (DicomError, OSError):
            continue
    try:
        require_one_series(valid)
    except DicomError as error:
        return str(error)
    return ""


def analyse(
    client: Client, name: str, version: str | None, contents: Sequence[bytes], conditions: Conditions
) -> Series:
    """Return the results of the slices of a series, from as few requests as the limits of a server allow."""
    waiting = list(_shares([len(content) for content in contents]))
    results: dict[int, Segmentation | RejectedImage] = {}
    while waiting:
        indices = waiting.pop(0)
        try:
            part = client.predict_series(name, [contents[index] for index in indices], version, **conditions)
        except RejectedRequestError as error:
            if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            if len(indices) > 1:
                waiting += [indices[::2], indices[1::2]]
            else:
                results[indices[0]] = RejectedImage(status=error.status, title=error.title, detail=error.detail)
            continue
        if len(indices) == len(contents):
            return part
        results |= zip(indices, part.predictions, strict=True)
    ordered = tuple(results[index] for index in range(len(contents)))
    masks = [item for item in ordered if isinstance(item, Segmentation)]
    pixels, positive = sum(item.area.pixels for item in masks), sum(item.positive is True for item in masks)
    volume = Volume(slices=len(ordered), positive_slices=positive, pixels=pixels, reason=_SPLIT)
    return Series(predictions=ordered, volume=volume)


def _shares(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Split slices into requests. Each gets slices of the whole stack: many at one end are unlike training images."""
    count = max(-(-len(sizes) // _MAX_IMAGES), -(-sum(sizes) // _MAX_BYTES), 1)
    indices = list(range(len(sizes)))
    return (part for first in range(count) if (part := indices[first::count]))


def incomplete(group: Group) -> str:
    """Say why a series without some of its slices has no object."""
    total = len(group.sources) + group.missing
    return (
        f"Only {len(group.sources)} of the {counted(total, 'slice')} of this series are sent. "
        "Send all of them in one call, without --limit and --resume."
    )
