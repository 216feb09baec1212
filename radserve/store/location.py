"""What a store's URL means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from radserve.errors import StoreError
from radserve.store.backend import Backend

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:[^/]+")
_SCHEME: Final = re.compile(r"[a-z0-9+]+://", re.IGNORECASE)


def backend(url: str) -> Backend:
    """Return what a store is kept in.

    Parameters
    ----------
    url
        A folder (a path, or file://), s3://BUCKET/PREFIX, or https://; http:// on this machine only.

    Raises
    ------
    StoreError
        If it is none of these.
    """
    if not url:
        raise StoreError("--store has no value; write a folder, s3://BUCKET/PREFIX or https://HOST/PATH.")
    if not _SCHEME.match(url):
        from radserve.store.folder import Folder

        return Folder(Path(url).expanduser().absolute())
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreError(f"--store has value {url!r}: {error}.") from error
    if parts.query or parts.fragment:
        raise StoreError(f"--store has value {url!r}; it must have no ? and no #.")
    if parts.scheme == "file":
        return _folder(url, parts.netloc, parts.path)
    if parts.scheme == "s3":
        return _bucket(url, parts.netloc, parts.path)
    if parts.scheme in ("http", "https") and parts.hostname:
        from radserve.store.web import Web

        return Web(url)
    raise StoreError(f"--store has value {url!r}; write a folder, s3://BUCKET/PREFIX or https://HOST/PATH.")


def _folder(url: str, host: str, path: str) -> Backend:
    from radserve.store.folder import Folder

    if host not in ("", "localhost") or not path:
        raise StoreError(f"--store has value {url!r}; a folder of this machine is file:///PATH, with three strokes.")
    return Folder(Path(unquote(path)))


def _bucket(url: str, bucket: str, path: str) -> Backend:
    from radserve.store.s3 import Bucket

    if not _BUCKET.fullmatch(bucket):
        raise StoreError(f"--store has value {url!r}; it must be s3://BUCKET or s3://BUCKET/PREFIX.")
    return Bucket(bucket, path.strip("/"))
