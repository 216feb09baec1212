"""Rules: which model an image is sent to, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from radserve.pacs import header as headers
from radserve.pacs.settings import Age, Rule

_SHOWN: Final = frozenset(
    (
        *("PatientAge", "PatientOrientation", "PatientPosition", "PatientSex", "Modality", "SOPClassUID", "ImageType"),
        *("BodyPartExamined", "ViewPosition", "Laterality", "ImageLaterality", "PresentationIntentType"),
        *(
            "PhotometricInterpretation",
            "SamplesPerPixel",
            "Manufacturer",
            "ManufacturerModelName",
            "BurnedInAnnotation",
        ),
    )
)
"""Attributes whose values reasons quote: those of others, such as AccessionNumber, may name the patient."""


@dataclass(frozen=True)
class Finding:
    """Outcome of one condition, in words."""

    met: bool
    text: str


@dataclass(frozen=True)
class Verdict:
    """Whether a rule applies to an image, and why."""

    rule: Rule
    findings: tuple[Finding, ...]

    @property
    def matches(self) -> bool:
        """Whether every condition is met."""
        return all(finding.met for finding in self.findings)

    def __str__(self) -> str:
        if not self.matches:
            unmet = "; ".join(finding.text for finding in self.findings if not finding.met)
            return f"Rule '{self.rule.name}' does not match: {unmet}."
        reasons = "; ".join(finding.text for finding in self.findings) or "it has no conditions"
        target = " ".join(filter(None, (self.rule.model, self.rule.version)))
        return f"Rule '{self.rule.name}' matches, model {target}: {reasons}."


@dataclass(frozen=True)
class Decision:
    """What happens to an image: the rules that apply, or the reason that none does."""

    ignored: str | None
    verdicts: tuple[Verdict, ...]

    @property
    def matches(self) -> tuple[Rule, ...]:
        """Rules that apply; of several with the same model and version, the first."""
        rules = {(v.rule.model, v.rule.version): v.rule for v in reversed(self.verdicts) if v.matches}
        return tuple(reversed(rules.values()))

    @property
    def reason(self) -> str:
        """Why no rule applies."""
        return " ".join(str(verdict) for verdict in self.verdicts)

    def __str__(self) -> str:
        if self.ignored is not None:
            return f"Ignored: {self.ignored}."
        return "\n".join(str(verdict) for verdict in self.verdicts)


def decide(rules: Sequence[Rule], header: Dataset) -> Decision:
    """Apply all rules to the header of an image."""
    ignored = headers.reason_to_ignore(header)
    if ignored is not None:
        return Decision(ignored, ())
    return Decision(None, tuple(Verdict(rule, tuple(_findings(rule, header))) for rule in rules))


def _findings(rule: Rule, header: Dataset) -> Iterator[Finding]:
    for keyword, wanted in rule.when.items():
        yield _attribute(keyword, wanted, headers.values(header, keyword))
    if rule.age is not None:
        yield _age(rule.age, headers.age(header))


def _attribute(keyword: str, wanted: Sequence[str], values: Sequence[str]) -> Finding:
    met = bool({value.strip().upper() for value in wanted} & set(values or ("",)))
    if keyword not in _SHOWN:  # reasons are shown on the dashboard
        return Finding(met, f"{keyword} {'matches' if met else 'does not match'}")
    choice = " or ".join(value or "absent" for value in wanted)
    value = " and ".join(values) or "absent"
    return Finding(met, f"{keyword} is {value}" + ("" if met else f", not {choice}"))


def _age(wanted: Age, age: float | None) -> Finding:
    if age is None:
        return Finding(met=False, text="age is unknown")
    if age < wanted.at_least:
        return Finding(met=False, text=f"age {age:.1f} is not at least {wanted.at_least:g}")
    if age >= wanted.below:
        return Finding(met=False, text=f"age {age:.1f} is not below {wanted.below:g}")
    return Finding(met=True, text=f"age {age:.1f} is at least {wanted.at_least:g} and below {wanted.below:g}")
