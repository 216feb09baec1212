"""Sends files and folders to a server and reports the results."""

from __future__ import annotations

import enum
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from radserve.cli.inputs import Source, find
from radserve.cli.outputs import Pictures
from radserve.cli.report import Csv, JsonLines, Outcome, Problem, Report
from radserve.cli.table import Table
from radserve.client import Client
from radserve.client.api import Api
from radserve.client.concurrency import ordered
from radserve.errors import InvalidCallError, InvalidResponseError, ProblemError, ResponseTimeoutError

Form = Literal["table", "json", "csv"]

_REPORTS: Final[Mapping[Form, Callable[[], Report]]] = {"table": Table, "json": JsonLines, "csv": Csv}

_CONCERNS_ALL: Final = frozenset({401, 403, 404, 405})
"""Statuses that every other image would get, too."""


class Exit(enum.IntEnum):
    """Exit codes."""

    SUCCESS = 0
    PROBLEMS = 1
    USAGE = InvalidCallError.code
    UNREACHABLE = 3
    INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes
    ----------
    files
        Files, folders, or `-` for standard input.
    version
        Model version; the server's default version if None.
    concurrency
        Maximum number of parallel requests.
    timeout
        Seconds to wait for a response.
    key, cacert, api
        See `radserve.client.Client`.
    pictures
        Pictures to write.
    """

    name: str
    files: Sequence[str]
    url: str = "http://127.0.0.1:8080"
    version: str | None = None
    form: Form = "table"
    concurrency: int = 4
    timeout: float = 60.0
    key: str | None = None
    cacert: Path | None = None
    api: Api = "auto"
    pictures: Pictures = field(default_factory=Pictures)


def predict(options: Options) -> Exit:
    """Send every file and report results in the order of the files.

    Only the files of pending requests are in memory.

    Raises
    ------
    InvalidCallError
        If no image is found, the server does not serve the model to this caller, or a picture cannot be written.
    UnreachableError
        If the server cannot be reached; earlier results are reported.
    """
    inputs = find(options.files)
    for note in inputs.notes:
        typer.echo(note, err=True)
    options.pictures.check(inputs.sources)
    total = len(inputs.sources)
    counts: Counter[bool] = Counter()
    client = Client(options.url, timeout=options.timeout, key=options.key, cacert=options.cacert, api=options.api)
    try:
        with client:
            _run(client, options, inputs.sources, counts)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted after {counts[True]} of {total} results.", err=True)
        return Exit.INTERRUPTED
    if total > 1 or counts[False]:
        typer.echo(f"{counts[True]} images analysed, {counts[False]} failed.", err=True)
    return Exit.PROBLEMS if counts[False] else Exit.SUCCESS


def _run(client: Client, options: Options, sources: Sequence[Source], counts: Counter[bool]) -> None:
    report = _REPORTS[options.form]()
    bar = _Bar(len(sources), shown=len(sources) > 1 and not (report.streams and sys.stdout.isatty()))
    warnings: set[str] = set()
    outcomes = ordered(lambda source: _outcome(client, options, source), sources, options.concurrency)
    try:
        with bar, closing(outcomes):
            for outcome in outcomes:
                counts[not isinstance(outcome.result, Problem)] += 1
                _warn(outcome, warnings, bar)
                if report.add(outcome):
                    with bar.hidden():
                        report.flush()
                bar.advance()
    finally:
        report.flush()


def _warn(outcome: Outcome, warnings: set[str], bar: _Bar) -> None:
    """Print the warning of a model once."""
    result = outcome.result
    if isinstance(result, Problem) or result.warning is None:
        return
    text = f"WARNING: {result.model.name} {result.model.version}: {result.warning}"
    if text not in warnings:
        warnings.add(text)
        with bar.hidden():
            typer.secho(text, err=True, fg="red", bold=True)


def _outcome(client: Client, options: Options, source: Source) -> Outcome:
    """Send one image; an image whose pictures fail has no result."""
    try:
        content = source.content(client.max_bytes)
        result = client.predict(options.name, content, options.version)
        options.pictures.save(client, source, content, result)
    except ProblemError as error:
        if error.status in _CONCERNS_ALL:
            raise InvalidCallError(str(error)) from error
        return Outcome(source.name, Problem(error.status, error.title, error.detail))
    except ResponseTimeoutError as error:
        return Outcome(source.name, Problem(None, "Timeout", str(error)))
    except InvalidResponseError as error:
        return Outcome(source.name, Problem(None, "Invalid response", str(error).removeprefix("Invalid response: ")))
    except OSError as error:
        return Outcome(source.name, Problem(None, "Unreadable file", error.strerror or str(error)))
    return Outcome(source.name, result)


class _Bar:
    """Progress bar on standard error, if it is a terminal."""

    def __init__(self, total: int, *, shown: bool) -> None:
        console = Console(stderr=True)
        columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._task = self._progress.add_task("Predicting", total=total)
        self._shown = shown and console.is_terminal

    def __enter__(self) -> Self:
        if self._shown:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()

    def advance(self) -> None:
        """Count one file."""
        self._progress.advance(self._task)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bar while other output is written."""
        self.__exit__()
        yield
        self.__enter__()
