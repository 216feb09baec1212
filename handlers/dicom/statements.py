"""Reads what a DICOM object states about its scope: who and what was imaged, and how.

An attribute may be stated in several places, as text or as a code, also in the functional groups of an enhanced object
(PS3.3 C.7.6.16). All of them are read: `handlers.scope.scope.check` demands that each is in scope.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom.uid import UID

from handlers.dicom.dataset import DicomObject, LenientObject
from handlers.errors import UnreadableImageError
from handlers.scope import age, vocabulary
from handlers.scope.age import Age
from handlers.scope.statement import Statement
from handlers.scope.vocabulary import OTHER

Vector = tuple[float, float, float]

_GROUPS: Final = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS: Final = ("FrameAnatomySequence", "PatientOrientationInFrameSequence")
"""Sequences of a functional group that are read; others describe other images, such as the source image."""

_MAX_PLACES: Final = 100
"""Most items of functional groups; an object with one frame has fewer than ten."""

_STUDY_DATES: Final = ("StudyDate", "AcquisitionDate", "ContentDate", "SeriesDate", "AcquisitionDateTime")
_PROCEDURES: Final = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence", "PerformedProtocolCodeSequence")
_DESCRIPTIONS: Final = ("AcquisitionDeviceProcessingDescription", "ProtocolName", "SeriesDescription")
"""Free text of people and devices: it can show that an image is out of scope, but proves nothing else."""

_MAX_DATED_YEARS: Final = 110
"""Higher ages at a date stem from a placeholder for the date of birth, where PatientAge has another value."""

_STORAGE: Final = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.1.2.1": "MG",
    "1.2.840.10008.5.1.4.1.1.1.3": "IO",
    "1.2.840.10008.5.1.4.1.1.1.3.1": "IO",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.3": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
    "1.2.840.10008.5.1.4.1.1.3.1": "US",
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.6.2": "US",
    "1.2.840.10008.5.1.4.1.1.12.1": "XA",
    "1.2.840.10008.5.1.4.1.1.12.1.1": "XA",
    "1.2.840.10008.5.1.4.1.1.12.2": "RF",
    "1.2.840.10008.5.1.4.1.1.12.2.1": "RF",
    "1.2.840.10008.5.1.4.1.1.13.1.1": "XA",
    "1.2.840.10008.5.1.4.1.1.13.1.3": "MG",
    "1.2.840.10008.5.1.4.1.1.13.1.4": "MG",
    "1.2.840.10008.5.1.4.1.1.13.1.5": "MG",
    "1.2.840.10008.5.1.4.1.1.20": "NM",
    "1.2.840.10008.5.1.4.1.1.77.1.1": "ES",
    "1.2.840.10008.5.1.4.1.1.77.1.1.1": "ES",
    "1.2.840.10008.5.1.4.1.1.77.1.2": "GM",
    "1.2.840.10008.5.1.4.1.1.77.1.2.1": "GM",
    "1.2.840.10008.5.1.4.1.1.77.1.3": "SM",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "XC",
    "1.2.840.10008.5.1.4.1.1.77.1.4.1": "XC",
    "1.2.840.10008.5.1.4.1.1.77.1.5.1": "OP",
    "1.2.840.10008.5.1.4.1.1.77.1.5.2": "OP",
    "1.2.840.10008.5.1.4.1.1.77.1.5.4": "OPT",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "SM",
    "1.2.840.10008.5.1.4.1.1.77.1.7": "XC",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",
    "1.2.840.10008.5.1.4.1.1.130": "PT",
    "1.2.840.10008.5.1.4.1.1.481.1": "RTIMAGE",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE",
}
"""SOP class (PS3.4 annex B) -> modality."""
_SAME: Final = ({"CR", "DX", "RG"}, {"XA", "RF"})
"""Modalities whose objects vendors store in each other's classes."""
_SLICES: Final = frozenset({"MR", "CT", "PT"})

_DISPLAYS: Final = (("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY"))
"""Consistent values of Photometric Interpretation and Presentation LUT Shape (PS3.3 C.8.11.3.1.2)."""
_ZERO_YEARS: Final = Age(0, 1)


def read(source: DicomObject, normal: Vector | None = None) -> Iterator[Statement]:
    """Read all statements of an object with one frame; `normal` is the direction of its plane, if known.

    An attribute that is malformed states nothing.
    """
    source = LenientObject(source.dataset, source.syntax, source.storage_class, source.budget)
    places = [source, *_functional_groups(source)]
    modalities = list(_modality(source))
    kinds = {statement.value for statement in modalities}
    stated = [
        *_ages(source),
        *_species(source),
        *modalities,
        *_body_parts(places),
        *_views(places),
        *([] if kinds & vocabulary.X_RAY else _plane(normal)),
        *_lateralities(places),
        *_presentations(source, places),
    ]
    yield from stated
    yield from _inferred(source, {item.attribute for item in stated}, slices=bool(kinds & _SLICES))
    yield from _orientation(places)
    yield from _polarity(source, kinds)


def _functional_groups(source: DicomObject) -> list[DicomObject]:
    """Return the items of the functional groups, and of those sequences in them that are read."""
    groups = [group for keyword in _GROUPS for group in source.items(keyword)]
    places = groups + [item for group in groups for keyword in _MACROS for item in group.items(keyword)]
    if len(places) > _MAX_PLACES:
        raise UnreadableImageError(
            f"The functional groups of the DICOM object have {len(places)} items, more than one frame has; "
            "export it again."
        )
    return places


def _ages(source: DicomObject) -> Iterator[Statement]:
    ages = [value for text in source.texts("PatientAge") if (value := age.parse(text))]
    keyword, dated = _dated_age(source)
    if dated is not None and ages:
        # Devices write 000Y for an unknown age, and a placeholder for an unknown date of birth.
        if dated.at_least > _MAX_DATED_YEARS and not any(map(dated.overlaps, ages)):
            dated = None
        else:
            ages = [value for value in ages if value != _ZERO_YEARS or value.overlaps(dated)]
    yield from (Statement("age", value, "PatientAge") for value in ages)
    if dated is not None:
        yield Statement("age", dated, f"PatientBirthDate and {keyword}")


def _dated_age(source: DicomObject) -> tuple[str, Age | None]:
    """Return the first date that gives an age, and the age at it."""
    birth = next(iter(source.texts("PatientBirthDate")), "")
    for keyword in _STUDY_DATES:
        for text in source.texts(keyword)[:1]:
            value = age.between(birth, text)
            if value is not None:
                return keyword, value
    return "", None


def _species(source: DicomObject) -> Iterator[Statement]:
    for keyword in ("PatientSpeciesDescription", "PatientBreedDescription"):
        for text in source.texts(keyword):
            for term in vocabulary.species(text):
                yield Statement("species", term, keyword)
    for code, scheme, meaning in _codes(source, "PatientSpeciesCodeSequence"):
        terms = {"human"} if code in vocabulary.HUMAN_CODES else vocabulary.species(meaning)
        if not terms and code and scheme in vocabulary.STANDARD_SCHEMES:
            terms = {"animal"}
        for term in terms:
            yield Statement("species", term, "PatientSpeciesCodeSequence")
    for keyword in _animal_attributes(source):
        yield Statement("species", "animal", keyword)


def _animal_attributes(source: DicomObject) -> Iterator[str]:
    """Name the attributes that only an animal has, or that name an animal."""
    strains = source.texts("StrainDescription")
    if any(vocabulary.is_stated(text) and vocabulary.species(text) != {"human"} for text in strains):
        yield "StrainDescription"
    for code, _, meaning in _codes(source, "PatientBreedCodeSequence"):
        named = vocabulary.species(meaning) or ({"animal"} if code else set())
        if "animal" in named:
            yield "PatientBreedCodeSequence"
    if "QUADRUPED" in (text.upper() for text in source.texts("AnatomicalOrientationType")):
        yield "AnatomicalOrientationType"
    for keyword in (*_DESCRIPTIONS, "BodyPartExamined"):
        if any(vocabulary.ANIMAL_WORDS & set(vocabulary.words(text)) for text in source.texts(keyword)):
            yield keyword


def _modality(source: DicomObject) -> Iterator[Statement]:
    stated = {term for text in source.texts("Modality") if (term := vocabulary.modality(text))}
    for term in stated:
        yield Statement("modality", term, "Modality")
    for keyword, uid in _classes(source):
        term = _STORAGE.get(uid)
        # CR, DX and RG are stored in each other's classes, and Modality is the more precise of the two.
        if term is not None and not (stated and any({term} | stated <= kin for kin in ({term}, *_SAME))):
            yield Statement("modality", term, keyword)
            stated.add(term)


def _classes(source: DicomObject) -> Iterator[tuple[str, str]]:
    yield from (("SOPClassUID", text) for text in source.texts("SOPClassUID"))
    yield "MediaStorageSOPClassUID", source.storage_class


def _body_parts(places: Iterable[DicomObject]) -> Iterator[Statement]:
    for place in places:
        for text in place.texts("BodyPartExamined"):
            code = text.upper()
            part = vocabulary.BODY_PART_CODES.get(code)
            for term in {part} if part else vocabulary.body_parts(text) or _other(text):
                yield Statement("body_part", term, "BodyPartExamined")
        yield from _coded(place, "AnatomicRegionSequence", "body_part")
        for code, _, _ in _codes(place, "ViewCodeSequence"):
            if code in vocabulary.VIEW_BODY_PARTS:
                yield Statement("body_part", vocabulary.VIEW_BODY_PARTS[code], "ViewCodeSequence")


def _views(places: Iterable[DicomObject]) -> Iterator[Statement]:
    for place in places:
        for text in place.texts("ViewPosition"):
            for term in vocabulary.views(text) or _other(text):
                yield Statement("view", term, "ViewPosition")
        yield from _coded(place, "ViewCodeSequence", "view")
        for item in place.items("ViewCodeSequence"):
            for code, _, meaning in _codes(item, "ViewModifierCodeSequence"):
                known = vocabulary.VIEW_CODES.get(code)
                for term in {known} if known else vocabulary.views(meaning):
                    yield Statement("view", term, "ViewModifierCodeSequence")
        for text in place.texts("BodyPartExamined"):  # CHEST LAT; but CHEST PA LAT may be said of a study
            named = vocabulary.described_views(text)
            if len(named) == 1 or not place.texts("ViewPosition"):
                yield from (Statement("view", term, "BodyPartExamined") for term in named)


def _coded(place: DicomObject, keyword: str, attribute: str) -> Iterator[Statement]:
    """Read a code sequence: by code, else by a meaning in known words; unknown codes of private schemes say nothing."""
    codes, of_text = (
        (vocabulary.VIEW_CODES, vocabulary.views)
        if attribute == "view"
        else (vocabulary.BODY_PART_CODES, vocabulary.body_parts)
    )
    for code, scheme, meaning in _codes(place, keyword):
        terms = {codes[code]} if code in codes else of_text(meaning)
        if not terms and scheme in vocabulary.STANDARD_SCHEMES:
            terms = {OTHER}
        for term in terms:
            yield Statement(attribute, term, keyword)


def _codes(place: DicomObject, keyword: str) -> Iterator[tuple[str, str, str]]:
    """Return code, coding scheme and meaning of each item of a code sequence (PS3.3 section 8.8)."""
    for item in place.items(keyword):
        fields = ("CodeValue", "LongCodeValue", "URNCodeValue"), ("CodingSchemeDesignator",), ("CodeMeaning",)
        yield tuple(  # type: ignore[misc]
            next((text.upper() for name in names for text in item.texts(name)), "") for names in fields
        )


def _other(text: str) -> set[str]:
    return {OTHER} if vocabulary.is_stated(text) else set()


def _lateralities(places: Iterable[DicomObject]) -> Iterator[Statement]:
    for place in places:
        for keyword in ("ImageLaterality", "Laterality", "FrameLaterality"):
            for text in place.texts(keyword):
                side = vocabulary.laterality(text)
                if side is not None:
                    yield Statement("laterality", side, keyword)


def _presentations(source: DicomObject, places: Iterable[DicomObject]) -> Iterator[Statement]:
    for place in places:
        for text in place.texts("PresentationIntentType"):
            intent = vocabulary.presentation(text)
            if intent is not None:
                yield Statement("presentation", intent, "PresentationIntentType")
        if any(vocabulary.presentation(text) == "for processing" for text in place.texts("ImageType")):
            yield Statement("presentation", "for processing", "ImageType")
    for keyword, uid in _classes(source):
        name = UID(uid).name
        for intent in ("for presentation", "for processing"):
            if name.lower().endswith(f"- {intent}"):
                yield Statement("presentation", intent, keyword)


def _inferred(source: DicomObject, stated: set[str], *, slices: bool) -> Iterator[Statement]:
    """Read procedures, where they name one body part and one view, and descriptions.

    Both concern a study or series, so they count only for what the image itself does not state.
    """
    procedures = [source, *source.items("RequestAttributesSequence")]
    named = [code for place in procedures for keyword in _PROCEDURES for code in _codes(place, keyword)]
    parts = {vocabulary.PROCEDURE_BODY_PARTS[code] for code, _, _ in named if code in vocabulary.PROCEDURE_BODY_PARTS}
    parts |= {part for _, _, meaning in named for part in vocabulary.body_parts(meaning)}
    if "body_part" not in stated:
        if len(parts) == 1:
            yield Statement("body_part", parts.pop(), "ProcedureCodeSequence")
        else:
            yield from _described_body_part(source)
    if "view" in stated:
        return
    views = {view for _, _, meaning in named for view in vocabulary.described_views(meaning)}
    if len(views) == 1:
        yield Statement("view", views.pop(), "ProcedureCodeSequence")
    for keyword in _DESCRIPTIONS:
        texts = source.texts(keyword)
        views = {view for text in texts for view in vocabulary.described_views(text)}
        planes = {view for text in texts for view in vocabulary.planes(text)} if slices else set[str]()
        others = set[str]() if views & {"AP", "PA", "frontal"} else views
        for view in sorted(others | (planes if len(planes) == 1 else set())):
            yield Statement("view", view, keyword, proves=False)


def _described_body_part(source: DicomObject) -> Iterator[Statement]:
    """Read the descriptions, if all of them together name one body part."""
    named = {
        part: keyword
        for keyword in _DESCRIPTIONS
        for text in source.texts(keyword)
        for part in vocabulary.described_body_parts(text)
    }
    if len(named) == 1:
        yield from (Statement("body_part", part, keyword, proves=False) for part, keyword in named.items())


def _orientation(places: Iterable[DicomObject]) -> Iterator[Statement]:
    for place in places:
        value = vocabulary.orientation(place.texts("PatientOrientation"))
        if value is not None:
            yield Statement("orientation", value, "PatientOrientation")
            view = vocabulary.plane(value)
            yield Statement("view", view or OTHER, "PatientOrientation")


def _plane(normal: Vector | None) -> Iterator[Statement]:
    """Read the plane of a slice: that of the main axis of its normal (x to the left, y to the back, z to the head)."""
    if normal is not None:
        main = max(range(3), key=lambda axis: abs(normal[axis]))
        yield Statement("view", ("lateral", "frontal", "axial")[main], "ImageOrientationPatient")


def _polarity(source: DicomObject, modalities: set[str | Age]) -> Iterator[Statement]:
    """Compare the sign of the pixels with the way in which they are displayed (PS3.3 C.8.11.3.1.2), for X-rays.

    Dense tissue must be bright. With 1, low values have absorbed most, so they must be displayed bright, inverted.
    A table, or a negative slope, may invert as well: then the sign tells nothing. Devices also keep the sign of the
    detector's values in an image that they have inverted: a contradiction counts only if the object states everything
    else about the relationship and the display as well, and that is consistent.
    """
    sign = source.number("PixelIntensityRelationshipSign")
    tables = source.items("ModalityLUTSequence") or source.items("VOILUTSequence")
    slope = source.number("RescaleSlope", 1)
    if sign not in (1, -1) or not modalities & vocabulary.X_RAY or tables or (slope or 0) <= 0:
        return
    photometric, shape = source.get("PhotometricInterpretation"), source.get("PresentationLUTShape")
    inverted = photometric == "MONOCHROME1" or shape == "INVERSE"
    if inverted == (sign == 1):
        yield Statement("polarity", "normal", "PixelIntensityRelationshipSign")
    elif (photometric, shape) in _DISPLAYS and source.get("PixelIntensityRelationship") in ("LIN", "LOG"):
        yield Statement("polarity", "inverted", "PixelIntensityRelationshipSign")
