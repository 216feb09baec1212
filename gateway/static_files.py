"""Serves the web page from `static/`."""

import hashlib
import os
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

FOLDER: Final = Path(__file__).resolve().parent / "static"


class PageFiles(StaticFiles):
    """Static files that browsers revalidate, so that a new release replaces all modules of the page together.

    The ETag is a hash of the content: reproducible packages give the files of all releases the same modification time.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        super().__init__(directory=folder, html=True)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file, or 304 if the client has it."""
        etag = hashlib.sha256(Path(full_path).read_bytes()).hexdigest()[:32]
        headers = {"ETag": f'"{etag}"', "Cache-Control": "no-cache"}
        response = FileResponse(full_path, status_code, headers=headers, stat_result=stat_result)
        del response.headers["last-modified"]
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response
