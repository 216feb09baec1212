import base64
import hashlib
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from radserve.client import validation
from radserve.errors import InvalidResponseError
from radserve.schema.requested_image import RequestedImage
from radserve.schema.segmentation import Box, Segmentation
from tests.radserve.scripted import empty, marked, picture, png, prediction, segmentation

IMAGE = b"image"
REQUEST = RequestedImage("glioma", "1.0.0", hashlib.sha256(IMAGE).hexdigest())
UNKNOWN = prediction(IMAGE)["image"]
"""Image without pixel spacing."""


def _parse(document: dict[str, Any]) -> Segmentation:
    result = validation.result(document, REQUEST)
    assert isinstance(result, Segmentation)
    return result


def test_a_mask_is_an_array_and_a_file() -> None:
    result = _parse(segmentation(IMAGE))
    assert result.task == "segmentation"
    assert result.mask.pixels.tolist() == marked().tolist()
    assert result.mask.png == png(marked())
    assert result.box == Box(left=3, top=2, width=5, height=4)
    assert result.raw == segmentation(IMAGE)


def test_an_empty_mask_is_valid() -> None:
    result = _parse(empty(IMAGE))
    assert (result.positive, result.box, result.area.pixels) == (False, None, 0)


def test_without_spacing_the_area_has_no_mm2() -> None:
    area = {"pixels": 20, "fraction": 0.1}
    assert _parse(segmentation(IMAGE, image=UNKNOWN, area=area)).area.mm2 is None


@pytest.mark.parametrize("key", [key for key in segmentation(IMAGE) if key != "mask"])
def test_every_key_is_required(key: str) -> None:
    with pytest.raises(InvalidResponseError, match=f"key '{key}' is missing"):
        _parse(segmentation(IMAGE, **{key: ...}))


def test_a_segmentation_without_a_mask_is_invalid() -> None:
    with pytest.raises(InvalidResponseError):
        validation.result(segmentation(IMAGE, mask=...), REQUEST)


TALL = np.ascontiguousarray(marked().T)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": picture(TALL)}, "the PNG is 10 x 20, but the image is 20 x 10"),
        ({"mask": picture(TALL, width=20, height=10)}, "mask': the PNG is 10 x 20, not 20 x 10"),
        ({"mask": picture(marked()[:, ::-1].copy())}, "box is .*left=3.*left=12"),
        ({"mask": picture(marked(left=4))}, "box is .*left=3.*left=4"),
        ({"mask": picture(marked(width=6))}, "area.pixels is 20, but the mask marks 24"),
        ({"mask": picture(marked() // 255)}, "values other than 0 and 255"),
        ({"mask": picture(np.stack([marked()] * 3, axis=2))}, "the PNG has colour type 2; 0 .gray. is required"),
        ({"mask": picture(marked(), data="no base64")}, "data is invalid Base64"),
        ({"mask": picture(marked(), data="AAAA")}, "the data is not a PNG"),
        ({"mask": picture(marked(), encoding="rle")}, "mask.encoding' has value 'rle'"),
        ({"mask": picture(marked(), data=picture(marked())["data"][:80])}, "the PNG is damaged"),
        ({"mask": None}, "mask' has value None"),
        ({"area": {"pixels": 20, "fraction": 0.2, "mm2": 20.0}}, "area.fraction is 0.2, but the mask marks 20 of 200"),
        ({"area": {"pixels": 20, "fraction": 0.1, "mm2": 10.0}}, "area.mm2 is 10.0, but 20 pixels"),
        ({"area": {"pixels": 20, "fraction": 0.1}}, "area.mm2 is None while image.spacing is"),
        ({"image": UNKNOWN}, "area.mm2 is 20.0 while image.spacing is None"),
        ({"image": UNKNOWN | {"spacing": [0.0, 1.0]}}, "image.spacing.0' has value 0.0"),
        ({"positive": False}, "positive is False, but the mask marks 20"),
        ({"positive": None, "threshold": None}, "positive is None, but the mask marks 20"),
        ({"threshold": None}, "positive is True while threshold is None"),
        ({"box": None}, "box is None, but"),
        ({"finding": "another"}, "the mask marks 'another'"),
        ({"label": ""}, "label' has value ''"),
        ({"status": 500}, "problem details"),
    ],
)
def test_an_inconsistent_mask_is_invalid(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidResponseError, match=message):
        _parse(segmentation(IMAGE, **changes))


def test_a_decompression_bomb_is_not_decoded() -> None:
    small = png(np.zeros((1, 1), dtype=np.uint8))
    header = b"IHDR" + struct.pack(">II", 12000, 12000) + small[24:29]
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    mask = picture(marked(), width=12000, height=12000, data=base64.b64encode(bomb).decode())
    with pytest.raises(InvalidResponseError, match="the limit is 80000000"):
        _parse(segmentation(IMAGE, mask=mask, image=UNKNOWN | {"width": 12000, "height": 12000}))
