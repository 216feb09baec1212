"""DICOMweb and REST clients whose errors say whether the same request may succeed later."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import requests
from dicomweb_client import DICOMwebClient

from radserve.errors import PacsError, PacsUnavailableError
from radserve.pacs.settings import Web

_TEMPORARY: Final = frozenset({401, 403, 408, 429, 502, 503, 504, 507})  # 507: insufficient storage


@contextmanager
def dicomweb(url: str, access: Web) -> Iterator[DICOMwebClient]:
    """Open a client of a DICOMweb service; it does not repeat requests, the loop does."""
    with requests.Session() as session:
        session.headers["Accept"] = "application/dicom+json"  # of STOW-RS; other requests have their own
        session.auth = access.credentials
        session.hooks["response"] = [_remove_charset]
        client = DICOMwebClient(url, session=session, headers=access.headers, timeout=access.timeout)
        client.set_http_retry_params(retry=False)
        yield client


def _remove_charset(response: requests.Response, **_: Any) -> None:
    """Remove it from the media type: with it, dicomweb_client ignores the body of a reply to STOW."""
    media_type = response.headers.get("Content-Type", "").lower()
    if not media_type.startswith("multipart/"):
        response.headers["Content-Type"] = media_type.partition(";")[0].strip()


def rest(url: str, access: Web) -> httpx.Client:
    """Return a client of a REST service."""
    return httpx.Client(base_url=url, auth=access.credentials, headers=access.headers, timeout=access.timeout)


@contextmanager
def errors(name: str) -> Iterator[None]:
    """Raise PacsUnavailableError or PacsError for errors of both clients; `name` is the service in messages."""
    try:
        yield
    except (httpx.HTTPStatusError, requests.HTTPError) as error:
        status = getattr(error.response, "status_code", 0)
        kind = PacsUnavailableError if status in _TEMPORARY else PacsError
        raise kind(f"{name} answers with status {status}.") from error
    except ValueError as error:  # before RequestException: invalid JSON is both
        raise PacsError(f"{name} sends a malformed response.") from error
    except (httpx.HTTPError, requests.RequestException) as error:
        raise PacsUnavailableError(f"{name} cannot be reached ({error.__class__.__name__}).") from error
