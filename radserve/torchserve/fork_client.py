"""Takes the place of Python in TorchServe's command of a worker: lets the fork server start it, and waits for its end.

Run as `python -I -S fork_client.py SOCKET COMMAND...`, which takes 10 ms. Without a fork server, or if that rejects the
command, this process becomes a fresh worker. It imports nothing of the project, whose packages it cannot see.
"""

import os
import signal
import socket
import struct
import sys
from typing import NoReturn

FORKED = b"+"
"""First byte of the fork server's response if the worker runs; otherwise the response is the reason."""
LENGTH = struct.Struct("=I")
"""Length of a request in bytes, which is sent before it, together with the descriptors."""


def main(address: str, *command: str) -> NoReturn:
    """Start a command as a fork, and exit as that does; else replace this process by a fresh Python."""
    if command and not command[0].startswith("-"):
        with socket.socket(socket.AF_UNIX) as connection:
            reason = _start(connection, address, command)
            if reason is None:
                _exit_like_worker(connection)
        # A line of its own in the server's log: a fresh worker starts slowly and needs more memory.
        sys.stderr.write(f"Starting a fresh worker process without the fork server: {reason}\n")
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - the command is TorchServe's


def _start(connection: socket.socket, address: str, command: tuple[str, ...]) -> str | None:
    """Send the command with environment and standard streams; return None once it runs, else the reason."""
    variables = [name + b"=" + text for name, text in os.environb.items()]
    folder = os.getcwdb()  # noqa: PTH109 - a Path takes 10 ms to import
    arguments = [os.fsencode(argument) for argument in command]
    request = b"\0".join([folder, b"%d" % len(arguments), *arguments, *variables])
    # The kernel kills the worker when the writing end of this pipe closes, which is when this process ends.
    lifeline, _ = os.pipe()
    try:
        connection.connect(address)
        socket.send_fds(connection, [LENGTH.pack(len(request))], [0, 1, 2, lifeline])
        connection.sendall(request)
        os.close(lifeline)
        response = connection.recv(4096)
    except OSError as error:
        return str(error)
    if response[:1] == FORKED:
        return None
    return response.decode(errors="replace") or "it closed the connection."


def _exit_like_worker(connection: socket.socket) -> NoReturn:
    """Wait for the worker's exit code; the connection ends without one if the fork server died before the worker."""
    try:
        code = int(connection.recv(16) or 1)
    except OSError:
        code = 1
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


if __name__ == "__main__":
    main(*sys.argv[1:])
