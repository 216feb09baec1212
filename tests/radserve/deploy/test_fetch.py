"""`radserve deploy fetch`: a model store that mirrors an archive store."""

from pathlib import Path

import pytest

from radserve.build import mar, model_store
from radserve.build.model_store import Entry
from radserve.store import open_store, signature
from tests.radserve.deploy.conftest import REGION, Aws
from tests.radserve.store.archives import make

SOURCE = "s3://models/releases/1"


@pytest.fixture
def entry(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """Publish one archive in a bucket."""
    aws.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
    for name, value in {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    entry = make(tmp_path / "here")
    open_store(SOURCE).push(entry, tmp_path / "here")
    return entry


def fetch(aws: Aws, source: str, folder: Path, code: int = 0, **variables: str) -> str:
    """Run the command as a task does."""
    return aws.deploy("fetch", source, str(folder), code=code, AWS_DEFAULT_REGION=REGION, **variables)


def test_all_archives_are_copied(aws: Aws, entry: Entry, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    for _ in range(2):
        assert f"chest 1.0.0  sha256 {entry.sha256}" in fetch(aws, SOURCE, folder)
    mar.verify(entry, folder)
    assert model_store.read(folder).archives == (entry,)
    assert (folder / entry.file).stat().st_mode & 0o777 == 0o644


def test_archives_of_another_release_are_removed_from_the_index(aws: Aws, entry: Entry, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    make(folder, "chest", "2.0.0")
    make(folder, "chest", "1.0.0", content=1)
    fetch(aws, SOURCE, folder)
    assert model_store.read(folder).archives == (entry,)
    mar.verify(entry, folder)


def test_a_damaged_archive_is_rejected(aws: Aws, entry: Entry, tmp_path: Path) -> None:
    key = f"releases/1/blobs/sha256/{entry.sha256}"
    aws.client("s3").put_object(Bucket="models", Key=key, Body=bytes(entry.size))
    assert "does not match the index" in fetch(aws, SOURCE, tmp_path / "there", code=1)
    assert not (tmp_path / "there" / entry.file).exists()


def test_an_unsigned_store_is_rejected_if_a_public_key_is_configured(aws: Aws, entry: Entry, tmp_path: Path) -> None:
    signature.generate(tmp_path / "key")
    variables = {"RADSERVE_STORE_PUBLIC_KEY": str(tmp_path / "key.pub")}
    assert "not signed" in fetch(aws, SOURCE, tmp_path / "there", code=1, **variables)


@pytest.mark.usefixtures("entry")
def test_a_folder_without_an_archive_store_is_rejected(aws: Aws, tmp_path: Path) -> None:
    assert "empty; publish archives" in fetch(aws, "s3://models/releases/2", tmp_path / "there", code=1)
    index = model_store.Index().model_dump_json()
    aws.client("s3").put_object(Bucket="models", Key="releases/3/index.json", Body=index)
    assert "not the index of an archive store" in fetch(aws, "s3://models/releases/3", tmp_path / "there", code=1)


def test_help_names_no_file_of_an_environment(aws: Aws) -> None:
    text = " ".join(aws.deploy("fetch", "--help").replace("│", " ").split())
    assert "The bucket's AWS region; overrides AWS_REGION and the profile's." in text
    assert "overrides the file" not in text


def test_an_invalid_url_is_rejected(aws: Aws, tmp_path: Path) -> None:
    assert "use s3://BUCKET" in fetch(aws, "s3://MODELS/releases", tmp_path / "there", code=1)
