"""A rollout watched until it ends; the server may be away for a while, and is then asked again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from radserve.cli import units, versions_view
from radserve.cli.table import safe
from radserve.errors import ClientError, InvalidResponseError, ServerFailedError, UnreachableError
from radserve.schema.rollout import RolloutStatus

if TYPE_CHECKING:
    from radserve.client.control import Control

POLL: Final = 1.0
PATIENCE: Final = 180.0
"""Seconds; a server that was killed has started anew by then, with all its models."""
_SAME: Final = 1.0
"""Seconds that the start of one rollout may seem to differ by, told before and after a restart."""


class Lost(UnreachableError):
    """Nobody answered for as long as we waited; the rollout may go on."""


def follow(
    control: Control, first: RolloutStatus, watch: Watch, *, poll: float = POLL, patience: float = PATIENCE
) -> RolloutStatus:
    """Look at a rollout until it is done, and show each look.

    Parameters
    ----------
    poll
        Seconds between two looks.
    patience
        Seconds for which the server may be away.

    Raises
    ------
    Lost
        If it stayed away.
    Refused
        If it does not know the rollout any more.
    NotAnAnswer
        If another rollout has taken its place.
    """
    now = first
    while True:
        watch.see(now)
        if now.done:
            return now
        time.sleep(poll)
        now = _look(control, now, watch, poll, patience)
        if now.version != first.version or abs((now.started - first.started).total_seconds()) > _SAME:
            raise InvalidResponseError(
                f"Another rollout of {now.name} ({now.version}) has taken the place of the one that was watched "
                f"({first.version}); 'radserve audit' says who began it."
            )


def _look(control: Control, last: RolloutStatus, watch: Watch, poll: float, patience: float) -> RolloutStatus:
    until: float | None = None
    while True:
        try:
            return control.rollout(last.name)
        except (UnreachableError, InvalidResponseError, ServerFailedError) as error:
            if until is None:
                until = time.monotonic() + patience
                watch.miss(error)
            elif time.monotonic() > until:
                raise Lost(
                    f"The server was away for {patience:.0f} s. The rollout of {last.name} {last.version} may go on "
                    f"once it is back; 'radserve rollout {last.name}' watches it then. {error}"
                ) from error
        time.sleep(poll)


class Watch:
    """Writes a line whenever something changes; on a terminal also what is seen of both versions, as it comes."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._live = Live(console=out, transient=True, auto_refresh=False) if out.is_terminal else None
        self._said: tuple[object, ...] | None = None
        self._away = False

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def see(self, item: RolloutStatus) -> None:
        """Show a look; one that shows nothing new leaves no line."""
        if self._away:
            self._away = False
            self._line(Text("the server is back"))
        now = (item.phase, item.step, item.share, item.detail)
        if now != self._said:
            self._said = now
            self._line(safe(f"{item.phase.replace('_', ' ')} ({versions_view.step(item)}): {item.detail}"))
        if self._live is not None:
            self._live.update(_picture(item), refresh=True)

    def miss(self, error: ClientError) -> None:
        """Say that the server is away."""
        self._away = True
        self._line(safe(f"the server is away, and is asked again: {error}", "yellow"))

    def _line(self, text: Text) -> None:
        self._out.print(Text.assemble(f"{time.strftime('%H:%M:%S')}  ", text), soft_wrap=True)


def _picture(item: RolloutStatus) -> Group:
    since = item.step_started or item.started
    passed = units.age(time.time() - since.timestamp())
    return Group(
        versions_view.observed(item),
        safe(f"{item.phase}, {versions_view.step(item)}, for {passed} now (Ctrl-C stops watching)", "dim"),
    )
