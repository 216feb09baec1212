"""`radserve rollout`: send requests to a new version in steps, with automatic rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from radserve.cli.control_options import Connect, Json, Name, OptionalVersion, Reason, is_explicit, with_connection

if TYPE_CHECKING:
    from radserve.client.control import Control
    from radserve.schema.rollout import RolloutSpec, RolloutStatus

_STEPS: Final = "5%,25%,100%"
_COPIES: Final = "100%"
_INTERRUPTED: Final = 130
_START_OPTIONS: Final = (
    "canary",
    "step",
    "max_error",
    "max_p95",
    "max_slowdown",
    "min_requests",
    "workers",
    "shadow",
    "copies",
    "no_wait",
)
"""Options that need a VERSION."""


@with_connection
def rollout(
    connect: Connect,
    context: typer.Context,
    name: Name,
    version: OptionalVersion = None,
    *,
    canary: Annotated[
        str | None, typer.Option(help="Shares of the requests, one for each step.", show_default=_STEPS)
    ] = None,
    step: Annotated[str, typer.Option(help="Minimum duration of each step: 30s, 5m, 2h.")] = "5m",
    max_error: Annotated[str, typer.Option(help="Maximum share of failed requests (5xx).")] = "1%",
    max_p95: Annotated[
        str | None, typer.Option(help="Maximum 95th percentile of the response time: 800ms, 2s.")
    ] = None,
    max_slowdown: Annotated[
        str, typer.Option(help="Maximum ratio of its 95th percentile to that of the stable version, or off.")
    ] = "2",
    min_requests: Annotated[int, typer.Option(min=0, help="Minimum number of requests in each step.")] = 20,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Number of workers. Default: that of the stable version.")
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Send copies for one --step and compare the responses; clients never get them."),
    ] = False,
    copies: Annotated[
        str | None, typer.Option(help="With --shadow: share of the requests to copy.", show_default=_COPIES)
    ] = None,
    reason: Reason = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start the rollout without watching it.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the current or the last rollout.")] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Abort the rollout; all requests go to the stable version.")
    ] = False,
    json: Json = False,
) -> None:
    """Roll out a version: pull, verify, start, send it requests in steps, promote it or roll it back.

    The server runs the rollout; Ctrl-C only stops watching. A version is
    rolled back if it fails its sample, exceeds the limits for errors or
    latency, or loses a worker. Without a proxy, requests cannot be split: a
    verified version then receives all of them at once.

    'radserve rollout NAME' watches the current rollout.

    Exit codes:
    0    promoted, shadowed, aborted by --abort, or in progress
    1    rolled back, or rejected by the server; the error says why
    2    invalid usage
    3    no server is running, or it went away
    130  interrupted; the rollout continues
    """
    from pydantic import ValidationError

    from radserve.cli import parse, versions_view
    from radserve.errors import InvalidCallError
    from radserve.schema.rollout import RolloutSpec
    from radserve.validation import describe

    if status and abort:
        raise InvalidCallError("--status and --abort exclude each other.")
    if (status or abort) and version:
        option = "--status" if status else "--abort"
        raise InvalidCallError(f"{option} refers to the current rollout of {name}; omit {version}.")
    spec = None
    if version is None:
        _reject_start_options(context)
    elif shadow and canary:
        raise InvalidCallError(f"--canary has value {canary!r}, but --shadow has no steps; omit one of them.")
    elif copies and not shadow:
        raise InvalidCallError(f"--copies has value {copies!r}, but only --shadow makes copies.")
    else:
        try:
            spec = RolloutSpec(
                version=version,
                steps=parse.steps("--canary", canary or _STEPS),
                step_seconds=parse.duration("--step", step),
                max_error=parse.rate("--max-error", max_error),
                max_p95=parse.duration("--max-p95", max_p95) if max_p95 else None,
                max_slowdown=parse.factor("--max-slowdown", max_slowdown),
                min_requests=min_requests,
                workers=workers,
                shadow=parse.percentage("--copies", copies or _COPIES) if shadow else None,
                reason=reason or "",
            )
        except ValidationError as error:
            raise InvalidCallError(f"Invalid rollout: {describe(error)}.") from error
    with connect() as server:
        if abort:
            result = server.abort(name, reason)
        elif status:
            result = server.rollout(name)
        else:
            result = _run(server, name, spec, wait=not no_wait)
    (versions_view.json if json else versions_view.rollout)(versions_view.console(), result)
    if result.succeeded is False and not abort:
        raise typer.Exit(1)


def _reject_start_options(context: typer.Context) -> None:
    from radserve.errors import InvalidCallError

    for option in _START_OPTIONS:
        if is_explicit(context, option):
            flag = f"--{option.replace('_', '-')}"
            raise InvalidCallError(f"{flag} applies to the start of a rollout; add the VERSION to roll out.")


def _run(server: Control, name: str, spec: RolloutSpec | None, *, wait: bool) -> RolloutStatus:
    """Start a rollout, or find the current one, and watch it."""
    from radserve.cli import versions_view
    from radserve.cli.follow_rollout import ProgressLog, follow

    try:
        if spec is None:
            status = server.rollout(name)
        else:
            if not server.overview().front and spec.shadow is None:
                typer.echo(
                    f"Without a proxy, requests cannot be split: {name} {spec.version} is verified and then receives "
                    "all of them at once.",
                    err=True,
                )
            status = server.start(name, spec)
        if not wait:
            return status
        with ProgressLog(versions_view.console(stderr=True)) as progress:
            return follow(server, status, progress)
    except KeyboardInterrupt:
        typer.echo(
            f"Stopped watching; the rollout of {name} continues. 'radserve rollout {name}' watches it again, "
            f"'radserve rollout {name} --abort' aborts it.",
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from None
