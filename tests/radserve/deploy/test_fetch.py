"""A model store fetched from a bucket."""

from __future__ import annotations

import hashlib
from pathlib import Path

from radserve.build import model_store
from radserve.build.model_store import Entry, Index
from tests.radserve.deploy.conftest import Aws

ARCHIVE = b"an archive"


def upload(aws: Aws, content: bytes = ARCHIVE) -> None:
    """Put a store with one archive into a bucket."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    entry = Entry(name="chest", version="1.0.0", file="chest.mar", sha256=digest, size=len(ARCHIVE), inputs=digest)
    s3.put_object(Bucket="models", Key="releases/1/chest.mar", Body=content)
    s3.put_object(Bucket="models", Key="releases/1/index.json", Body=Index(archives=(entry,)).model_dump_json())


def fetch(aws: Aws, source: str, store: Path, code: int = 0) -> str:
    """Run the command as a task does."""
    return aws.deploy("fetch", source, str(store), code=code, AWS_DEFAULT_REGION="eu-central-1")


def test_archives_and_index_are_copied(aws: Aws, tmp_path: Path) -> None:
    upload(aws)
    store = tmp_path / "store"
    for _ in range(2):
        assert "chest 1.0.0  sha256" in fetch(aws, "s3://models/releases/1", store)
    assert (store / "chest.mar").read_bytes() == ARCHIVE
    assert [item.name for item in model_store.read(store).archives] == ["chest"]
    assert sorted(path.name for path in store.iterdir()) == ["chest.mar", "index.json"]


def test_an_archive_that_is_not_what_the_index_says_is_refused(aws: Aws, tmp_path: Path) -> None:
    upload(aws, b"another archive")
    said = fetch(aws, "s3://models/releases/1", tmp_path / "store", code=1)
    assert "s3://models/releases/1/chest.mar has sha256" in said
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_without_an_index_is_refused(aws: Aws, tmp_path: Path) -> None:
    upload(aws)
    assert "GetObject" in fetch(aws, "s3://models/releases/2", tmp_path / "store", code=1)


def test_an_address_that_is_none_is_refused(aws: Aws, tmp_path: Path) -> None:
    assert "write s3://BUCKET/FOLDER" in fetch(aws, "models/releases", tmp_path / "store", code=2)
