"""Entry point of the program: `radserve` and `python -m radserve`."""

import sys
from importlib import import_module
from typing import Final

from radserve.host import stop_signals

_WITH_GATEWAY: Final = "--with-front"
_SERVERS: Final = frozenset({"serve", "front", "sagemaker", _WITH_GATEWAY})


def main() -> None:
    """Run the command line. A server handles stop signals before it imports anything that takes time."""
    command = "".join(sys.argv[1:2])
    if command not in _SERVERS:
        import_module("radserve.cli.main").main()
        return
    stop_signals.exit_at_once()
    try:
        import_module("radserve.cli.with_gateway" if command == _WITH_GATEWAY else "radserve.cli.main").main()
    finally:
        stop_signals.ignore()


if __name__ == "__main__":
    main()
