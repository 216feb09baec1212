"""Adds the moments of layers to a network's outputs, for the detector of unlike images."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import fx, nn

from training.errors import NetworkError

OUTPUT: Final = "moments"
"""As `handlers.domain.detector.MOMENTS`; the networks do not import the handlers."""
_SMALLEST: Final = 1e-6
"""Smallest variance: rounding errors of a constant channel are smaller."""
_TOKENS: Final = (1,)  # dimensions of positions in (N, tokens, width) ...
_PIXELS: Final = (2, 3)  # ... and in (N, channels, height, width)


def add(network: nn.Module, layers: Sequence[str]) -> fx.GraphModule:
    """Return the network with the output `OUTPUT`: mean and standard deviation of each channel of these layers.

    A layer is the name of a convolution, a normalisation or a linear layer of tokens. The output has the shape
    (N, 2 * channels of all layers). Raises `NetworkError` if the network has no such layer.
    """
    traced = trace(network)
    graph = traced.graph
    (output,) = (node for node in graph.nodes if node.op == "output")
    parts = [part for name in layers for part in _moments(traced, _layer(traced, name))]
    with graph.inserting_before(output):
        joined = graph.call_function(torch.cat, (parts, 1))
    output.args = ({**output.args[0], OUTPUT: joined},)
    traced.recompile()
    return traced


def trace(network: nn.Module) -> fx.GraphModule:
    """Return a network as a graph of its layers."""
    return fx.GraphModule(network, _Tracer().trace(network))


class _Tracer(fx.Tracer):
    """Traces through `Sequential`s, including slices of them, which are not submodules of the network."""

    def call_module(self, m: Any, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if isinstance(m, nn.Sequential):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _layer(traced: fx.GraphModule, name: str) -> fx.Node:
    """Return the node of a layer."""
    calls: dict[str, fx.Node] = {str(node.target): node for node in traced.graph.nodes if node.op == "call_module"}
    if name not in calls:
        raise NetworkError(f"detector.layers: unknown layer {name!r}. Available: {', '.join(calls)}.")
    return calls[name]


def _moments(traced: fx.GraphModule, layer: fx.Node) -> tuple[fx.Node, fx.Node]:
    graph = traced.graph
    dims = _TOKENS if isinstance(traced.get_submodule(str(layer.target)), nn.Linear) else _PIXELS
    with graph.inserting_before(layer.next):  # so that the activations are freed early
        mean = graph.call_method("mean", (layer, dims))
        squares = graph.call_method("mean", (graph.call_method("square", (layer,)), dims))
        variance = graph.call_function(torch.sub, (squares, graph.call_method("square", (mean,))))
        deviation = graph.call_method("sqrt", (graph.call_method("clamp_min", (variance, _SMALLEST)),))
    return mean, deviation
