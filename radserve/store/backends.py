"""Backends of archive stores: a folder, an S3 bucket, or (read-only) a web server."""

from __future__ import annotations

import base64
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from radserve.errors import IndexConflictError, StoreError
from radserve.files import PART_SUFFIX, sync_folder, write_atomically
from radserve.store import aws, multipart, object_storage
from radserve.store.object_storage import (
    BLOBS,
    INDEX,
    STATUS,
    TIMEOUTS,
    Blob,
    Progress,
    Storage,
    StoredIndex,
    UnfinishedUpload,
    blob_path,
    verified_chunks,
)

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ClientConfig, ObjectStore

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SCHEME: Final = re.compile(r"[a-z0-9+]+://", re.IGNORECASE)


class FolderStorage(Storage):
    """A folder, created by the first push. Files are flushed to disk before the index names them."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self._root = root

    def _connect(self) -> ObjectStore:
        from obstore.store import LocalStore

        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.name}: {error.strerror}.") from error
        return LocalStore(self._root)

    def read_index(self) -> StoredIndex | None:
        """Return the index; does not create the folder."""
        return super().read_index() if self._root.is_dir() else None

    def write_index(self, data: bytes, version: UpdateVersion | None) -> None:
        """Replace the index under a lock: obstore has no conditional update of local files."""
        from filelock import FileLock

        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / ".lock"):
                current = self.read_index()
                if (current and current.version) != version:
                    raise IndexConflictError(f"{self.name}/{INDEX}: changed by another process; try again.")
                write_atomically(self._root / INDEX, data, mode=0o644)
        except OSError as error:
            raise StoreError(f"{error.filename or self.name}: {error.strerror}.") from error

    def put(self, sha256: str, source: Path, progress: Progress) -> None:
        """Store a file as a blob and flush it to disk."""
        super().put(sha256, source, progress)
        blob = self._root / blob_path(sha256)
        with blob.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(blob.parent)

    def blobs(self) -> list[Blob]:
        """List all blobs; does not create the folder."""
        return super().blobs() if self._root.is_dir() else []

    def unfinished_uploads(self) -> list[UnfinishedUpload]:
        """List temporary files, those of obstore (`NAME#1`) and those of RadServe."""
        uploads = []
        for folder in (self._root, self._root / BLOBS):
            for path in sorted([*folder.glob("*#*"), *folder.glob(f".*{PART_SUFFIX}")]):
                with suppress(FileNotFoundError):  # a push has completed meanwhile
                    started = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                    uploads.append(UnfinishedUpload(str(path.relative_to(self._root)), started))
        return uploads

    def discard(self, upload: UnfinishedUpload) -> None:
        """Delete a temporary file."""
        path = self._root / upload.key
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}.") from error

    def _explain(self, text: str) -> None:
        reason = text.partition("\n")[0].removeprefix("Generic LocalFileSystem error: ")
        if "not found" not in reason:
            raise StoreError(f"{self.name}: {reason}.")


class BucketStorage(Storage):
    """A bucket of S3 or of a compatible service with conditional writes, or a folder of a bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        super().__init__(f"s3://{bucket}/{prefix}".rstrip("/"))
        self._bucket, self._prefix = bucket, prefix

    def _connect(self) -> ObjectStore:
        return aws.connect(self.name, self._bucket, self._prefix)

    def put(self, sha256: str, source: Path, progress: Progress) -> None:
        """Upload a small file in one request, a large one in parts that a later push can resume."""
        import obstore

        if source.stat().st_size > object_storage.PART_SIZE:
            multipart.upload(self.name, self._bucket, self._key(blob_path(sha256)), source, sha256, progress)
            return
        with source.open("rb") as file, self._errors(blob_path(sha256)):
            data = b"".join(verified_chunks(file, object_storage.PART_SIZE, sha256, progress))
            obstore.put(self._objects, blob_path(sha256), data)

    def unfinished_uploads(self) -> list[UnfinishedUpload]:
        """List multipart uploads that were not completed."""
        return [
            UnfinishedUpload(f"{key} {upload}", started)
            for key, upload, started in multipart.unfinished(self.name, self._bucket, self._key(f"{BLOBS}/"))
        ]

    def discard(self, upload: UnfinishedUpload) -> None:
        """Abort a multipart upload."""
        key, _, upload_id = upload.key.rpartition(" ")
        multipart.abort(self.name, self._bucket, key, upload_id)

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}".removeprefix("/")

    def _explain(self, text: str) -> None:
        aws.explain(self.name, text)


class WebStorage(Storage):
    """Files of a web server, read-only: `https://`, or `http://` on this machine."""

    def __init__(self, url: SplitResult) -> None:
        credentials, _, host = url.netloc.rpartition("@")
        super().__init__(urlunsplit(url._replace(netloc=host)).rstrip("/"))
        self._credentials = unquote(credentials)
        self._plain = url.scheme == "http"
        if self._plain and url.hostname not in LOOPBACK:
            raise StoreError(f"{self.name}: not encrypted; use https://.")

    def _connect(self) -> ObjectStore:
        from obstore.store import HTTPStore

        options: ClientConfig = {**TIMEOUTS, "allow_http": self._plain}
        if self._credentials:
            # Not in the URL, which obstore's messages show. A redirect to another host does not get this header.
            basic = base64.b64encode(self._credentials.encode()).decode()
            options["default_headers"] = {"Authorization": f"Basic {basic}"}
        return HTTPStore(self.name, client_options=options, retry_config=object_storage.RETRIES)

    def require_writable(self) -> None:
        """Raise StoreError: a web server is read-only."""
        raise StoreError(f"{self.name}: read-only; to change the store, use its folder or s3:// URL.")

    def _explain(self, text: str) -> None:
        status = STATUS.search(text)
        if status is not None and status[1][:3] in ("401", "403"):
            raise StoreError(
                f"{self.name}: the server responds {status[1].strip()}. If it needs a password, set "
                "RADSERVE_STORE=https://USER:PASSWORD@HOST/PATH."
            )
        if "BadScheme" in text:
            raise StoreError(f"{self.name}: redirects to a URL that is not encrypted.")


def open_storage(url: str) -> Storage:
    """Return the storage for a folder, an s3:// or an https:// URL (http:// on this machine only); does not connect."""
    if not url:
        raise StoreError("--store is empty; use a folder, s3://BUCKET/PREFIX or https://HOST/PATH.")
    if not _SCHEME.match(url):
        return FolderStorage(Path(url).expanduser().absolute())
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreError(f"--store has value {url!r}: {error}.") from error
    if parts.query or parts.fragment:
        raise StoreError(f"--store has value {url!r}; remove the query and the fragment ('?' and '#').")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StoreError(f"--store has value {url!r}; a local folder is file:///PATH, with three slashes.")
        return FolderStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        if not _BUCKET_NAME.fullmatch(parts.netloc):
            raise StoreError(f"--store has value {url!r}; use s3://BUCKET or s3://BUCKET/PREFIX.")
        return BucketStorage(parts.netloc, parts.path.strip("/"))
    if parts.scheme in ("http", "https") and parts.hostname:
        return WebStorage(parts)
    raise StoreError(f"--store has value {url!r}; use a folder, s3://BUCKET/PREFIX or https://HOST/PATH.")
