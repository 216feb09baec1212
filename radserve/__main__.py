"""Entry point of the program: `radserve` and `python -m radserve`."""

import sys
from typing import Final

from radserve.host import stop_signals

_SERVERS: Final = frozenset({"serve", "front", "sagemaker"})


def main() -> None:
    """Run the command line. A server handles stop signals before it imports anything that takes time."""
    is_server = "".join(sys.argv[1:2]) in _SERVERS
    if is_server:
        stop_signals.exit_at_once()
    try:
        from radserve.cli import main as command_line

        command_line.main()
    finally:
        if is_server:
            stop_signals.ignore()


if __name__ == "__main__":
    main()
