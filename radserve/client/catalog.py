"""Call for the models that are served."""

import httpx

from radserve.client import response, validation
from radserve.client.call import Call
from radserve.schema.catalog import Catalog, CatalogModel


def models() -> Call[tuple[CatalogModel, ...]]:
    """Return the call that lists the models."""
    return Call("GET", "api/models", "catalog", _parse)


def _parse(reply: httpx.Response) -> tuple[CatalogModel, ...]:
    return validation.validate(Catalog, response.document(reply)).models
