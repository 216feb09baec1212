"""What DICOM objects state about who and what was imaged, wherever they state it."""

import struct
from typing import Any

import pytest
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from handlers.dicom import dataset, statements
from handlers.errors import OutOfScopeError, RequestError, UnreadableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Limits
from handlers.scope import assurances
from handlers.scope.age import Age
from handlers.scope.scope import AgeRange, Scope, check
from tests.handlers.images import SHARED, dicom, dicom_dataset, film, written

pytestmark = pytest.mark.filterwarnings("ignore:.*VR:UserWarning")  # pydicom writes what vendors write
CHEST = Scope(
    age=AgeRange(at_least=1, below=6),
    species=("human",),
    modality=("CR", "DX", "RG"),
    body_part=("chest",),
    view=("AP", "PA", "frontal"),
    orientation=("LF",),
    presentation="for presentation",
    polarity="normal",
)
KNEE_SAGITTAL: dict[str, set[Any]] = {"body_part": {"leg"}, "view": {"sagittal"}}
GOOD: dict[str, Any] = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientAge": "003Y"}


def code(value: str, scheme: str, meaning: str = "", **more: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    for keyword, content in more.items():
        setattr(item, keyword, content)
    return item


def item(**attributes: Any) -> Sequence:
    content = Dataset()
    for keyword, value in attributes.items():
        setattr(content, keyword, value)
    return Sequence([content])


def stated(**attributes: Any) -> dict[str, set[Any]]:
    image = decode(dicom(film(), **({"Modality": ""} | attributes)))
    return {
        name: {statement.value for statement in image.statements if statement.attribute == name}
        for name in sorted({statement.attribute for statement in image.statements})
    }


def codes(*items: Dataset) -> Sequence:
    return Sequence(list(items))


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


def test_damaged_sequences_are_errors_of_the_request() -> None:
    data = dicom(film(), AnatomicRegionSequence=codes(code("51185008", "SCT")))
    for position in range(data.index(b"\x08\x00\x18\x22"), data.index(b"\x08\x00\x18\x22") + 60):
        try:
            decode(data[:position] + b"\xff" + data[position + 1 :])
        except RequestError:
            continue


def with_element(tag: int, value: bytes, representation: str = "", **attributes: Any) -> bytes:
    """Return a chest film with one more element, in explicit VR if its representation is given."""
    syntax = uid.ExplicitVRLittleEndian if representation else uid.ImplicitVRLittleEndian
    data = dicom(film(), syntax, **(GOOD | attributes))
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + representation.encode()
    long = representation in ("OB", "SQ", "UN")
    length = struct.pack("<xxI" if long else "<H" if representation else "<I", len(value))
    at = data.rindex(struct.pack("<HH", 0x28, 2))
    return data[:at] + head + length + value + data[at:]


EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"


@pytest.mark.parametrize("tag", [0x00540220, 0x00081032, 0x00283010, 0x00400275, 0x52009229, 0x52009230])
def test_sequences_of_defined_length_share_the_budget_of_the_object(tag: int) -> None:
    with pytest.raises(UnreadableImageError, match="more elements or fragments than any film"):
        decode(with_element(tag, EMPTY_ITEM * 10_000))


def test_the_bytes_of_converted_values_are_limited() -> None:
    meaning = struct.pack("<HHI", 0x8, 0x104, 1000) + b"x" * 1000
    coded = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(meaning)) + meaning
    decode(with_element(0x00540220, coded * 10))
    with pytest.raises(UnreadableImageError, match="more elements or fragments than any film"):
        decode(with_element(0x00540220, coded * 100))


def test_functional_groups_with_too_many_items_are_rejected() -> None:
    body = struct.pack("<HHI", 0x18, 0x15, 4) + b"KNEE"
    knee = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(body)) + body
    with pytest.raises(UnreadableImageError, match="functional groups of the DICOM object have 101 items"):
        decode(with_element(0x52009229, EMPTY_ITEM * 100 + knee))


def test_elements_that_the_scope_does_not_read_are_not_converted() -> None:
    echo = Dataset()
    echo.RepetitionTime = [1.0] * 5000
    groups = item(MRTimingAndRelatedParametersSequence=Sequence([echo]), RepetitionTime=3)
    source = dataset.read(dicom(film(), SharedFunctionalGroupsSequence=groups), Limits())
    list(statements.read(source))
    (group,) = source.items("SharedFunctionalGroupsSequence")
    assert all(isinstance(group.dataset.get_item(tag), RawDataElement) for tag in group.dataset.keys())  # noqa: SIM118


def test_a_character_set_with_thousands_of_names_is_rejected() -> None:
    data = dicom(film(), uid.ImplicitVRLittleEndian, **GOOD)
    names = b"x\\" * 100_000
    at = data.index(b"\x08\x00\x16\x00")
    with pytest.raises(UnreadableImageError, match="more elements or fragments than any film"):
        decode(data[:at] + b"\x08\x00\x05\x00" + struct.pack("<I", len(names)) + names + data[at:])


def test_the_source_image_is_not_the_image() -> None:
    head = code("69536005", "SCT", "Head")
    source = item(SourceImageSequence=item(AnatomicRegionSequence=codes(head), BodyPartExamined="HEAD"))
    assert stated(SharedFunctionalGroupsSequence=item(DerivationImageSequence=source)) == {}


@pytest.mark.parametrize(
    ("tag", "representation", "value"),
    [
        (0x00101010, "FD", b"\0\0\xc0?"),  # PatientAge, four bytes of a double
        (0x00101010, "FD", struct.pack("<d", 3)),
        (0x00101010, "SQ", EMPTY_ITEM),
        (0x00541500, "OB", b"1234"),
        (0x00540220, "OB", b"1234"),  # ViewCodeSequence
        (0x00540220, "SQ", b"1234"),
        (0x00540220, "UN", b"1234"),
        (0x00321064, "LO", b"1234"),  # RequestedProcedureCodeSequence
        (0x00281041, "CS", b"LIN "),  # PixelIntensityRelationshipSign
        (0x00281041, "SS", b"1"),
        (0x00080008, "CS", b"X" * 1026),  # ImageType
        (0x0008103E, "LO", b"X" * 1026),  # SeriesDescription
        (0x00200037, "FD", b"1234"),  # ImageOrientationPatient
        (0x00280030, "FD", b"1234"),  # PixelSpacing
    ],
)
def test_a_malformed_attribute_that_pixels_do_not_need_states_nothing(
    tag: int, representation: str, value: bytes
) -> None:
    more = {"PatientAge": None} if tag == 0x00101010 else {}
    image = decode(with_element(tag, value, representation, **more))
    kept = {"Modality": "DX", "BodyPartExamined": "chest", "ViewPosition": "PA"}
    assert {item.source: item.value for item in image.statements if item.attribute != "age"} == kept


@pytest.mark.parametrize(
    ("tag", "representation", "value"),
    [
        (0x00281050, "FD", b"1234"),  # WindowCenter
        (0x00281053, "FD", b"1234"),  # RescaleSlope
        (0x00280008, "FD", b"1234"),  # NumberOfFrames
        (0x00280120, "FD", b"1234"),  # PixelPaddingValue
        (0x00283010, "OB", b"1234"),  # VOILUTSequence
        (0x00283010, "SQ", b"1234"),
        (0x00283000, "LO", b"1234"),  # ModalityLUTSequence
        (0x52009229, "LO", b"1234"),  # SharedFunctionalGroupsSequence
    ],
)
def test_a_malformed_attribute_that_pixels_need_is_an_error_of_the_request(
    tag: int, representation: str, value: bytes
) -> None:
    with pytest.raises(RequestError) as error:
        decode(with_element(tag, value, representation))
    assert error.value.status in (400, 422)


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real images at {SHARED}")
def test_a_film_of_a_dog_and_films_of_adults_are_rejected() -> None:
    for name, source in {
        "ImagingDataCommons+highdicom__dx_image.dcm": "AcquisitionDeviceProcessingDescription",
        "mlmed+torchxrayvision__Fake_MONOHR1.dcm": "PatientAge",
        "pydicom+pydicom-data__RG1_J2KI.dcm": "PatientBirthDate",
    }.items():
        with pytest.raises(OutOfScopeError, match=source):
            check(CHEST, decode((SHARED / "dicom" / name).read_bytes()).statements)
