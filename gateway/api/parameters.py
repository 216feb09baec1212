"""Parameters of paths and queries, and the check that a query has no unknown, empty or repeated ones."""

import re
from typing import Annotated, Final, get_args

from fastapi import Path, Query, Request
from pydantic import BeforeValidator
from starlette.convertors import StringConvertor, register_url_convertor

from gateway.errors import UnprocessableError
from radserve.schema.domain import Repair

REPAIRS: Final = tuple(get_args(Repair))

Name = Annotated[
    str,
    Path(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=64,
        description="Name of a model; `GET /api/models` lists them.",
        examples=["chest-xray-cnn"],
    ),
]
Version = Annotated[
    str,
    Path(
        pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$",
        max_length=64,
        description="Version of the model.",
        examples=["1.0.0"],
    ),
]


class _VersionConvertor(StringConvertor):
    """Matches a segment of a path that may be a version: any but `files`, which is a path of its own."""

    regex = "(?!files/?$)[^/]+"


register_url_convertor("version", _VersionConvertor())

_RepairQuery = Annotated[
    str | None,
    Query(
        alias="repair",
        description="Turn (clockwise) or invert every image before the analysis.",
        json_schema_extra={"enum": list(REPAIRS)},
    ),
]


def _decimal(text: str) -> str:
    """Require digits and points, as the proxy does; the range is checked next."""
    if not re.fullmatch(r"[0-9.]{1,64}", text):
        raise ValueError("must be a decimal number, such as 0.1")
    return text


_PrevalenceQuery = Annotated[
    float | None,
    Query(
        alias="prevalence",
        ge=0.000001,
        le=0.999999,
        description="Share of positive images to assume, in digits and a point; see docs/certainty.md.",
    ),
    BeforeValidator(_decimal),
]


async def declare_corrections(_repair: _RepairQuery = None, _prevalence: _PrevalenceQuery = None) -> None:
    """Check the parameters of corrections, and add them to the OpenAPI document; the model server reads them."""


_COUNTED_LATER: Final = ("repair", "prevalence")
"""Parameters that a header or body can contain, too; `gateway.api.inference` rejects several values of them."""


async def require_known_query(request: Request) -> None:
    """Raise UnprocessableError if the query has an unknown parameter, one without a value, or one twice.

    The OpenAPI document names the known ones. A misspelled filter would otherwise select everything, as would an empty
    one, and only the last of several values would count.
    """
    if not request.query_params:
        return
    operations = request.app.openapi()["paths"].get(request.scope["route"].path_format, {})
    operation = operations.get(request.method.lower())
    if operation is None:  # not part of the API
        return
    known = sorted(item["name"] for item in operation.get("parameters", ()) if item["in"] == "query")
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        names = f"Known: {', '.join(known)}." if known else "This operation has none."
        shown = ", ".join(repr(name[:64]) for name in unknown[:5])
        raise UnprocessableError(f"Unknown query parameter {shown}. {names}")
    for name in known:
        if name not in _COUNTED_LATER and len(request.query_params.getlist(name)) > 1:
            raise UnprocessableError(f"Repeated query parameter {name!r}; send it once.")
        if "" in request.query_params.getlist(name):
            raise UnprocessableError(f"Empty query parameter {name!r}; give it a value, or omit it.")
