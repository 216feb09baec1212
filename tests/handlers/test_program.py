"""Exported programs: they give the network's outputs and run nothing else."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handlers.errors import DeviceLostError, ProgramError
from handlers.program import Program, is_sticky
from radserve.build.export import export


class Branches(torch.nn.Module):
    """Network with sizes, lists, optional tensors, several results and views."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.register_buffer("offset", torch.arange(4.0).view(1, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.up(self.norm(self.conv(x))) + self.offset
        left, right = torch.chunk(y, 2, dim=1)
        y = torch.cat([left.relu(), right.sigmoid()], dim=1)
        tokens = y.reshape(-1, 4, y.shape[2] * y.shape[3]).transpose(1, 2)
        weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        values, _ = (weights @ tokens).max(dim=1)
        return {"logits": values, "features": y}


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Branches, Path]:
    path = tmp_path_factory.mktemp("branches") / "program.pt2"
    network = Branches().eval()
    export(network, (3, 6, 4), path)  # it also compares both ways of running the program with the network
    return network, path


def test_every_batch_size_gives_what_the_network_gives(branches: tuple[Branches, Path]) -> None:
    network, path = branches
    program = Program(path)
    for size in (1, 2, 7):
        batch = np.random.default_rng(size).standard_normal((size, 3, 6, 4), dtype=np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch))
        values = program.run(batch, ("logits", "features"))
        assert sorted(values) == ["features", "logits"]
        for name, value in expected.items():
            np.testing.assert_allclose(values[name], value.numpy(), atol=1e-5)


def test_gradients_flow_from_logits_to_features(branches: tuple[Branches, Path]) -> None:
    image = torch.randn(1, 3, 6, 4, requires_grad=True)
    outputs = Program(branches[1])(image)
    (gradient,) = torch.autograd.grad(outputs["logits"].sum(), outputs["features"])
    assert gradient.shape == outputs["features"].shape
    assert gradient.abs().sum() > 0


def test_gradients_are_those_of_the_weighted_logits_of_each_row(branches: tuple[Branches, Path]) -> None:
    network, path = branches
    random = np.random.default_rng(0)
    batch = random.standard_normal((3, 3, 6, 4), dtype=np.float32)
    weights = random.standard_normal((3, 4), dtype=np.float32)
    outputs = network(torch.from_numpy(batch))
    score = (outputs["logits"] * torch.from_numpy(weights)).sum()
    (expected,) = torch.autograd.grad(score, outputs["features"])
    values, gradients = Program(path).gradients(batch, weights, "features")
    np.testing.assert_allclose(values, outputs["features"].detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(gradients, expected.numpy(), atol=1e-5)


def test_gradients_are_computed_even_where_they_are_disabled(branches: tuple[Branches, Path]) -> None:
    batch, weights = np.ones((1, 3, 6, 4), dtype=np.float32), np.ones((1, 4), dtype=np.float32)
    with torch.no_grad():
        _, gradients = Program(branches[1]).gradients(batch, weights, "features")
        assert not torch.is_grad_enabled()
    assert np.abs(gradients).sum() > 0


def test_steps_before_the_watched_output_are_not_recorded(branches: tuple[Branches, Path]) -> None:
    outputs = Program(branches[1])(torch.randn(1, 3, 6, 4), watch="features")
    assert outputs["features"].is_leaf
    assert outputs["logits"].grad_fn is not None


def test_gradients_of_an_unknown_output_are_an_error(branches: tuple[Branches, Path]) -> None:
    batch, weights = np.ones((1, 3, 6, 4), dtype=np.float32), np.ones((1, 4), dtype=np.float32)
    with pytest.raises(ProgramError, match="no output 'attention'; available: logits, features"):
        Program(branches[1]).gradients(batch, weights, "attention")


def test_nothing_of_the_exporter_is_needed_to_run(branches: tuple[Branches, Path]) -> None:
    steps = Program(branches[1])._steps
    assert all(isinstance(step.call, torch._ops.OpOverload) or step.call.__module__ == "_operator" for step in steps)


def rewritten(source: Path, target: Path, part: str, change: Callable[[Any], None]) -> Path:
    """Copy a program and change one of its JSON files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(part):
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
            new.writestr(name, data)
    return target


def use_pickle(document: Any) -> None:
    next(iter(document["config"].values()))["use_pickle"] = True


def call(target: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = target

    return change


def newer(document: Any) -> None:
    document["schema_version"]["major"] = 99


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("model_weights_config.json", use_pickle, "stored as a pickle"),
        ("model.json", call("os.system"), "'os.system', which is not an ATen operator"),
        ("model.json", call("torch.ops.custom.evil.default"), "not an ATen operator"),
        ("model.json", call("_operator.attrgetter"), "not an ATen operator"),
        ("model.json", newer, "schema 99"),
        ("model.json", dict.clear, "not a readable exported program"),
    ],
)
def test_a_program_with_more_than_tensors_and_operators_is_rejected(
    branches: tuple[Branches, Path], tmp_path: Path, part: str, change: Callable[[Any], None], message: str
) -> None:
    path = rewritten(branches[1], tmp_path / "program.pt2", part, change)
    with pytest.raises(ProgramError, match=message):
        Program(path)


def test_sample_inputs_are_never_unpickled(branches: tuple[Branches, Path], tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    with zipfile.ZipFile(branches[1]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"cos\nsystem\n(S'false'\ntR." if name.endswith(".pt") else old.read(name))
    assert Program(path).run(np.zeros((1, 3, 6, 4), dtype=np.float32))


def test_a_compressed_program_is_rejected(branches: tuple[Branches, Path], tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    with zipfile.ZipFile(branches[1]) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ProgramError, match="larger than the file"):
        Program(path)


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + b"\0" * 18])
def test_a_damaged_file_is_rejected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "program.pt2").write_bytes(data)
    with pytest.raises(ProgramError, match="not a readable exported program"):
        Program(tmp_path / "program.pt2")


def test_only_errors_that_break_the_context_are_sticky() -> None:
    assert is_sticky(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert is_sticky(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_sticky(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_sticky(RuntimeError("shape mismatch"))


def test_a_lost_device_is_distinguished_from_other_errors(
    branches: tuple[Branches, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(branches[1])

    def fail(error: RuntimeError) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            raise error

        return call

    batch = np.zeros((1, 3, 6, 4), dtype=np.float32)
    monkeypatch.setattr(Program, "__call__", fail(RuntimeError("CUDA error: device-side assert triggered")))
    with pytest.raises(DeviceLostError):
        program.run(batch)
    with pytest.raises(DeviceLostError):
        program.gradients(batch, np.ones((1, 4), dtype=np.float32), "features")
    monkeypatch.setattr(Program, "__call__", fail(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        program.run(batch)
