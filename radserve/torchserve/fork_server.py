"""Fork server: a process that has imported what every worker needs, and becomes a worker in a fork of itself.

A fresh worker imports torch first, which takes seconds and 300 MB; a fork shares these pages with all others. The
argument is the descriptor of a listening unix socket; `fork_client` is the other side.

Of the project, only that and `process_settings` are imported: `handlers` comes from the archive that a worker serves,
after the fork.
"""

import ctypes
import fcntl
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from radserve.torchserve.fork_client import FORKING, LENGTH
from radserve.torchserve.process_settings import ProcessSettings

PRELOADED: Final = (
    "ts.model_service_worker",
    "torch",
    "torch.nn.functional",
    "numpy.random",
    "numpy.typing",
    "PIL.BmpImagePlugin",
    "PIL.GifImagePlugin",
    "PIL.ImageOps",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.PpmImagePlugin",
    "prometheus_client",
    "pydantic",
    "onnxruntime",
    "safetensors.torch",
    "yaml",
    "imagecodecs",
    "pydicom.encaps",
    "pydicom.filereader",
    "pydicom.pixels.decoders",
    "pydicom.pixels.processing",
)
"""What handlers import of other packages; an import that starts a thread or uses CUDA would prevent every fork."""
NAME: Final = "radserve-worker"
"""Name of a forked worker in ps and top, whose command line is that of the fork server."""
_READ_AT_LOAD: Final = (b"GLIBC_TUNABLES", b"GOMP_", b"KMP_", b"LD_", b"MALLOC_", b"MKL_", b"OMP_", b"PYTHON")
"""Prefixes of variables that Python or a library reads only when it is loaded, so that a fork cannot change them."""
_DESCRIPTORS: Final = 4  # standard input, output and error, and the lifeline
_MAX_REQUEST: Final = 1 << 20
_TIMEOUT: Final = 5.0
"""Seconds in which a client must have sent its request."""
_PAUSE: Final = 0.1
"""Seconds between attempts to accept a connection, which fail while no descriptor is free."""
_F_SETSIG: Final = 10  # of fcntl(2); the module has no name for it
_PR_SET_NAME: Final = 15
_NOT_FORKABLE: Final = "the fork server cannot fork safely, because it {}."


@dataclass(frozen=True)
class Request:
    """What a client asks to run, as which process, with which descriptors."""

    folder: str
    arguments: Sequence[str]
    environment: dict[bytes, bytes]
    settings: ProcessSettings
    streams: Sequence[int]
    lifeline: int
    connection: socket.socket

    @property
    def search_path(self) -> list[str]:
        """Folders of PYTHONPATH, in which a fresh Python looks for modules before its own folders."""
        text = os.fsdecode(self.environment.get(b"PYTHONPATH", b""))
        return [str(Path(self.folder, entry)) for entry in text.split(os.pathsep)] if text else []


def main(descriptor: str) -> None:
    """Import, serve, and in each fork run what the client asks for."""
    gc.disable()  # in the forks, collections would copy the pages that they share
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).malloc_trim(0)
    with socket.socket(fileno=int(descriptor)) as listener:
        request = serve(listener)
    run(request)


def serve(listener: socket.socket) -> Request:
    """Fork for each client, and send it the exit code in the end; returns in forks only."""
    connections: dict[int, socket.socket] = {}
    with _ended_children() as ended:
        while True:
            readable, *_ = select.select([listener.fileno(), ended], [], [])
            if ended in readable:
                _report(ended, connections)
            if listener.fileno() in readable:
                request = _accept(listener, connections)
                if request is not None:
                    break
    for connection in connections.values():
        connection.close()
    return request


@contextmanager
def _ended_children() -> Iterator[int]:
    """Return a descriptor that is readable after a child has ended; forks get the default action of the signal back."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(reader)
        os.close(writer)


def _report(ended: int, connections: dict[int, socket.socket]) -> None:
    """Send the exit codes of the children that have ended to their clients."""
    os.read(ended, 4096)
    while connections:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with connections.pop(pid) as connection:
            _send(connection, b"%d\n" % os.waitstatus_to_exitcode(status))


def _send(connection: socket.socket, text: bytes) -> None:
    with suppress(OSError):  # the client was killed
        connection.sendall(text)


def _accept(listener: socket.socket, connections: dict[int, socket.socket]) -> Request | None:
    """Receive a request and fork; return the request in the fork, else None."""
    try:
        connection, _ = listener.accept()
    except OSError:
        time.sleep(_PAUSE)
        return None
    descriptors: list[int] = []
    pid = -1
    try:
        request = _receive(connection, descriptors)
        reason = _reason_against(request)
        if not reason:
            connection.sendall(FORKING)  # before the fork: if this process dies between the two, nothing runs twice
            pid = os.fork()
    except (OSError, ValueError, MemoryError) as error:
        reason = f"{error}."
    if pid == 0:
        return request
    for descriptor in descriptors:
        os.close(descriptor)
    if pid > 0:
        connections[pid] = connection
    else:
        with connection:
            _send(connection, reason.encode(errors="backslashreplace") + b"\n")
    return None


def _receive(connection: socket.socket, descriptors: list[int]) -> Request:
    """Read a request; `descriptors` are filled first, to be closed in any case."""
    deadline = time.monotonic() + _TIMEOUT
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    client, _, _ = struct.unpack("3i", credentials)
    connection.settimeout(_TIMEOUT)
    header, received, *_ = socket.recv_fds(connection, LENGTH.size, _DESCRIPTORS)
    descriptors.extend(received)
    for descriptor in received:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only argument
    if len(header) != LENGTH.size or len(received) != _DESCRIPTORS:
        raise ValueError("the request has no descriptors")
    (size,) = LENGTH.unpack(header)
    if size > _MAX_REQUEST:
        raise ValueError(f"the request has {size:,} bytes, more than {_MAX_REQUEST:,}")
    folder, count, *rest = _read(connection, size, deadline).split(b"\0")
    environment = dict(variable.split(b"=", 1) for variable in rest[int(count) :])
    return Request(
        os.fsdecode(folder),
        [os.fsdecode(argument) for argument in rest[: int(count)]],
        environment,
        ProcessSettings.of(client),
        received[:3],
        received[3],
        connection,
    )


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Read so many bytes until a time of `time.monotonic()`."""
    data = b""
    while len(data) < size:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError(f"the request was not complete after {_TIMEOUT:g} s")
        connection.settimeout(remaining)
        part = connection.recv(size - len(data))
        if not part:
            raise ValueError("the request is incomplete")
        data += part
    return data


def _reason_against(request: Request) -> str:
    """Return why a fork would differ from a fresh process, or would not be safe; empty if neither is so."""
    import torch

    if len(list(Path("/proc/self/task").iterdir())) != 1:
        return _NOT_FORKABLE.format("has several threads")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return _NOT_FORKABLE.format("uses CUDA")
    if not os.access(request.folder, os.X_OK):
        return f"it cannot enter {request.folder}."
    if setting := request.settings.privileged(ProcessSettings.of(os.getpid())):
        return f"it may lack the privilege to change {setting}."
    for variable in sorted(request.environment.keys() | os.environb.keys()):
        fixed = variable != b"PYTHONPATH" and variable.startswith(_READ_AT_LOAD)
        if fixed and request.environment.get(variable) != os.environb.get(variable):
            return f"{os.fsdecode(variable)} differs from the fork server's."
    for folder in request.search_path:
        loaded = sys.modules.keys() & _modules(Path(folder)) if folder not in sys.path else ()
        if loaded:
            return f"{folder} has a module {min(loaded)}, but the fork server has loaded another one."
    return ""


def _modules(folder: Path) -> set[str]:
    """Return the names of the modules and packages that can be imported from a folder."""
    if not folder.is_dir():
        return set()
    return {path.name.partition(".")[0] for path in folder.iterdir() if path.is_dir() or path.suffix in (".py", ".so")}


def run(request: Request) -> None:
    """Become the process that the client asked for, and run its program."""
    _end_with_client(request.lifeline)
    os.setsid()
    for target, stream in enumerate(request.streams):
        os.dup2(stream, target)
        os.close(stream)
    os.chdir(request.folder)
    request.settings.apply()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME.encode())
    os.environb.clear()
    os.environb.update(request.environment)
    program = request.arguments[0]
    sys.argv = list(request.arguments)
    sys.path[:0] = [str(Path(program).resolve().parent), *request.search_path]
    import numpy as np

    np.random.seed()  # noqa: NPY002  # as at its import; Python's own is seeded after each fork, that of torch is fixed
    gc.enable()
    runpy.run_path(program, run_name="__main__")


def _end_with_client(lifeline: int) -> None:
    """Make the kernel kill this process when its client ends, also while it computes or after the fork server died."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
