"""What DICOM objects state about who and what was imaged, wherever they state it."""

from typing import Any

import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from handlers.formats.decode import decode
from handlers.scope.age import Age
from tests.handlers.dicom.objects import code, codes, item
from tests.handlers.images import dicom, dicom_dataset, film, written

pytestmark = pytest.mark.filterwarnings("ignore:.*VR:UserWarning")  # pydicom writes what vendors write
KNEE_SAGITTAL: dict[str, set[Any]] = {"body_part": {"leg"}, "view": {"sagittal"}}


def stated(**attributes: Any) -> dict[str, set[Any]]:
    image = decode(dicom(film(), **({"Modality": ""} | attributes)))
    return {
        name: {statement.value for statement in image.statements if statement.attribute == name}
        for name in sorted({statement.attribute for statement in image.statements})
    }


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, {}),
        ({"Modality": "OT"}, {}),
        ({"Modality": "DX"}, {"modality": {"DX"}}),
        ({"Modality": ["CR", "CT"]}, {"modality": {"CR", "CT"}}),
        ({"Modality": "OT", "SOPClassUID": uid.CTImageStorage}, {"modality": {"CT"}}),
        ({"SOPClassUID": uid.VLPhotographicImageStorage}, {"modality": {"XC"}}),
        ({"SOPClassUID": uid.BreastTomosynthesisImageStorage}, {"modality": {"MG"}}),
        ({"SOPClassUID": uid.XRay3DAngiographicImageStorage}, {"modality": {"XA"}}),
        ({"SOPClassUID": uid.RTImageStorage}, {"modality": {"RTIMAGE"}}),
        (
            {"Modality": "CR", "SOPClassUID": uid.DigitalXRayImageStorageForPresentation},
            {"modality": {"CR"}, "presentation": {"for presentation"}},
        ),
        ({"PatientAge": "003Y"}, {"age": {Age(3, 4)}}),
        ({"PatientAge": "", "PatientBirthDate": "20140422", "StudyDate": "20200125"}, {"age": {Age(5, 6)}}),
        ({"PatientBirthDate": "2014.04.22", "AcquisitionDate": "2020.01.25"}, {"age": {Age(5, 6)}}),
        ({"PatientBirthDate": "20140422", "StudyDate": "", "ContentDate": "20200125"}, {"age": {Age(5, 6)}}),
        ({"PatientBirthDate": "20140422"}, {}),
        (
            {"PatientAge": "003Y", "PatientBirthDate": "19500101", "StudyDate": "20200101"},
            {"age": {Age(3, 4), Age(70, 71)}},
        ),
        # devices write 000Y for an unknown age, de-identification writes an impossible date of birth
        (
            {"PatientAge": "000Y", "PatientBirthDate": "20170101", "StudyDate": "20200601"},
            {"age": {Age(3, 4)}},
        ),
        ({"PatientAge": "000Y"}, {"age": {Age(0, 1)}}),
        ({"PatientAge": "000Y", "PatientBirthDate": "20200101", "StudyDate": "20200601"}, {"age": {Age(0, 1)}}),
        ({"PatientAge": "000Y", "PatientBirthDate": "19500101", "StudyDate": "20200601"}, {"age": {Age(70, 71)}}),
        ({"PatientAge": "003Y", "PatientBirthDate": "19000101", "StudyDate": "20200601"}, {"age": {Age(3, 4)}}),
        ({"PatientAge": "003Y", "PatientBirthDate": "19010101", "StudyDate": "20200601"}, {"age": {Age(3, 4)}}),
        ({"PatientAge": "003Y", "PatientBirthDate": "19050101", "StudyDate": "20200601"}, {"age": {Age(3, 4)}}),
        ({"PatientAge": "000Y", "PatientBirthDate": "19050101", "StudyDate": "20200601"}, {"age": {Age(0, 1)}}),
        ({"PatientBirthDate": "19050101", "StudyDate": "20200601"}, {"age": {Age(115, 116)}}),
        ({"PatientBirthDate": "19000101", "StudyDate": "20200601"}, {}),
        ({"PatientAge": "062J"}, {"age": {Age(62, 63)}}),
        ({"PatientSpeciesDescription": "Homo sapiens"}, {"species": {"human"}}),
        ({"PatientSpeciesDescription": "Canine"}, {"species": {"animal"}}),
        ({"PatientSpeciesCodeSequence": codes(code("337915000", "SCT"))}, {"species": {"human"}}),
        ({"PatientSpeciesCodeSequence": codes(code("L-85003", "SRT"))}, {"species": {"human"}}),
        ({"PatientSpeciesCodeSequence": codes(code("448771007", "SCT"))}, {"species": {"animal"}}),
        ({"PatientSpeciesCodeSequence": codes(code("X1", "99VET", "Dog"))}, {"species": {"animal"}}),
        ({"PatientSpeciesCodeSequence": codes(code("X1", "99VET"))}, {}),
        ({"PatientBreedDescription": "Beagle"}, {"species": {"animal"}}),
        ({"PatientBreedCodeSequence": codes(code("132391002", "SCT"))}, {"species": {"animal"}}),
        ({"AnatomicalOrientationType": "QUADRUPED"}, {"species": {"animal"}}),
        ({"AcquisitionDeviceProcessingDescription": "CANINE X"}, {"species": {"animal"}}),
        *[({"PatientSpeciesDescription": text}, {}) for text in ("Not specified", "Snark", "NULL")],
        *[
            ({"PatientSpeciesDescription": text}, {"species": {"human"}})
            for text in ("Person", "Menschlich", "Humaine")
        ],
        ({"PatientBreedDescription": "Human"}, {"species": {"human"}}),
        ({"PatientBreedDescription": "Not specified"}, {}),
        ({"PatientBreedDescription": "Snark"}, {}),
        ({"PatientBreedDescription": "German shepherd"}, {"species": {"animal"}}),
        ({"PatientBreedCodeSequence": codes(Dataset())}, {}),
        ({"PatientBreedCodeSequence": codes(code("X1", "99VET"))}, {"species": {"animal"}}),
        ({"PatientBreedCodeSequence": codes(code("X1", "99VET", "Human"))}, {}),
        ({"PatientSpeciesCodeSequence": codes(code("", "SCT", "Human"))}, {"species": {"human"}}),
        ({"PatientSpeciesCodeSequence": codes(code("", "SCT"))}, {}),
        ({"StrainDescription": "C57BL/6"}, {"species": {"animal"}}),
        ({"StrainDescription": "Not applicable"}, {}),
        ({"ResponsiblePerson": "DOE^JOHN", "ResponsiblePersonRole": "OWNER"}, {}),
        ({"BodyPartExamined": "chest"}, {"body_part": {"chest"}}),
        ({"BodyPartExamined": "T-D3000"}, {"body_part": {"chest"}}),
        ({"BodyPartExamined": "CHEST LAT"}, {"body_part": {"chest"}, "view": {"lateral"}}),
        ({"BodyPartExamined": "CHEST PA LAT"}, {"body_part": {"chest"}, "view": {"PA", "lateral"}}),
        ({"BodyPartExamined": "CHEST PA LAT", "ViewPosition": "PA"}, {"body_part": {"chest"}, "view": {"PA"}}),
        (
            {"BodyPartExamined": "CHEST LAT", "ViewPosition": "PA"},
            {"body_part": {"chest"}, "view": {"PA", "lateral"}},
        ),
        ({"BodyPartExamined": "THORAX FACE"}, {"body_part": {"chest"}}),
        *[
            ({"BodyPartExamined": text}, {"body_part": {"chest"}, "view": {"lateral"}})
            for text in ("Thorax seitlich", "THORAX PROFIL", "CHEST LL", "TORAX PERFIL")
        ],
        ({"BodyPartExamined": "PORTABLE"}, {}),
        ({"BodyPartExamined": "DOE JOHN"}, {"body_part": {"other"}}),
        ({"BodyPartExamined": "UNKNOWN"}, {}),
        ({"AnatomicRegionSequence": codes(code("51185008", "SCT"))}, {"body_part": {"chest"}}),
        ({"AnatomicRegionSequence": codes(code("T-D3000", "SNM3"))}, {"body_part": {"chest"}}),
        ({"AnatomicRegionSequence": codes(code("72696002", "SCT"))}, {"body_part": {"leg"}}),
        ({"AnatomicRegionSequence": codes(code("76848001", "SCT", "Vein"))}, {"body_part": {"other"}}),
        ({"AnatomicRegionSequence": codes(code("C1", "99ACME", "Chest"))}, {"body_part": {"chest"}}),
        ({"AnatomicRegionSequence": codes(code("C1", "99ACME", "?"))}, {}),
        ({"ProcedureCodeSequence": codes(code("36643-5", "LN", "XR 2V"))}, {"body_part": {"chest"}}),
        ({"ProcedureCodeSequence": codes(code("9", "L", "XR knee"))}, {"body_part": {"leg"}}),
        ({"ProcedureCodeSequence": codes(code("9", "L", "Chest and knee"))}, {}),
        (
            {"BodyPartExamined": "CHEST", "ProcedureCodeSequence": codes(code("9", "L", "XR knee"))},
            {"body_part": {"chest"}},
        ),
        (
            {"ProcedureCodeSequence": codes(code("9", "L", "Chest lateral"))},
            {"body_part": {"chest"}, "view": {"lateral"}},
        ),
        ({"ProcedureCodeSequence": codes(code("9", "L", "Chest PA and lateral"))}, {"body_part": {"chest"}}),
        (
            {"RequestAttributesSequence": item(RequestedProcedureCodeSequence=codes(code("9", "L", "Chest")))},
            {"body_part": {"chest"}},
        ),
        ({"ViewPosition": "PA"}, {"view": {"PA"}}),
        ({"ViewPosition": ["PA", "LAT"]}, {"view": {"PA", "lateral"}}),
        ({"ViewPosition": "XYZ"}, {"view": {"other"}}),
        *[({"ViewPosition": text}, {}) for text in ("ERECT", "SUPINE", "PORTABLE", "NOT SPECIFIED", "NULL")],
        *[({"ViewPosition": text}, {"view": {"frontal"}}) for text in ("FACE", "FRONTALE", "de face")],
        *[({"ViewPosition": text}, {"view": {"AP"}}) for text in ("AP1", "AP SUPINE", "A.P. ERECT")],
        (
            {"ViewCodeSequence": codes(code("V1", "99ACME", ViewModifierCodeSequence=codes(code("399067008", "SCT"))))},
            {"view": {"lateral"}},
        ),
        ({"ViewCodeSequence": codes(code("399067008", "SCT", "lateral"))}, {"view": {"lateral"}}),
        ({"ViewCodeSequence": codes(code("R-10236", "SRT"))}, {"view": {"lateral"}}),
        ({"ViewCodeSequence": codes(code("R-10214", "SNM3"))}, {"view": {"PA"}}),
        ({"ViewCodeSequence": codes(code("399110001", "SCT", "tangential"))}, {"view": {"other"}}),
        ({"ViewCodeSequence": codes(code("V7", "99ACME", "Left lateral"))}, {"view": {"lateral"}}),
        (
            {"ViewCodeSequence": codes(code("399368009", "SCT"))},  # a view of the breast only
            {"view": {"oblique"}, "body_part": {"breast"}},
        ),
        *[
            ({"SeriesDescription": text}, {"body_part": {"chest"}, "view": {"lateral"}})
            for text in ("Chest Lat", "Thorax seitlich", "Thorax profil", "Rx torax LL", "Torax perfil")
        ],
        ({"SeriesDescription": "Chest PA"}, {"body_part": {"chest"}}),
        ({"SeriesDescription": "Profile 1 LL"}, {}),
        ({"SeriesDescription": "Chest Lat", "ViewPosition": "PA"}, {"body_part": {"chest"}, "view": {"PA"}}),
        ({"SeriesDescription": "PD FS KNEE SAG", "Modality": "MR"}, {"modality": {"MR"}} | KNEE_SAGITTAL),
        ({"SeriesDescription": "PD FS KNEE SAG", "Modality": "CR"}, {"modality": {"CR"}, "body_part": {"leg"}}),
        ({"SeriesDescription": "KNEE AP", "BodyPartExamined": "CHEST"}, {"body_part": {"chest"}}),
        ({"SeriesDescription": "KNEE", "ProtocolName": "HAND"}, {}),
        ({"SeriesDescription": "BONE"}, {}),
        ({"SeriesDescription": "KNEE COIL"}, {}),
        ({"SeriesDescription": "COR FLAIR", "Modality": "MR"}, {"modality": {"MR"}, "view": {"coronal"}}),
        ({"SeriesDescription": "AX SAG COR LOC", "Modality": "MR"}, {"modality": {"MR"}}),
        (
            {"SeriesDescription": "SAG T1", "Modality": "MR", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            {"modality": {"MR"}, "view": {"axial"}},
        ),
        ({"PatientOrientation": ["L", "F"]}, {"orientation": {"LF"}, "view": {"frontal"}}),
        ({"PatientOrientation": ["A", "F"]}, {"orientation": {"AF"}, "view": {"lateral"}}),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, {"view": {"axial"}}),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "Modality": "CR"}, {"modality": {"CR"}}),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, {"view": {"lateral"}}),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, {"view": {"frontal"}}),
        ({"ImageLaterality": "L"}, {"laterality": {"left"}}),
        ({"PresentationIntentType": "for processing"}, {"presentation": {"for processing"}}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "FOR PROCESSING"]}, {"presentation": {"for processing"}}),
        (
            {"Modality": "DX", "SOPClassUID": uid.DigitalXRayImageStorageForProcessing},
            {"modality": {"DX"}, "presentation": {"for processing"}},
        ),
        (
            {
                "Modality": "DX",
                "SOPClassUID": uid.DigitalXRayImageStorageForProcessing,
                "PresentationIntentType": "FOR PRESENTATION",
            },
            {"modality": {"DX"}, "presentation": {"for processing", "for presentation"}},
        ),
        (
            {
                "SharedFunctionalGroupsSequence": item(
                    FrameAnatomySequence=item(
                        FrameLaterality="U", AnatomicRegionSequence=codes(code("69536005", "SCT", "Head"))
                    )
                )
            },
            {"body_part": {"head"}, "laterality": {"unpaired"}},
        ),
        (
            {
                "PerFrameFunctionalGroupsSequence": item(
                    PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
                )
            },
            {"view": {"axial"}},
        ),
    ],
)
def test_statements(attributes: dict[str, Any], expected: dict[str, set[Any]]) -> None:
    assert stated(**attributes) == expected


@pytest.mark.parametrize(
    ("photometric", "sign", "more", "expected"),
    [
        ("MONOCHROME1", 1, {}, {"normal"}),
        ("MONOCHROME2", -1, {}, {"normal"}),
        ("MONOCHROME1", -1, {}, None),  # devices keep the sign of an image that they have inverted
        ("MONOCHROME2", 1, {}, None),
        ("MONOCHROME2", 1, {"PixelIntensityRelationship": "LOG"}, None),
        ("MONOCHROME2", 1, {"PixelIntensityRelationship": "DISP", "PresentationLUTShape": "IDENTITY"}, None),
        ("MONOCHROME2", 1, {"PixelIntensityRelationship": "LOG", "PresentationLUTShape": "IDENTITY"}, {"inverted"}),
        ("MONOCHROME1", -1, {"PixelIntensityRelationship": "LIN", "PresentationLUTShape": "INVERSE"}, {"inverted"}),
        ("MONOCHROME2", 1, {"PresentationLUTShape": "INVERSE"}, {"normal"}),
        ("MONOCHROME2", 1, {"RescaleSlope": -1, "RescaleIntercept": 255}, None),  # the slope inverts
        ("MONOCHROME2", 0, {}, None),
        ("MONOCHROME2", 1, {"Modality": "CT"}, None),
    ],
)
def test_polarity(photometric: str, sign: int, more: dict[str, Any], expected: set[str] | None) -> None:
    attributes = {"Modality": "DX", "PhotometricInterpretation": photometric, "PixelIntensityRelationshipSign": sign}
    assert stated(**(attributes | more)).get("polarity") == expected


def test_the_class_of_the_meta_information_counts_as_well() -> None:
    content = dicom_dataset(film(), SOPClassUID=uid.DigitalXRayImageStorageForProcessing)
    content.PixelData = film().tobytes()
    data = written(content)
    tag = b"\x08\x00\x16\x00UI"  # SOP Class UID of the data set; the meta information has its own copy
    broken = data.replace(tag, b"\x08\x00\x17\x00UI")
    image = decode(broken)
    assert ("presentation", "for processing", "MediaStorageSOPClassUID") in [
        (item.attribute, item.value, item.source) for item in image.statements
    ]


def test_the_source_image_is_not_the_image() -> None:
    head = code("69536005", "SCT", "Head")
    source = item(SourceImageSequence=item(AnatomicRegionSequence=codes(head), BodyPartExamined="HEAD"))
    assert stated(SharedFunctionalGroupsSequence=item(DerivationImageSequence=source)) == {}
