"""DICOM images and results about them."""

import base64
import hashlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation

SHA256 = "5" * 64
_CLASSES = {"DX": uid.DigitalXRayImageStorageForPresentation, "MR": uid.MRImageStorage}
ROOT = "1.2.826.0.1.3680043.8.498."


def film(pixels: NDArray[np.uint8], modality: str = "DX", **attributes: Any) -> bytes:
    """Return gray pixels as a DICOM file."""
    rows, columns = pixels.shape
    padded = np.append(pixels, np.zeros(pixels.size % 2, dtype=np.uint8))
    return image(rows, columns, modality, PixelData=padded.tobytes(), **attributes)


def image(rows: int = 40, columns: int = 56, modality: str = "MR", **attributes: Any) -> bytes:
    """Return a film or slice as a DICOM file; `attributes` override, None removes."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = _CLASSES[modality], f"{ROOT}1.1.{attributes.get('InstanceNumber', 1)}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}2", f"{ROOT}3"
    dataset.Modality, dataset.BodyPartExamined = modality, {"DX": "CHEST", "MR": "BRAIN"}[modality]
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Doe^Jane", "4711", "F"
    dataset.PatientBirthDate, dataset.PatientComments = "20200131", "a secret"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20260102", "101112", "1", "A1"
    dataset.ReferringPhysicianName, dataset.InstitutionName = "Who^Doctor", "a secret place"
    dataset.InstanceNumber, dataset.Laterality = 1, ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = np.resize(np.arange(251, dtype=np.uint8), rows * columns + rows * columns % 2).tobytes()
    if modality == "MR":
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = f"{ROOT}4", ""
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-10, 5, 7], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.75], 3
    else:
        dataset.ImagerPixelSpacing, dataset.PatientOrientation = [0.15, 0.15], ["L", "F"]
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file."""
    stream = BytesIO()
    Pillow.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _embedded(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    height, width = pixels.shape
    data = base64.b64encode(png(pixels)).decode()
    return {"encoding": "png", "width": width, "height": height, "data": data}


def _result(content: bytes, shape: tuple[int, int], changes: dict[str, Any]) -> dict[str, Any]:
    described = {"format": "dicom", "width": shape[1], "height": shape[0]}
    return {
        "model": {"name": "example", "version": "1.2.0", "sha256": SHA256},
        "image": described | {"sha256": hashlib.sha256(content).hexdigest()},
    } | changes


def segmentation(
    content: bytes, mask: NDArray[np.bool_], spacing: list[float] | None = None, **changes: Any
) -> Segmentation:
    """Return the result with a mask in the geometry of the image, as repaired."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    count = int(mask.sum())
    box = None
    if count:
        box = {
            "left": columns[0],
            "top": rows[0],
            "width": columns[-1] - columns[0] + 1,
            "height": rows[-1] - rows[0] + 1,
        }
    area: dict[str, Any] = {"pixels": count, "fraction": count / mask.size}
    document = _result(content, (mask.shape[0], mask.shape[1]), changes)
    if spacing:
        area["mm2"] = count * spacing[0] * spacing[1]
        document["image"]["spacing"] = spacing
    label = "tumour" if count else "background"
    decision = {"label": label, "positive": count > 0, "finding": "tumour", "threshold": 0.5, "box": box}
    return Segmentation.model_validate(
        document | decision | {"area": area, "mask": _embedded(mask.astype(np.uint8) * np.uint8(255))}
    )


def classification(content: bytes, shape: tuple[int, int], probability: float = 0.8, **changes: Any) -> Prediction:
    """Return a decision about pneumonia."""
    positive = probability >= 0.6
    return Prediction.model_validate(
        {
            "label": "pneumonia" if positive else "normal",
            "probability": probability if positive else 1 - probability,
            "probabilities": {"normal": 1 - probability, "pneumonia": probability},
            "positive": positive,
            "threshold": 0.6,
        }
        | _result(content, shape, changes)
    )


def explanation(content: bytes, heat: NDArray[np.uint8], **changes: Any) -> Explanation:
    """Return a decision with its heat map."""
    result = classification(content, (heat.shape[0], heat.shape[1]), **changes)
    heat_map = _embedded(heat) | {"method": "grad-cam", "label": result.label}
    return Explanation.model_validate({**result.raw} | {"explanation": heat_map})


def blob(rows: int, columns: int) -> NDArray[np.bool_]:
    """Return a mask without symmetry, which touches the border."""
    mask = np.zeros((rows, columns), dtype=np.bool_)
    mask[: rows // 3, columns // 2 :] = True
    mask[rows // 2, columns // 4] = mask[-1, -1] = True
    return mask
