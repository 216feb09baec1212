"""Terms for what images show, and the words and codes that mean them.

Codes are those of SNOMED CT and of its older form SRT, from DICOM's context groups (PS3.16): CID 4010 for views, CID 4
and 4031 for body parts, CID 7454 for species. Words are those of PS3.3 C.7.6.1 and C.8.7, PS3.16 annex L, and of
vendors. A term `other` stands for every value that is not known here: it is in no model's scope.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

OTHER: Final = "other"
_WORD: Final = re.compile(r"[A-Z]+|[0-9]+")
_INITIALS: Final = re.compile(r"\b([A-Z])[.\s_/-]{1,2}([A-Z])\b\.?")
_UNSTATED: Final = frozenset(
    {"", "UNKNOWN", "UNK", "OTHER", "NA", "N A", "NONE", "NOT APPLICABLE", "UNSPECIFIED", "UNDEFINED", "DEFAULT"}
    | {"NULL", "NIL", "NOT SPECIFIED", "NOT STATED", "NOT GIVEN", "NOT KNOWN", "NOT DEFINED"}
)
"""Values that state nothing."""
_POSTURES: Final = frozenset(
    "ERECT UPRIGHT STANDING SITTING SEMI SUPINE PRONE PORTABLE MOBILE BEDSIDE "  # noqa: SIM905
    "STEHEND SITZEND LIEGEND DEBOUT ASSIS COUCHE".split()
)
"""Words that tell how the patient was placed, but neither a view nor a body part."""

STANDARD_SCHEMES: Final = frozenset({"SCT", "SRT", "SNM3", "99SDM", "SNM", "SNOMED", "SNOMED CT", "SNOMED-CT", "DCM"})
"""Coding schemes whose codes are the ones below; an unknown code of another scheme states nothing."""


def _index(table: Mapping[str, str]) -> dict[str, str]:
    return {word: term for term, words in table.items() for word in words.split()}


BODY_PARTS: Final = _index(
    {
        "chest": "CHEST THORAX THORACIC LUNG LUNGS TORAX TORACE TORACICO BRUST BRUSTKORB LUNGE LUNGEN POUMON POUMONS "
        "PULMON PULMONES POLMONE POLMONI PULMONARY CHESTPA CHESTAP PACHEST APCHEST THX CXR THORACIQUE TORACICA "
        "CHESTPORT CHESTPORTABLE PORTCHEST BRUSTORGANE RIBCAGE TORAKS BORSTKAS HRUDNIK KLATKA",
        "head": "HEAD BRAIN SKULL CRANIUM CRANIAL CEREBRUM KOPF SCHAEDEL SCHADEL GEHIRN HIRN TETE CRANE CERVEAU CABEZA "
        "CRANEO CEREBRO TESTA CRANIO CERVELLO ENCEPHALON ENCEFALO NEUROCRANIUM CEREBRAL CEREBRALE CEREBELLUM "
        "BRAINSTEM ENCEPHALE ENCEPHALIQUE INTRACRANIAL NEURO PITUITARY SELLA HEADNECK "
        "CABECA HOOFD SCHEDEL HERSENEN",
        "neck": "NECK HALS COU CUELLO COLLO",
        "heart": "HEART CARDIAC",
        "abdomen": "ABDOMEN ABDOMINAL KUB LIVER KIDNEY STOMACH BOWEL COLON BAUCH ABDO",
        "pelvis": "PELVIS PELVIC BECKEN BASSIN BLADDER PROSTATE",
        "spine": "SPINE CSPINE TSPINE LSPINE SSPINE CTSPINE TLSPINE LSSPINE SACRUM COCCYX WIRBELSAEULE WIRBELSAULE "
        "HWS BWS LWS RACHIS COLUMNA VERTEBRAL",
        "breast": "BREAST MAMMA MAMMO",
        "ribs": "RIB RIBS STERNUM",
        "face": "FACE FACIAL JAW MANDIBLE MAXILLA SINUS SINUSES ORBIT ORBITS NOSE EYE EYES TEETH DENTAL TMJ EAR IAC "
        "ZYGOMA PANORAMIC",
        "arm": "SHOULDER CLAVICLE SCAPULA HUMERUS ELBOW FOREARM RADIUS ULNA WRIST HAND FINGER THUMB ARM UPRLIMB "
        "ACJOINT",
        "leg": "HIP FEMUR KNEE PATELLA TIBIA FIBULA ANKLE FOOT TOE TOES HEEL CALCANEUS LEG LEGS THIGH LWRLIMB",
        "extremity": "EXTREMITY EXTREMITIES LIMB BONE JOINT",
        "whole body": "WHOLEBODY BABYGRAM TRUNK",
        "chest and abdomen": "CHESTABDOMEN CHESTABDPELVIS NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV THORACOABDOMINAL",
    }
)
"""Word -> body part."""

_VAGUE_BODY_PARTS: Final = frozenset({"extremity", "face", "heart", "ribs"})

BODY_PART_CODES: Final = _index(
    {
        "chest": "51185008 T-D3000 816094009 302551006 39607008 T-28000 43799004 T-D3200",
        "head": "69536005 T-D1100 302548004 12738006 T-A0100 258335003 89546000 T-11100 1101003 T-D1400 774007 T-D1000",
        "neck": "45048000 T-D1600",
        "heart": "80891009 T-32000",
        "abdomen": "818981001 818983003 113345001 T-D4000",
        "pelvis": "816092008 T-D6000 12921003",
        "spine": "421060004 T-D04FF 122494005 T-11501 122495006 T-11502 122496007 T-11503",
        "breast": "76752008 T-04000",
        "ribs": "113197003 T-11300 56873002 T-11210",
        "arm": "16982005 T-D2220 85562004 T-D8700 74670003 T-15460 53120007 T-D8000",
        "leg": "72696002 T-D9200 56459004 T-D9700 29836001 T-D2500 61685007 T-D9000 70258002 T-15750",
        "chest and abdomen": "416550000 R-FAB55 416775004 R-FAB56 416319003 R-FAB54 "
        "416152001 R-FAB53 417437006 R-FAB52",
        "whole body": "38266002 T-D0010",
    }
)
"""Code -> body part."""

VIEWS: Final = _index(
    {
        "AP": "AP",
        "PA": "PA",
        "frontal": "FRONTAL FRONTALE FACE",
        "lateral": "LATERAL LAT LL RL LLAT RLAT LATL LATR PROFILE PROFIL PERFIL SEITLICH LATERALE LATEROLATERAL LM ML",
        "oblique": "OBLIQUE OBL LAO RAO LPO RPO LLO RLO MLO LMO",
        "decubitus": "DECUBITUS DECUB LLD RLD",
        "lordotic": "LORDOTIC APICAL",
        "axial": "AXIAL TRANSVERSE TRA AX TRANSAXIAL CC XCCL",
        "sagittal": "SAGITTAL SAG",
        "coronal": "CORONAL COR",
    }
)
"""Word -> view."""
_DIRECTIONS: Final = {"AP": r"ANTERO\W?POST", "PA": r"POSTERO\W?ANT"}
_DESCRIBING: Final = frozenset(
    "AP PA FRONTAL LATERAL LAT LLAT RLAT LATERALE SEITLICH PERFIL DECUBITUS DECUB OBLIQUE OBL LORDOTIC".split()  # noqa: SIM905
)
_DESCRIBING_CHESTS: Final = frozenset({"LL", "RL", "PROFIL", "PROFILE"})
"""Words that mean a view in the description of a chest film; elsewhere, a limb or the profile of a protocol."""
_PLANES: Final = frozenset({"axial", "sagittal", "coronal"})
_SPECIAL: Final = frozenset({"oblique", "decubitus", "lordotic", "axial"})

VIEW_CODES: Final = _index(
    {
        "AP": "399348003 R-10206",
        "PA": "272479007 R-40888 R-10214",
        "frontal": "399033003 R-10202",
        "lateral": "399067008 R-102CD 399173006 R-10236 399198007 R-10232 399352003 R-10228 399260004 R-10224 111069",
        "oblique": "399312000 R-10208 399059000 R-10216 399160007 R-10204 260427002 R-40783 399099002 R-10230 "
        "399135007 R-10220 399184004 R-10238 399006002 R-10212 260426006 R-40782 399368009 R-10226 399182000 R-102C1 "
        "399356000 R-40985 399236003 R-10234 399038007 R-10210",
        "axial": "399061009 R-10241",
        "sagittal": "30730003 G-A145",
    }
)
"""Code -> view."""

VIEW_BODY_PARTS: Final = _index(
    {
        "breast": "399368009 R-10226 399162004 R-10242 399099002 R-10230",
        "head": "399242004 R-102C6 399351005 R-102C7 399316002 R-102C8 399272005 R-102C5 399255003 R-10256 399360002 "
        "R-10257",
        "leg": "399335002 R-102C4 399071006 R-102C3",
    }
)
"""Code of a view -> the body part that alone has this view."""

PROCEDURE_BODY_PARTS: Final = _index(
    {"chest": "399208008 168731009 36643-5 36554-4 30745-4 24648-8 42272-5 24647-0 71045 71046 71047 71048 71010 71020"}
)
"""Code of a procedure (SNOMED CT, LOINC, CPT) -> its body part."""

SPECIES: Final = _index(
    {
        "human": "HUMAN HUMANS HOMO SAPIENS MENSCH MENSCHLICH HUMAIN HUMAINE HUMANO HUMANA UMANO UMANA PERSON PATIENT",
        "animal": "ANIMAL CANINE CANIS DOG DOGS PUPPY HUND CHIEN PERRO FELINE FELIS CAT CATS KATZE EQUINE EQUUS HORSE "
        "BOVINE AVIAN BIRD RABBIT RODENT MOUSE RAT PIG PORCINE OVINE SHEEP GOAT FERRET MONKEY VETERINARY REPTILE "
        "TIER LUPUS FAMILIARIS CATUS CABALLUS PONY BOS TAURUS CATTLE SUS SCROFA SWINE OVIS CAPRA ORYCTOLAGUS HAMSTER "
        "MUS RATTUS MURINE MACACA PRIMATE GALLUS CHICKEN PARROT TORTOISE TURTLE LIZARD SNAKE POGONA IGUANA "
        "BEAGLE LABRADOR RETRIEVER TERRIER POODLE SPANIEL BULLDOG SHEPHERD DACHSHUND CHIHUAHUA HUSKY COLLIE "
        "SHORTHAIR LONGHAIR SIAMESE THOROUGHBRED WARMBLOOD HOLSTEIN",
    }
)
"""Word -> species; of animals, frequent breeds as well."""

ANIMAL_WORDS: Final = frozenset("CANINE DOG FELINE EQUINE BOVINE AVIAN PORCINE OVINE RABBIT FERRET VETERINARY".split())  # noqa: SIM905
"""Words that mean an animal in the description of a protocol as well, where CAT is a kind of tomography."""

HUMAN_CODES: Final = frozenset({"337915000", "L-85003", "L-85B00"})

_MODALITY_SYNONYMS: Final = {"DR": "DX", "MRI": "MR", "XR": "DX"}
X_RAY: Final = frozenset({"CR", "DX", "RG"})
"""Modalities of projection radiography; DR is an older name of DX."""
MODALITIES: Final = X_RAY | frozenset(
    "MR CT US XA RF MG NM PT IO PX ES XC OP OPT GM SM ECG BMD BI IVUS OCT SEG SR PR KO RTIMAGE RTDOSE DOC".split()  # noqa: SIM905
)
_NO_MODALITY: Final = frozenset({"OT", "SC"})
"""Secondary captures and "other": any picture."""

_LATERALITIES: Final = {"L": "left", "LEFT": "left", "R": "right", "RIGHT": "right", "U": "unpaired", "B": "both"} | {
    "UNPAIRED": "unpaired",
    "BOTH": "both",
}
_PRESENTATIONS: Final = {"FORPRESENTATION": "for presentation", "FORPROCESSING": "for processing"}


def words(text: str) -> list[str]:
    """Split a value into upper-case words without accents, and numbers; initials such as `P.A.` are one word."""
    return _WORD.findall(_INITIALS.sub(r"\1\2", fold(text)))


def fold(text: str) -> str:
    """Return a text in upper case without accents."""
    if text.isascii():
        return text.upper()
    with suppress(UnicodeError):  # UTF-8 without Specific Character Set was read as Latin-1
        text = text.encode("latin-1").decode("utf-8")
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character)).upper()


def is_stated(text: str) -> bool:
    """Whether a value states anything."""
    names = words(text)
    return " ".join(names) not in _UNSTATED and not set(names) <= _POSTURES


def body_parts(text: str) -> set[str]:
    """Return the body parts that a text names."""
    names = words(text)
    parts = {BODY_PARTS[word] for word in names if word in BODY_PARTS}
    # "thoracic spine" names the spine only; "thorax face" a frontal view; "head and neck" and "orbits, brain" the head
    if "spine" in parts:
        parts.discard("chest")
    if "head" in parts:
        parts -= {"face", "neck"}
    if "chest" in parts and "FACE" in names:
        parts.discard("face")
    if "CAGE" in names and parts & {"ribs", "chest"}:  # rib cage, cage thoracique
        parts = parts - {"ribs"} | {"chest"}
    return parts | ({"whole body"} if {"WHOLE", "BODY"} <= set(names) else set())


def views(text: str) -> set[str]:
    """Return the views that a text names."""
    named = {VIEWS[word] for word in words(text) if word in VIEWS}
    named |= {view for view, pattern in _DIRECTIONS.items() if re.search(pattern, fold(text))}
    # AP or PA with a tilted beam, or of a lying or turned patient, is that other view.
    return named - {"AP", "PA", "frontal"} if named & _SPECIAL else named


def described_views(text: str) -> set[str]:
    """Return the views that a free text names: fewer words mean a view there."""
    valid = _DESCRIBING | (_DESCRIBING_CHESTS if "chest" in body_parts(text) else set())
    return {VIEWS[word] for word in words(text) if word in valid}


def planes(text: str) -> set[str]:
    """Return the planes of slices that a free text names."""
    return {VIEWS[word] for word in words(text) if VIEWS.get(word) in _PLANES}


def described_body_parts(text: str) -> set[str]:
    """Return the body parts that a free text names clearly: words such as BONE or FACE mean other things, too."""
    return set() if "COIL" in words(text) else body_parts(text) - _VAGUE_BODY_PARTS


def species(text: str) -> set[str]:
    """Return `human` or `animal` for a text that names a species, whichever it is."""
    return {SPECIES[word] for word in words(text) if word in SPECIES}


def modality(text: str) -> str | None:
    """Return the code of a modality; None if it states nothing."""
    code = text.strip().upper()
    if not is_stated(code) or code in _NO_MODALITY:
        return None
    code = _MODALITY_SYNONYMS.get(code, code)
    return code if code in MODALITIES else OTHER


def orientation(values: Iterable[str]) -> str | None:
    """Return the direction of rows and columns (Patient Orientation, PS3.3 C.7.6.1.1.1) as two letters, such as `LF`.

    Of each direction, the first letter is the main one. Returns None if it is not stated.
    """
    directions = [value.strip().upper() for value in values]
    if len(directions) != 2 or not all(directions):
        return None
    letters = "".join(direction[0] for direction in directions)
    return letters if set(letters) <= set("LRAPHF") else OTHER


def plane(rows_and_columns: str) -> str | None:
    """Return the view of which the two directions are typical."""
    axes = frozenset("LRAPHF".index(letter) // 2 for letter in rows_and_columns if letter in "LRAPHF")
    return {frozenset({0, 2}): "frontal", frozenset({1, 2}): "lateral", frozenset({0, 1}): "axial"}.get(axes)


def laterality(text: str) -> str | None:
    """Return the side of the body; None if it is not stated."""
    return _LATERALITIES.get(text.strip().upper())


def presentation(text: str) -> str | None:
    """Return the intent of an image: `for presentation` or `for processing` (raw values of a detector)."""
    return _PRESENTATIONS.get("".join(words(text)))
