"""Sends images to a server, and writes the pictures of their results."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from radserve.cli import dicom_series
from radserve.cli.dicom_series import Group
from radserve.cli.inputs import Source
from radserve.cli.outputs import Pictures
from radserve.cli.report import Outcome, Problem
from radserve.client import Client
from radserve.errors import DicomError, InvalidCallError, InvalidResponseError, ProblemError, ResponseTimeoutError
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation, Series

T = TypeVar("T")

_CONCERNS_ALL: Final = frozenset({401, 403, 404, 405})  # statuses that every other image would get, too
_ZIP: Final = b"PK\3\4"
_NOTHING: Final = Problem(None, "No image", "None of the slices can be read.")


@dataclass(frozen=True)
class Image:
    """Content of an image, and its checksum, which is that of a longer file if the content is cut."""

    source: Source
    content: bytes
    sha256: str | None


@dataclass(frozen=True)
class Analysis:
    """What all images of a call have in common."""

    client: Client
    name: str
    version: str | None
    pictures: Pictures

    def outcomes(self, group: Group) -> list[Outcome]:
        """Return one outcome for each image of a group; errors that concern every image are raised."""
        if group.uid is None:
            return [self._image(source) for source in group.sources]
        return self._series(group)

    def _image(self, source: Source) -> Outcome:
        """Send one image; an image whose pictures fail has no result."""
        image = self._read(source)
        if isinstance(image, Problem):
            return Outcome(source.name, image)

        def send() -> Outcome:
            stated = self.pictures.conditions
            result = self.client.predict(self.name, image.content, self.version, **stated)
            self.pictures.save(self.client, source, image.content, result)
            try:
                self.pictures.save_dicom(self.client, source, image.content, result)
            except DicomError as error:
                return Outcome(source.name, result, str(error))
            return Outcome(source.name, result)

        outcome = _attempt(send, image.sha256)
        return Outcome(source.name, outcome) if isinstance(outcome, Problem) else outcome

    def _series(self, group: Group) -> list[Outcome]:
        """Send the slices of a series together; a rejected slice does not affect the others."""
        read = [self._read(source) for source in group.sources]
        images = [item for item in read if isinstance(item, Image)]
        sent = _attempt(lambda: self._analysed(images), None) if images else _NOTHING
        note = self._save_series(group, images, sent) if isinstance(sent, Series) else None
        answers = iter(sent.predictions if isinstance(sent, Series) else [sent] * len(images))
        outcomes = []
        for source, item in zip(group.sources, read, strict=True):
            result = item if isinstance(item, Problem) else self._with_pictures(item, next(answers))
            has_result = not isinstance(result, Problem)
            outcomes.append(Outcome(source.name, result, note if has_result else None))
            note = None if has_result else note  # once for the whole series
        return outcomes

    def _analysed(self, images: Sequence[Image]) -> Series:
        contents = [image.content for image in images]
        return dicom_series.analyse(self.client, self.name, self.version, contents, self.pictures.conditions)

    def _with_pictures(self, image: Image, item: Segmentation | RejectedImage | Problem) -> Segmentation | Problem:
        if isinstance(item, Problem):
            return replace(item, image_sha256=image.sha256)
        if isinstance(item, RejectedImage):
            domain = None if item.domain is None else item.domain.model_dump()
            return Problem(item.status, item.title, item.detail, domain, image.sha256)

        def save() -> Segmentation:
            self.pictures.save(self.client, image.source, image.content, item)
            return item

        return _attempt(save, image.sha256)

    def _save_series(self, group: Group, images: Sequence[Image], series: Series) -> str | None:
        """Write the objects of a series; return why there are none."""
        if group.missing:
            return dicom_series.incomplete(group)
        try:
            self.pictures.save_series(group.name, [image.content for image in images], series)
        except DicomError as error:
            return f"Series of {len(group.sources)} slices: {error}"
        return None

    def _read(self, source: Source) -> Image | Problem:
        limit = self.client.max_bytes
        try:
            content = source.content(limit)
            sha256 = hashlib.sha256(content).hexdigest() if len(content) <= limit else source.sha256()
        except OSError as error:
            return Problem(None, "Unreadable file", error.strerror or str(error))
        if content.startswith(_ZIP):
            return Problem(None, "Zip file", "A zip can hold several images; unpack it and send the folder.")
        return Image(source, content, sha256)


def _attempt(send: Callable[[], T], sha256: str | None) -> T | Problem:
    """Return what a request gives, or the problem with its image; errors that concern every image are raised."""
    try:
        return send()
    except ProblemError as error:
        if error.status in _CONCERNS_ALL:
            raise InvalidCallError(str(error)) from error
        return Problem(error.status, error.title, error.detail, error.extensions.get("domain"), sha256)
    except ResponseTimeoutError as error:
        return Problem(None, "Timeout", str(error), image_sha256=sha256)
    except InvalidResponseError as error:
        reason = str(error).removeprefix("Invalid response: ")
        return Problem(None, "Invalid response", reason, image_sha256=sha256)
