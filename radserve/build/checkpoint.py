"""A checkpoint of the original system to weights that serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from radserve.build import model_store
from radserve.errors import WeightsImportError

_NESTED: Final = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights beside epoch and optimizer."""
_PARALLEL: Final = "module."
"""What `torch.nn.DataParallel` puts before every key."""
_LARGEST: Final = torch.finfo(torch.float16).max
_POSITIONS: Final = 1e-3
"""How far a stored positional encoding may lie from the computed one: sines of angles up to 400 in single precision."""

State = dict[str, torch.Tensor]


def read(path: Path) -> State:
    """Take the weights out of a file that `torch.save` wrote; nothing in it is executed.

    Raises
    ------
    ImportFailed
        If the file holds anything but tensors and plain values, or no weights.
    """
    _require(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or foreign file raises depends on its bytes
        reason = str(error).strip().partition("\n")[0]
        raise WeightsImportError(
            f"{path}: not read, because it holds more than tensors and plain values, or is damaged ({reason[:300]}). "
            "A pickled module can run any code: save its state instead, torch.save(model.state_dict(), FILE)."
        ) from error
    return _strip(_unwrap(stored, path))


def sha256(path: Path) -> str:
    """Hash a checkpoint.

    Raises
    ------
    ImportFailed
        If there is none.
    """
    _require(path)
    return model_store.sha256(path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise WeightsImportError(f"{path}: there is no such checkpoint.")


def _unwrap(stored: Any, path: Path) -> State:
    if isinstance(stored, Mapping) and stored and all(isinstance(value, torch.Tensor) for value in stored.values()):
        return {str(key): value for key, value in stored.items()}
    for key in _NESTED if isinstance(stored, Mapping) else ():
        if isinstance(stored.get(key), Mapping):
            return _unwrap(stored[key], path)
    found = ", ".join(map(str, list(stored)[:8])) if isinstance(stored, Mapping) else type(stored).__name__
    raise WeightsImportError(
        f"{path}: holds no weights (found: {found or 'nothing'}); they are a dict of tensors, "
        f"by itself or under {', '.join(_NESTED)}."
    )


def _strip(state: State) -> State:
    if all(key.startswith(_PARALLEL) for key in state):
        return {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    return state


def fit(state: Mapping[str, torch.Tensor], network: torch.nn.Module, source: str) -> State:
    """Bring weights to a network's own keys, and prove that they are all of it and of use.

    A network that wraps a public one (its `WRAPPED` is the prefix of that one's keys) takes that one's keys, too.

    Raises
    ------
    ImportFailed
        Naming every key that is missing, extra, of another shape, not finite, or too large for half precision.
    """
    own = network.state_dict()
    prefix = max(("", getattr(network, "WRAPPED", "")), key=lambda item: len(_bare(own, item) & state.keys()))
    wanted = {key.removeprefix(prefix): value for key, value in own.items()}
    extra = {key: value for key, value in state.items() if key not in wanted}
    common = {key: value for key, value in state.items() if key in wanted}
    problems = [f"missing {key} {_shape(wanted[key])}" for key in wanted if key not in state]
    problems += [
        f"extra {key} {_shape(value)}{note}" for key, value in extra.items() for note in _extra(value, network)
    ]
    problems += [
        f"{key} has {_shape(value)}, not {_shape(wanted[key])}"
        for key, value in common.items()
        if _shape(value) != _shape(wanted[key])
    ]
    problems += [f"{key} {wrong}" for key, value in common.items() for wrong in _values(value)]
    if problems:
        raise WeightsImportError(f"{source}: does not fit, {len(problems)} problems: {'; '.join(problems)}.")
    return {prefix + key: value.to(wanted[key].dtype) for key, value in common.items()}


def _bare(own: Mapping[str, torch.Tensor], prefix: str) -> set[str]:
    return {key.removeprefix(prefix) for key in own}


def _shape(value: torch.Tensor) -> str:
    kind = "" if value.is_floating_point() else f" {str(value.dtype).removeprefix('torch.')}"
    return f"{tuple(value.shape)}{kind}"


def _extra(value: torch.Tensor, network: torch.nn.Module) -> list[str]:
    """Say what is wrong with a key that the network does not store; nothing if it is what the network computes."""
    notes = [""]
    for name, computed in network.named_buffers():
        if name in network.state_dict() or value.squeeze().shape != computed.shape:
            continue
        gap = float((value.squeeze().float() - computed).abs().max())
        if gap <= _POSITIONS:
            return []
        notes = [f" (differs by {gap:.2g} from the {name} that the network computes)"]
    return notes


def _values(value: torch.Tensor) -> list[str]:
    if not value.is_floating_point():
        return []
    if not bool(torch.isfinite(value).all()):
        return ["has values that are not finite"]
    if value.numel() and float(value.abs().max()) > _LARGEST:
        return [f"reaches {float(value.abs().max()):.6g}, half precision ends at {_LARGEST:g}"]
    return []
