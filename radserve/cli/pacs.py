"""`radserve pacs`: receives images from a PACS, has them analysed, and stores the results there."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from radserve import logging as radserve_logging
from radserve.cli import terminal
from radserve.errors import InvalidCallError, PacsError, RadServeError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from radserve.pacs.queue import Queue
    from radserve.pacs.settings import Settings


def pacs(
    config: Annotated[Path, typer.Argument(help="Settings in YAML; docs/pacs.md describes them.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Check settings and connections, and exit.")] = False,
    explain: Annotated[
        str | None, typer.Option(help="DICOM file or Study Instance UID: print which rules match and why.")
    ] = None,
    show: Annotated[
        str | None,
        typer.Option("--list", help="Print jobs: all, received, predicting, storing, done, rejected or dead."),
    ] = None,
    resend: Annotated[
        str | None, typer.Option(help="Number of a dead job, or all: try again; the loop may be running.")
    ] = None,
) -> None:
    """Run the loop between a PACS and a server until SIGTERM.

    Images arrive by C-STORE, from the change feed of an Orthanc or by
    DICOMweb. Rules choose the model. Results are stored by STOW-RS or C-STORE.

    Exit codes:
    0    stopped by a signal, or what the option asked for is done
    1    a connection fails (--check), or the folder is in use
    2    invalid usage or invalid settings
    """
    from radserve.pacs import settings as pacs_settings

    settings = pacs_settings.load(config)
    if sum((check, explain is not None, show is not None, resend is not None)) > 1:
        raise InvalidCallError("Use one of --check, --explain, --list and --resend.")
    if check:
        _check(settings)
    elif explain is not None:
        _explain(settings, explain)
    elif show is not None:
        _list(settings, show)
    elif resend is not None:
        _resend(settings, resend)
    else:
        from radserve.host import stop_signals

        stop_signals.exit_at_once()  # imports take seconds
        from radserve.pacs import loop

        radserve_logging.configure()
        loop.run(settings)


def _check(settings: "Settings") -> None:
    failed = False
    for name, function in _checks(settings):
        try:
            function()
        except RadServeError as error:
            failed = True
            typer.echo(f"{name}: {error}")
        else:
            typer.echo(f"{name}: ok")
    if failed:
        raise typer.Exit(1)


def _checks(settings: "Settings") -> Iterator[tuple[str, Callable[[], object]]]:
    from radserve.pacs import destinations, loop, sources
    from radserve.pacs.settings import StowDestination

    def server() -> None:
        with loop.client(settings) as client:
            served = {model.name for model in client.models()}
        missing = sorted({rule.model for rule in settings.rules} - served)
        if missing:
            raise PacsError(f"does not serve {', '.join(missing)}.")

    yield f"server {settings.server.url}", server
    for item in settings.sources:
        with sources.opened(item) as source:
            yield f"source {source.name}", source.check
    for destination in settings.destinations:
        name = destination.stow if isinstance(destination, StowDestination) else destination.ae
        yield f"destination {name}", lambda destination=destination: destinations.check(destination)  # type: ignore[misc]


def _explain(settings: "Settings", target: str) -> None:
    from radserve.pacs import header as headers
    from radserve.pacs import rules, sources

    if Path(target).is_file():
        typer.echo(str(rules.decide(settings.rules, headers.read(Path(target).read_bytes()))))
        return
    if not target.replace(".", "").isdigit():
        raise InvalidCallError(f"{target}: neither a file nor a Study Instance UID.")
    found: list[Dataset] = []
    for item in settings.sources:
        with sources.opened(item) as source:
            found += source.headers(target)
    if not found:
        raise InvalidCallError("No source has an object of this study.")
    for header in found:
        typer.echo(f"{header.SOPInstanceUID}\n{rules.decide(settings.rules, header)}")


def _list(settings: "Settings", state: str) -> None:
    from radserve.pacs.queue import STATES

    chosen = next((item for item in STATES if item == state), None)
    if chosen is None and state != "all":
        raise InvalidCallError(f"--list has value '{state}'; use all, {', '.join(STATES)}.")
    table = Table("job", "state", "rule", "model", "failures", "instance", "reason", box=None)
    with _queue(settings) as queue:
        for job in queue.jobs(chosen):
            model = " ".join(filter(None, (job.model, job.version)))
            table.add_row(str(job.id), job.state, job.rule, model, str(job.failures), job.instance, job.reason)
        counts = queue.counts()
    terminal.console().print(table)
    typer.echo(", ".join(f"{number} {name}" for name, number in counts.items() if number), err=True)


def _resend(settings: "Settings", target: str) -> None:
    if target != "all" and not target.isdigit():
        raise InvalidCallError(f"--resend has value '{target}'; use the number of a job, or all.")
    with _queue(settings) as queue:
        number = queue.resend(None if target == "all" else int(target))
    typer.echo(f"{number} jobs are in the queue again.")
    if target != "all" and not number:
        raise typer.Exit(1)


def _queue(settings: "Settings") -> "closing[Queue]":
    from radserve.pacs.queue import Queue

    if not settings.folder.is_dir():
        raise PacsError(f"{settings.folder} does not exist; the loop has not run yet.")
    return closing(Queue(settings.folder))
