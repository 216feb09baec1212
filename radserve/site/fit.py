"""Fits a site profile: runs an archive on a site's labelled images, refits, and measures what changes."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handlers.classification import Classification
from handlers.domain import detector
from handlers.errors import RequestError
from handlers.pipeline import Result
from handlers.profile import Change, SiteProfile
from handlers.recipe import Recipe, Uncertainty
from handlers.scope.scope import NO_ASSURANCES
from handlers.tracing import Trace
from radserve.build import mar, model_store
from radserve.errors import SiteProfileError
from radserve.site import images as site_images
from radserve.site.images import LabelledImage
from training import recalibration, uncertainty
from training.batches import Images
from training.datasets.example import sha256
from training.evaluators.evaluator import Logits
from training.metrics import bootstrap
from training.metrics.bootstrap import Interval
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
    logits, used = _run(store / entry.file, recipe, images)
    site_images.require_enough([image.label for image in used], recipe.labels, source)
    data = _data(recipe, used)
    if not recalibration.is_measurable(data, settings.level):
        raise SiteProfileError(
            f"{source}: at a level of {settings.level:g}, every label needs images of "
            f"{recalibration.min_groups(settings.level)} patients. Add images, or choose a lower --level."
        )
    sample = f"{len(used)} of {len(images)} images ({len(set(data.groups))} patients) of {options.site}"
    split = sha256("".join(sorted(f"{image.patient} {image.label}\n" for image in used)).encode())
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
        sample=sample,
        changes=_changes(recipe, settings, logits, data),
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


def _run(archive: Path, recipe: Recipe, images: Sequence[LabelledImage]) -> tuple[Logits, list[LabelledImage]]:
    """Return the logits of the images that the archive does not reject, and these images."""
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
        limits = pipeline.limits
        requests = ((image.path.read_bytes(), limits, Trace(), NO_ASSURANCES, None) for image in images)
        results = list(zip(images, map(_logits, pipeline.stream(requests)), strict=True))
    for image, result in results:
        if isinstance(result, RequestError):
            if result.status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # a failure here, not a property of the image
                raise SiteProfileError(f"{image.path}: {result}") from result
            _log.warning("%s: rejected, and left out: %s", image.path, result)
    used = [(image, result) for image, result in results if not isinstance(result, RequestError)]
    rows = np.array([row for _, row in used], dtype=np.float32).reshape(len(used), recipe.outputs)
    return rows, [image for image, _ in used]


def _logits(result: Result | RequestError) -> NDArray[np.float32] | RequestError:
    if isinstance(result, RequestError):
        return result
    if result.assessment is not None and result.assessment.status == "unlike":
        return result.assessment.rejection("strict")
    return result.outputs["logits"]


def _data(recipe: Recipe, used: Sequence[LabelledImage]) -> Images:
    targets = torch.tensor([recipe.labels.index(image.label) for image in used])
    return Images(torch.empty(len(used), 0), targets, tuple(image.patient for image in used))


def _changes(recipe: Recipe, settings: Settings, logits: Logits, data: Images) -> dict[str, Change]:
    """Measure the recipe as shipped, and refitted without the patients that it is measured on, on the same draws."""
    before = uncertainty.statistic(recipe, uncertainty.decisions(recipe, logits), data)
    after = uncertainty.statistic(recipe, recalibration.cross_fitted(recipe, settings, logits, data), data)

    def paired(indices: NDArray[np.intp]) -> Mapping[str, float]:
        first, second = before(indices), after(indices)
        return {
            f"{name}/{kind}": value
            for name in first
            for kind, value in zip(
                ("before", "after", "difference"), (first[name], second[name], second[name] - first[name]), strict=True
            )
        }

    intervals = bootstrap.intervals(paired, data.groups, settings.seed)
    names = dict.fromkeys(key.rpartition("/")[0] for key in intervals)
    return {
        name: Change(**{kind: _triple(intervals[f"{name}/{kind}"]) for kind in ("before", "after", "difference")})
        for name in names
    }


def _triple(interval: Interval) -> tuple[float, float, float] | None:
    if np.isnan([interval.value, interval.low, interval.high]).any():
        return None
    return round(interval.value, 4), round(interval.low, 4), round(interval.high, 4)
