"""`radserve rollout`: a version gets the requests step by step, or falls back by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from radserve.cli.control_options import CaCert, Key, Name, Reason, Runtime, Url, by_hand, control

if TYPE_CHECKING:
    from radserve.client.control import Control
    from radserve.schema.rollout import RolloutSpec, RolloutStatus

_STEPS: Final = "5%,25%,100%"
_COPIES: Final = "100%"
_INTERRUPTED: Final = 130
_OF_A_BEGINNING: Final = (
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
"""Options that mean something only beside a VERSION."""


def rollout(
    context: typer.Context,
    name: Name,
    version: Annotated[
        str | None, typer.Argument(help="To roll out; without it the rollout that runs is watched.")
    ] = None,
    *,
    canary: Annotated[
        str | None, typer.Option(help="Shares of the requests that it gets, one after the other.", show_default=_STEPS)
    ] = None,
    step: Annotated[str, typer.Option(help="How long each share is watched: 30s, 5m, 2h.")] = "5m",
    max_error: Annotated[str, typer.Option(help="Share of its requests that may fail.")] = "1%",
    max_p95: Annotated[str | None, typer.Option(help="Time within which 95 % are answered: 800ms, 2s.")] = None,
    max_slowdown: Annotated[
        str, typer.Option(help="Factor by which its p95 may be above that of the version before; or off.")
    ] = "2",
    min_requests: Annotated[int, typer.Option(min=0, help="How many it must have answered before it is judged.")] = 20,
    workers: Annotated[int | None, typer.Option(min=1, help="Of the version; the server chooses if not named.")] = None,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Send it copies for one --step, compare, and let nobody have its answers."),
    ] = False,
    copies: Annotated[
        str | None, typer.Option(help="With --shadow: share of the requests to copy.", show_default=_COPIES)
    ] = None,
    reason: Reason = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Begin it and do not watch.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show where the rollout stands, or how the last ended.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Give the rollout up: all requests to the version before.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="How it ended or stands, as JSON on standard output.")] = False,
    url: Url = None,
    key: Key = None,
    cacert: CaCert = None,
    runtime: Runtime = None,  # noqa: ARG001 - `control` reads it
) -> None:
    """Roll a version out: pull, verify, start, give it a growing share, promote it or roll back.

    The server does it, and goes on when nobody watches; Ctrl-C stops only
    the watching. A version is rolled back when it fails the sample, fails or
    slows down requests beyond the limits, or dies. Without a front nothing
    splits the traffic: it is verified, then gets all requests at once.

    'radserve rollout NAME' watches the one that runs.

    Exit codes:
    0    promoted, or shadowed; with --no-wait, --status or --abort: so far well
    1    rolled back, or refused; the line says why
    2    wrong usage
    3    nobody answers, or nobody any more
    130  interrupted; the rollout goes on
    """
    from radserve.cli import parse, versions_view
    from radserve.errors import InvalidCallError
    from radserve.schema.rollout import RolloutSpec

    name = parse.name(name)
    if status and abort:
        raise InvalidCallError("--status and --abort exclude each other.")
    if (status or abort) and version:
        asked = "--status" if status else "--abort"
        raise InvalidCallError(f"{asked} is about the rollout of {name} that there is; leave {version} away.")
    if version is None:
        _require_nothing_of_a_beginning(context)
    if shadow and canary:
        raise InvalidCallError(
            f"--canary has value {canary!r}, but with --shadow nobody gets the answers; leave one away."
        )
    if copies and not shadow:
        raise InvalidCallError(f"--copies has value {copies!r}, but only --shadow makes copies.")
    plan = None
    if version is not None:
        plan = RolloutSpec(
            version=parse.version(version),
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
    with control(context, url, key, cacert) as server:
        if abort:
            last = server.abort(name, reason)
        elif status:
            last = server.rollout(name)
        else:
            last = _run(server, name, plan, wait=not no_wait)
    (versions_view.json if json else versions_view.rollout)(versions_view.console(), last)
    if last.succeeded is False and not abort:
        raise typer.Exit(1)


def _require_nothing_of_a_beginning(context: typer.Context) -> None:
    from radserve.errors import InvalidCallError

    given = [option for option in _OF_A_BEGINNING if by_hand(context, option)]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise InvalidCallError(f"{option} says how a rollout begins, and none does: name the VERSION to roll out.")


def _run(server: Control, name: str, plan: RolloutSpec | None, *, wait: bool) -> RolloutStatus:
    """Begin a rollout, or look for the one that runs, and watch it."""
    from radserve.cli import versions_view
    from radserve.cli.follow_rollout import Watch, follow

    try:
        if plan is None:
            first = server.rollout(name)
        else:
            if not server.overview().front and plan.shadow is None:
                typer.echo(
                    f"No front is before this server, so nothing splits the requests: {name} {plan.version} is "
                    "verified and then gets all of them at once.",
                    err=True,
                )
            first = server.start(name, plan)
        if not wait:
            return first
        with Watch(versions_view.console(stderr=True)) as watch:
            return follow(server, first, watch)
    except KeyboardInterrupt:
        typer.echo(
            f"Stopped watching; the rollout of {name} goes on. 'radserve rollout {name}' watches it again, "
            f"'radserve rollout {name} --abort' gives it up.",
            err=True,
        )
        raise typer.Exit(_INTERRUPTED) from None
