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

FORKING = b"+"
"""First byte of the response, sent before the fork: the program may run from then on, so no other process starts it.
Any other response is a line with the reason why there is no fork."""
FALLBACK = "Starting a fresh worker process without the fork server: "
"""Begin of the line that this process writes before it becomes a fresh worker, which is slow and needs more memory."""
LENGTH = struct.Struct("=I")
"""Length of a request in bytes, which is sent before it, together with the descriptors."""
_TIMEOUT = 60.0
"""Seconds in which the fork server must respond, half of what TorchServe allows for a start; it imports torch first."""


def main(address: str, *command: str) -> NoReturn:
    """Start a command as a fork, and exit as that does; else replace this process by a fresh Python."""
    if command and not command[0].startswith("-"):
        # The kernel kills the worker when the writing end of this pipe closes, which is when this process ends.
        lifeline, writer = os.pipe()
        with socket.socket(socket.AF_UNIX) as connection:
            reason = _start(connection, address, command, lifeline)
            if reason is None:
                _exit_like_worker(connection)
        os.close(writer)  # kills a fork that starts after the timeout
        sys.stderr.write(f"{FALLBACK}{reason}\n")
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - the command is TorchServe's


def _start(connection: socket.socket, address: str, command: tuple[str, ...], lifeline: int) -> str | None:
    """Send the command with environment and standard streams; return None if it may run, else the reason."""
    try:
        request = _request(command)
        connection.settimeout(_TIMEOUT)
        connection.connect(address)
        try:
            socket.send_fds(connection, [LENGTH.pack(len(request))], [0, 1, 2, lifeline])
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # rejected before it was read; the response has the reason
        first = connection.recv(1)
        if first == FORKING:
            return None
        response = first + _receive_line(connection)
    except OSError as error:
        return str(error)
    return response.decode(errors="replace").strip() or "it closed the connection."


def _request(command: tuple[str, ...]) -> bytes:
    variables = [name + b"=" + text for name, text in os.environb.items()]
    folder = os.getcwdb()  # noqa: PTH109 - a Path takes 10 ms to import
    arguments = [os.fsencode(argument) for argument in command]
    return b"\0".join([folder, b"%d" % len(arguments), *arguments, *variables])


def _receive_line(connection: socket.socket) -> bytes:
    """Receive until the end of a line or of the connection."""
    data = b""
    while not data.endswith(b"\n") and (part := connection.recv(4096)):
        data += part
    return data


def _exit_like_worker(connection: socket.socket) -> NoReturn:
    """Wait for the worker's exit code; the connection ends without one if the fork server died before the worker."""
    connection.settimeout(None)
    try:
        text = _receive_line(connection)
    except OSError:
        text = b""
    try:
        code = int(text or 1)
    except ValueError:  # the reason why the fork failed
        sys.stderr.write(text.decode(errors="replace"))
        code = 1
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


if __name__ == "__main__":
    main(*sys.argv[1:])
