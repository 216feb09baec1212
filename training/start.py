"""Weights that a training run starts with (`--from`): where they come from, and which images they have seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handlers import recipe as recipes
from training.datasets.training_data import Sides
from training.errors import RunError
from training.metrics import report

IMAGES: Final = "training_images.txt"  # in a run's folder: SHA-256 of each image that its weights were trained on


@dataclass(frozen=True)
class Start:
    """Initial weights; without a file, random ones."""

    weights: Path | None = None
    commands: tuple[str, ...] = ()  # that trained them; empty if unknown
    images: frozenset[str] | None = frozenset()  # SHA-256 of all training images; None if unknown

    def write_images(self, out: Path, sides: Sides) -> None:
        """Record the images of these weights and of the training side, unless the former are unknown."""
        if self.images is None:
            # An incomplete list would pass for a complete one.
            (out / IMAGES).unlink(missing_ok=True)
            return
        seen = self.images | {example.sha256 for example in sides.train}
        (out / IMAGES).write_text("".join(f"{sha256}\n" for sha256 in sorted(seen)), encoding="ascii")


def starting_point(folder: Path, sides: Sides) -> Start:
    """Return the weights of a released run or model folder.

    Raises `RunError` if they may have been trained on images of the validation side. Weights of another split, such as
    those of another data set, are accepted if their run recorded its images and none of them is on that side. This
    compares bytes: resized copies are not noticed.
    """
    recipe, metrics = recipes.load(folder / "archive.yaml"), folder / "metrics.json"
    if not metrics.is_file():
        raise RunError(f"{metrics}: not found, so the training data of the weights is unknown. Give a released run.")
    previous = report.load(metrics)
    images = _recorded(folder)
    if previous.split.sha256 != sides.sha256:
        _check_unseen(folder, images, sides, previous.split.sha256)
    return Start(folder / recipe.weights.file, previous.training, images)


def _recorded(folder: Path) -> frozenset[str] | None:
    path = folder / IMAGES
    return frozenset(path.read_text(encoding="ascii").split()) if path.is_file() else None


def _check_unseen(folder: Path, images: frozenset[str] | None, sides: Sides, split: str) -> None:
    seen = [example.name for example in sides.validation if example.sha256 in (images or ())]
    if images is not None and not seen:
        return
    reason = f"validation images are among its training images: {seen[0]}" if seen else f"it has no {IMAGES}"
    raise RunError(
        f"{folder}: was trained on another split ({split[:12]}) than this run has ({sides.sha256[:12]}), and {reason}. "
        "Use the same data, seed and share, or a run on other images that recorded them."
    )
