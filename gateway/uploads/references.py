"""Resolves references to images: keys of uploads, and URLs of allowed hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from gateway.access import Caller
from gateway.errors import BadRequestError
from gateway.uploads.request_body import ImageReference, RequestBody

_DISABLED: Final = {
    "object": "Uploads are disabled (RADSERVE_GATEWAY_UPLOADS); send the image itself.",
    "url": "Fetching URLs is disabled (RADSERVE_GATEWAY_URL_HOSTS); send the image itself.",
}


class ImageSource(Protocol):
    """Source of referenced images."""

    async def fetch(self, value: str, caller: Caller) -> RequestBody:
        """Return an image; raises a ProblemError if that is impossible or not allowed."""


class ImageSources:
    """The enabled sources, by the kind of reference: `object` or `url`."""

    def __init__(self, sources: Mapping[str, ImageSource]) -> None:
        self._sources = sources

    async def fetch(self, reference: ImageReference, caller: Caller) -> RequestBody:
        """Return the image of a reference; raises BadRequestError if its source is disabled."""
        source = self._sources.get(reference.kind)
        if source is None:
            raise BadRequestError(_DISABLED[reference.kind])
        return await source.fetch(reference.value, caller)
