from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.recipe import Input
from tests.training.conftest import make_glioma
from training.datasets import lgg_mri, pixels
from training.errors import DataError

SPEC = Input(color="rgb", channels=3, height=32, width=32, fit="pad", mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    return make_glioma(tmp_path / "lgg", patients=3, each=4)


def test_slices_have_masks_labels_and_patients(slices: Path) -> None:
    result = lgg_mri.find(slices)
    assert len(result) == 12
    assert {example.group for example in result} == {"TCGA_XX_0000", "TCGA_XX_0001", "TCGA_XX_0002"}
    for example in result:
        assert example.mask is not None
        marked = np.asarray(lgg_mri.read_mask(example.mask)).any()
        assert example.label == ("tumour" if marked else "background")


def test_slices_of_a_case_are_sorted_by_number(tmp_path: Path) -> None:
    result = lgg_mri.find(make_glioma(tmp_path, patients=1, each=12))
    assert [example.path.stem.rpartition("_")[2] for example in result] == [str(n) for n in range(1, 13)]


def test_the_folder_of_the_cases_can_be_given_directly(slices: Path) -> None:
    whole, cases = lgg_mri.find(slices), lgg_mri.find(slices / "kaggle_3m")
    assert [example.name for example in whole] == [example.name for example in cases]


def test_all_missing_masks_and_slices_are_listed(slices: Path) -> None:
    lone = [next(slices.rglob("*_2_mask.tif")), next(slices.rglob("*_4_mask.tif")), next(slices.rglob("*_1.tif"))]
    for path in lone:
        path.unlink()
    with pytest.raises(DataError, match="3 files lack their mask") as caught:
        lgg_mri.files(slices)
    for name in ("_2.tif", "_4.tif", "_1_mask.tif"):
        assert name in str(caught.value)


def test_a_broken_mask_is_reported(slices: Path) -> None:
    path = next(slices.rglob("*_3_mask.tif"))
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"_3_mask\.tif: cannot be read as a mask"):
        lgg_mri.find(slices)


def test_an_unknown_case_name_is_rejected(slices: Path) -> None:
    next((slices / "kaggle_3m").iterdir()).rename(slices / "kaggle_3m" / "unknown")
    with pytest.raises(DataError, match="the patient is unknown"):
        lgg_mri.find(slices)


def test_masks_are_aligned_with_their_images(slices: Path) -> None:
    result = lgg_mri.find(slices)
    images, masks = pixels.read(result, SPEC), pixels.masks(result, SPEC)
    assert masks.shape == (12, 1, 32, 32)
    assert masks.any()
    np.testing.assert_array_equal(masks[:, 0].numpy() > 0, images[:, 1].numpy() > 160)


def test_a_mask_of_another_size_is_rejected(slices: Path) -> None:
    path = next(slices.rglob("*_3_mask.tif"))
    Image.new("L", (60, 64)).save(path)
    with pytest.raises(DataError, match="sizes must be equal"):
        pixels.masks(lgg_mri.find(slices), SPEC)
