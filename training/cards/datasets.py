"""What has to be said of each data set wherever its figures stand: words for model cards, no code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from training.errors import SettingsError


@dataclass(frozen=True)
class About:
    """A data set in words.

    Attributes
    ----------
    name
        As in the `data` key of a training configuration.
    unit, group
        Nouns in the plural: of one image, and of what is never split.
    source
        Whose images they are; goes on from "films of 526 patients: ".
    for_use, not_for
        Intended use, and what lies outside of it; each goes on from "For: " and "Not for: ".
    limits
        What the data cannot show, as sentences.
    published
        Known figures of others, and what they mean beside ours.
    """

    name: str
    unit: str
    group: str
    source: str
    for_use: str
    not_for: str
    limits: str
    published: str


_ALL: Final = (
    About(
        name="chest_xray",
        unit="films",
        group="patients",
        source="official train and val parts of the Kermany chest films (children)",
        for_use="research and engineering with frontal chest films of children, one film at a time.",
        not_for="adults, other projections, other diseases, or any decision about a person.",
        limits="""\
One hospital, children of one to five years, films that a second process already sorted by quality: adults, other
machines and other diseases are outside of it. The published test part of this data differs from its training part
(62 % against 74 % pneumonia), and models trained on it are known to call too many of those films pneumonia.
Several films of a patient are not independent; the intervals take them together.""",
        published="""\
On the 624 official test films, which are not used here, the system that `chest-xray-cnn` comes from reached
sensitivity 0.995 and precision 0.697 (388 of 390 pneumonias found, 169 of 234 normal films called pneumonia), and the
one that `chest-xray-resnet50` comes from tells of an accuracy of 0.89. Figures of a validation side do not
compare with those of that test part.""",
    ),
    About(
        name="brain_tumor",
        unit="slices",
        group="near-duplicate groups",
        source="Br35H brain MRI slices (Hamada 2020)",
        for_use="research and engineering with single slices of brain MRI, whole heads as pictures.",
        not_for="grading or locating a tumour, other organs or modalities, or any decision about a person.",
        limits="""\
Nobody knows whose slices these are, from which scanners, in which sequences, or who said that there is a tumour: no
split by patient is possible. About half of the published files are near copies of others, resized, compressed anew
or turned; the split keeps these together, but slices of one patient may still lie on both sides, so that the
figures are too good for new patients. Pictures with and without a tumour also differ in where they come from,
which a network may learn instead.""",
        published="""\
The original system tells of test accuracies of 0.972 (VGG16), 0.958 (CNN with attention), 0.952 (attention) and 0.952
(CNN), on files drawn at random from the same pool as those of training. With that many copies on both sides such
figures say little, and none here compares with them.""",
    ),
    About(
        name="lgg_mri",
        unit="slices",
        group="patients",
        source="lower-grade glioma slices of TCIA with the masks of Buda, Saha, Mazurowski (2019)",
        for_use="""research and engineering on outlining lower-grade glioma in axial brain MRI slices
whose three channels are pre-contrast, FLAIR and post-contrast, in this order.""",
        not_for="""other tumours, other sequences or orders of them, measuring growth, planning of treatment, or any
decision about a person.""",
        limits="""\
Patients of five American hospitals, all of whom have a tumour: how the model behaves on healthy heads is not known
beyond the slices without tumour of these patients. Where a sequence was missing the publishers put FLAIR in its place.
The masks outline what is abnormal on FLAIR, drawn by one reader and checked by another. This project measures on a
copy with 64 gray levels a channel instead of 256. Few patients are on the validation side: the intervals are wide.""",
        published="""\
Volumetric Dice per patient over all slices: 0.82 in the paper of the data set, 0.836 (median 0.873) on its author's
later page, 0.84 between human readers. Mean Dice over tumour slices alone: 0.839 (UNet) and 0.784 (attention UNet) told
by the original system, on its validation side. The two kinds of Dice do not compare with each other.""",
    ),
    About(
        name="cifar10",
        unit="photographs",
        group="files",
        source="a part of the training photographs of CIFAR-10 (Krizhevsky 2009)",
        for_use="trying out training, serving and operation with a small, well-known task.",
        not_for="anything that matters: these are photographs of 32 x 32 pixels, and nothing medical is among them.",
        limits="""\
Ten things, one in the middle of each picture, 32 x 32 pixels; anything else is still given one of the ten labels.
This project measures on a lossy copy (JPEG, about 30 dB) of half of the training photographs: no figure compares
with a published one to the last percent. Which photographs show the same thing is not known, so files are split and
drawn one by one; only equal files are kept together.""",
        published="""\
There are many, on the official test photographs, which are not used here, after training on all 50,000 in full
quality. None here compares with them.""",
    ),
)


def of(name: str) -> About:
    """Give the words for a data set.

    Raises
    ------
    SettingsError
        If none are known.
    """
    for about in _ALL:
        if about.name == name:
            return about
    raise SettingsError(f"data has value {name!r}; words are known for {', '.join(about.name for about in _ALL)}.")
