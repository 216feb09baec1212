import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.formats import decode
from training.datasets import cifar10
from training.errors import DataError


def _photograph(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def _png(seed: int) -> bytes:
    written = io.BytesIO()
    Image.fromarray(_photograph(seed)).save(written, "PNG")
    return written.getvalue()


def _batch(*seeds: int) -> bytes:
    return b"".join(bytes([seed % 10]) + _photograph(seed).transpose(2, 0, 1).tobytes() for seed in seeds)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for seed, name in enumerate(cifar10.CLASSES):
        path = tmp_path / "train" / name / f"{seed:04}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(_png(seed))
    return tmp_path


def test_folder_tar_and_binary_batches_give_the_same_images(folders: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photographs.tar", "w") as tar:
        tar.add(folders / "train", "cifar10/train")
    batches = tmp_path / "cifar-10-batches-bin"
    batches.mkdir()
    (batches / "data_batch_1.bin").write_bytes(_batch(*range(6)))
    (batches / "data_batch_2.bin").write_bytes(_batch(*range(6, 10)))
    (batches / "test_batch.bin").write_bytes(_batch(77))
    ways = [cifar10.find(folders), cifar10.find(tmp_path / "photographs.tar"), cifar10.find(batches)]
    for result in ways:
        pixels = {example.label: decode.decode(example.read()).pixels for example in result}
        assert len(pixels) == 10
        for seed, label in enumerate(cifar10.CLASSES.values()):
            np.testing.assert_array_equal(np.asarray(pixels[label]), _photograph(seed))
    assert [example.name for example in ways[0]] == [example.name for example in ways[1]]


def test_identical_photographs_are_one_group(folders: Path) -> None:
    (folders / "train" / "cat" / "again.png").write_bytes(_png(3))
    result = [example for example in cifar10.find(folders) if example.label == "cat"]
    assert len(result) == 2
    assert len({example.group for example in result}) == 1


def test_a_truncated_batch_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(_batch(1)[:-1])
    with pytest.raises(DataError, match="expected a multiple of 3073"):
        cifar10.find(tmp_path)


def test_a_batch_with_an_invalid_label_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(DataError, match="label 10 at byte 0"):
        cifar10.find(tmp_path)


def test_the_pickled_version_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80")
    with pytest.raises(DataError, match="use the binary one"):
        cifar10.find(tmp_path)


def test_empty_and_missing_folders_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no photographs"):
        cifar10.find(tmp_path)
    with pytest.raises(DataError, match="folder or tar file not found"):
        cifar10.find(tmp_path / "none")


def test_a_file_that_is_not_a_tar_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "photographs.tar").write_bytes(b"nothing" * 200)
    with pytest.raises(DataError, match="not an uncompressed tar"):
        cifar10.find(tmp_path / "photographs.tar")
