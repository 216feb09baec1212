"""nginx's error log as records of this program's log."""

import asyncio
import logging
import re
from typing import Final

logger = logging.getLogger("radserve.proxy.nginx")

_LINE: Final = re.compile(r"\S+ \S+ \[(?P<level>\w+)\] \d+#\d+: (?:\*\d+ )?(?P<message>.*)")
_REQUEST: Final = re.compile(r", request: .*")
"""Suffix that nginx adds to an error: the request line, whose query may identify a patient."""
_NO_READER: Final = re.compile(r"(?:connect|send)\(\) failed \(.*\)(?: while logging to syslog.*)?")
"""Alert of a worker when the supervisor does not read access events; the worker retries with every request."""
_LEVELS: Final = {"notice": logging.DEBUG, "warn": logging.WARNING, "error": logging.ERROR}


async def relay(descriptor: int) -> None:
    """Log what nginx writes to a pipe until all its processes have closed it."""
    stream, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    last_syslog_error = ""
    with open(descriptor, "rb", buffering=0) as pipe:  # noqa: ASYNC230 - the descriptor is open already
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
        while line := await _next_line(stream):
            text = line.decode(errors="replace").strip()
            match = _LINE.fullmatch(text)
            level = _LEVELS.get(match["level"], logging.CRITICAL) if match else logging.WARNING
            message = _REQUEST.sub("", match["message"] if match else text)
            if _NO_READER.fullmatch(message) is None:
                logger.log(level, "%s", message)
            elif message != last_syslog_error:  # once, not for every request
                logger.warning("access-event socket unavailable: %s", message)
                last_syslog_error = message
        transport.close()


async def _next_line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, or b"" at the end; of a line that is too long, which nginx never writes, a part."""
    try:
        return await stream.readline()
    except ValueError:
        return b"line too long\n"
