"""Logging as JSON lines on standard error, in the format of TorchServe's log."""

import logging
import sys

from handlers.json_lines import JsonLines


def configure() -> None:
    """Log RadServe's records from INFO and all warnings of libraries to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("radserve").setLevel(logging.INFO)
