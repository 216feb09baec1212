"""Statements of DICOM objects against the scope of a model."""

from typing import Any

import pytest
from pydicom import uid

from handlers.errors import OutOfScopeError
from handlers.formats.decode import decode
from handlers.scope import assurances
from handlers.scope.scope import Scope, check
from tests.handlers.dicom.objects import CHEST, GOOD, code, codes
from tests.handlers.images import SHARED, dicom, film

pytestmark = pytest.mark.filterwarnings("ignore:.*VR:UserWarning")  # pydicom writes what vendors write


@pytest.mark.parametrize(
    ("change", "source"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, "PresentationIntentType"),
        ({"PatientAge": "061Y"}, "PatientAge"),
        ({"PatientAge": "62"}, "PatientAge"),
        ({"PatientAge": "004W"}, "PatientAge"),
        ({"PatientBirthDate": "19400305", "StudyDate": "20040826"}, "PatientBirthDate"),
        ({"PatientSpeciesDescription": "SECRET dog"}, "PatientSpeciesDescription"),
        ({"BodyPartExamined": "SECRET PERSON"}, "BodyPartExamined"),
        ({"ViewPosition": "", "ViewCodeSequence": codes(code("R-102CD", "SRT"))}, "ViewCodeSequence"),
        ({"ViewPosition": "", "PatientOrientation": ["A", "F"]}, "PatientOrientation"),
        ({"PatientOrientation": ["R", "H"]}, "PatientOrientation"),  # upside down
        ({"PatientOrientation": ["R", "F"]}, "PatientOrientation"),  # mirrored
        (
            {
                "PixelIntensityRelationshipSign": 1,
                "PixelIntensityRelationship": "LOG",
                "PresentationLUTShape": "IDENTITY",
            },
            "PixelIntensityRelationshipSign",
        ),
        ({"SOPClassUID": uid.CTImageStorage}, "SOPClassUID"),
    ],
)
def test_out_of_scope(change: dict[str, Any], source: str) -> None:
    assert check(CHEST, decode(dicom(film(), **GOOD)).statements).unchecked == (
        "species",
        "orientation",
        "presentation",
        "polarity",
    )
    with pytest.raises(OutOfScopeError, match=source) as error:
        check(CHEST, decode(dicom(film(), **(GOOD | change))).statements)
    assert not any(secret in str(error.value) for secret in ("SECRET", "61", "62", "1940", "19400305"))


def test_descriptions_exclude_but_prove_nothing() -> None:
    image = decode(dicom(film(), Modality="DX", SeriesDescription="Chest", ProtocolName="PA"))
    assert {"body_part", "view"} <= set(check(CHEST, image.statements).unchecked)
    for text in ("KNEE AP", "Thorax seitlich"):
        with pytest.raises(OutOfScopeError, match="SeriesDescription"):
            check(CHEST, decode(dicom(film(), Modality="DX", SeriesDescription=text)).statements)


@pytest.mark.parametrize(("view", "orientation"), [("sagittal", [0, 1, 0, 0, 0, -1]), ("coronal", [1, 0, 0, 0, 0, -1])])
def test_an_assured_plane_agrees_with_the_orientation_of_the_image(view: str, orientation: list[float]) -> None:
    slice_ = decode(dicom(film(), Modality="MR", ImageOrientationPatient=orientation))
    check(Scope(), slice_.statements, assurances.from_json({"view": view}))
    with pytest.raises(OutOfScopeError, match="contradicts ImageOrientationPatient"):
        check(Scope(), slice_.statements, assurances.from_json({"view": "axial"}))


@pytest.mark.parametrize("age", ["001Y", "018M", "003y", " 5Y ", "005Y", "060W"])
def test_children_in_scope(age: str) -> None:
    assert "age" in check(CHEST, decode(dicom(film(), **(GOOD | {"PatientAge": age}))).statements).checked


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real images at {SHARED}")
def test_a_film_of_a_dog_and_films_of_adults_are_rejected() -> None:
    for name, source in {
        "ImagingDataCommons+highdicom__dx_image.dcm": "AcquisitionDeviceProcessingDescription",
        "mlmed+torchxrayvision__Fake_MONOHR1.dcm": "PatientAge",
        "pydicom+pydicom-data__RG1_J2KI.dcm": "PatientBirthDate",
    }.items():
        with pytest.raises(OutOfScopeError, match=source):
            check(CHEST, decode((SHARED / "dicom" / name).read_bytes()).statements)
