"""Outputs of models: their metadata, and the tensors of a response."""

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from gateway.errors import BadRequestError, UpstreamProblemError
from gateway.model_response import Document, is_prediction
from gateway.open_inference.documents import Datatype, InferenceRequest, TensorMetadata
from gateway.open_inference.wire import INPUT, Tensor
from radserve.schema.catalog import Task
from radserve.schema.problem import RejectedImage

PLATFORM: Final = "pytorch_torchserve"
INPUTS: Final = (TensorMetadata(name=INPUT, datatype="BYTES", shape=(-1,)),)
_BINARY_OUTPUT: Final = "binary_data_output"
_BINARY: Final = "binary_data"


@dataclass(frozen=True)
class _Output:
    """Output of a model: its type, its value for a prediction, and that for a rejected image."""

    datatype: Datatype
    of_prediction: Callable[[Document], str | bytes | float | int]
    of_rejection: Callable[[Document], str | bytes | float | int]

    def of(self, items: Sequence[Document]) -> list[str | bytes | float | int]:
        """Return the values for all images."""
        return [self.of_prediction(item) if is_prediction(item) else self.of_rejection(item) for item in items]


_COMMON: Final = {
    "label": _Output("BYTES", lambda item: str(item["label"]), lambda _: ""),
    "status": _Output("INT32", lambda _: HTTPStatus.OK.value, lambda item: int(item["status"])),
    "error": _Output("BYTES", lambda _: "", lambda item: str(item["detail"])),
    "result": _Output("BYTES", json.dumps, json.dumps),
}
_OF_TASK: Final[Mapping[Task, Mapping[str, _Output]]] = {
    "classification": _COMMON
    | {"probability": _Output("FP64", lambda item: float(item["probability"]), lambda _: math.nan)},
    "segmentation": _COMMON
    | {"mask": _Output("BYTES", lambda item: base64.b64decode(item["mask"]["data"]), lambda _: b"")},
}


def metadata(task: Task) -> tuple[TensorMetadata, ...]:
    """Return the outputs of a model."""
    return tuple(
        TensorMetadata(name=name, datatype=output.datatype, shape=(-1,)) for name, output in _OF_TASK[task].items()
    )


def select(document: InferenceRequest, task: Task) -> list[tuple[str, bool]]:
    """Return the names of the outputs that a request asks for, and whether each is binary; raises BadRequestError."""
    binary = _read_flag(document.parameters, _BINARY_OUTPUT, "request", default=False)
    if not document.outputs:
        return [(name, binary) for name in _OF_TASK[task]]
    selected: dict[str, bool] = {}
    for output in document.outputs:
        if output.name not in _OF_TASK[task]:
            raise BadRequestError(f"Unknown output {output.name[:80]!r}. Known: {', '.join(_OF_TASK[task])}.")
        selected[output.name] = _read_flag(output.parameters, _BINARY, f"output {output.name!r}", default=binary)
    return list(selected.items())


def tensors(items: Sequence[Document], task: Task, names: Sequence[str]) -> list[Tensor]:
    """Return outputs with one element for each image."""
    return [Tensor(name, _OF_TASK[task][name].datatype, _OF_TASK[task][name].of(items)) for name in names]


def require_result(items: Sequence[Document]) -> None:
    """Raise UpstreamProblemError with the reasons if every image was rejected."""
    if any(is_prediction(item) for item in items):
        return
    rejected = [RejectedImage.model_validate(item) for item in items]
    first = rejected[0]
    detail = first.detail
    if len(rejected) > 1:
        detail = "\n".join(["Every image was rejected.", *(f"{n}: {item.detail}" for n, item in enumerate(rejected))])
    raise UpstreamProblemError(detail, status=first.status, title=first.title, domain=first.domain)


def _read_flag(parameters: Mapping[str, object], known: str, owner: str, *, default: bool) -> bool:
    """Return the value of the only known parameter."""
    unknown = sorted(set(parameters) - {known})
    if unknown:
        raise BadRequestError(f"Unknown parameter {unknown[0][:80]!r} of the {owner}. Known: {known}.")
    value = parameters.get(known, default)
    if not isinstance(value, bool):
        raise BadRequestError(f"The parameter {known} of the {owner} must be true or false.")
    return value
