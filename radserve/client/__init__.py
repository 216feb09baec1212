"""HTTP client library."""

from radserve.client.async_client import AsyncClient
from radserve.client.client import Client
from radserve.client.results import Results
from radserve.client.uploads import Upload

__all__ = ["AsyncClient", "Client", "Results", "Upload"]
