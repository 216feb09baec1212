"""/api/docs: documentation of the API for people, shown by Swagger UI.

Swagger UI's files come with the Python package `fastapi-swagger`, unchanged: they are locked and installed like any
other dependency, so that a clean clone, an image and a Lambda package have them without npm. Only its files are used;
its code would add scripts that the Content-Security-Policy forbids.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.errors import NotFoundError
from gateway.static_files import PageFiles

router = APIRouter(prefix="/api/docs", include_in_schema=False)

FOLDER: Final = Path(__file__).resolve().parent.parent / "documentation"
_BUNDLE: Final = "fastapi_swagger"
_BUNDLED: Final = ("swagger-ui-bundle.js", "swagger-ui.css")


@router.get("")
async def page(request: Request) -> Response:
    """Return the page."""
    _bundle()
    return _file(request, FOLDER / "index.html")


@router.get("/{name}")
async def file(request: Request, name: str) -> Response:
    """Return a script or style sheet of the page."""
    if name in _BUNDLED:
        return _file(request, _bundle() / name)
    if name == "main.js":
        return _file(request, FOLDER / name)
    raise NotFoundError("Unknown file; open /api/docs.")


def _bundle() -> Path:
    """Return the folder with Swagger UI's files; raises NotFoundError, which says how to install them."""
    spec = find_spec(_BUNDLE)
    folder = Path(spec.origin).parent / "resources" if spec is not None and spec.origin else None
    if folder is None or not all((folder / name).is_file() for name in _BUNDLED):
        raise NotFoundError(
            "The documentation needs Swagger UI, which is not installed. Run pip install 'radserve[gateway]' (in a "
            "checkout: scripts/setup --inexact --extra gateway), or open /api/openapi.json in a viewer of OpenAPI."
        )
    return folder


def _file(request: Request, path: Path) -> Response:
    return PageFiles(path.parent).file_response(path, path.stat(), request.scope)
