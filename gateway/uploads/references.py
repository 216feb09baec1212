"""Images that a request only names: objects of the bucket for uploads, and URLs of hosts that the operator allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.access import Caller
from gateway.errors import BadRequestError
from gateway.uploads.request_body import Body, Reference

_OFF = {
    "object": "This gateway takes no uploads (RADSERVE_GATEWAY_UPLOADS); send the image itself.",
    "url": "This gateway fetches from no host (RADSERVE_GATEWAY_URL_HOSTS); send the image itself.",
}


class Source(Protocol):
    """Where named images come from."""

    async def fetch(self, value: str, caller: Caller) -> Body:
        """Return an image; raises a `gateway.errors.Problem` if that is not possible or not allowed."""


class References:
    """The sources that are open, by the kind of reference: `object` or `url`."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources

    async def fetch(self, reference: Reference, caller: Caller) -> Body:
        """Return the image that a request names.

        Raises
        ------
        BadRequest
            If nothing of this kind is open here.
        """
        source = self._sources.get(reference.kind)
        if source is None:
            raise BadRequestError(_OFF[reference.kind])
        return await source.fetch(reference.value, caller)
