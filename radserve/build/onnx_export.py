"""Writes exported programs as ONNX graphs that refer to the weights inside the exported program's file."""

import contextlib
import io
import json
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any, Final

import onnx_ir
import torch

from handlers.onnx_program import OnnxProgram
from radserve.build.export import verify
from radserve.errors import BuildError

_LOCAL_HEADER: Final = 30
"""Bytes of a zip file's local header before its name (APPNOTE.TXT, 4.3.7); their last four are two lengths."""


def export(network: torch.nn.Module, shape: tuple[int, int, int], program: Path, path: Path) -> None:
    """Write the graph of a network's exported program as ONNX; both files must stay in one folder.

    Equal programs give equal files. Raises BuildError if an operator has no ONNX equivalent, or if the outputs on ONNX
    Runtime differ from those of the network.
    """
    write(program, path)
    names = tuple(network(torch.zeros(1, *shape)))
    converted = OnnxProgram(path, program)

    def run(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(value) for name, value in converted.run(images.numpy(), names).items()}

    verify(network, shape, {"ONNX Runtime": run})


def write(program: Path, path: Path) -> None:
    """Write the graph without verifying it; its outputs have the names that the network returns."""
    exported = torch.export.load(program)
    images = torch.zeros(exported.example_inputs[0][0].shape)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the exporter, about its own future versions
            converted = torch.onnx.export(exported, (images,), dynamo=True, verbose=False, external_data=False)
    except torch.onnx.errors.OnnxExporterError as error:
        reason, *_ = str(error).strip().splitlines()
        raise BuildError(
            f"The network cannot be written as ONNX: {reason} Set 'runtime: {{engine: torch}}' in its recipe."
        ) from error
    assert converted is not None
    model = converted.model
    _rename_outputs(model, exported)
    _strip(model)
    _refer(model, program)
    onnx_ir.save(model, path)


def _rename_outputs(model: Any, exported: Any) -> None:
    names = list(exported.call_spec.out_spec.context)
    for value, name in zip(model.graph.outputs, names, strict=True):
        value.name = name


def _strip(model: Any) -> None:
    """Remove local paths and Python code from the metadata."""
    for item in (model, model.graph, *model.graph.all_nodes()):
        item.metadata_props.clear()
        item.doc_string = None


def _refer(model: Any, program: Path) -> None:
    """Replace weights by references to the bytes in the exported program's file."""
    with zipfile.ZipFile(program) as archive:
        places = _places(archive)
    for name, value in model.graph.initializers.items():
        if name in places:
            offset, length = places[name]
            value.const_value = onnx_ir.ExternalTensor(
                program.name, offset, length, value.dtype, shape=value.shape, name=name, base_dir=program.parent
            )


def _places(archive: zipfile.ZipFile) -> dict[str, tuple[int, int]]:
    """Return offset and length of every contiguous tensor in an exported program's file, by name."""
    root = archive.namelist()[0].partition("/")[0]
    places: dict[str, tuple[int, int]] = {}
    for folder, config in (("weights", "model_weights_config.json"), ("constants", "model_constants_config.json")):
        entries = json.loads(archive.read(f"{root}/data/{folder}/{config}"))["config"]
        for name, entry in entries.items():
            if _is_contiguous(entry["tensor_meta"]):
                places[name] = _place(archive, f"{root}/data/{folder}/{entry['path_name']}")
    return places


def _is_contiguous(meta: Any) -> bool:
    sizes, strides = ([item["as_int"] for item in meta[key]] for key in ("sizes", "strides"))
    expected = [math.prod(sizes[index + 1 :]) for index in range(len(sizes))]
    return strides == expected and meta["storage_offset"]["as_int"] == 0


def _place(archive: zipfile.ZipFile, name: str) -> tuple[int, int]:
    info = archive.getinfo(name)
    assert info.compress_type == zipfile.ZIP_STORED
    assert archive.fp is not None
    archive.fp.seek(info.header_offset)
    header = archive.fp.read(_LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return info.header_offset + _LOCAL_HEADER + lengths, info.file_size
