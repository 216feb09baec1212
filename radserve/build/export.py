"""Exports a network as a program, and verifies that both compute the same."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch

from handlers.program import Program
from radserve.build.trained_network import fuse
from radserve.errors import BuildError

_NONDETERMINISTIC: Final = ("stack_trace", "from_node")
"""Metadata of the exporter that contains local paths and memory addresses."""
_TOLERANCE: Final = 1e-4
"""Largest difference between exported and eager outputs, relative to the largest output or 1, whichever is larger:
rounding errors grow with the values that are summed."""
_BATCHES: Final = (1, 3)  # batch sizes to verify; both differ from the one used for the export


def export(network: torch.nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    """Export a network with a dynamic batch; equal networks give equal files.

    The network is in evaluation mode, takes (N, *shape) with shape (channels, height, width), and returns a dict of
    tensors with the key `logits`. Raises BuildError if the outputs of the program differ from those of the network, at
    several batch sizes, run by `torch.export.load` and by `handlers.program`.
    """
    batch = torch.export.Dim("batch", min=1, max=1024)
    try:
        program = torch.export.export(fuse(network), (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},))
    except Exception as error:  # the exporter passes on what the code of the network raises
        reason, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise BuildError(
            f"The network cannot be exported for all batch sizes: {reason} Its forward must not depend on values "
            "or on the number of images."
        ) from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _NONDETERMINISTIC:
                    node.meta.pop(key, None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, path)
    _verify(network, shape, path)


def _verify(network: torch.nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    program = Program(path)
    verify(network, shape, {"torch.export": torch.export.load(path).module(), "handlers.program": program})


def verify(
    network: torch.nn.Module,
    shape: tuple[int, int, int],
    runners: Mapping[str, Callable[[torch.Tensor], Mapping[str, torch.Tensor]]],
) -> None:
    """Raise BuildError if a runner's outputs differ from those of the network, at several batch sizes."""
    images = torch.randn(max(_BATCHES), *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(images)
        for size in _BATCHES:
            rows = {key: value[:size] for key, value in expected.items()}
            for name, run in runners.items():
                _compare(rows, run(images[:size]), f"{name} at batch size {size}")


def _compare(expected: dict[str, torch.Tensor], actual: Mapping[str, torch.Tensor], runner: str) -> None:
    if set(expected) != set(actual):
        raise BuildError(f"{runner}: returns {sorted(actual)}, the eager network returns {sorted(expected)}.")
    for key, value in expected.items():
        if not torch.isfinite(value).all():
            raise BuildError(f"{runner}: output {key!r} of the eager network is not finite; its weights are unusable.")
        if actual[key].shape != value.shape:
            raise BuildError(f"{runner}: {key!r} has shape {tuple(actual[key].shape)}, expected {tuple(value.shape)}.")
        gap, limit = float((actual[key] - value).abs().max()), _TOLERANCE * max(1.0, float(value.abs().max()))
        if not gap <= limit:  # true for NaN as well
            raise BuildError(
                f"{runner}: {key!r} differs by {gap:.2g} from the eager network; the limit is {limit:.2g}."
            )
