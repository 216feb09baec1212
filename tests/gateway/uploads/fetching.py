"""Steps of tests of gateway.uploads.url_fetcher: names with scripted addresses, and one fetch."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

from gateway.settings import Settings
from gateway.uploads.request_body import RequestBody
from gateway.uploads.url_fetcher import UrlFetcher

TRUST_NONE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
PUBLIC = "93.184.216.34"
METADATA = "169.254.169.254"


class Names:
    """Resolves names to scripted addresses, in order."""

    def __init__(self, *responses: Sequence[str]) -> None:
        self.responses = list(responses)
        self.lookups: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.lookups.append(host)
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]


def fetched(value: str, names: Names | None = None, *, source: UrlFetcher | None = None, **changes: Any) -> RequestBody:
    """Fetch a URL; `changes` replace parts of the fetcher."""
    chosen: dict[str, Any] = {"resolve": names or Names([PUBLIC]), "ssl_context": TRUST_NONE}
    result = source or UrlFetcher(settings(), **chosen | changes)
    return asyncio.run(result.fetch(value))


def settings(**changed: Any) -> Settings:
    hosts = ("images.example.org", "bücher.example", "localhost")
    return Settings.read(**{"url_hosts": hosts, "max_bytes": 100_000, "timeout": 2} | changed)
