"""Fits a site profile: runs an archive on a site's labelled images, refits, and measures what changes."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handlers import second_pass
from handlers.classification import Classification
from handlers.domain import detector
from handlers.domain.detector import Detector
from handlers.errors import RequestError
from handlers.pipeline import Result
from handlers.profile import Change, SiteProfile
from handlers.recipe import Input, Recipe, Uncertainty
from handlers.scope.scope import NO_ASSURANCES
from handlers.tracing import Trace
from radserve.build import mar, model_store
from radserve.errors import SiteProfileError
from radserve.site import comparison, limits
from radserve.site import images as site_images
from radserve.site.images import LabelledImage
from training import recalibration, uncertainty
from training.batches import Images
from training.datasets.example import sha256
from training.evaluators.evaluator import Logits
from training.second_pass import Passes
from training.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Options of a fit."""

    site: str  # name of the site in every response
    version: str | None = None  # the newest by default
    level: float | None = None  # of the prediction sets, in (0, 1); by default as shipped
    seed: int = 1  # of the parts of the measurement, and of the bootstrap


def fit(store: Path, name: str, source: Path, options: Options) -> SiteProfile:
    """Fit a profile for an archive of a model store on labelled images; raises SiteProfileError for too few.

    The installed handlers run, which must equal those of the archive, so images are decoded, checked and preprocessed
    as by the server. Images that it rejects are left out, also those unlike the training images.
    """
    entry = model_store.read(store).find(name, options.version)
    if entry is None:
        raise SiteProfileError(
            f"{store}: has no archive of {name} {options.version or ''}; run 'radserve build {name}'."
        )
    recipe = mar.verify(entry, store)
    settings = _settings(recipe, options)
    images = site_images.find(source, recipe.labels)
    shipped, outputs = _run(store / entry.file, recipe, images)
    measured = _measured(recipe, shipped, outputs)
    used = _accepted(shipped, outputs)
    site_images.require_enough([output.image.label for output in used], recipe.labels, source)
    data, logits = _data(recipe, used), np.stack([output.logits for output in used])
    passes = Passes(
        np.array([output.brightness for output in used]), np.stack([output.second_logits for output in used])
    )
    if not recalibration.is_measurable(data, settings.level):
        raise SiteProfileError(
            f"{source}: at a level of {settings.level:g}, every label needs images of "
            f"{recalibration.min_groups(settings.level)} patients. Add images, or choose a lower --level."
        )
    sample = f"{len(used)} of {len(images)} images ({len(set(data.groups))} patients) of {options.site}"
    split = sha256("".join(sorted(f"{item.image.patient} {item.image.label}\n" for item in used)).encode())
    fitted = recalibration.refit(recipe, settings, logits, data, sample, split)
    assert fitted.decision is not None
    assert fitted.uncertainty is not None
    _require_limits(fitted.uncertainty, source)
    return SiteProfile(
        site=options.site,
        model=entry.name,
        version=entry.version,
        archive=entry.sha256,
        calibration=fitted.calibration,
        decision=fitted.decision,
        uncertainty=fitted.uncertainty,
        detector=None if measured is None else limits.fit(measured),
        sample=sample,
        changes=_changes(recipe, settings, logits, data, passes)
        | ({} if measured is None else limits.changes(measured, settings.seed)),
    )


def _settings(recipe: Recipe, options: Options) -> Settings:
    if recipe.decision is None or recipe.decision.sensitivity is None or recipe.calibration.prevalence is None:
        raise SiteProfileError(
            f"{recipe.name}: a site profile needs a classifier with two labels whose recipe has decision.sensitivity "
            "and calibration.prevalence, as 'radserve train' writes them."
        )
    shipped = recipe.uncertainty.level if recipe.uncertainty else 0.9
    level = shipped if options.level is None else options.level
    return Settings(data=options.site, seed=options.seed, sensitivity=recipe.decision.sensitivity, level=level)


def _require_limits(fitted: Uncertainty, source: Path) -> None:
    for label, quantile in fitted.quantiles.items():
        if quantile >= 1:
            raise SiteProfileError(
                f"{source}: at a level of {fitted.level:g}, every prediction set would contain {label!r}, because the "
                "model gives too many of its images a probability of 0. Correct their labels, or choose a lower "
                "--level."
            )


@dataclass(frozen=True)
class _Output:
    """What the archive computes for an image that it can read and that is within its scope."""

    image: LabelledImage
    logits: NDArray[np.float32]
    score: float | None  # distance to the training images; None without a detector
    brightness: float
    second_logits: NDArray[np.float32]  # of the second pass; NaN without one


def _run(archive: Path, recipe: Recipe, images: Sequence[LabelledImage]) -> tuple[Detector | None, list[_Output]]:
    """Return the archive's detector, and the outputs for the images that the archive does not reject."""
    handler = Classification()
    with tempfile.TemporaryDirectory(prefix="radserve-site-") as name:
        folder = Path(name)
        with mar.opened(archive) as opened:
            mar.require_same_code(opened, archive)
            opened.extractall(folder)
        handler.load(folder, batch=8)
        (summary,) = handler.predict_sample(folder)
        handler.verify_sample(summary, mar.sample(archive, recipe)[1])
        # Profiles are fitted on the images of a strict server, whatever RADSERVE_DOMAIN is here.
        pipeline = replace(handler.pipeline, detector=detector.load(folder, recipe))
        contents = ((image.path.read_bytes(), pipeline.limits, Trace(), NO_ASSURANCES, None) for image in images)
        results = zip(images, pipeline.stream(contents), strict=True)
        outputs = (_output(image, result, recipe.input) for image, result in results)
        return pipeline.detector, [output for output in outputs if output is not None]


def _output(image: LabelledImage, result: Result | RequestError, spec: Input) -> _Output | None:
    if isinstance(result, RequestError):
        if result.status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # a failure here, not a property of the image
            raise SiteProfileError(f"{image.path}: {result}") from result
        _log.warning("%s: rejected, and left out: %s", image.path, result)
        return None
    logits, second = result.outputs["logits"], result.second_logits
    return _Output(
        image,
        logits,
        None if result.assessment is None else result.assessment.score,
        second_pass.brightness(result.prepared.tensor, spec),
        np.full_like(logits, np.nan) if second is None else second,
    )


def _measured(recipe: Recipe, shipped: Detector | None, outputs: Sequence[_Output]) -> limits.Measured | None:
    """Return the scores of the site's images; None for a model without a detector, or without any image."""
    scores = np.array([output.score for output in outputs if output.score is not None])
    return None if shipped is None or not len(scores) else limits.measured(shipped, scores, _data(recipe, outputs))


def _accepted(shipped: Detector | None, outputs: Sequence[_Output]) -> list[_Output]:
    """Return the outputs of the images that are not unlike the training images."""
    accepted = []
    for output in outputs:
        if shipped is not None and output.score is not None and output.score >= shipped.section.refused:
            _log.warning("%s: left out, because it is unlike the training images", output.image.path)
        else:
            accepted.append(output)
    return accepted


def _data(recipe: Recipe, outputs: Sequence[_Output]) -> Images:
    targets = torch.tensor([recipe.labels.index(output.image.label) for output in outputs])
    return Images(torch.empty(len(outputs), 0), targets, tuple(output.image.patient for output in outputs))


def _changes(recipe: Recipe, settings: Settings, logits: Logits, data: Images, passes: Passes) -> dict[str, Change]:
    """Measure the recipe as shipped, and refitted without the patients that it is measured on."""
    before = uncertainty.statistic(recipe, uncertainty.decisions(recipe, logits, passes), data)
    after = uncertainty.statistic(recipe, recalibration.cross_fitted(recipe, settings, logits, data, passes), data)
    return comparison.compare(before, after, data.groups, settings.seed)
