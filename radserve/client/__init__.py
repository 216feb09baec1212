"""HTTP client library."""

from radserve.client.client import Client

__all__ = ["Client"]
