"""Adapts any module to the interface of networks: it returns a dict with `logits` and, where found, `features`."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import fx, nn

from training.errors import NetworkError

_LOGITS: Final = ("logits", "out")  # `out` of torchvision's segmentation networks
UNTRACEABLE: Final = (fx.proxy.TraceError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""Errors of `torch.fx` where the control flow of a network depends on its input."""


class Adapted(nn.Module):
    """A module, whose checkpoints load with or without the prefix `model.`."""

    WRAPPED = "model."

    def __init__(self, model: nn.Module, *, features: bool, dense: bool, transposed: bool, difference: bool) -> None:
        super().__init__()
        self.model = model
        self.has_features, self.dense, self.transposed, self.difference = features, dense, transposed, difference

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits`, and `features` of a network that pools one feature map in the end."""
        output = self.model(x.transpose(2, 3) if self.transposed else x)
        output, features = output if self.has_features else (output, None)
        logits = _logits(output)
        if self.difference:
            logits = logits[:, 1:] - logits[:, :1]
        if self.transposed and self.dense:
            logits = logits.transpose(2, 3)
        if features is None:
            return {"logits": logits}
        return {"logits": logits, "features": features.transpose(2, 3) if self.transposed else features}


def adapt(network: nn.Module, *, dense: bool, transposed: bool, difference: bool) -> Adapted:
    """Wrap a module; see `training.networks.library` for the options."""
    traced = None if dense else _with_features(network.eval())
    model = network if traced is None else traced
    wrapped = Adapted(model, features=traced is not None, dense=dense, transposed=transposed, difference=difference)
    return wrapped.train()


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
    if not isinstance(output, (torch.Tensor, fx.Proxy)):
        raise NetworkError(
            f"network: returns {type(output).__name__}; expected a tensor, or a dict with one of {', '.join(_LOGITS)}."
        )
    return output
