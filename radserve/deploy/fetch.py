"""Copy a model store from a bucket: what a task or a host does before it serves from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from radserve.build import model_store
from radserve.build.model_store import Entry, Index
from radserve.deploy.cloud import Cloud
from radserve.deploy.errors import CloudError, SettingsError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def fetch(cloud: Cloud, source: str, store: Path) -> Index:
    """Copy what a bucket's index.json lists, and hold it against the sums there; the index itself is written last.

    Archives that are there already with the right sum are left as they are.

    Parameters
    ----------
    source
        s3://BUCKET/FOLDER that holds index.json and the archives.

    Raises
    ------
    SettingsError
        If the source is no such address.
    CloudError
        If the index is broken, lists nothing, or an archive is not what it says.
    """
    parts = urlsplit(source)
    if parts.scheme != "s3" or not parts.netloc:
        raise SettingsError(f"{source!r} is no address of a model store; write s3://BUCKET/FOLDER.")
    prefix = parts.path.strip("/")
    prefix = f"{prefix}/" if prefix else ""
    text = cloud.s3.get_object(Bucket=parts.netloc, Key=f"{prefix}{model_store.FILE}")["Body"].read()
    try:
        found = Index.model_validate_json(text)
    except (ValidationError, json.JSONDecodeError) as error:
        raise CloudError(
            f"{source}/{model_store.FILE} is no index of a model store; copy the store there anew."
        ) from error
    if not found.archives:
        raise CloudError(f"{source}/{model_store.FILE} lists no archive; copy a built store there.")
    store.mkdir(parents=True, exist_ok=True)
    for entry in found.archives:
        _fetch(cloud.s3, parts.netloc, prefix, entry, store)
    model_store.write(store, found)
    return found


def _fetch(s3: S3Client, bucket: str, prefix: str, entry: Entry, store: Path) -> None:
    path = store / entry.file
    if path.exists() and model_store.sha256(path) == entry.sha256:
        return
    partial = path.with_suffix(".partial")
    s3.download_file(bucket, f"{prefix}{entry.file}", str(partial))
    if (got := model_store.sha256(partial)) != entry.sha256:
        partial.unlink()
        raise CloudError(
            f"s3://{bucket}/{prefix}{entry.file} has sha256 {got}, where {model_store.FILE} has {entry.sha256}; "
            "copy the store there anew."
        )
    partial.chmod(0o644)
    partial.replace(path)
