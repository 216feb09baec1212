"""Objects with several frames: each is analysed as an object of its own."""

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, fragment_frame

from handlers.dicom.multi_frame import Frame, MultiFrame
from handlers.errors import ContentTooLargeError, RequestError
from handlers.formats.decode import decode
from handlers.formats.image import Budget, Image, Limits
from handlers.request_body import BodyLimits, RequestBody, read
from tests.handlers.dicom.objects import code as coded_concept
from tests.handlers.dicom.objects import item
from tests.handlers.formats.test_zip import zipped
from tests.handlers.images import code, dicom, dicom_dataset, film, picture, written

LITTLE = uid.ExplicitVRLittleEndian
PLANE = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "FrameOfReferenceUID": "1.2.5"}
OBLIQUE = [0.8, 0.6, 0, -0.36, 0.48, 0.8]


def multi_frame(
    frames: Sequence[NDArray[Any]],
    syntax: uid.UID = LITTLE,
    shared: dict[str, Any] | None = None,
    each: Sequence[dict[str, Any]] = (),
    **attributes: Any,
) -> bytes:
    """Return an object with several frames, the functional groups `shared` and those of `each`."""
    dataset = dicom_dataset(frames[0], NumberOfFrames=len(frames), **attributes)
    if syntax.is_encapsulated and "PixelData" not in attributes:
        dataset.PixelData = encapsulate([code(pixels, dataset, syntax) for pixels in frames])
        dataset["PixelData"].VR = "OB"
    elif "PixelData" not in attributes:
        order: Any = "<" if syntax.is_little_endian else ">"
        content = b"".join(pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() for pixels in frames)
        dataset.PixelData = content + b"\0" * (len(content) % 2)
        dataset["PixelData"].VR = "OW" if frames[0].itemsize > 1 else "OB"
    if shared is not None:
        dataset.SharedFunctionalGroupsSequence = groups(shared)
    if each:
        dataset.PerFrameFunctionalGroupsSequence = [groups(parts)[0] for parts in each]
    return written(dataset, syntax)


def groups(parts: dict[str, Any]) -> Any:
    return item(**{keyword: item(**content) for keyword, content in parts.items()})


def split(data: bytes, **fields: Any) -> RequestBody:
    return read({"body": data, **fields}, {}, BodyLimits())


def decoded(data: bytes, limits: Limits | None = None) -> list[Image]:
    body = split(data)
    assert body.several
    images = []
    for frame in body.images:
        assert isinstance(frame, Frame)
        images.append(decode(frame, limits))
    return images


def assert_same(image: Image, alone: Image, number: int) -> None:
    """A frame has the pixels and statements of an object with only this frame."""
    assert image.frame == number
    assert image.pixels.mode == alone.pixels.mode
    assert image.pixels.tobytes() == alone.pixels.tobytes()
    assert alone.plane is not None
    origin = replace(alone.plane.origin, frame=number)
    assert replace(image, pixels=alone.pixels, frame=None) == replace(alone, plane=replace(alone.plane, origin=origin))


DEEP = film(39, 41, top=4095, kind=np.uint16)
SIGNED = film(40, 48, top=2000, kind=np.int16) - np.int16(1000)


@pytest.mark.parametrize(
    ("pixels", "syntax", "attributes"),
    [
        (film(39, 41), LITTLE, {}),
        (film(39, 41), uid.DeflatedExplicitVRLittleEndian, {}),
        (film(), uid.ExplicitVRBigEndian, {}),
        (DEEP, uid.ImplicitVRLittleEndian, {"BitsStored": 12, "HighBit": 11, "WindowCenter": 999, "WindowWidth": 900}),
        (DEEP, uid.ExplicitVRBigEndian, {"BitsStored": 12, "HighBit": 11}),
        (SIGNED, LITTLE, {"RescaleSlope": 2, "RescaleIntercept": -10}),
        (picture(39, 41), LITTLE, {}),
        (DEEP, uid.RLELossless, {}),
        (picture(39, 41), uid.RLELossless, {}),
        (DEEP, uid.JPEGLSLossless, {}),
        (DEEP, uid.JPEG2000Lossless, {}),
        (SIGNED, uid.JPEG2000Lossless, {}),
        (DEEP, uid.JPEGLosslessSV1, {}),
        (film(), uid.JPEGBaseline8Bit, {}),
    ],
)
def test_each_frame_equals_an_object_of_its_own(
    pixels: NDArray[Any], syntax: uid.UID, attributes: dict[str, Any]
) -> None:
    frames = [pixels, np.ascontiguousarray(pixels[::-1]), np.ascontiguousarray(pixels[:, ::-1] // 2)]
    images = decoded(multi_frame(frames, syntax, **attributes))
    for number, (image, alone) in enumerate(zip(images, frames, strict=True), 1):
        assert_same(image, decode(dicom(alone, syntax, **attributes)), number)


def test_functional_groups_are_those_of_the_frame_else_the_shared_ones() -> None:
    """As in enhanced MR: windows, rescale, position and anatomy."""
    frames = [SIGNED, SIGNED[::-1].copy(), SIGNED[:, ::-1].copy()]
    measures = {"PixelSpacing": [0.5, 0.75], "SliceThickness": 3}
    orientation = {"ImageOrientationPatient": OBLIQUE}
    shared = {"PixelMeasuresSequence": measures, "PlaneOrientationSequence": orientation}
    each: list[dict[str, Any]] = [
        {
            "PlanePositionSequence": {"ImagePositionPatient": [1, 2, 3 + 4 * index]},
            "FrameVOILUTSequence": {"WindowCenter": 10 * index, "WindowWidth": 500 + index},
            "PixelValueTransformationSequence": {"RescaleSlope": 1 + index, "RescaleIntercept": -5 * index},
            "FrameAnatomySequence": {
                "FrameLaterality": "LRU"[index],
                "AnatomicRegionSequence": [coded_concept(f"T-{index}", "SRT", ("Brain", "Chest", "Head")[index])],
            },
        }
        for index in range(3)
    ]
    one: dict[str, Any] = dict(Modality="MR", SOPClassUID=uid.EnhancedMRImageStorage, **PLANE)
    images = decoded(multi_frame(frames, shared=shared, each=each, **one))
    for index, image in enumerate(images):
        flat: dict[str, Any] = measures | orientation | one
        for name in ("PlanePositionSequence", "FrameVOILUTSequence", "PixelValueTransformationSequence"):
            flat |= each[index][name]
        anatomy = {
            "SharedFunctionalGroupsSequence": groups({"FrameAnatomySequence": each[index]["FrameAnatomySequence"]})
        }
        assert_same(image, decode(dicom(frames[index], **flat, **anatomy)), index + 1)
    assert len({image.statements for image in images}) == 3


def test_only_objects_with_several_frames_are_split() -> None:
    single = dicom(film(), NumberOfFrames=1)
    assert split(single) == RequestBody((single,))
    mask = multi_frame([film()] * 3, Modality="SEG")
    assert split(mask).images == (mask,)
    with pytest.raises(RequestError, match="segmentation"):
        decode(mask)


def test_the_frames_of_a_zip_and_of_a_list_are_in_the_place_of_their_object() -> None:
    several, one = multi_frame([film()] * 2), dicom(film())
    body = split(zipped({"a.dcm": one, "b.dcm": several, "c.dcm": b"damaged"}))
    assert body.names == ("a.dcm", "b.dcm", "b.dcm", "c.dcm")
    assert [image.number if isinstance(image, Frame) else image for image in body.images] == [one, 1, 2, b"damaged"]
    body = read({"body": {"instances": [{"data": ""}, {"b64": "%"}]}}, {}, BodyLimits())
    assert len(body.images) == 2


@pytest.mark.parametrize("frames", [161, 100_000, 10**11])
def test_more_frames_than_a_request_may_have_are_rejected_at_once(frames: int) -> None:
    data = dicom(film(), NumberOfFrames=frames)
    started = time.process_time()
    with pytest.raises(ContentTooLargeError, match=f"{frames} frames together.* limit is 160.* fewer"):
        split(data)
    assert time.process_time() - started < 1


def test_frames_of_all_members_count_together() -> None:
    data = multi_frame([film(8, 8)] * 90)
    with pytest.raises(ContentTooLargeError, match="180 frames"):
        split(zipped({"a.dcm": data, "b.dcm": data}))


def test_frames_share_the_limits_of_the_request() -> None:
    data = multi_frame([film()] * 3)
    frames = split(data).images
    limits = Limits(budget=Budget(pixels=2 * 40 * 48, bytes=len(data)))
    for frame in frames[:2]:
        assert isinstance(frame, Frame)
        decode(frame, limits)
    assert limits.budget.bytes == 0
    with pytest.raises(ContentTooLargeError, match="too many pixels"):
        decode(frames[2], limits)  # type: ignore[arg-type]
    with pytest.raises(ContentTooLargeError, match="too many bytes"):
        decode(MultiFrame(data, 3).frames[1], Limits(budget=Budget(bytes=len(data) - 1)))
    with pytest.raises(RequestError, match="48x40 pixels"):
        decode(MultiFrame(data, 3).frames[1], Limits(pixels=100))
    with pytest.raises(ContentTooLargeError, match=f"{len(data)} bytes; the limit is 100"):
        decode(MultiFrame(data, 3).frames[1], Limits(bytes=100))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"NumberOfFrames": 3}, "NumberOfFrames 3.* need 5760"),
        ({"PerFrameFunctionalGroupsSequence": [Dataset()]}, "NumberOfFrames 2, but 1 items in PerFrame"),
        ({"Rows": None}, "no Rows"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "need 480"),
        ({"PixelData": None}, "no Pixel Data"),
    ],
)
def test_contradictions_are_named_for_each_frame(attributes: dict[str, Any], message: str) -> None:
    dataset = dcmread(BytesIO(multi_frame([film()] * 2)))
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    for frame in split(written(dataset)).images:
        with pytest.raises(RequestError, match=message) as caught:
            decode(frame)  # type: ignore[arg-type]
        assert caught.value.status in {400, 422}


@pytest.mark.parametrize(("number", "message"), [("-2", "NumberOfFrames -2; it must be 1"), ("2x", "NumberOfFrames")])
def test_numbers_of_frames_that_are_none_are_named(number: str, message: str) -> None:
    data = dicom(film(), NumberOfFrames=22).replace(
        b"\x28\x00\x08\x00IS\x02\x0022", b"\x28\x00\x08\x00IS\x02\x00" + number.encode()
    )
    (image,) = split(data).images
    with pytest.raises(RequestError, match=message):
        decode(image)  # type: ignore[arg-type]


def fragments(offsets: bytes, *parts: bytes) -> bytes:
    items = b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in (offsets, *parts))
    return items + b"\xfe\xff\xdd\xe0\0\0\0\0"


def test_frames_may_have_several_fragments() -> None:
    frames = [film(), film()[::-1].copy()]
    parts = [list(fragment_frame(code(pixels, dicom_dataset(pixels), uid.JPEG2000Lossless), 3)) for pixels in frames]
    second = sum(len(part) + 8 for part in parts[0])
    for table in (b"", (0).to_bytes(4, "little") + second.to_bytes(4, "little")):
        data = multi_frame(frames, uid.JPEG2000Lossless, PixelData=fragments(table, *parts[0], *parts[1]))
        for image, pixels in zip(decoded(data), frames, strict=True):
            np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize(
    ("offsets", "count", "message"),
    [
        ([0], 2, "Basic Offset Table of its Pixel Data lists 1"),
        ([0, 6], 2, "does not point to the beginnings"),
        ([8, 0], 2, "does not point"),
        ([0, 0], 2, "does not point"),
        ([0] * 5000, 2, "lists 5000"),
        ([], 1, "1 fragments"),
        ([], 0, "0 fragments"),
    ],
)
def test_offset_tables_and_fragments_that_do_not_fit_are_named(offsets: list[int], count: int, message: str) -> None:
    coded = code(film(), dicom_dataset(film()), uid.RLELossless)
    table = b"".join(offset.to_bytes(4, "little") for offset in offsets)
    data = multi_frame([film()] * 2, uid.RLELossless, PixelData=fragments(table, *[coded] * count))
    for frame in split(data).images:
        with pytest.raises(RequestError, match=f"NumberOfFrames 2, but .*{message}.*; export"):
            decode(frame)  # type: ignore[arg-type]


def test_many_groups_and_fragments_take_little_time() -> None:
    parts = {f"{name}Sequence": {"ImageComments": "x"} for name in ("FrameContent", "FrameVOILUT", "PlanePosition")}
    data = multi_frame([film(8, 8)] * 160, shared={}, each=[parts] * 160)
    started = time.process_time()
    assert len(decoded(data)) == 160
    empty = fragments(b"", *[b"ab"] * 300_000)
    hostile = split(multi_frame([film(8, 8)] * 160, uid.JPEG2000Lossless, PixelData=empty))
    for frame in hostile.images:
        with pytest.raises(RequestError, match="more elements or fragments"):
            decode(frame)  # type: ignore[arg-type]
    assert time.process_time() - started < 10


def test_a_deflated_header_is_read_to_a_limit_only() -> None:
    data = multi_frame([film()] * 2, uid.DeflatedExplicitVRLittleEndian)
    start = data.index(b"1.2.840.10008.1.2.1.99") + 22
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = split(data[:start] + bomb.compress(b"\0" * 100_000_000) + bomb.flush())
    assert len(body.images) == 1


def test_damaged_copies_raise_nothing_but_request_errors() -> None:
    random = np.random.default_rng(3)
    each = [{"FrameVOILUTSequence": {"WindowCenter": 9}}] * 3
    data = multi_frame([film(8, 8)] * 3, uid.RLELossless, shared={}, each=each)
    outcomes = set()
    for _ in range(300):
        copy = bytearray(data)
        copy[random.integers(128, len(data))] = random.integers(256)
        for frame in MultiFrame(bytes(copy), 3).frames:
            try:
                decode(frame)
                outcomes.add("image")
            except RequestError:
                outcomes.add("error")
    assert outcomes == {"image", "error"}


@pytest.mark.parametrize("syntax", [LITTLE, uid.DeflatedExplicitVRLittleEndian])
def test_a_number_of_frames_far_behind_the_beginning_is_named_with_a_remedy(syntax: uid.UID) -> None:
    for size, count in ((3_500_000, 2), (4_500_000, 1)):
        dataset = dicom_dataset(film(), NumberOfFrames=2, PixelData=film().tobytes() * 2)
        dataset["PixelData"].VR = "OB"
        dataset.add_new(0x00190010, "LO", "ACME")
        dataset.add_new(0x00191001, "OB", bytes(size))
        images = split(written(dataset, syntax)).images
        assert len(images) == count
    with pytest.raises(RequestError, match=r"2 frames, but .* beyond its first 4 MB.*; remove large"):
        decode(images[0])  # type: ignore[arg-type]
