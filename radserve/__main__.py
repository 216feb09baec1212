"""Entry point of the program: `radserve` and `python -m radserve`."""

import sys
from typing import Final

from radserve.host import stop_signals

_WITH_GATEWAY: Final = "--with-front"
_SERVERS: Final = frozenset({"serve", "front", "sagemaker", _WITH_GATEWAY})


def main() -> None:
    """Run the command line. A server handles stop signals before it imports anything that takes time."""
    command = "".join(sys.argv[1:2])
    if command in _SERVERS:
        stop_signals.exit_at_once()
    try:
        if command == _WITH_GATEWAY:
            from radserve.cli import with_gateway

            with_gateway.main()
        else:
            from radserve.cli import main as command_line

            command_line.main()
    finally:
        if command in _SERVERS:
            stop_signals.ignore()


if __name__ == "__main__":
    main()
