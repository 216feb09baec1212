"""The web page: the files of `static/`, which a browser asks for anew each time and gets only where they changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

FOLDER: Final = Path(__file__).resolve().parent / "static"


class Page(StaticFiles):
    """Serves the page.

    Every file is to be revalidated, so that a new release is seen at once and never half: its modules fit each other.
    The ETag is the content's own, since reproducible packages give all releases the same time of change.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        super().__init__(directory=folder, html=True)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Answer with a file, or say that the client has it."""
        tag = hashlib.sha256(Path(full_path).read_bytes()).hexdigest()[:32]
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        response = FileResponse(full_path, status_code, headers=headers, stat_result=stat_result)
        del response.headers["last-modified"]  # says nothing, as above
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response
