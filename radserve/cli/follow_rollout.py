"""Watches a rollout until it ends; polls again if the server is unavailable for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from radserve.cli import terminal, versions_view
from radserve.cli.terminal import safe
from radserve.errors import ClientError, InvalidResponseError, ServerFailedError, UnreachableError
from radserve.schema.rollout import RolloutStatus

if TYPE_CHECKING:
    from radserve.client.control import Control

_POLL_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 180.0  # a server that was killed has restarted by then, with all its models
_START_TOLERANCE_SECONDS: Final = 1.0  # by how much the start of one rollout may differ before and after a restart


def follow(control: Control, status: RolloutStatus, progress: ProgressLog) -> RolloutStatus:
    """Poll a rollout until it is done; raises ClientError if the server stays unavailable or runs another rollout."""
    first = status
    while True:
        progress.update(status)
        if status.done:
            return status
        time.sleep(_POLL_SECONDS)
        status = _poll(control, status, progress)
        difference = abs((status.started - first.started).total_seconds())
        if status.version != first.version or difference > _START_TOLERANCE_SECONDS:
            raise InvalidResponseError(
                f"Another rollout of {status.name} ({status.version}) has replaced the rollout of {first.version}; "
                "'radserve audit' shows who started it."
            )


def _poll(control: Control, last: RolloutStatus, progress: ProgressLog) -> RolloutStatus:
    deadline: float | None = None
    while True:
        try:
            return control.rollout(last.name)
        except (UnreachableError, InvalidResponseError, ServerFailedError) as error:
            if deadline is None:
                deadline = time.monotonic() + _PATIENCE_SECONDS
                progress.report_unavailable(error)
            elif time.monotonic() > deadline:
                raise UnreachableError(
                    f"The server was unavailable for {_PATIENCE_SECONDS:.0f} s. It resumes the rollout of {last.name} "
                    f"{last.version} after a restart; watch it with 'radserve rollout {last.name}'. {error}"
                ) from error
        time.sleep(_POLL_SECONDS)


class ProgressLog:
    """Prints a line for each change; a terminal also shows the traffic of both versions live."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._live = Live(console=out, transient=True, auto_refresh=False)
        self._printed: tuple[object, ...] | None = None
        self._unavailable = False

    def __enter__(self) -> Self:
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, status: RolloutStatus) -> None:
        """Report a status; print a line only if it differs from the last one."""
        if self._unavailable:
            self._unavailable = False
            self._print(Text("the server is available again"))
        key = (status.phase, status.step, status.share, status.detail)
        if key != self._printed:
            self._printed = key
            self._print(safe(f"{status.phase.replace('_', ' ')} ({versions_view.step(status)}): {status.detail}"))
        if self._out.is_terminal:
            self._live.update(_picture(status), refresh=True)

    def report_unavailable(self, error: ClientError) -> None:
        """Report that the server does not respond."""
        self._unavailable = True
        self._print(safe(f"the server is unavailable, retrying: {error}", "yellow"))

    def _print(self, text: Text) -> None:
        self._out.print(Text.assemble(f"{time.strftime('%H:%M:%S')}  ", text), soft_wrap=True)


def _picture(status: RolloutStatus) -> Group:
    elapsed = terminal.age(time.time() - (status.step_started or status.started).timestamp())
    line = f"{status.phase}, {versions_view.step(status)}, for {elapsed} (Ctrl-C stops watching)"
    return Group(versions_view.traffic(status), safe(line, "dim"))
