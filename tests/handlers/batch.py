"""Sends batches of requests to a handler, with TorchServe's own `Context`."""

import base64
import json
from pathlib import Path
from typing import Any

from ts.context import Context, RequestProcessor

from handlers.torchserve_handler import TorchServeHandler
from tests.handlers.test_pipeline import film

B64 = base64.b64encode(film()).decode()
Reply = tuple[int, str, dict[str, Any]]


def context(folder: Path, headers: list[dict[str, Any]]) -> Context:
    handler = Context("brightness", str(folder), {}, 4, None, "0.12.0")
    handler.request_processor = [RequestProcessor(item) for item in headers]
    return handler


def ask(service: TorchServeHandler, *requests: tuple[Any, dict[str, Any]]) -> list[Reply]:
    """Send one batch; return status, media type and document of each response."""
    around = context(Path(), [dict(headers) for _, headers in requests])
    bodies = service.handle([{"body": body} for body, _ in requests], around)
    assert len(bodies) == len(requests)
    return [
        (around.get_response_status(index)[0], around.get_response_content_type(index), json.loads(body))
        for index, body in enumerate(bodies)
    ]
