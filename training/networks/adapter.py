"""Adapts any module to the interface of networks: it returns a dict with `logits` and, where found, `features`."""

from collections.abc import Mapping
from typing import Any, Final, Self

import torch
from torch import fx, nn

from training.errors import NetworkError

_BATCH: Final = 2  # images of the comparison of a trace
_LOGITS: Final = ("logits", "out")  # `out` of torchvision's segmentation networks
UNTRACEABLE: Final = (fx.proxy.TraceError, AttributeError, RuntimeError, TypeError, ValueError)
"""Errors of `torch.fx` where the control flow of a network depends on its input."""


class Adapted(nn.Module):
    """A module, whose checkpoints load with or without the prefix `model.`.

    Features are returned only in evaluation, by a trace that shares the weights: a trace omits what a module does only
    in training, like functional dropout, so training runs the module itself.
    """

    WRAPPED = "model."

    def __init__(self, model: nn.Module, *, features: bool, dense: bool, transposed: bool, difference: bool) -> None:
        super().__init__()
        self.model = model
        self.has_features, self.dense, self.transposed, self.difference = features, dense, transposed, difference
        self._traced: tuple[fx.GraphModule, ...] = ()  # a tuple, because a module would be a part of the state
        self._trace()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - the signature of torch
        """Set the mode; evaluation needs a new trace."""
        super().train(mode)
        self._trace()
        return self

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Move the module, and trace the moved one."""
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._trace()
        return self

    def _trace(self) -> None:
        traced = _with_features(self.model) if self.has_features and not self.training else None
        self._traced = () if traced is None else (traced,)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits`, and `features` of a network that pools one feature map in the end."""
        x, features = x.transpose(2, 3) if self.transposed else x, None
        if self._traced:
            # Not by a call: for an outer trace, the layers belong to `model`.
            output, features = self._traced[0].forward(x)
        else:
            output = self.model(x)
        logits = _logits(output)
        if self.difference:
            logits = logits[:, 1:] - logits[:, :1]
        if self.transposed and self.dense:
            logits = logits.transpose(2, 3)
        if features is None:
            return {"logits": logits}
        return {"logits": logits, "features": features.transpose(2, 3) if self.transposed else features}


def adapt(
    network: nn.Module, shape: tuple[int, int, int], *, dense: bool, transposed: bool, difference: bool
) -> Adapted:
    """Wrap a module for images of this shape; see `training.networks.library` for the options."""
    channels, height, width = shape
    images = (channels, width, height) if transposed else shape
    features = not dense and _is_faithful(network.eval(), images)
    return Adapted(network.train(), features=features, dense=dense, transposed=transposed, difference=difference)


def _is_faithful(network: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether a trace with features exists and computes the same: a branch on `isinstance` goes another way in it."""
    traced = _with_features(network)
    if traced is None:
        return False
    images = torch.rand(_BATCH, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            expected, (actual, _) = network(images), traced(images)
    except (*UNTRACEABLE, AssertionError):
        return False  # whether the network fits its input is verified where a model is created
    return torch.allclose(_logits(actual), _logits(expected), rtol=1e-4, atol=1e-5)


def _with_features(network: nn.Module) -> fx.GraphModule | None:
    """Return a network that also returns the input of its last global pool; None if that cannot be found.

    The network is in evaluation mode: its branches for training, like auxiliary outputs, are omitted.
    """
    try:
        traced = fx.symbolic_trace(network)
    except UNTRACEABLE:
        return None
    pools = [node for node in traced.graph.nodes if _is_pool(node, traced)]
    if not pools:
        return None
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    output.args = ((output.args[0], pools[-1].args[0]),)
    traced.recompile()
    return traced


def _is_pool(node: fx.Node, traced: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), nn.AdaptiveAvgPool2d)
    return node.target is nn.functional.adaptive_avg_pool2d


def _logits(output: Any) -> Any:
    """Return the logits, or in a trace the proxy of them."""
    if isinstance(output, Mapping):
        output = next((output[key] for key in _LOGITS if key in output), None)
    elif isinstance(output, tuple):
        output = getattr(output, "logits", output)  # of torchvision's networks with auxiliary outputs, in training
    if not isinstance(output, (torch.Tensor, fx.Proxy)):
        raise NetworkError(
            f"network: returns {type(output).__name__}; expected a tensor, or a dict with one of {', '.join(_LOGITS)}."
        )
    return output
