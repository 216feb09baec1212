"""Tests of reading and fitting checkpoints."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from radserve.build import checkpoint
from radserve.errors import WeightsImportError
from training import networks, weights


def lenet() -> dict[str, torch.Tensor]:
    return networks.create("cifar10_lenet", 10).state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def prefixed(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def load(path: Path, name: str = "cifar10_lenet", outputs: int = 10, **options: Any) -> checkpoint.Fitted:
    return checkpoint.load(path, networks.create(name, outputs), **options)


def fit(content: object, folder: Path, name: str = "cifar10_lenet", outputs: int = 10) -> dict[str, torch.Tensor]:
    torch.save(content, folder / "checkpoint.pth")
    return load(folder / "checkpoint.pth", name, outputs).state


FORMS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "plain": (lambda state: state, ""),
    "DataParallel": (lambda state: prefixed(state, "module."), "module"),
    "state_dict": (lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, "state_dict"),
    "under any key": (lambda state: {"net": state, "epoch": 3}, "net"),
    "nested": (lambda state: {"trainer": {"ema": {"weights": state}}}, "trainer.ema.weights"),
    "model, parallel": (lambda state: {"model": prefixed(state, "module.")}, "model.module"),
    "Lightning": (lambda state: {"state_dict": prefixed(state, "net.")}, "state_dict.net"),
    "compiled": (lambda state: prefixed(state, "_orig_mod."), ""),
    "compiled part": (lambda state: {k.replace("conv1.", "conv1._orig_mod."): v for k, v in state.items()}, ""),
    "averaged": (lambda state: {"n_averaged": torch.tensor(5)} | prefixed(state, "module."), "module"),
    "averaged in Lightning": (
        lambda state: {"state_dict": {"avg.n_averaged": torch.tensor(5)} | prefixed(state, "avg.module.")},
        "state_dict.avg.module",
    ),
    "NumPy scalars": (
        lambda state: {"state_dict": state, "best": np.float64(0.9), "epoch": np.int64(3), "all": [np.float32(1)]},
        "state_dict",
    ),
    "equal weights twice": (lambda state: {"last": state, "best": state}, "last"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_common_layout_gives_the_same_weights(form: str, tmp_path: Path) -> None:
    state = lenet()
    layout, key = FORMS[form]
    torch.save(layout(state), tmp_path / "checkpoint.pth")
    fitted = load(tmp_path / "checkpoint.pth")
    assert equal(fitted.state, state)
    assert fitted.key == key


def test_safetensors_are_read_whatever_their_name(tmp_path: Path) -> None:
    state = lenet()
    save_file(prefixed(state, "model."), tmp_path / "checkpoint.bin")
    assert equal(load(tmp_path / "checkpoint.bin").state, state)


def test_a_checkpoint_without_the_counters_of_batch_normalisation_is_accepted(tmp_path: Path) -> None:
    own = networks.create("chest_xray_cnn", 2).state_dict()
    old = {key: value for key, value in own.items() if "num_batches_tracked" not in key}
    assert len(old) < len(own)
    assert equal(fit(old, tmp_path, "chest_xray_cnn", 2), own)


def test_tensors_beside_the_weights_are_named(tmp_path: Path) -> None:
    torch.save(prefixed(lenet(), "net.") | {"loss.weight": torch.ones(10)}, tmp_path / "checkpoint.pth")
    assert load(tmp_path / "checkpoint.pth").ignored == ("loss.weight",)


def test_of_several_weights_one_is_chosen_by_its_key(tmp_path: Path) -> None:
    path, plain, averaged = tmp_path / "checkpoint.pth", lenet(), lenet()
    torch.save({"state_dict": plain, "ema": prefixed(averaged, "module.")}, path)
    with pytest.raises(WeightsImportError, match=r"several weights that fit: 'state_dict', 'ema\.module'.*--key"):
        load(path)
    assert equal(load(path, key="ema.module").state, averaged)
    assert equal(load(path, key="state_dict").state, plain)
    with pytest.raises(WeightsImportError, match=r"no weights of this network at 'model'"):
        load(path, key="model")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.witness,)


def test_a_pickle_is_rejected_and_not_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": lenet(), "trap": Trap(tmp_path / "witness")}, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match="can run any code"):
        load(tmp_path / "checkpoint.pth")
    assert not (tmp_path / "witness").exists()


def test_a_pickled_module_is_rejected_with_a_hint(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        load(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\x03\x04 no zip", b"\x80\x02}q\x00"])
def test_a_damaged_file_is_rejected(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pth").write_bytes(data)
    with pytest.raises(WeightsImportError, match=r"checkpoint\.pth: rejected"):
        load(tmp_path / "checkpoint.pth")


def test_a_truncated_checkpoint_is_rejected(tmp_path: Path) -> None:
    torch.save(lenet(), tmp_path / "checkpoint.pth")
    data = (tmp_path / "checkpoint.pth").read_bytes()
    (tmp_path / "checkpoint.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsImportError, match="damaged"):
        load(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("stored", [torch.zeros(3), {}, {"epoch": 3}, {"state_dict": {"epoch": 3}}, [1, 2]])
def test_a_file_without_weights_is_rejected(stored: object, tmp_path: Path) -> None:
    torch.save(stored, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match="contains no weights"):
        load(tmp_path / "checkpoint.pth")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WeightsImportError, match="checkpoint not found"):
        load(tmp_path / "none.pth")


def test_all_missing_extra_and_misshaped_keys_are_in_one_message(tmp_path: Path) -> None:
    state = lenet()
    del state["conv1.bias"]
    state["conv9.weight"] = torch.zeros(1, 2)
    state["fc3.weight"] = torch.zeros(7, 84)
    state["fc2.bias"] = torch.zeros(84, dtype=torch.int64)
    with pytest.raises(WeightsImportError) as error:
        fit(state, tmp_path)
    message = str(error.value)
    assert "1 missing: conv1.bias (32,)" in message
    assert "1 extra: conv9.weight (1, 2)" in message
    assert "2 of another shape" in message
    assert "fc3.weight has (7, 84), not (10, 84)" in message
    assert "fc2.bias has (84,) int64, not (84,)" in message


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "not finite"), (float("-inf"), "not finite"), (-70_000.0, "half precision ends")],
)
def test_values_outside_half_precision_are_rejected_by_key(value: float, message: str, tmp_path: Path) -> None:
    state = lenet()
    state["fc1.bias"][3] = value
    with pytest.raises(WeightsImportError, match=rf"fc1\.bias .*{message}"):
        fit(state, tmp_path)


def test_double_and_half_precision_are_accepted(tmp_path: Path) -> None:
    state = lenet()
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        fitted = fit({key: value.to(dtype) for key, value in state.items()}, tmp_path)
        assert {value.dtype for value in fitted.values()} == {torch.float32}


@pytest.mark.parametrize("name", ["glioma_unet", "glioma_attention_unet"])
def test_keys_with_and_without_the_wrapper_prefix_are_accepted(name: str, tmp_path: Path) -> None:
    ours = networks.create(name, 1).state_dict()
    public = {key.removeprefix("model."): value for key, value in ours.items()}
    for state in (ours, public, prefixed(public, "net."), prefixed(ours, "module.")):
        assert equal(fit(state, tmp_path, name, 1), ours)


def test_missing_keys_are_reported_without_the_wrapper_prefix(tmp_path: Path) -> None:
    public = {
        key.removeprefix("model."): value for key, value in networks.create("glioma_unet", 1).state_dict().items()
    }
    first = next(iter(public))
    del public[first]
    with pytest.raises(WeightsImportError, match=f"1 missing: {first} "):
        fit(public, tmp_path, "glioma_unet", 1)


def with_positions(change: float) -> dict[str, torch.Tensor]:
    network = networks.create("brain_tumor_cnn_attention", 2)
    stored = network.get_buffer("positions").clone()[None]
    stored[0, 5, 7] += change
    return network.state_dict() | {"positional_encoding.pe": stored}


def test_a_stored_positional_encoding_is_accepted_if_it_equals_the_computed_one(tmp_path: Path) -> None:
    assert "positional_encoding.pe" not in fit(with_positions(0), tmp_path, "brain_tumor_cnn_attention", 2)


def test_another_positional_encoding_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsImportError, match=r"1 extra: positional_encoding\.pe .*differs by 0\.5 from the positions"
    ):
        fit(with_positions(0.5), tmp_path, "brain_tumor_cnn_attention", 2)


def test_of_many_problems_five_are_listed_and_all_counted(tmp_path: Path) -> None:
    own = networks.create("chest_xray_cnn", 2).state_dict()
    state = {key: value for key, value in own.items() if not key.startswith("norm")}
    state |= prefixed({f"{number}.weight": torch.zeros(1) for number in range(9)}, "head.")
    with pytest.raises(WeightsImportError) as error:
        fit(state, tmp_path, "chest_xray_cnn", 2)
    message = str(error.value)
    assert "20 missing (4 in norm_01, 4 in norm_02, 4 in norm_03" in message
    assert "9 extra (9 in head), the first 5: head.0.weight (1,)" in message
    assert "head.5.weight" not in message


def test_no_message_recommends_to_read_a_file_without_protection(tmp_path: Path) -> None:
    torch.save({"state_dict": lenet(), "path": tmp_path}, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match=r"contains more than tensors and plain values \(pathlib") as error:
        load(tmp_path / "checkpoint.pth")
    assert "weights_only" not in str(error.value)


def test_single_precision_keeps_what_half_precision_cannot_hold(tmp_path: Path) -> None:
    state = lenet()
    state["fc1.bias"][3] = 70_000.0
    torch.save(state, tmp_path / "checkpoint.pth")
    assert equal(load(tmp_path / "checkpoint.pth", half=False).state, state)


def test_an_average_without_counters_is_not_passed_over(tmp_path: Path) -> None:
    raw, average = (networks.create("chest_xray_cnn", 2).state_dict() for _ in range(2))
    average = {key: value for key, value in average.items() if "num_batches_tracked" not in key}
    torch.save({"raw": raw, "ema": average}, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match="several weights that fit: 'raw', 'ema'"):
        load(tmp_path / "checkpoint.pth", "chest_xray_cnn", 2)


def test_weights_that_lack_something_are_named(tmp_path: Path) -> None:
    raw = networks.create("chest_xray_cnn", 2).state_dict()
    average = {key: value for key, value in raw.items() if "running" not in key}
    torch.save({"raw": raw, "ema": average}, tmp_path / "checkpoint.pth")
    fitted = load(tmp_path / "checkpoint.pth", "chest_xray_cnn", 2)
    assert (fitted.key, fitted.incomplete) == ("raw", ("ema",))


def test_averaged_counters_are_ignored(tmp_path: Path) -> None:
    own = networks.create("chest_xray_cnn", 2).state_dict()
    assert equal(
        fit({key: value.half().float() for key, value in own.items()}, tmp_path, "chest_xray_cnn", 2),
        {key: value.half().float() if value.is_floating_point() else value for key, value in own.items()},
    )


def test_a_loss_beside_a_wrapped_network_is_ignored(tmp_path: Path) -> None:
    ours = networks.create("glioma_unet", 1).state_dict()
    torch.save({"state_dict": ours | {"loss.weight": torch.ones(1)}}, tmp_path / "checkpoint.pth")
    assert equal(load(tmp_path / "checkpoint.pth", "glioma_unet", 1).state, ours)


@pytest.mark.parametrize(
    "value",
    [torch.ones(120).to_sparse(), torch.ones(120, device="meta"), torch.full((120,), 1e300, dtype=torch.double)],
)
def test_tensors_without_usable_values_are_rejected(value: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(WeightsImportError, match=r"unusable: fc1\.bias"):
        fit(lenet() | {"fc1.bias": value}, tmp_path)


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    shared = torch.zeros(10)
    for half in (True, False):
        weights.save({"a": shared, "b": shared, "n": torch.tensor(1)}, tmp_path / "weights", half=half)
