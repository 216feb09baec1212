"""`radserve predict`: sends files and folders to a server and reports the results."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from radserve.cli.dicom_series import Masks
from radserve.cli.inputs import Source, find
from radserve.cli.options import argument, option, setting, with_groups
from radserve.cli.outputs import Pictures
from radserve.cli.report import Csv, JsonLines, Outcome, Problem, Report
from radserve.cli.result_file import ResultFile, locked, open_file
from radserve.cli.result_row import Conditions
from radserve.cli.summary import Summary
from radserve.cli.table import Table
from radserve.cli.terminal import counted
from radserve.client import Client
from radserve.client.api_detector import Api
from radserve.client.concurrency import ordered
from radserve.client.results import Results
from radserve.errors import DicomError, InvalidCallError, InvalidResponseError, ProblemError, ResponseTimeoutError
from radserve.schema.domain import Repair
from radserve.schema.problem import RejectedImage

_CONCERNS_ALL: Final = frozenset({401, 403, 404, 405})  # statuses that every other image would get, too
_INTERRUPTED: Final = 130
_ZIP: Final = (b"PK\3\4", b"PK\5\6")  # the second if it is empty


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    name: str = argument("Model name.")
    files: list[str] = argument("Images, folders of images, or - for standard input.")
    url: str = option("http://127.0.0.1:8080", "URL of the server or gateway.")
    version: str | None = option(None, "Model version. Default: the server's default version.")
    json: bool = option(False, "Print one JSON document per line, in the order of the files.", "--json")
    csv: bool = option(False, "Print CSV with a header, in the order of the files.", "--csv")
    out: Path | None = option(None, "Write the results to this file: NAME.csv, NAME.jsonl or NAME.parquet.")
    resume: bool = option(
        False,
        "Continue --out: skip images with a result in it, or that cannot be read, and send the others.",
        "--resume",
    )
    limit: int | None = option(None, "Send at most this number of images.", min=1)
    concurrency: int = option(4, "Maximum number of parallel requests.", min=1, max=64)
    timeout: float = option(60.0, "Seconds to wait for a response.")
    masks: Path | None = option(None, "Write masks to this folder, as NAME.mask.png, of frames NAME.mask/1.png ...")
    overlays: Path | None = option(None, "Write images with the outlines of their masks, as NAME.overlay.png.")
    explain: Path | None = option(None, "Write images under a heat map, as NAME.heat.png.")
    dicom_out: Path | None = option(
        None,
        "Write results of DICOM images as DICOM: NAME.sr.dcm (report), NAME.seg.dcm (mask or map), NAME.sc.dcm. The "
        "masks of one series are one object: series-UID.seg.dcm, series-UID.sr.dcm.",
    )
    force: bool = option(False, "Replace existing pictures, and an existing --out.", "--force")
    assure: list[str] | None = option(
        None, "What the images do not state themselves, as NAME=VALUE: age=5, view=PA. Repeatable."
    )
    repair: Repair | None = option(None, "Turn (clockwise) or invert the images before they are analysed.")
    prevalence: float | None = option(
        None, "Share of positive images to assume in the probabilities, such as 0.1. Default: that of the calibration."
    )
    key: str | None = setting(None, "RADSERVE_KEY", "API key; prefer the environment variable.")
    cacert: Path | None = option(None, "PEM file of the authority that signed the server's certificate.")
    api: Api = option(
        "auto", "API of the URL; auto detects it. Name a gateway behind nginx, where auto finds the server."
    )


@with_groups
def predict(options: Options) -> None:
    """Send images to a running server or gateway and print the results.

    Of a folder and its subfolders, all files with an image suffix, a number as suffix, or none are sent, except hidden
    files. Results go to standard output or to --out, everything else to standard error. If a call with --out is
    interrupted, the same call with --resume continues.

    Exit codes:
    0    every image has a result, and every picture is written
    1    at least one image has no result (with --resume, also one of an earlier call): it failed, is unusual, or is
         unlike the training images; or it has no DICOM objects. A line says why. --resume does not send an image again
         that was analysed
    2    invalid usage, missing file, no image, unknown model, or a picture that exists or cannot be written
    3    nothing listens at the URL
    130  interrupted
    """
    if [options.json, options.csv, options.out is not None].count(True) > 1:
        raise typer.BadParameter("--json, --csv and --out exclude each other.")
    if options.resume and options.out is None:
        raise typer.BadParameter("--resume needs --out.")
    inputs = find(options.files)
    for note in inputs.notes:
        typer.echo(note, err=True)
    shares = [] if options.prevalence is None else [f"prevalence={options.prevalence:.6f}"]
    assurances = _assurances([*(options.assure or ()), *shares])
    with locked(options.out) if options.out else nullcontext():
        failed = _send(options, inputs.sources, assurances)
    raise typer.Exit(1 if failed else 0)


def _send(options: Options, listed: Sequence[Source], assurances: dict[str, str]) -> int:
    """Send the images that have no result yet; return how many failed."""
    # The pictures of an image that was interrupted are replaced.
    replaces = options.force or (options.resume and options.out is not None and options.out.exists())
    folders = (options.masks, options.overlays, options.explain, options.dicom_out)
    pictures = Pictures(*folders, replaces, assurances, options.repair)
    report = _report(options)
    pending: Sequence[Source] = listed
    rejected = 0
    if isinstance(report, ResultFile):
        pending = report.pending(listed)
        rejected = report.rejections(listed, pending)
        options = replace(options, version=options.version or report.version)
    skipped, sources = len(listed) - len(pending), pending[: options.limit]
    excluded = pending[len(sources) :]
    pictures.check(sources)
    summary, masks = Summary(options.out), Masks(pictures)
    client = Client(options.url, timeout=options.timeout, key=options.key, cacert=options.cacert, api=options.api)
    try:
        with client:
            try:
                _run(client, options, pictures, sources, report, summary, masks)
            finally:
                # Those of an interrupted call, too: --resume does not send images again that have a result.
                masks.write(listed, frozenset(excluded))
    except KeyboardInterrupt:
        advice = " Add --resume to continue." if options.out else ""
        typer.echo(f"Interrupted after {summary.analysed} of {len(sources)} results.{advice}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    failed = summary.failed + summary.without_result + masks.missing + rejected
    written = [*masks.counts, *(pictures.places if summary.analysed else [])]
    if len(listed) > 1 or failed or options.out or written:
        had = f"{counted(skipped, 'image')} {'was' if skipped == 1 else 'were'} in {options.out} already"
        notes = [f"{had}{_without(rejected, options)}."] if skipped else []
        if excluded:
            notes.append(f"{counted(len(excluded), 'image')} not sent (--limit {options.limit}).")
        for line in summary.lines(*notes, *written):
            typer.echo(line, err=True)
    return failed


def _without(rejected: int, options: Options) -> str:
    """Describe what images with a row of an earlier call lack."""
    results = f", {rejected} of them without a result" if rejected else ""
    folders = options.masks or options.overlays or options.explain or options.dicom_out
    return results + (", and this call wrote no pictures of them" if folders else "")


def _assurances(items: Sequence[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    for name, _, value in pairs:
        if not name.strip() or not value.strip():
            raise typer.BadParameter("--assure needs NAME=VALUE, such as age=5.")
    assurances = {name.strip(): value.strip() for name, _, value in pairs}
    if len(assurances) < len(pairs):
        raise typer.BadParameter("--assure has an attribute twice.")
    return assurances


def _report(options: Options) -> Report:
    if options.out is not None:
        conditions = Conditions(options.repair, options.prevalence)
        return open_file(
            options.out,
            options.name,
            options.version,
            resume=options.resume,
            force=options.force,
            conditions=conditions,
        )
    return JsonLines() if options.json else Csv() if options.csv else Table()


def _run(
    client: Client,
    options: Options,
    pictures: Pictures,
    sources: Sequence[Source],
    report: Report,
    summary: Summary,
    masks: Masks,
) -> None:
    covered = report.streams and not isinstance(report, ResultFile) and sys.stdout.isatty()
    bar = _bar(len(sources), shown=len(sources) > 1 and not covered)
    warnings: set[str] = set()
    files = ordered(lambda source: _outcomes(client, options, pictures, source), sources, options.concurrency)
    try:
        with bar, closing(files):
            for outcomes in files:
                for outcome in outcomes:
                    summary.add(outcome)
                    masks.add(outcome)
                    _warn(outcome, warnings, bar)
                    if report.add(outcome):
                        with _hidden(bar):
                            report.flush()
                bar.advance(bar.task_ids[0])
    finally:
        report.flush()


def _warn(outcome: Outcome, warnings: set[str], bar: Progress) -> None:
    """Print the warning of a model once."""
    result = outcome.result
    if isinstance(result, Problem) or result.warning is None:
        return
    text = f"WARNING: {result.model.name} {result.model.version}: {result.warning}"
    if text not in warnings:
        warnings.add(text)
        with _hidden(bar):
            typer.secho(text, err=True, fg="red", bold=True)


def _outcomes(client: Client, options: Options, pictures: Pictures, source: Source) -> list[Outcome]:
    """Send one file, which may have several frames; an image whose pictures fail has no result."""
    try:
        content = source.content(client.max_bytes)
        sha256 = hashlib.sha256(content).hexdigest() if len(content) <= client.max_bytes else source.sha256()
    except OSError as error:
        return [Outcome(source.name, Problem(None, "Unreadable file", error.strerror or str(error)))]
    if content.startswith(_ZIP):
        problem = Problem(None, "Zip file", "A zip can hold several images; unpack it and send the folder.")
        return [Outcome(source.name, problem)]
    try:
        results = client.predict_frames(options.name, content, options.version, **pictures.conditions)
        return _saved(client, pictures, source, content, results)
    except ProblemError as error:
        if error.status in _CONCERNS_ALL:
            raise InvalidCallError(str(error)) from error
        domain = error.extensions.get("domain")
        problem = Problem(error.status, error.title, error.detail, domain, sha256)
    except ResponseTimeoutError as error:
        problem = Problem(None, "Timeout", str(error), image_sha256=sha256)
    except InvalidResponseError as error:
        reason = str(error).removeprefix("Invalid response: ")
        problem = Problem(None, "Invalid response", reason, image_sha256=sha256)
    return [Outcome(source.name, problem)]


def _saved(client: Client, pictures: Pictures, source: Source, content: bytes, results: Results) -> list[Outcome]:
    """Write the pictures of the results of a file; return their outcomes."""
    result = results[0]
    if len(results) == 1 and not isinstance(result, RejectedImage) and result.image.frame is None:
        pictures.save(client, source, content, result)
        try:
            return [Outcome(source.name, result, mask=pictures.save_dicom(client, source, content, result))]
        except DicomError as error:
            return [Outcome(source.name, result, str(error))]
    sha256, reason = hashlib.sha256(content).hexdigest(), None
    if pictures.overlays or pictures.heat:
        advice = "--overlays and --explain draw single images; send this file without them."
        return [Outcome(source.name, Problem(None, "Several frames", advice, image_sha256=sha256))]
    try:
        pictures.save_frames(source, content, results)
    except DicomError as error:
        reason = str(error)
    outcomes = [
        Outcome(source.name, _problem(item, sha256) if isinstance(item, RejectedImage) else item) for item in results
    ]
    first = next((index for index, item in enumerate(outcomes) if not isinstance(item.result, Problem)), 0)
    outcomes[first] = replace(outcomes[first], without_dicom=reason)
    return outcomes


def _problem(item: RejectedImage, sha256: str) -> Problem:
    domain = None if item.domain is None else item.domain.model_dump(exclude_none=True)
    return Problem(item.status, item.title, item.detail, domain, sha256, item.frame)


def _bar(total: int, *, shown: bool) -> Progress:
    """Return a progress bar on standard error, if it is a terminal."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    disable = not (shown and console.is_terminal)
    bar = Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False, disable=disable
    )
    bar.add_task("Predicting", total=total)
    return bar


@contextmanager
def _hidden(bar: Progress) -> Iterator[None]:
    """Hide the bar while other output is written."""
    bar.stop()
    yield
    bar.start()
