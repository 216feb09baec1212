"""Networks of libraries, by `SOURCE:NAME`: torchvision, MONAI, and classes that the caller names explicitly.

Weights are never downloaded. A `module:` network executes code of its package, so it is created only after `allow`: a
recipe is data, and reading one must not execute anything.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from torch import nn

from training.errors import NetworkError
from training.networks.adapter import adapt

TRANSPOSED: Final = "_transposed_"
"""Argument of a network whose first axis of an image is its width, as with MONAI's readers; not passed on."""
DIFFERENCE: Final = "_difference_"
"""Argument of a network with two logits where the recipe has one: a softmax over (a, b) is the sigmoid of b - a."""
_RESERVED: Final = frozenset({TRANSPOSED, DIFFERENCE})
_DOWNLOADS: Final = ("weights", "pretrained")  # prefixes of arguments that download weights, unless false or null
_allowed: set[str] = set()


def allow(target: str) -> None:
    """Permit the network `module:TARGET`, with TARGET as `package.module:Class`; importing it executes its code."""
    _allowed.add(target)


def is_library(name: str) -> bool:
    """Whether a network is from a library."""
    return name.partition(":")[0] in _SOURCES


def create(name: str, outputs: int, args: Mapping[str, Any], shape: tuple[int, int, int], *, dense: bool) -> nn.Module:
    """Create a network of a library with random weights.

    `shape` is that of its input, (channels, height, width). `dense` networks return logits per pixel. Raises
    `NetworkError` if the network does not exist, is not allowed, or rejects its arguments.
    """
    source, _, member = name.partition(":")
    for key, value in args.items():
        if key.startswith(_DOWNLOADS) and value not in (False, None):
            raise NetworkError(f"network_args: {key!r} downloads weights. Remove it, and import a checkpoint.")
    own = {key: value for key, value in args.items() if key not in _RESERVED}
    try:
        network = _SOURCES[source](member, outputs, own)
    except (TypeError, ValueError, KeyError) as error:
        raise NetworkError(f"network: {name} rejects the arguments {own}: {error}") from error
    transposed, difference = bool(args.get(TRANSPOSED)), bool(args.get(DIFFERENCE))
    return adapt(network, shape, dense=dense, transposed=transposed, difference=difference)


def _torchvision(name: str, outputs: int, args: dict[str, Any]) -> nn.Module:
    from torchvision import models

    _require(name, models.list_models(), "torchvision")
    accepted = inspect.signature(models.get_model_builder(name)).parameters
    random = {key: None for key in accepted if key.startswith("weights")}
    own = {key: value for key, value in args.items() if not key.startswith(_DOWNLOADS)}
    network: nn.Module = models.get_model(name, **random, num_classes=outputs, **own)
    return network


def _monai(name: str, outputs: int, args: dict[str, Any]) -> nn.Module:  # noqa: ARG001 - the arguments contain it
    from monai.networks import nets

    classes = {
        key: value for key, value in vars(nets).items() if inspect.isclass(value) and issubclass(value, nn.Module)
    }
    _require(name, classes, "MONAI")
    accepted = inspect.signature(classes[name]).parameters
    random = {key: False for key in accepted if key == "pretrained"}  # the default of some is True: a download
    return classes[name](**random | args)


def _module(target: str, outputs: int, args: dict[str, Any]) -> nn.Module:  # noqa: ARG001 - the arguments contain it
    if target not in _allowed:
        raise NetworkError(
            f"network: module:{target} executes code of that module. If you trust it, repeat the command with "
            f"--module {target}."
        )
    module, _, name = target.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NetworkError(f"network: cannot import {target}: {error}. Add its folder to PYTHONPATH.") from error
    network: object = kind(**args)
    if not isinstance(network, nn.Module):
        raise NetworkError(f"network: {target} creates a {type(network).__name__}, not a torch.nn.Module.")
    return network


def _require(name: str, available: Iterable[str], library: str) -> None:
    names = sorted(available)
    if name not in names:
        similar = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
        hint = f" Similar: {', '.join(similar)}." if similar else ""
        raise NetworkError(f"network: {library} has no {name!r}.{hint}")


_SOURCES: Final[dict[str, Callable[[str, int, dict[str, Any]], nn.Module]]] = {
    "torchvision": _torchvision,
    "monai": _monai,
    "module": _module,
}
