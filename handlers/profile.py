"""Site profiles: calibration, decision and prediction sets that a site fitted on its own labelled images."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers import worker
from handlers.errors import ProgramError, RecipeError
from handlers.recipe import Calibration, Decision, Name, Recipe, Sha256, Text, Uncertainty, Version, parse
from handlers.validation_error import describe


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Change(_Section):
    """A measurement on the site's images: as shipped, with the profile, and the difference.

    Each has the value and the ends of its 95% interval; None where it is not defined.
    """

    before: tuple[float, float, float] | None
    after: tuple[float, float, float] | None
    difference: tuple[float, float, float] | None


class DetectorLimits(_Section):
    """Limit of unusual images that replaces the recipe's. No profile changes the limit of unlike images."""

    marked: Annotated[float, Field(gt=0)]  # from that of the recipe to the recipe's limit of unlike images
    fitted: Text  # how it was chosen, in words


class SiteProfile(_Section):
    """Replaces these sections of the recipe of one archive.

    The digest of the archive binds the profile to the recipe, the weights and the handlers with which it was fitted.
    """

    site: Name
    model: Name
    version: Version
    archive: Sha256
    calibration: Calibration
    decision: Decision
    uncertainty: Uncertainty
    detector: DetectorLimits | None = None  # None for a model without a detector
    sample: Text  # the labelled images in words
    changes: dict[str, Change] = Field(default_factory=dict)

    def apply(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the sections of the profile; raises `RecipeError` if they contradict it."""
        source = f"profile of {self.site}"
        document = recipe.model_dump(mode="json", exclude_unset=True)
        document |= self.model_dump(mode="json", include={"calibration", "decision", "uncertainty"})
        if self.detector is not None:
            if recipe.detector is None:
                raise RecipeError(f"{source}: has limits of a detector, but {recipe.name} has none. Fit it again.")
            marked, shipped = self.detector.marked, recipe.detector
            if not shipped.marked <= marked <= shipped.refused:
                raise RecipeError(
                    f"{source}: detector.marked has value {marked}; {recipe.name} permits {shipped.marked} to "
                    f"{shipped.refused}. Fit it again."
                )
            document["detector"]["marked"] = marked
        return parse(document, source)


@dataclass(frozen=True)
class VerifiedProfile:
    """A profile whose signature was checked, and the SHA-256 of its signed bytes."""

    profile: SiteProfile
    sha256: str

    @property
    def reference(self) -> dict[str, str]:
        """Key `profile` of a prediction."""
        return {"name": self.profile.site, "sha256": self.sha256}


def write(path: Path, profiles: Iterable[VerifiedProfile]) -> None:
    """Write profiles for the workers of this server."""
    content = {
        f"{item.profile.model}/{item.profile.version}": {
            "sha256": item.sha256,
            # An archive of an earlier release rejects the keys that it does not know.
            "profile": item.profile.model_dump(mode="json", exclude_unset=True),
        }
        for item in profiles
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def for_worker(name: str, version: str, archive: str | None) -> VerifiedProfile | None:
    """Return the profile of this worker's model, if there is one; raises `ProgramError` if it is of another archive."""
    path = os.environ.get(worker.PROFILES)
    entry = None if not path else json.loads(Path(path).read_bytes()).get(f"{name}/{version}")
    if entry is None:
        return None
    try:
        profile = SiteProfile.model_validate(entry["profile"])
    except ValidationError as error:
        raise ProgramError(f"The profile of {name} {version} is invalid: {describe(error)}.") from error
    if profile.archive != archive:
        raise ProgramError(f"The profile of {name} {version} is for archive {profile.archive}, not {archive}.")
    return VerifiedProfile(profile, entry["sha256"])
