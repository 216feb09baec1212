"""Chooses what runs the forward pass of an archive: torch, or ONNX Runtime where the recipe says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from handlers.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXPORTED: Final = "program.pt2"
ONNX: Final = "program.onnx"


class Engine(Protocol):
    """Runs the program of an archive; see `handlers.program.Program`."""

    def run(
        self, batch: NDArray[np.float32], outputs: Sequence[str] = ("logits",)
    ) -> Mapping[str, NDArray[np.float32]]:
        """Run one batch (N, channels, height, width); return the named outputs, N rows each."""

    def gradients(
        self, batch: NDArray[np.float32], weights: NDArray[np.float32], output: str
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Differentiate a weighted sum of each row's logits by another output of the same row."""


def members(recipe: Recipe) -> tuple[str, ...]:
    """Return the files of an archive that its engine reads."""
    return (EXPORTED, ONNX) if recipe.runtime.engine == "onnxruntime" else (EXPORTED,)


def load(folder: Path, recipe: Recipe, device: str = "cpu") -> Engine:
    """Load the program of an unpacked archive; raises `ProgramError` if it is damaged.

    Other devices than the CPU always use torch.
    """
    # Imported here: the supervisor verifies archives without numpy, torch and ONNX Runtime.
    if recipe.runtime.engine == "onnxruntime" and device == "cpu":
        from handlers.onnx_program import OnnxProgram

        return OnnxProgram(folder / ONNX, folder / EXPORTED)
    from handlers.program import Program

    return Program(folder / EXPORTED, device)
