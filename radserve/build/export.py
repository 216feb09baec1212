"""A network to an exported program, and the proof that both say the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

from handlers.program import Program
from radserve.build.model import fuse
from radserve.errors import BuildError

_VARYING: Final = ("stack_trace", "from_node")
"""Notes of the exporter that name files of the machine and addresses of the process that exports."""
_AGREEMENT: Final = 1e-4
"""How far an output of the exported program may lie from the eager network's: this share of the output's largest
value, as rounding grows with the values that are summed, and never less than this itself."""
_BATCHES: Final = (1, 3)
"""Neither is the one that the program is exported with."""


def export(network: torch.nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    """Export a network with a dynamic batch to a file that depends on nothing but the network.

    Parameters
    ----------
    network
        In evaluation mode; takes (N, *shape) and returns a dict of tensors, `logits` among them.
    shape
        (channels, height, width).
    path
        File to write.

    Raises
    ------
    BuildError
        If the program does not give what the network gives, at several sizes of batch, run by
        `torch.export.load` as well as by `handlers.program`.
    """
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(fuse(network), (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},))
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _VARYING:
                    node.meta.pop(key, None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, path)
    _verify(network, shape, path)


def _verify(network: torch.nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    ways: dict[str, Callable[[torch.Tensor], dict[str, torch.Tensor]]] = {
        "torch.export": torch.export.load(path).module(),
        "handlers.program": Program(path),
    }
    random = torch.Generator().manual_seed(0)
    images = torch.randn(max(_BATCHES), *shape, generator=random)
    with torch.inference_mode():
        wanted = network(images)
        for size in _BATCHES:
            rows = {key: value[:size] for key, value in wanted.items()}
            for name, way in ways.items():
                _compare(rows, way(images[:size]), f"{name} at batch {size}")


def _compare(wanted: dict[str, torch.Tensor], found: dict[str, torch.Tensor], way: str) -> None:
    if set(wanted) != set(found):
        raise BuildError(f"{way} gives {sorted(found)}, the eager network {sorted(wanted)}.")
    for key, value in wanted.items():
        if not torch.isfinite(value).all():
            raise BuildError(f"{way}: the eager network's {key!r} is not finite; its weights are of no use.")
        if found[key].shape != value.shape:
            raise BuildError(f"{way}: {key!r} has shape {tuple(found[key].shape)}, not {tuple(value.shape)}.")
        gap, most = float((found[key] - value).abs().max()), _AGREEMENT * max(1.0, float(value.abs().max()))
        if not gap <= most:  # nor is a gap that is no number
            raise BuildError(
                f"{way}: {key!r} differs by {gap:.2g} from the eager network's; at most {most:.2g} is rounding."
            )
