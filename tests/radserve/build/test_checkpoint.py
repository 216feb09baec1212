"""Tests of reading and fitting checkpoints."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from radserve.build import checkpoint
from radserve.errors import WeightsImportError
from training import networks


def lenet() -> dict[str, torch.Tensor]:
    return networks.create("cifar10_lenet", 10).state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


FORMS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "plain": lambda state: state,
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "model, parallel": lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_common_layout_gives_the_same_weights(form: str, tmp_path: Path) -> None:
    state = lenet()
    torch.save(FORMS[form](state), tmp_path / "checkpoint.pth")
    assert equal(checkpoint.read(tmp_path / "checkpoint.pth"), state)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.witness,)


def test_a_pickle_is_rejected_and_not_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": lenet(), "trap": Trap(tmp_path / "witness")}, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match="can run any code"):
        checkpoint.read(tmp_path / "checkpoint.pth")
    assert not (tmp_path / "witness").exists()


def test_a_pickled_module_is_rejected_with_a_hint(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        checkpoint.read(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\x03\x04 no zip", b"\x80\x02}q\x00"])
def test_a_damaged_file_is_rejected(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pth").write_bytes(data)
    with pytest.raises(WeightsImportError, match=r"checkpoint\.pth: rejected"):
        checkpoint.read(tmp_path / "checkpoint.pth")


def test_a_truncated_checkpoint_is_rejected(tmp_path: Path) -> None:
    torch.save(lenet(), tmp_path / "checkpoint.pth")
    data = (tmp_path / "checkpoint.pth").read_bytes()
    (tmp_path / "checkpoint.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsImportError, match="damaged"):
        checkpoint.read(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("stored", [torch.zeros(3), {}, {"epoch": 3}, {"state_dict": {"epoch": 3}}, [1, 2]])
def test_a_file_without_weights_is_rejected(stored: object, tmp_path: Path) -> None:
    torch.save(stored, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match="contains no weights"):
        checkpoint.read(tmp_path / "checkpoint.pth")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WeightsImportError, match="checkpoint not found"):
        checkpoint.read(tmp_path / "none.pth")


def fit(state: dict[str, torch.Tensor], name: str = "cifar10_lenet", outputs: int = 10) -> dict[str, torch.Tensor]:
    return checkpoint.fit(state, networks.create(name, outputs), "checkpoint.pth")


def test_all_missing_extra_and_misshaped_keys_are_in_one_message() -> None:
    state = lenet()
    del state["conv1.bias"]
    state["conv9.weight"] = torch.zeros(1, 2)
    state["fc3.weight"] = torch.zeros(7, 84)
    state["fc2.bias"] = torch.zeros(84, dtype=torch.int64)
    with pytest.raises(WeightsImportError) as error:
        fit(state)
    message = str(error.value)
    assert "4 problems" in message
    assert "missing conv1.bias (32,)" in message
    assert "extra conv9.weight (1, 2)" in message
    assert "fc3.weight has (7, 84), not (10, 84)" in message
    assert "fc2.bias has (84,) int64, not (84,)" in message


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "not finite"), (float("-inf"), "not finite"), (-70_000.0, "half precision ends")],
)
def test_values_outside_half_precision_are_rejected_by_key(value: float, message: str) -> None:
    state = lenet()
    state["fc1.bias"][3] = value
    with pytest.raises(WeightsImportError, match=rf"fc1\.bias .*{message}"):
        fit(state)


def test_double_and_half_precision_are_accepted() -> None:
    state = lenet()
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        fitted = fit({key: value.to(dtype) for key, value in state.items()})
        assert {value.dtype for value in fitted.values()} == {torch.float32}


@pytest.mark.parametrize("name", ["glioma_unet", "glioma_attention_unet"])
def test_keys_with_and_without_the_wrapper_prefix_are_accepted(name: str) -> None:
    ours = networks.create(name, 1).state_dict()
    public = {key.removeprefix("model."): value for key, value in ours.items()}
    assert equal(fit(ours, name, 1), ours)
    assert equal(fit(public, name, 1), ours)


def test_missing_keys_are_reported_without_the_wrapper_prefix() -> None:
    public = {
        key.removeprefix("model."): value for key, value in networks.create("glioma_unet", 1).state_dict().items()
    }
    first = next(iter(public))
    del public[first]
    with pytest.raises(WeightsImportError, match=f"1 problems: missing {first} "):
        fit(public, "glioma_unet", 1)


def with_positions(change: float) -> dict[str, torch.Tensor]:
    network = networks.create("brain_tumor_cnn_attention", 2)
    stored = network.get_buffer("positions").clone()[None]
    stored[0, 5, 7] += change
    return network.state_dict() | {"positional_encoding.pe": stored}


def test_a_stored_positional_encoding_is_accepted_if_it_equals_the_computed_one() -> None:
    assert "positional_encoding.pe" not in fit(with_positions(0), "brain_tumor_cnn_attention", 2)


def test_another_positional_encoding_is_rejected() -> None:
    with pytest.raises(WeightsImportError, match=r"extra positional_encoding\.pe .*differs by 0\.5 from the positions"):
        fit(with_positions(0.5), "brain_tumor_cnn_attention", 2)
