"""How alike an image is to the training images of a model."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from handlers.errors import DomainModeError, UnlikeTrainingError

Mode = Literal["strict", "warn", "off"]
"""What happens to an unlike image: it is rejected, it is analysed and marked, or nothing is checked."""
Status = Literal["normal", "unusual", "unlike"]
Reason = Literal["other_image", "dark", "rotated_90", "rotated_180", "rotated_270", "inverted"]
"""`rotated_N` is the clockwise rotation that the image has."""
Contradicted = Literal["orientation", "polarity"]
"""Attribute of the scope that is right in the file, but wrong about the pixels."""

DEFAULT: Final[Mode] = "strict"
_MODES: Final[tuple[Mode, ...]] = ("strict", "warn", "off")
_FINDINGS: Final[dict[Reason, str]] = {
    "other_image": "It may show another body part, or be rotated, cropped, edited, a photograph or a screenshot. "
    "Send the original image.",
    "dark": "It is darker than these, or has wider margins. Send the original image, or have it read without the "
    "model: brightening or cropping it would not make a prediction reliable.",
    "rotated_90": "It appears to be rotated by 90 degrees clockwise.",
    "rotated_180": "It appears to be upside down.",
    "rotated_270": "It appears to be rotated by 270 degrees clockwise.",
    "inverted": "Its gray levels appear to be inverted.",
}
_TURNED: Final = "It appears to be rotated by 90 degrees, clockwise or counterclockwise. Turn it upright."
NEAR: Final = 1.2
"""Below this multiple of the limit, an unlike image is near it: see docs/domain.md, "Near the limit"."""
_NEAR: Final = (
    "This image is just beyond the limit of this model's image check, so a prediction would not be reliable. It may be "
    "a good image of the right kind: a few of these are beyond it, too. Send the original image, or have it read "
    "without the model."
)
_SIDE: Final = "A mirrored image looks the same to this check: compare the side marker after the repair."
_REMEDIES: Final[dict[Reason, str]] = {
    "rotated_90": f"Turn it, or repeat the request with repair=rotate-270. {_SIDE}",
    "rotated_180": f"Turn it, or repeat the request with repair=rotate-180. {_SIDE}",
    "rotated_270": f"Turn it, or repeat the request with repair=rotate-90. {_SIDE}",
    "inverted": "Invert them, or repeat the request with repair=invert.",
}


@dataclass(frozen=True)
class Assessment:
    """Distance of one image to the training images."""

    status: Status
    score: float  # 0 or more
    limit: float  # score from which an image is unlike
    percentile: float  # share of the held-out images with a lower score, 0 to 100
    reason: Reason | None  # None if the status is normal, or for a quarter turn of unknown direction
    contradicts: Contradicted | None = None  # what the file states otherwise, so that a repair cannot help
    site: str | None = None  # whose limit of unusual images applies; None for that of the recipe

    def document(self, mode: Mode) -> dict[str, Any]:
        """Return the value of the key `domain` in a prediction or an error."""
        further = {"contradicts": self.contradicts, "site": self.site, "near": self.is_near or None}
        return {
            "mode": mode,
            "status": self.status,
            "score": round(self.score, 4),
            "limit": round(self.limit, 4),
            "percentile": round(self.percentile, 1),
            "reason": self.reason,
        } | {name: value for name, value in further.items() if value is not None}

    def compared(self, stated: Collection[str]) -> "Assessment":
        """Return the assessment of an image whose file states attributes, and these are within the model's scope."""
        if self.reason in (None, "other_image", "dark"):
            return self
        attribute: Contradicted = "polarity" if self.reason == "inverted" else "orientation"
        return replace(self, contradicts=attribute) if attribute in stated else self

    @property
    def is_near(self) -> bool:
        """Whether the image is unlike, but about as near to the limit as the good images that are rejected."""
        return self.status == "unlike" and self.score < NEAR * self.limit

    def rejection(self, mode: Mode) -> UnlikeTrainingError:
        """Return the error of an unlike image."""
        return UnlikeTrainingError(self.warning, {"domain": self.document(mode)})

    @property
    def warning(self) -> str:
        """What an unlike image means, the nearest reason, and what to do."""
        if self.is_near and self.reason == "other_image":
            return _NEAR
        return (
            "This image is unlike the images that this model was trained on, so a prediction would not be meaningful. "
            f"{self._advice}"
        )

    @property
    def _advice(self) -> str:
        if self.reason is None:
            return _TURNED
        finding = _FINDINGS[self.reason]
        if self.contradicts is not None:
            return f"{finding} The file's {self.contradicts} contradicts its pixels; correct the file."
        return " ".join(filter(None, [finding, _REMEDIES.get(self.reason)]))


def parse_mode(text: str) -> Mode:
    """Parse the value of `RADSERVE_DOMAIN`; an empty one is the default."""
    for mode in _MODES:
        if mode == (text or DEFAULT):
            return mode
    raise DomainModeError(f"RADSERVE_DOMAIN has value {text!r}. Use one of {', '.join(_MODES)}.")
