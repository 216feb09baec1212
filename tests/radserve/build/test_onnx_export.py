"""ONNX graphs of exported programs: the same outputs from the same bytes of weights."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from handlers.errors import ProgramError
from handlers.onnx_program import OnnxProgram
from handlers.program import Program
from radserve.build import onnx_export
from radserve.build.export import export
from radserve.errors import BuildError
from tests.handlers.test_program import Branches

SHAPE = (3, 6, 4)


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> tuple[Branches, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    network = Branches().eval()
    export(network, SHAPE, folder / "program.pt2")
    onnx_export.export(network, SHAPE, folder / "program.pt2", folder / "program.onnx")
    return network, folder


def load(folder: Path) -> OnnxProgram:
    return OnnxProgram(folder / "program.onnx", folder / "program.pt2")


@pytest.mark.parametrize("size", [1, 2, 7])
def test_every_batch_size_gives_what_the_network_gives(branches: tuple[Branches, Path], size: int) -> None:
    network, folder = branches
    batch = np.random.default_rng(size).standard_normal((size, *SHAPE), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch))
    values = load(folder).run(batch, ("features", "logits"))
    assert list(values) == ["features", "logits"]
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value.numpy(), atol=1e-5)


def test_gradients_are_those_of_torch(branches: tuple[Branches, Path]) -> None:
    batch, weights = np.ones((2, *SHAPE), dtype=np.float32), np.ones((2, 4), dtype=np.float32)
    pairs = zip(
        load(branches[1]).gradients(batch, weights, "features"),
        Program(branches[1] / "program.pt2").gradients(batch, weights, "features"),
        strict=True,
    )
    for actual, expected in pairs:
        np.testing.assert_array_equal(actual, expected)


class Wide(torch.nn.Module):
    """Two layers; the weights of the second take most of the file."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 64, 3, padding=1)
        self.second = torch.nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.second(self.first(x)).mean(dim=(2, 3))}


def test_weights_are_read_from_the_exported_program(tmp_path: Path) -> None:
    network, program, graph = Wide().eval(), tmp_path / "program.pt2", tmp_path / "program.onnx"
    export(network, SHAPE, program)
    onnx_export.export(network, SHAPE, program, graph)
    kernel = network.second.weight.detach().numpy().tobytes()
    assert graph.stat().st_size < 5_000 < len(kernel)
    batch = np.ones((1, *SHAPE), dtype=np.float32)
    before = load(tmp_path).run(batch)["logits"]
    data = program.read_bytes()
    assert data.count(kernel) == 1
    program.write_bytes(data.replace(kernel, bytes(len(kernel))))
    after = load(tmp_path).run(batch)["logits"]
    assert network.second.bias is not None
    np.testing.assert_allclose(after[0], network.second.bias.detach().numpy(), atol=1e-6)
    assert np.abs(after - before).max() > 0.01


def test_equal_programs_give_equal_graphs(branches: tuple[Branches, Path], tmp_path: Path) -> None:
    onnx_export.write(branches[1] / "program.pt2", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (branches[1] / "program.onnx").read_bytes()


def test_graphs_name_no_local_paths_or_code(branches: tuple[Branches, Path]) -> None:
    data = (branches[1] / "program.onnx").read_bytes()
    for text in (str(Path.cwd()), str(branches[1]), "torch.nn", "forward", ".py"):
        assert text.encode() not in data


def test_other_outputs_than_those_of_the_network_are_an_error(branches: tuple[Branches, Path], tmp_path: Path) -> None:
    program = tmp_path / "program.pt2"
    program.write_bytes((branches[1] / "program.pt2").read_bytes())
    other = Branches().eval()
    torch.nn.init.normal_(other.conv.weight)
    with pytest.raises(BuildError, match=r"ONNX Runtime at batch size 1: 'logits' differs by"):
        onnx_export.export(other, SHAPE, program, tmp_path / "program.onnx")


class Inverse(torch.nn.Module):
    """Network with an operator that ONNX lacks."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": torch.linalg.eigvals(x[..., :4, :4]).abs().flatten(1)}


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    export(Inverse().eval(), SHAPE, tmp_path / "program.pt2")
    with pytest.raises(BuildError, match=r"cannot be written as ONNX: .* Set 'runtime: \{engine: torch\}'"):
        onnx_export.write(tmp_path / "program.pt2", tmp_path / "program.onnx")


@pytest.mark.parametrize("damage", ["missing", "truncated", "no weights"])
def test_a_damaged_graph_is_rejected(branches: tuple[Branches, Path], tmp_path: Path, damage: str) -> None:
    for file in branches[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph = tmp_path / "program.onnx"
    if damage == "missing":
        graph.unlink()
    elif damage == "truncated":
        graph.write_bytes(graph.read_bytes()[:500])
    else:
        (tmp_path / "program.pt2").unlink()
    with pytest.raises(ProgramError, match=rf"program\.onnx: rejected by ONNX Runtime {onnxruntime.__version__}: "):
        load(tmp_path)


class Huge(torch.nn.Module):
    """Network whose output needs four terabytes."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": x.mean(dim=(1, 2, 3))[:, None].expand(-1, 1 << 40)}


def test_memory_that_runs_out_is_a_memory_error(tmp_path: Path) -> None:
    exported = torch.export.export(Huge(), (torch.zeros(2, *SHAPE),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, tmp_path / "program.pt2")
    onnx_export.write(tmp_path / "program.pt2", tmp_path / "program.onnx")
    with pytest.raises(MemoryError, match="ONNX Runtime failed"):
        load(tmp_path).run(np.ones((1, *SHAPE), dtype=np.float32))


def test_a_batch_of_another_size_is_an_error_of_the_request_only(branches: tuple[Branches, Path]) -> None:
    program = load(branches[1])
    with pytest.raises(RuntimeError, match=r"ONNX Runtime failed: .*invalid dimensions"):
        program.run(np.ones((1, 3, 8, 8), dtype=np.float32))
    assert program.run(np.ones((1, *SHAPE), dtype=np.float32))
