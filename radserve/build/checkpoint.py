"""Checkpoints of the original systems: reads them safely and fits them to a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from radserve.build import model_store
from radserve.errors import WeightsImportError

_NESTED: Final = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the weights beside epoch and optimizer."""
_PARALLEL: Final = "module."  # prefix that `torch.nn.DataParallel` adds to every key
_LARGEST: Final = torch.finfo(torch.float16).max
_POSITIONS_TOLERANCE: Final = 1e-3
"""Largest difference of a stored positional encoding: sines of angles up to 400 in single precision."""

State = dict[str, torch.Tensor]


def read(path: Path) -> State:
    """Read weights written by `torch.save` without executing anything; WeightsImportError if there is more."""
    _require(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the type depends on the bytes of a damaged or foreign file
        reason = str(error).strip().partition("\n")[0]
        raise WeightsImportError(
            f"{path}: rejected, because it is damaged or contains more than tensors and plain values "
            f"({reason[:300]}). A pickled module can run any code. Save its state instead: "
            "torch.save(model.state_dict(), FILE)."
        ) from error
    state = _unwrap(content, path)
    if all(key.startswith(_PARALLEL) for key in state):
        return {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    return state


def sha256(path: Path) -> str:
    """Hash a checkpoint."""
    _require(path)
    return model_store.sha256(path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise WeightsImportError(f"{path}: checkpoint not found.")


def _unwrap(content: Any, path: Path) -> State:
    if isinstance(content, Mapping) and content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return {str(key): value for key, value in content.items()}
    for key in _NESTED if isinstance(content, Mapping) else ():
        if isinstance(content.get(key), Mapping):
            return _unwrap(content[key], path)
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    raise WeightsImportError(
        f"{path}: contains no weights (contains: {keys or 'nothing'}). Expected a dict of tensors, alone or under "
        f"{', '.join(_NESTED)}."
    )


def fit(state: Mapping[str, torch.Tensor], network: torch.nn.Module, source: str) -> State:
    """Rename weights to the keys of a network, and check that they are complete and usable.

    If the network wraps a public one (attribute `WRAPPED`, the prefix of that network's keys), keys without the prefix
    are accepted as well. A WeightsImportError lists every key that is missing, extra, of another shape, not finite, or
    too large for half precision.
    """
    own = network.state_dict()
    prefixes = ("", getattr(network, "WRAPPED", ""))
    prefix = max(prefixes, key=lambda item: len({key.removeprefix(item) for key in own} & state.keys()))
    expected = {key.removeprefix(prefix): value for key, value in own.items()}
    common = {key: value for key, value in state.items() if key in expected}
    problems = [f"missing {key} {_shape(expected[key])}" for key in expected if key not in state]
    problems += [
        f"extra {key} {_shape(value)}{note}"
        for key, value in state.items()
        if key not in expected
        for note in _extra_notes(value, network)
    ]
    problems += [
        f"{key} has {_shape(value)}, not {_shape(expected[key])}"
        for key, value in common.items()
        if _shape(value) != _shape(expected[key])
    ]
    problems += [f"{key} {problem}" for key, value in common.items() for problem in _value_problems(value)]
    if problems:
        raise WeightsImportError(f"{source}: does not fit, {len(problems)} problems: {'; '.join(problems)}.")
    return {prefix + key: value.to(expected[key].dtype) for key, value in common.items()}


def _shape(value: torch.Tensor) -> str:
    kind = "" if value.is_floating_point() else f" {str(value.dtype).removeprefix('torch.')}"
    return f"{tuple(value.shape)}{kind}"


def _extra_notes(value: torch.Tensor, network: torch.nn.Module) -> list[str]:
    """Return notes on a key that the network does not store; empty if the network computes the same values."""
    notes = [""]
    for name, computed in network.named_buffers():
        if name in network.state_dict() or value.squeeze().shape != computed.shape:
            continue
        gap = float((value.squeeze().float() - computed).abs().max())
        if gap <= _POSITIONS_TOLERANCE:
            return []
        notes = [f" (differs by {gap:.2g} from the {name} that the network computes)"]
    return notes


def _value_problems(value: torch.Tensor) -> list[str]:
    if not value.is_floating_point():
        return []
    if not bool(torch.isfinite(value).all()):
        return ["has values that are not finite"]
    if value.numel() and float(value.abs().max()) > _LARGEST:
        return [f"reaches {float(value.abs().max()):.6g}, half precision ends at {_LARGEST:g}"]
    return []
