"""Start of Ray on this machine: on loopback, without telemetry, and again where its own time limits are too short."""

import math
import secrets
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

import psutil

_STARTS: Final = 3
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_agent_register_timeout_ms": "120000",  # as the next one, for busy machines
    "RAY_raylet_start_wait_time_s": "120",
}
LOCAL: Final[dict[str, Any]] = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
"""Options of `ray.init` that start Ray on loopback, with the variables of `local_environment`."""


def environment() -> dict[str, str]:
    """Return the variables that Ray reads when it is imported."""
    return dict(_ENVIRONMENT)


def local_environment() -> dict[str, str]:
    """Return the variables of a Ray that is started here, with a key that other users of the machine do not know."""
    return {
        # Otherwise Ray replaces a loopback address by that of an interface, and listens on all of them.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def start(options: dict[str, Any]) -> None:
    """Start or find Ray; on a busy machine, its processes may miss its time limits, so there are three attempts.

    Raises ConnectionError, RuntimeError or ValueError if no attempt can help, and else what the last attempt raises.
    """
    import ray

    others = {child.pid for child in psutil.Process().children()}
    for attempt in range(_STARTS):
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError):
            raise
        except Exception:  # Ray raises its own errors and bare ones if a process is late; the last one is raised again
            end_children(others)
            if attempt == _STARTS - 1:
                raise
        else:
            return


def end_children(others: Collection[int] = ()) -> None:
    """End the processes of Ray: all children of this process except `others`, with their descendants."""
    for child in psutil.Process().children():
        if child.pid in others:
            continue
        with suppress(psutil.NoSuchProcess):
            for process in [child, *child.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def gpu_share(workers: int, gpus: int) -> float:
    """Return the part of a GPU for each worker, so that all fit without one on two GPUs; Ray counts 0.0001 of a GPU."""
    return math.floor(10_000 / math.ceil(workers / gpus)) / 10_000 if gpus else 0.0
