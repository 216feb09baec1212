"""`radserve rollout`: send requests to a new version in steps, with automatic rollback."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import ValidationError

from radserve.cli import parse, terminal, versions_view
from radserve.cli.control_options import Json, Name, OptionalVersion, Reason, Server
from radserve.cli.follow_rollout import ProgressLog, follow
from radserve.cli.options import option, with_groups
from radserve.errors import InvalidCallError
from radserve.schema.rollout import RolloutSpec, RolloutStatus
from radserve.validation_error import describe

if TYPE_CHECKING:
    from radserve.client.control import Control

_STEPS: Final = "5%,25%,100%"
_COPIES: Final = "100%"
_INTERRUPTED: Final = 130


@dataclass(frozen=True)
class StartOptions:
    """Options that need a VERSION."""

    canary: str | None = option(None, "Shares of the requests, one for each step.", show_default=_STEPS)
    step: str = option("5m", "Minimum duration of each step: 30s, 5m, 2h.")
    max_error: str = option("1%", "Maximum share of failed requests (5xx).")
    max_p95: str | None = option(None, "Maximum 95th percentile of the response time: 800ms, 2s.")
    max_slowdown: str = option("2", "Maximum ratio of its 95th percentile to that of the stable version, or off.")
    max_shift: str = option(
        "off", "Maximum population stability index of its labels or domain statuses against the stable version, or off."
    )
    min_requests: int = option(20, "Minimum number of requests in each step.", min=0)
    workers: int | None = option(None, "Number of workers. Default: that of the stable version.", min=1, max=64)
    shadow: bool = option(
        False, "Send copies for one --step and compare the responses; clients never get them.", "--shadow"
    )
    copies: str | None = option(None, "With --shadow: share of the requests to copy.", show_default=_COPIES)
    no_wait: bool = option(False, "Start the rollout without watching it.", "--no-wait")

    def spec(self, version: str, reason: str) -> RolloutSpec:
        """Return the rollout of a version; an InvalidCallError names the invalid option."""
        if self.shadow and self.canary:
            raise InvalidCallError(f"--canary has value {self.canary!r}, but --shadow has no steps; omit one of them.")
        if self.copies and not self.shadow:
            raise InvalidCallError(f"--copies has value {self.copies!r}, but only --shadow makes copies.")
        try:
            return RolloutSpec(
                version=version,
                steps=parse.steps("--canary", self.canary or _STEPS),
                step_seconds=parse.duration("--step", self.step),
                max_error=parse.rate("--max-error", self.max_error),
                max_p95=parse.duration("--max-p95", self.max_p95) if self.max_p95 else None,
                max_slowdown=parse.factor("--max-slowdown", self.max_slowdown),
                max_shift=parse.index("--max-shift", self.max_shift),
                min_requests=self.min_requests,
                workers=self.workers,
                shadow=parse.percentage("--copies", self.copies or _COPIES) if self.shadow else None,
                reason=reason,
            )
        except ValidationError as error:
            raise InvalidCallError(f"Invalid rollout: {describe(error)}.") from error


@with_groups
def rollout(
    name: Name,
    version: OptionalVersion = None,
    *,
    start: StartOptions,
    reason: Reason = None,
    status: Annotated[bool, typer.Option("--status", help="Show the current or the last rollout.")] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Abort the rollout; all requests go to the stable version.")
    ] = False,
    json: Json = False,
    server: Server,
) -> None:
    """Roll out a version: pull, verify, start, send it requests in steps, promote it or roll it back.

    The server runs the rollout; Ctrl-C only stops watching. A version is
    rolled back if it fails its sample, exceeds the limits for errors,
    latency or shift, or loses a worker. Without a proxy, requests cannot be split: a
    verified version then receives all of them at once.

    'radserve rollout NAME' watches the current rollout.

    Exit codes:
    0    promoted, shadowed, aborted by --abort, or in progress
    1    rolled back, or rejected by the server; the error says why
    2    invalid usage
    3    no server is running, or it stopped responding
    130  interrupted; the rollout continues
    """
    if status and abort:
        raise InvalidCallError("--status and --abort exclude each other.")
    if (status or abort) and version:
        option = "--status" if status else "--abort"
        raise InvalidCallError(f"{option} refers to the current rollout of {name}; omit {version}.")
    if version is None:
        _reject_start_options(server)
    spec = None if version is None else start.spec(version, reason or "")
    with server.connect() as control:
        if abort:
            result = control.abort(name, reason)
        elif status:
            result = control.rollout(name)
        else:
            result = _run(control, name, spec, wait=not start.no_wait)
    versions_view.show(result, versions_view.rollout, json=json)
    if result.succeeded is False and not abort:
        raise typer.Exit(1)


def _reject_start_options(server: Server) -> None:
    for item in fields(StartOptions):
        if server.is_explicit(item.name):
            flag = f"--{item.name.replace('_', '-')}"
            raise InvalidCallError(f"{flag} applies to the start of a rollout; add the VERSION to roll out.")


def _run(control: Control, name: str, spec: RolloutSpec | None, *, wait: bool) -> RolloutStatus:
    try:
        if spec is None:
            status = control.rollout(name)
        else:
            if not control.overview().front and spec.shadow is None:
                typer.echo(
                    f"Without a proxy, requests cannot be split: {name} {spec.version} is verified and then receives "
                    "all of them at once.",
                    err=True,
                )
            status = control.start(name, spec)
        if not wait:
            return status
        with ProgressLog(terminal.console(stderr=True)) as progress:
            return follow(control, status, progress)
    except KeyboardInterrupt:
        typer.echo(
            f"Stopped watching; the rollout of {name} continues. 'radserve rollout {name}' watches it again, "
            f"'radserve rollout {name} --abort' aborts it.",
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from None
