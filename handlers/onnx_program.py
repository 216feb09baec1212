"""Runs the forward pass of an archive on ONNX Runtime, where its recipe chooses it.

`program.onnx` beside the exported program holds the same graph. Its weights are those in `program.pt2`, referred to by
offset (ONNX external data), so that no archive holds them twice. Gradients still need torch.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from handlers.errors import ProgramError
from handlers.program import Program

_OUT_OF_MEMORY: Final = re.compile(r"failed to allocate|bad_alloc", re.IGNORECASE)


class OnnxProgram:
    """A graph, loaded by ONNX Runtime on the CPU with as many threads as torch uses.

    Raises `ProgramError` if the graph, or the weights that it refers to, are missing or invalid.
    """

    def __init__(self, graph: Path, exported: Path) -> None:
        self._exported = exported
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        # Idle threads would otherwise spin, and take the cores from the other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise ProgramError(f"{graph}: rejected by ONNX Runtime {onnxruntime.__version__}: {error}") from error
        (image,) = self._session.get_inputs()
        self._input = image.name

    def run(
        self, batch: NDArray[np.float32], outputs: Sequence[str] = ("logits",)
    ) -> Mapping[str, NDArray[np.float32]]:
        """Run one batch (N, channels, height, width); return only the named outputs, N rows each.

        Raises `MemoryError` if memory runs out, and `RuntimeError` after other errors of ONNX Runtime.
        """
        try:
            rows = self._session.run(list(outputs), {self._input: batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            kind = MemoryError if _OUT_OF_MEMORY.search(str(error)) else RuntimeError
            raise kind(f"ONNX Runtime failed: {error}") from error
        return dict(zip(outputs, rows, strict=True))

    def gradients(
        self, batch: NDArray[np.float32], weights: NDArray[np.float32], output: str
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what `Program.gradients` returns, computed by torch."""
        return self._program.gradients(batch, weights, output)

    @cached_property  # models without explanations never need it
    def _program(self) -> Program:
        return Program(self._exported)
