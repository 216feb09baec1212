"""Checkpoints of any training program: reads them safely and fits them to a network."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from radserve.build import model_store
from radserve.errors import WeightsImportError

_COMPILED: Final = "_orig_mod."  # part that `torch.compile` adds to the keys of a module
_COUNTER: Final = (
    "num_batches_tracked"  # of batch normalisation; unused outside of training, absent before PyTorch 0.4.1
)
_AVERAGED: Final = "n_averaged"  # entry of `torch.optim.swa_utils.AveragedModel` beside the weights
_LARGEST: Final = torch.finfo(torch.float16).max
_POSITIONS_TOLERANCE: Final = 1e-3
"""Largest difference of a stored positional encoding: sines of angles up to 400 in single precision."""
_DEPTH: Final = 4  # levels of nested dicts
_EXAMPLES: Final = 5  # problems of each kind that a message lists
_SCALAR: Final[Any] = np.float64(0).__reduce__()[0]  # the function in the pickle of a NumPy scalar
_NUMPY: Final[list[Any]] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before NumPy 2
]
"""Globals in the pickle of a NumPy scalar, like the best accuracy; they hold numbers and call nothing."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Fitted:
    """Weights of a checkpoint that fit a network."""

    state: State  # by the network's keys
    key: str  # of the weights in the checkpoint, "" for all of it: `state_dict.net`
    ignored: tuple[str, ...]  # tensors beside the weights
    incomplete: tuple[str, ...]  # keys of other weights, which do not fit, like averages of the parameters only


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A part of a checkpoint whose keys begin with `prefix`, seen as a network without its own prefix `wrapper`."""

    key: str
    state: State
    prefix: str
    wrapper: str
    matches: int

    @property
    def label(self) -> str:
        return ".".join(part for part in (self.key, self.prefix.removesuffix(".")) if part)

    @property
    def inside(self) -> State:
        """The tensors below the prefix, without it."""
        return {
            key.removeprefix(self.prefix): value for key, value in self.state.items() if key.startswith(self.prefix)
        }

    @property
    def beside(self) -> tuple[str, ...]:
        """Keys without the prefix."""
        return tuple(key for key in self.state if not key.startswith(self.prefix))

    def expected(self, own: State) -> State:
        """Return the network's tensors that a checkpoint must have, by its keys below the prefix.

        These are all but counters: an average of the weights may lack them, or average them too.
        """
        return {key.removeprefix(self.wrapper): value for key, value in own.items() if not key.endswith(_COUNTER)}

    def weights(self, own: State) -> State:
        """Return the network's state with the tensors of this candidate."""
        inside = self.inside
        return own | {self.wrapper + key: inside[key].to(value.dtype) for key, value in self.expected(own).items()}


def load(path: Path, network: torch.nn.Module, key: str | None = None, *, half: bool = True) -> Fitted:
    """Read the weights of a network from a checkpoint.

    Parameters
    ----------
    path
        A safetensors file, or a file of `torch.save`: a state dict at any key, whose keys may have any common prefix,
        as of DataParallel, Lightning, `torch.compile` or AveragedModel.
    network
        If it wraps a public one (attribute `WRAPPED`, the prefix of that network's keys), keys without the prefix are
        accepted as well.
    key
        Which weights to read from a checkpoint that has several, as `Fitted.key` has it.
    half
        Whether the values must fit half precision.

    Raises
    ------
    WeightsImportError
        If the file is damaged, contains code, or has no weights or several that fit; or it lists keys that are missing,
        extra, of another shape, not finite, or too large for half precision.
    """
    states = dict(_states(_read(path)))
    candidates = [
        candidate
        for name, state in states.items()
        for candidate in _candidates(name, state, network)
        if key is None or candidate.label == key
    ]
    if not candidates:
        raise WeightsImportError(_no_weights(path, states, network, key))
    own = network.state_dict()
    problems = {candidate: _problems(candidate, network, half=half) for candidate in candidates}
    fitting = [candidate for candidate in candidates if not problems[candidate]]
    if not fitting:
        nearest = max(candidates, key=lambda candidate: candidate.matches)
        raise WeightsImportError(_no_fit(path, nearest, problems[nearest]))
    best, *others = fitting
    weights = best.weights(own)
    different = [other for other in others if not _same(weights, other.weights(own))]
    if different:
        labels = ", ".join(repr(item.label) for item in (best, *different))
        raise WeightsImportError(f"{path}: contains several weights that fit: {labels}. Choose one of them with --key.")
    return Fitted(weights, best.label, best.beside, tuple(item.label for item in candidates if problems[item]))


def sha256(path: Path) -> str:
    """Hash a checkpoint."""
    _require(path)
    return model_store.sha256(path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise WeightsImportError(f"{path}: checkpoint not found.")


def _read(path: Path) -> Any:
    """Read a file without executing anything."""
    _require(path)
    try:
        with path.open("rb") as file:
            if file.read(9)[8:] == b"{":  # after the length of the header
                return load_file(path)
        with torch.serialization.safe_globals(_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsImportError(f"{path}: damaged safetensors file ({error}).") from error
    except Exception as error:  # the type depends on the bytes of a damaged or foreign file
        # Torch's own message recommends to read the file without protection.
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        contains = f" ({name[1]})" if name else ""
        raise WeightsImportError(
            f"{path}: rejected, because it is damaged or contains more than tensors and plain values{contains}. "
            "A pickled object can run any code. Save the weights instead: torch.save(model.state_dict(), FILE)."
        ) from error


def _states(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, State]]:
    """Yield every dict with tensors, and its key."""
    if not isinstance(content, Mapping) or len(path) > _DEPTH:
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    plain = {key.replace(_COMPILED, ""): value for key, value in tensors.items()}
    if tensors:
        yield ".".join(path), plain if len(plain) == len(tensors) else tensors
    for key, value in content.items():
        yield from _states(value, (*path, str(key)))


def _no_weights(path: Path, states: Mapping[str, State], network: torch.nn.Module, key: str | None) -> str:
    where = "" if key is None else f" at {key!r}"
    keys = [f"{name}.{entry}" if name else entry for name, state in states.items() for entry in state]
    actual = f"its tensors are {', '.join(keys[:_EXAMPLES])}" if keys else "it has no tensors in dicts"
    expected = ", ".join(list(network.state_dict())[:_EXAMPLES])
    return f"{path}: contains no weights of this network{where}: {actual}; expected are {expected}, and others."


def _candidates(name: str, state: State, network: torch.nn.Module) -> Iterator[_Candidate]:
    """Yield the prefixes below which most keys of the network are."""
    for wrapper in {"", getattr(network, "WRAPPED", "")}:
        own = {key.removeprefix(wrapper) for key in network.state_dict() if not key.endswith(_COUNTER)}
        counts = Counter(prefix for key in state for prefix in _prefixes(key, own))
        most = max(counts.values(), default=0)
        yield from (_Candidate(name, state, prefix, wrapper, most) for prefix in counts if counts[prefix] == most)


def _prefixes(key: str, own: Collection[str]) -> Iterator[str]:
    """Yield the prefixes without which a key is one of `own`."""
    parts = key.split(".")
    for length in range(len(parts)):
        if ".".join(parts[length:]) in own:
            yield "".join(f"{part}." for part in parts[:length])


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _problems(candidate: _Candidate, network: torch.nn.Module, *, half: bool) -> dict[str, list[str]]:
    """Return why the tensors of a candidate are not the weights of a network, by kind of problem."""
    expected = candidate.expected(network.state_dict())
    inside = {key: value for key, value in candidate.inside.items() if key != _AVERAGED and not key.endswith(_COUNTER)}
    common = {key: value for key, value in inside.items() if key in expected}
    problems = {
        "missing": [f"{key} {_shape(expected[key])}" for key in expected if key not in inside],
        "extra": [
            f"{key} {_shape(value)}{note}"
            for key, value in inside.items()
            if key not in expected
            for note in _extra_notes(value, network)
        ],
        "of another shape": [
            f"{key} has {_shape(value)}, not {_shape(expected[key])}"
            for key, value in common.items()
            if _shape(value) != _shape(expected[key])
        ],
        "unusable": [
            f"{key} {problem}" for key, value in common.items() for problem in _value_problems(value, half=half)
        ],
    }
    return {kind: items for kind, items in problems.items() if items}


def _no_fit(path: Path, candidate: _Candidate, problems: Mapping[str, list[str]]) -> str:
    where = f" (the weights at {candidate.label!r})" if candidate.label else ""
    listed = "; ".join(_summary(kind, items) for kind, items in problems.items())
    return f"{path}: does not fit{where}: {listed}."


def _summary(kind: str, problems: list[str]) -> str:
    """Return the number of problems by the first part of the keys, and the first few."""
    shown = ", ".join(problems[:_EXAMPLES])
    if len(problems) <= _EXAMPLES:
        return f"{len(problems)} {kind}: {shown}"
    return f"{len(problems)} {kind} ({_by_prefix(problems)}), the first {_EXAMPLES}: {shown}"


def _by_prefix(problems: Iterable[str]) -> str:
    counts = Counter(problem.partition(" ")[0].partition(".")[0] for problem in problems)
    most = counts.most_common(_EXAMPLES)
    others = len(counts) - len(most)
    return ", ".join(f"{count} in {prefix}" for prefix, count in most) + (
        f", {others} other prefixes" if others else ""
    )


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


def _value_problems(value: torch.Tensor, *, half: bool) -> list[str]:
    if value.layout is not torch.strided or value.is_meta or value.is_quantized:
        return ["is a sparse, quantized or empty (meta) tensor"]
    if not value.is_floating_point():
        return []
    single = value.float()
    if not bool(torch.isfinite(single).all()):
        return ["has values that are not finite in single precision"]
    largest = float(single.abs().max()) if single.numel() else 0.0
    if half and largest > _LARGEST:
        return [f"reaches {largest:.6g}, half precision ends at {_LARGEST:g}; import with --precision fp32"]
    return []
