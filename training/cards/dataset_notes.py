"""Texts about each data set for model cards: intended use, limits and published results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from training.errors import SettingsError


@dataclass(frozen=True)
class DatasetNotes:
    """Texts about a data set.

    Attributes
    ----------
    name
        As in the `data` key of `training.yaml`.
    unit, group
        Plural nouns for its images and for the groups that are never split.
    source
        Origin of the images; follows "films of 526 patients: ".
    intended_use, out_of_scope
        Follow "Intended for: " and "Not intended for: ".
    limits
        What the data cannot show, as sentences.
    published
        Published results, and how they relate to ours.
    """

    name: str
    unit: str
    group: str
    source: str
    intended_use: str
    out_of_scope: str
    limits: str
    published: str


_ALL: Final = (
    DatasetNotes(
        name="chest_xray",
        unit="films",
        group="patients",
        source="official train and val parts of the Kermany chest films (children)",
        intended_use="research and engineering with frontal chest films of children, one film at a time.",
        out_of_scope="adults, other projections, other diseases, patient care.",
        limits="""\
The films come from one hospital, show children of one to five years, and were sorted by quality before publication.
Adults, other machines and other diseases are not represented. The published test part differs from the training part
(62% instead of 74% pneumonia), and models trained on this data are known to report pneumonia too often on it.
Several films of one patient are not independent; the intervals account for this.""",
        published="""\
The 624 official test films are not used here. On them, the system that `chest-xray-cnn` is based on reached
sensitivity 0.995 and precision 0.697 (388 of 390 pneumonias found, 169 of 234 normal films reported as pneumonia).
The system that `chest-xray-resnet50` is based on reports an accuracy of 0.89. Results on a validation part cannot be
compared with results on that test part.""",
    ),
    DatasetNotes(
        name="brain_tumor",
        unit="slices",
        group="near-duplicate groups",
        source="Br35H brain MRI slices (Hamada 2020)",
        intended_use="research and engineering with single brain MRI slices that show the whole head.",
        out_of_scope="grading or locating a tumour, other organs or modalities, patient care.",
        limits="""\
Patients, scanners, sequences and the source of the labels are unknown, so the data cannot be split by patient. About
half of the published files are near duplicates of others (resized, recompressed or rotated). The split keeps these
together, but slices of one patient may still be on both sides: results on new patients will be worse. Slices with and
without a tumour also come from different sources, and a network may learn that difference instead.""",
        published="""\
The original system reports test accuracies of 0.972 (VGG16), 0.958 (CNN with attention), 0.952 (attention) and 0.952
(CNN), on files drawn at random from the same pool as the training files. With that many duplicates on both sides,
these results cannot be compared with ours.""",
    ),
    DatasetNotes(
        name="lgg_mri",
        unit="slices",
        group="patients",
        source="lower-grade glioma slices of TCIA with the masks of Buda, Saha, Mazurowski (2019)",
        intended_use="""research and engineering on outlining lower-grade glioma in axial brain MRI slices with three
channels: pre-contrast, FLAIR and post-contrast, in this order.""",
        out_of_scope="""other tumours, other sequences or another order of them, measuring growth, treatment planning,
patient care.""",
        limits="""\
All patients, from five American hospitals, have a tumour: results on healthy heads are unknown, except for the
tumour-free slices of these patients. Where a sequence was missing, the publishers substituted FLAIR. The masks outline
FLAIR abnormalities, drawn by one reader and checked by another. This project used a copy with 64 instead of 256 gray
levels per channel. The validation part has few patients, so the intervals are wide.""",
        published="""\
Volumetric Dice per patient over all slices: 0.82 in the paper of the data set, 0.836 (median 0.873) on a later page of
its author, 0.84 between human readers. Mean Dice over tumour slices: 0.839 (UNet) and 0.784 (attention UNet), reported
by the original system on its validation part. The two kinds of Dice cannot be compared with each other.""",
    ),
    DatasetNotes(
        name="cifar10",
        unit="photographs",
        group="files",
        source="a part of the training photographs of CIFAR-10 (Krizhevsky 2009)",
        intended_use="trying out training, serving and operation with a small, well-known task.",
        out_of_scope="practical or medical use: the images are photographs of 32 x 32 pixels.",
        limits="""\
The photographs show one of ten things each, in 32 x 32 pixels; anything else still gets one of the ten labels. This
project used a lossy copy (JPEG, about 30 dB) of half of the training photographs, so results differ from published ones
by some percent. Which photographs show the same thing is unknown: the split is by file, and only identical files are
kept together.""",
        published="""\
There are many, measured on the official test photographs, which are not used here, after training on all 50,000
photographs in full quality. They cannot be compared with ours.""",
    ),
)


def for_dataset(name: str) -> DatasetNotes:
    """Return the texts for a data set.

    Raises
    ------
    SettingsError
        If there are none.
    """
    for notes in _ALL:
        if notes.name == name:
            return notes
    raise SettingsError(f"data: unknown data set {name!r}. Available: {', '.join(notes.name for notes in _ALL)}.")
