"""Loads and runs exported programs (`torch.export`, .pt2) without the exporter.

`torch.export.load` imports the exporter (four seconds and 130 MB in every worker), unpickles, opens compiled libraries
and evaluates guard code. Programs of plain tensors and ATen operators need none of this: their graph is JSON, their
weights are raw bytes. This module interprets them and rejects every other content. The layout is that of
`torch/_export/serde/schema.py`; every build verifies that both ways give the same numbers.
"""

import json
import operator
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from handlers.errors import DeviceLostError, ProgramError

_SCHEMA: Final = 8
"""Supported major version of the schema."""

_ATEN: Final = "torch.ops.aten."
_ARITHMETIC: Final[Mapping[str, Callable[..., Any]]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "getitem", "eq", "ne", "ge", "gt", "le", "lt")
}
"""Operators of a graph on sizes."""

_SCALAR_TYPES: Final = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY_FORMATS: Final = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    4: torch.preserve_format,
}


@dataclass(frozen=True)
class _Value:
    """Reference to the value of an earlier step."""

    name: str


@dataclass(frozen=True)
class _Step:
    """One node of the graph; `spent` are the values that no later step of the same plan uses."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[str, ...]
    spent: tuple[str, ...] = ()

    @property
    def inputs(self) -> set[str]:
        """Names of the values that the step uses."""
        return {name for item in (*self.args, *self.kwargs.values()) for name in _names(item)}


class Program:
    """An exported program, loaded on a device.

    The program of the `.pt2` file takes one tensor (N, channels, height, width) and returns a dict of tensors with
    N rows each, including `logits`. Raises `ProgramError` if the file is damaged, or has other content than tensors and
    ATen operators.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.device = torch.device(device)
        try:
            with zipfile.ZipFile(path) as archive:
                # Tensors are stored, not compressed: a program takes no more memory than its file.
                if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
                    raise ProgramError("its content is larger than the file; export it again")
                self._read(archive)
        except ProgramError as error:
            raise ProgramError(f"{path}: rejected: {error}") from error
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            raise ProgramError(f"{path}: not a readable exported program: {error!r}") from error

    def _read(self, archive: zipfile.ZipFile) -> None:
        root = archive.namelist()[0].partition("/")[0]
        document = json.loads(archive.read(f"{root}/models/model.json"))
        schema = document["schema_version"]["major"]
        if schema != _SCHEMA:
            raise ProgramError(f"it has schema {schema}, but {_SCHEMA} is supported; export it again")
        graph = document["graph_module"]["graph"]
        signature = document["graph_module"]["signature"]
        stored = _tensors(archive, f"{root}/data/weights", "model_weights_config.json", self.device)
        stored |= _tensors(archive, f"{root}/data/constants", "model_constants_config.json", self.device)
        self._constants, self._input = _inputs(signature["input_specs"], stored)
        names = _output_names(document["graph_module"]["module_call_graph"])
        values = [_argument(item["user_output"]["arg"]).name for item in signature["output_specs"]]
        self._outputs = dict(zip(names, values, strict=True))
        self._steps = tuple(_step(node) for node in graph["nodes"])
        self._plans: dict[tuple[str, ...], tuple[_Step, ...]] = {}

    def __call__(
        self, batch: torch.Tensor, watch: str | None = None, outputs: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """Run what the named outputs (default: all) need of the graph.

        With gradients where they are enabled: from the output named `watch` on, not before.
        """
        names = tuple(self._outputs if outputs is None else outputs)
        values = dict(self._constants)
        watched = None if watch is None else self._outputs[watch]
        values[self._input] = batch
        for step in self._plan(names):
            args = [_resolve(item, values) for item in step.args]
            result = step.call(*args, **{key: _resolve(item, values) for key, item in step.kwargs.items()})
            if len(step.outputs) == 1:
                values[step.outputs[0]] = result
            else:
                values.update(zip(step.outputs, result, strict=True))
            if watched in step.outputs:
                values[watched] = values[watched].detach().requires_grad_()
            for name in step.spent:
                del values[name]
        return {name: values[self._outputs[name]] for name in names}

    def _plan(self, names: tuple[str, ...]) -> tuple[_Step, ...]:
        """Return the steps that lead to the named outputs."""
        if names not in self._plans:
            values = {self._outputs[name] for name in names}
            self._plans[names] = _plan(self._steps, values, keep=values | self._constants.keys())
        return self._plans[names]

    def run(
        self, batch: NDArray[np.float32], outputs: Sequence[str] = ("logits",)
    ) -> Mapping[str, NDArray[np.float32]]:
        """Run one batch (N, channels, height, width) without gradients.

        Computes only the named outputs: features may have megabytes per image that no prediction needs. Raises
        `DeviceLostError` after an error of the accelerator that every later call would report too.
        """
        with self._detect_loss(), torch.inference_mode():
            values = self(torch.from_numpy(batch).to(self.device), outputs=outputs)
            return {name: _array(value) for name, value in values.items()}

    def gradients(
        self, batch: NDArray[np.float32], weights: NDArray[np.float32], output: str
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Differentiate a weighted sum of each row's logits by another output of the same row.

        Takes a batch as `run` does, and weights (N, logits). Returns the output and the gradients, N rows each and of
        one shape. Only the steps between that output and the logits are recorded.
        """
        if output not in self._outputs:
            raise ProgramError(f"The program has no output {output!r}; available: {', '.join(self._outputs)}.")
        with self._detect_loss(), torch.enable_grad():
            outputs = self(torch.from_numpy(batch).to(self.device), watch=output, outputs=("logits", output))
            score = (outputs["logits"].float() * torch.from_numpy(weights).to(self.device)).sum()
            (gradients,) = torch.autograd.grad(score, outputs[output])
            return _array(outputs[output].detach()), _array(gradients)

    @contextmanager
    def _detect_loss(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if is_sticky(error):
                raise DeviceLostError(f"The device {self.device} is lost: {error}") from error
            raise


def is_sticky(error: RuntimeError) -> bool:
    """Whether an error leaves the CUDA context of this process unusable.

    Every later call reports a "sticky" error (an illegal address, a failed assertion on the device) again (CUDA Runtime
    API, cudaGetLastError); running out of memory is not sticky.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)


def _array(value: torch.Tensor) -> NDArray[np.float32]:
    return value.float().cpu().numpy()


def _tensors(archive: zipfile.ZipFile, folder: str, config: str, device: torch.device) -> dict[str, torch.Tensor]:
    entries = json.loads(archive.read(f"{folder}/{config}"))["config"]
    return {name: _tensor(archive, folder, name, entry).to(device) for name, entry in entries.items()}


def _tensor(archive: zipfile.ZipFile, folder: str, name: str, entry: Any) -> torch.Tensor:
    if entry["use_pickle"] or entry["tensor_meta"] is None:
        raise ProgramError(f"{name!r} is stored as a pickle")
    meta = entry["tensor_meta"]
    raw = archive.read(f"{folder}/{entry['path_name']}")
    flat = torch.frombuffer(bytearray(raw), dtype=_SCALAR_TYPES[meta["dtype"]]) if raw else torch.empty(0)
    sizes, strides = ([item["as_int"] for item in meta[key]] for key in ("sizes", "strides"))
    value = flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])
    # On one core, this halves the time of a batch of eight chest films.
    return value.contiguous(memory_format=torch.channels_last) if len(sizes) == 4 else value


def _inputs(specs: list[Any], stored: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
    """Return the stored tensors by input name, and the name of the one input of the caller."""
    constants: dict[str, torch.Tensor] = {}
    free: list[str] = []
    for spec in specs:
        ((kind, item),) = spec.items()
        if kind == "user_input":
            free.append(_argument(item["arg"]).name)
        elif kind in ("parameter", "buffer", "tensor_constant"):
            constants[item["arg"]["name"]] = stored[item[f"{kind}_name"]]
        else:
            raise ProgramError(f"its input is a {kind!r}, not a tensor")
    if len(free) != 1:
        raise ProgramError(f"it takes {len(free)} inputs, not one batch of images")
    return constants, free[0]


def _output_names(calls: list[Any]) -> list[str]:
    """Return the keys of the dict that the network returns."""
    _, spec = json.loads(calls[0]["signature"]["out_spec"])
    if "dict" not in str(spec["type"]):
        raise ProgramError("it does not return a dict of tensors")
    return [str(name) for name in json.loads(spec["context"])]


def _step(node: Any) -> _Step:
    positional = [item for item in node["inputs"] if item["kind"] == 1]
    args = tuple(_argument(item["arg"]) for item in positional)
    kwargs = {item["name"]: _argument(item["arg"]) for item in node["inputs"] if item["kind"] != 1}
    outputs = tuple(name for item in node["outputs"] for name in _names(_argument(item)))
    return _Step(_operator(node["target"]), args, kwargs, outputs)


def _plan(steps: Sequence[_Step], values: set[str], keep: set[str]) -> tuple[_Step, ...]:
    """Return the steps that compute the named values, each with what is spent after it; `keep` is never spent."""
    plan: list[_Step] = []
    needed, kept = set(values), set(keep)
    for step in reversed(steps):
        if needed.isdisjoint(step.outputs):
            continue
        used = step.inputs | set(step.outputs)
        plan.append(replace(step, spent=tuple(sorted(used - kept))))
        needed |= step.inputs
        kept |= used
    return tuple(reversed(plan))


def _operator(target: str) -> Callable[..., Any]:
    if target in _ARITHMETIC:
        return _ARITHMETIC[target]
    name, _, overload = target.removeprefix(_ATEN).partition(".")
    if not target.startswith(_ATEN) or not hasattr(torch.ops.aten, name):
        raise ProgramError(f"it calls {target!r}, which is not an ATen operator")
    function: Callable[..., Any] = getattr(getattr(torch.ops.aten, name), overload)
    return function


_LITERALS: Final = frozenset({"as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string"})
_NAMED: Final = frozenset({"as_tensor", "as_tensors"})
_WRAPPED: Final = frozenset({"as_optional_tensor", "as_optional_tensors", "as_sym_int", "as_sym_ints", "as_sym_float"})


def _argument(argument: Any) -> Any:
    """Convert one argument; values of earlier steps become `_Value`."""
    ((kind, item),) = argument.items()
    if kind in _LITERALS:
        return item
    if kind in _NAMED:
        return [_Value(each["name"]) for each in item] if isinstance(item, list) else _Value(item["name"])
    if kind in _WRAPPED:
        return [_argument(each) for each in item] if isinstance(item, list) else _argument(item)
    match kind:
        case "as_none":
            return None
        case "as_name":
            return _Value(item)
        case "as_scalar_type":
            return _SCALAR_TYPES[item]
        case "as_memory_format":
            return _MEMORY_FORMATS[item]
        case _:
            raise ProgramError(f"it has an argument of the unsupported kind {kind!r}")


def _names(argument: Any) -> list[str]:
    if isinstance(argument, _Value):
        return [argument.name]
    return [name for item in argument for name in _names(item)] if isinstance(argument, list) else []


def _resolve(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, _Value):
        return values[argument.name]
    return [_resolve(item, values) for item in argument] if isinstance(argument, list) else argument
