"""Real DICOM files: each is decoded or rejected as expected, and decoded ones agree with pydicom."""

import warnings
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from handlers.errors import RequestError
from handlers.formats.decode import decode
from tests.handlers.dicom.test_depth import dcmtk
from tests.handlers.images import SHARED

FOLDER = SHARED / "dicom"

EXPECTED: dict[str, str | int] = {
    "ImagingDataCommons+highdicom__dx_image.dcm": "L",
    "ImagingDataCommons+highdicom__seg_image_ct_binary.dcm": 422,
    "ImagingDataCommons+highdicom__seg_image_ct_binary_fractional.dcm": 422,
    "ImagingDataCommons+highdicom__seg_image_ct_binary_single_frame.dcm": 422,
    "ImagingDataCommons+highdicom__seg_image_sm_control_labelmap.dcm": 422,
    "ImagingDataCommons+highdicom__seg_image_sm_control_labelmap_palette_color.dcm": 422,
    "ImagingDataCommons+highdicom__seg_image_sm_dots_tiled_full.dcm": 422,
    "ImagingDataCommons+highdicom__sm_image.dcm": 422,
    "ImagingDataCommons+highdicom__sm_image_grayscale.dcm": 422,
    "ImagingDataCommons+highdicom__sm_image_jpegls_nobot.dcm": 422,
    "mlmed+torchxrayvision__Fake_MONOHR1.dcm": "L",
    "pydicom+pydicom-data__693_UNCI.dcm": "F",
    "pydicom+pydicom-data__HTJ2KLossless_08_RGB.dcm": "RGB",
    "pydicom+pydicom-data__JLSL_16_15_1_1F.dcm": "F",
    "pydicom+pydicom-data__JLSL_RGB_ILV2.dcm": "RGB",
    "pydicom+pydicom-data__JPEG-LL.dcm": "F",
    "pydicom+pydicom-data__JPGLosslessP14SV1_1s_1f_8b.dcm": "F",
    "pydicom+pydicom-data__OBXXXX1A_expb.dcm": "RGB",
    "pydicom+pydicom-data__RG1_J2KI.dcm": "F",
    "pydicom+pydicom-data__RG3_J2KI.dcm": "F",
    "pydicom+pydicom-data__SC_rgb_32bit.dcm": "RGB",
    "pydicom+pydicom-data__SC_rgb_32bit_2frame.dcm": 422,
    "pydicom+pydicom-data__SC_rgb_expb_32bit_2frame.dcm": 422,
    "pydicom+pydicom-data__SC_ybr_full_uncompressed.dcm": "RGB",
    "pydicom+pydicom-data__US1_J2KI.dcm": "RGB",
    "pydicom+pydicom-data__emri_small.dcm": 422,
    "pydicom+pydicom-data__emri_small_RLE.dcm": 422,
    "pydicom+pydicom-data__emri_small_big_endian.dcm": 422,
    "pydicom+pydicom-data__emri_small_jpeg_ls_lossless.dcm": 422,
    "pydicom+pydicom-data__liver_deflate.dcm": 422,
    "pydicom+pydicom-data__liver_expb.dcm": 422,
    "pydicom+pydicom-data__liver_j2k.dcm": 422,
    "pydicom+pydicom-data__liver_rle.dcm": 422,
    "pydicom+pydicom-data__parametric_map_float.dcm": 422,
    "pydicom+pydicom__5641.dcm": "F",
    "pydicom+pydicom__6247.dcm": "F",
    "pydicom+pydicom__DICOMDIR-bigEnd.dcm": 422,
    "pydicom+pydicom__ExplVR_LitEndNoMeta.dcm": 422,
    "pydicom+pydicom__JPEG-lossy.dcm": "F",
    "pydicom+pydicom__JPEG2000.dcm": "F",
    "pydicom+pydicom__JPEGLSNearLossless_08.dcm": "L",
    "pydicom+pydicom__JPEGLSNearLossless_16.dcm": "F",
    "pydicom+pydicom__MR_small_bigendian.dcm": "F",
    "pydicom+pydicom__MR_small_implicit.dcm": "F",
    "pydicom+pydicom__MR_small_jp2klossless.dcm": "F",
    "pydicom+pydicom__SC_rgb_dcmtk_+eb+cr.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_dcmtk_+eb+cy+np.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_gdcm_KY.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_jpeg_dcmd.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_jpeg_gdcm.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_rle.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_rle_2frame.dcm": 422,
    "pydicom+pydicom__SC_rgb_rle_32bit_2frame.dcm": 422,
    "pydicom+pydicom__SC_rgb_small_odd.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_small_odd_big_endian.dcm": "RGB",
    "pydicom+pydicom__SC_rgb_small_odd_jpeg.dcm": "RGB",
    "pydicom+pydicom__UN_sequence.dcm": 422,
    "pydicom+pydicom__chrFren.dcm": "L",
    "pydicom+pydicom__chrJapMultiExplicitIR6.dcm": 422,
    "pydicom+pydicom__chrSQEncoding.dcm": 422,
    "pydicom+pydicom__empty_charset_LEI.dcm": 422,
    "pydicom+pydicom__examples_overlay.dcm": "F",
    "pydicom+pydicom__examples_palette.dcm": "RGB",
    "pydicom+pydicom__image_dfl.dcm": "L",
    "pydicom+pydicom__liver_1frame.dcm": 422,
    "pydicom+pydicom__meta_missing_tsyntax.dcm": 422,
    "pydicom+pydicom__nested_priv_SQ.dcm": 422,
    "pydicom+pydicom__rtdose.dcm": 422,
    "pydicom+pydicom__rtdose_expb.dcm": 422,
    "pydicom+pydicom__rtdose_rle_1frame.dcm": "F",
    "pydicom+pydicom__zipMR.gz.dcm": 415,
    "robyoung+dicom-test-files__CT2_RLE.dcm": "F",
    "robyoung+dicom-test-files__MR3_JLSL.dcm": "F",
    "robyoung+dicom-test-files__MR4_J2KI.dcm": "F",
    "robyoung+dicom-test-files__MR4_J2KR.dcm": "F",
    "robyoung+dicom-test-files__MR4_JLSL.dcm": "F",
    "robyoung+dicom-test-files__MR4_JLSN.dcm": "F",
    "robyoung+dicom-test-files__MR4_JPLL.dcm": "F",
    "robyoung+dicom-test-files__MR4_RLE.dcm": "F",
    "robyoung+dicom-test-files__NM1_JLSN.dcm": "F",
    "robyoung+dicom-test-files__RG3_JLSL.dcm": "F",
    "robyoung+dicom-test-files__RG3_JLSN.dcm": "F",
    "robyoung+dicom-test-files__VL1_J2KR.dcm": "RGB",
    "robyoung+dicom-test-files__XA1_J2KI.dcm": "F",
    "robyoung+dicom-test-files__XA1_J2KR.dcm": "F",
    "robyoung+dicom-test-files__XA1_JLSL.dcm": "F",
    "robyoung+dicom-test-files__XA1_JLSN.dcm": "F",
    "robyoung+dicom-test-files__XA1_JPLY.dcm": "F",
}
"""File -> mode of the decoded pixels, or HTTP status of the rejection."""

_DCMTK = {
    JPEGExtended12Bit: "dcmdjpeg",
    JPEGLossless: "dcmdjpeg",
    JPEGLosslessSV1: "dcmdjpeg",
    JPEGLSLossless: "dcmdjpls",
    JPEGLSNearLossless: "dcmdjpls",
}
"""Transfer syntax -> dcmtk's program that decompresses it."""

needs_files = pytest.mark.skipif(not FOLDER.exists(), reason=f"no DICOM files at {FOLDER}")


@needs_files
def test_every_file_has_an_expected_outcome() -> None:
    assert {file.name for file in FOLDER.glob("*.dcm")} == set(EXPECTED)


@needs_files
@pytest.mark.parametrize("name", EXPECTED)
def test_every_file_is_decoded_or_rejected_as_expected(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    expected = EXPECTED[name]
    if isinstance(expected, int):
        with pytest.raises(RequestError) as caught:
            decode(data)
        assert caught.value.status == expected
        assert len(str(caught.value)) > 20
        return
    image = decode(data)
    assert image.pixels.mode == expected
    assert image.pixels.size == (image.width, image.height)
    _compare(np.asarray(image.pixels).astype(np.float64), data)


def _compare(actual: np.ndarray, data: bytes) -> None:
    """Compare shape and order of the gray levels with pydicom's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        syntax = dcmread(BytesIO(data), force=True).file_meta.TransferSyntaxUID
        if syntax == HTJ2KLossless:
            return  # neither pydicom nor dcmtk decodes it here
        dataset = dcmread(BytesIO(_uncompressed(data, syntax)), force=True)
        pixels = dataset.pixel_array
        if actual.ndim == 3:
            if dataset.PhotometricInterpretation != "PALETTE COLOR":
                assert actual.shape == pixels.shape
                np.testing.assert_allclose(actual, pixels / (2 ** (8 * pixels.dtype.itemsize) - 1) * 255, atol=2)
            return
        values = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset).astype(np.float64)
    assert actual.shape == values.shape
    sign = -1 if dataset.PhotometricInterpretation == "MONOCHROME1" else 1
    padding = dataset.get("PixelPaddingValue")
    real = np.ones(actual.shape, bool) if padding is None else pixels != padding
    assert sign * np.corrcoef(actual[real], values[real])[0, 1] > 0.999


def _uncompressed(data: bytes, syntax: UID) -> bytes:
    """Decompress with dcmtk what pydicom has no decoder for."""
    if syntax not in _DCMTK:
        return data
    with TemporaryDirectory() as folder:
        return dcmtk(Path(folder), data, _DCMTK[syntax])
