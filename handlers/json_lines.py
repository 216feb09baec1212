"""Format of every log line: one line of JSON."""

import json
import logging
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Formats each record as one line; those of a worker name its `model`."""

    def __init__(self, model: str = "") -> None:
        super().__init__()
        self._model = {"model": model} if model else {}

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102 - inherited
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **self._model,
            "message": record.getMessage(),
        }
        if getattr(record, "request_id", ""):
            line["request_id"] = record.request_id  # type: ignore[attr-defined]
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)  # ASCII: TorchServe splits lines at other separators of Unicode too
