"""Masks, overlays and heat maps as files: what `radserve predict` writes beside its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from radserve.cli.inputs import Source
from radserve.client import Client
from radserve.errors import InvalidCallError
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation


@dataclass(frozen=True)
class Pictures:
    """Which pictures are wanted, and where.

    Attributes
    ----------
    masks, overlays
        Folders for what a segmentation model found: `NAME.mask.png`, and `NAME.overlay.png` on the image.
    heat
        Folder for what a classifier looked at, on the image: `NAME.heat.png`.
    force
        Whether files that exist are replaced.
    """

    masks: Path | None = None
    overlays: Path | None = None
    heat: Path | None = None
    force: bool = False

    def check(self, sources: Sequence[Source]) -> None:
        """Check, before anything is asked, that every picture has a place of its own.

        Raises
        ------
        WrongCall
            If two images would share one, or a file is there already.
        """
        targets = [target for source in sources for target in self._targets(source)]
        for target, count in Counter(targets).items():
            if count > 1:
                raise InvalidCallError(f"{target}: {count} images would be written there; ask about them one by one.")
        named = {folder.resolve() for folder in {source.folder for source in sources} if folder is not None}
        inputs = {Path(source.name).resolve() for source in sources}
        for target in targets:
            place = target.resolve()
            # Another call would take it for an image.
            if place in inputs or not named.isdisjoint(place.parents):
                raise InvalidCallError(f"{target}: lies among the images themselves; choose another folder.")
        there = [] if self.force else [target for target in targets if target.exists()]
        if there:
            raise InvalidCallError(
                f"{there[0]}: exists ({len(there)} of {len(targets)} do); add --force to replace them."
            )

    def _targets(self, source: Source) -> Iterator[Path]:
        for folder, kind in ((self.masks, "mask"), (self.overlays, "overlay"), (self.heat, "heat")):
            if folder is not None:
                yield _target(folder, source, kind)

    def save(self, client: Client, source: Source, content: bytes, answer: Prediction | Segmentation) -> None:
        """Write the pictures that belong to an answer.

        Raises
        ------
        WrongCall
            If the model has no such pictures, or a file cannot be written: another image would fare no better.
        ProblemError, Unreachable, TimedOut, NotAnAnswer
            If the server does not give one.
        """
        name, version = answer.model.name, answer.model.version
        if isinstance(answer, Prediction):
            if self.masks or self.overlays:
                raise InvalidCallError(
                    f"{name} is a classifier, so it has no masks; --explain DIR shows where it looked."
                )
            if self.heat:
                heat = client.picture(name, content, version, of="explanations", size=answer.image)
                self._write(_target(self.heat, source, "heat"), heat)
            return
        if self.heat:
            raise InvalidCallError(f"{name} gives a mask, which is its explanation: --masks DIR or --overlays DIR.")
        if self.masks:
            self._write(_target(self.masks, source, "mask"), answer.mask.png)
        if self.overlays:
            overlay = client.picture(name, content, version, size=answer.image)
            self._write(_target(self.overlays, source, "overlay"), overlay)

    def _write(self, target: Path, png: bytes) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # "x" fails where somebody has put a file meanwhile.
            with target.open("wb" if self.force else "xb") as file:
                file.write(png)
        except OSError as error:
            raise InvalidCallError(f"{target}: cannot be written ({error.strerror}).") from error


def _target(folder: Path, source: Source, kind: str) -> Path:
    return folder / source.place.with_name(f"{source.place.name}.{kind}.png")
