"""`radserve calibrate`: prediction sets of a recipe, or the profile of a site."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from radserve.cli import terminal
from radserve.cli.options import argument, option, setting, with_groups
from radserve.cli.serve import MODEL_STORE
from radserve.errors import SiteProfileError

if TYPE_CHECKING:
    from handlers.profile import SiteProfile


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    name: str = argument("Model name.")
    data: Path | None = option(None, "Data set of the training, to fit the decision of the recipe.")
    install: bool = option(False, "With --data: write the result to the model's folder.", "--install")
    archives: Path = option(Path("archives"), "With --data: folder of the recipes.")
    site: Path | None = option(
        None, "Labelled images of a site: LABEL/[PATIENT/]FILE, or a CSV file with file, label and patient."
    )
    site_name: str | None = option(None, "With --site: name of the site in every response, like st-marys.")
    signing_key: str | None = setting(
        None, "RADSERVE_SIGNING_KEY", "With --site: private key ('radserve store keygen FILE')."
    )
    out: Path | None = option(None, "With --site: file for the profile. Default: NAME.profile.json.")
    version: str | None = option(None, "With --site: version in the model store. Default: the newest.")
    level: float | None = option(None, "With --site: level of the prediction sets, 0 to 1. Default: as shipped.")
    model_store: Path = setting(MODEL_STORE, "RADSERVE_MODEL_STORE", "With --site: folder of the archives.")
    threads: int | None = option(None, "Threads of torch. Default: all cores.", min=1)
    module: list[str] | None = setting(
        None,
        "RADSERVE_MODULE",
        "With --data: permit the network module:PACKAGE.MODULE:CLASS. This executes the code of that module.",
        metavar="PACKAGE.MODULE:CLASS",
    )


@with_groups
def calibrate(options: Options) -> None:
    """Fit the decision of a model without changing its weights.

    With --data, fits the recipe on the validation side of its training: the prediction sets of a classifier and the
    margin of its threshold, or temperature, threshold and smallest mask of a segmentation. With --site, fits
    temperature, bias, threshold, prediction sets and the detector's limit of unusual images on 100 or more labelled
    images of a site, reports what changes, and writes a signed profile for 'radserve serve --profile'.
    """
    if (options.data is None) == (options.site is None):
        raise typer.BadParameter("give either --data or --site.")
    from training.cli import check_data, prepare

    if options.data is not None:
        check_data(options.archives / options.name, options.data)
    prepare(options.threads, options.module)
    if options.data is not None:
        from training.calibrate import calibrate as run

        run(options.archives / options.name, options.data, install=options.install)
    else:
        _fit_site(options)


def _fit_site(options: Options) -> None:
    from radserve.site import fit, signed_profile
    from radserve.store import signature

    if options.signing_key is None or options.site_name is None or options.site is None:
        raise SiteProfileError("--site needs --site-name and --signing-key; create a key with 'radserve store keygen'.")
    out = options.out or Path(f"{options.name}.profile.json")
    _require_valid(options.site_name, options.level, out)
    signer = signature.read_signing_key(options.signing_key)
    profile = fit.fit(
        options.model_store,
        options.name,
        options.site,
        fit.Options(options.site_name, options.version, options.level),
    )
    out.write_bytes(signed_profile.seal(profile, signer))
    _report(profile, out)


def _require_valid(site_name: str, level: float | None, out: Path) -> None:
    from pydantic import TypeAdapter, ValidationError

    from handlers.recipe import Name
    from handlers.validation_error import describe

    try:
        TypeAdapter(Name).validate_python(site_name)
    except ValidationError as error:
        raise SiteProfileError(f"--site-name {site_name!r}: {describe(error)}. Use one like st-marys.") from error
    if level is not None and not 0 < level < 1:
        raise SiteProfileError(f"--level {level:g}: must be between 0 and 1, such as 0.9.")
    if not out.absolute().parent.is_dir():
        raise SiteProfileError(f"--out {out}: its folder does not exist; create it.")


def _report(profile: "SiteProfile", out: Path) -> None:
    from training.cards.markdown import metric_name

    console = terminal.console()
    rows = [
        (metric_name(name), _triple(change.before), _triple(change.after), _triple(change.difference))
        for name, change in profile.changes.items()
    ]
    console.print(terminal.table("measured", ">as shipped", ">with profile", ">difference", rows=rows))
    console.print(
        f"{profile.sample}. In parentheses: 95% intervals, bootstrap over patients. The profile is measured on "
        "patients on which it was not fitted (five parts)."
    )
    console.print(
        f"temperature {profile.calibration.temperature:g}, bias {profile.calibration.bias:+g}, threshold "
        f"{profile.decision.threshold:.4f}. Signed profile: {out}"
    )
    if (limits := profile.detector) is not None:
        console.print(
            f"Images are unusual from score {limits.marked:.4f}: {limits.fitted}, which a profile does not change."
        )


def _triple(values: tuple[float, float, float] | None) -> str:
    return "not defined" if values is None else "{:.3f} ({:.3f} to {:.3f})".format(*values)
