"""Ask a server about files and folders: what `radserve predict` does."""

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
from radserve.client.concurrency import ordered
from radserve.client.dialect import Api
from radserve.errors import InvalidCallError, InvalidResponseError, ProblemError, ResponseTimeoutError
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation

Form = Literal["table", "json", "csv"]

_REPORTS: Final[Mapping[Form, Callable[[], Report]]] = {"table": Table, "json": JsonLines, "csv": Csv}

_CONCERN_ALL: Final = frozenset({401, 403, 404, 405})
"""Statuses that every other image would get as well."""


class Exit(enum.IntEnum):
    """What came of a call."""

    ANSWERED = 0
    UNANSWERED = 1
    USAGE = InvalidCallError.code
    UNREACHABLE = 3
    INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """What the caller may choose.

    Attributes
    ----------
    files
        Files, folders, or `-` for standard input.
    version
        Of the model; the server's default one if None.
    concurrency
        Most requests at a time.
    timeout
        Seconds to wait for an answer.
    key, cacert, api
        See `radserve.client.client.Client`.
    pictures
        What is written beside the report.
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
    """Ask about every file and report in the order of the files, as the answers come.

    No more files are in memory than are being asked about.

    Raises
    ------
    WrongCall
        If there is nothing to ask about, the server does not serve the model to this caller, or a
        picture cannot be written.
    Unreachable
        If nobody answers; what was answered before is reported.
    """
    found = find(options.files)
    for note in found.notes:
        typer.echo(note, err=True)
    options.pictures.check(found.sources)
    counts: Counter[bool] = Counter()
    try:
        with _client(options) as client:
            _run(client, options, found.sources, counts)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted; {counts[True]} of {len(found.sources)} images were answered.", err=True)
        return Exit.INTERRUPTED
    if len(found.sources) > 1 or counts[False]:
        typer.echo(f"{counts[True]} answered, {counts[False]} not.", err=True)
    return Exit.UNANSWERED if counts[False] else Exit.ANSWERED


def _client(options: Options) -> Client:
    return Client(options.url, timeout=options.timeout, key=options.key, cacert=options.cacert, api=options.api)


def _run(client: Client, options: Options, sources: Sequence[Source], counts: Counter[bool]) -> None:
    report = _REPORTS[options.form]()
    bar = _Bar(len(sources), shown=len(sources) > 1 and not (report.streams and sys.stdout.isatty()))
    warned: set[str] = set()
    working = closing(ordered(lambda source: _ask(client, options, source), sources, options.concurrency))
    try:
        with bar, working as outcomes:
            for outcome in outcomes:
                counts[not isinstance(outcome.result, Problem)] += 1
                _warn(outcome, warned, bar)
                if report.add(outcome):
                    with bar.hidden():
                        report.flush()
                bar.advance()
    finally:
        report.flush()


def _warn(outcome: Outcome, warned: set[str], bar: _Bar) -> None:
    """Say once what is to be known before any of a model's answers is believed."""
    result = outcome.result
    if isinstance(result, Problem) or result.warning is None:
        return
    text = f"WARNING: {result.model.name} {result.model.version}: {result.warning}"
    if text not in warned:
        warned.add(text)
        with bar.hidden():
            typer.secho(text, err=True, fg="red", bold=True)


def _ask(client: Client, options: Options, source: Source) -> Outcome:
    try:
        result: Prediction | Segmentation | Problem = _answer(client, options, source)
    except ProblemError as error:
        if error.status in _CONCERN_ALL:
            raise InvalidCallError(str(error)) from error
        result = Problem(error.status, error.title, error.detail)
    except ResponseTimeoutError as error:
        result = Problem(None, "Timed out", str(error))
    except InvalidResponseError as error:
        result = Problem(None, "Not an answer", str(error))
    except OSError as error:
        result = Problem(None, "Unreadable file", error.strerror or str(error))
    return Outcome(source.name, result)


def _answer(client: Client, options: Options, source: Source) -> Prediction | Segmentation:
    """Ask about one image; where its pictures fail, so does its answer."""
    content = source.content(client.max_bytes)
    answer = client.predict(options.name, content, options.version)
    options.pictures.save(client, source, content, answer)
    return answer


class _Bar:
    """A progress bar on standard error, where a person sees it; standard output is left alone."""

    def __init__(self, total: int, *, shown: bool) -> None:
        console = Console(stderr=True)
        columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(
            *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._task = self._progress.add_task("Asking", total=total)
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
        """Leave the terminal to somebody else."""
        self.__exit__()
        yield
        self.__enter__()
