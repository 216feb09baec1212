"""The index of an archive store is append-only."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from radserve.build.model_store import order
from radserve.errors import StoreError
from radserve.store.index import Catalog, PublishedArchive, parse


def published(name: str = "chest", version: str = "1.0.0", content: int = 0, **changes: object) -> PublishedArchive:
    fields = {
        "name": name,
        "version": version,
        "file": f"{name}-{version}.mar",
        "sha256": f"{content:064x}",
        "size": 1,
        "inputs": "1" * 64,
        "pushed": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return PublishedArchive.model_validate(fields | changes)


ARCHIVES = st.builds(
    published,
    st.sampled_from(["chest", "brain", "brain-2"]),
    st.sampled_from(["1.0", "1.0.0", "1.2.0", "1.10.0", "2.0.0"]),
    st.integers(0, 2),
)


def merged(archives: list[PublishedArchive]) -> tuple[Catalog, set[tuple[str, str, str]]]:
    """Add archives one by one; return the catalog and those that were rejected."""
    catalog, rejected = Catalog(), set()
    for item in archives:
        try:
            catalog = catalog.add(item)
        except StoreError:
            rejected.add((item.name, item.version, item.sha256))
    return catalog, rejected


@given(st.lists(ARCHIVES))
def test_an_added_archive_never_changes(archives: list[PublishedArchive]) -> None:
    catalog = Catalog()
    for item in archives:
        before = catalog
        try:
            catalog = catalog.add(item)
        except StoreError:
            existing = before.find(item.name, item.version)
            assert existing is not None
            assert existing.sha256 != item.sha256
        assert set(before.archives) <= set(catalog.archives)
        assert catalog.serial - before.serial == len(catalog.archives) - len(before.archives)
    assert catalog.serial == len(catalog.archives)
    assert Catalog.model_validate_json(catalog.model_dump_json()) == catalog


@given(st.lists(ARCHIVES, unique_by=lambda item: (item.name, item.version)), st.randoms())
def test_the_order_of_pushes_does_not_matter(archives: list[PublishedArchive], random: object) -> None:
    shuffled = list(archives)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merged(shuffled) == merged(archives)
    keys = [(item.name, order(item.version)) for item in merged(archives)[0].archives]
    assert keys == sorted(keys)


def test_adding_the_same_archive_again_changes_nothing() -> None:
    catalog = Catalog().add(published())
    assert catalog.add(published(pushed=datetime(2026, 2, 1, tzinfo=UTC))) == catalog


def test_untrained_archives_are_rejected() -> None:
    with pytest.raises(StoreError, match="untrained"):
        Catalog().add(published(version="0.0.0"))


def test_an_index_cannot_name_the_file_of_another_archive() -> None:
    with pytest.raises(ValidationError, match=r"it must be 'chest-1\.0\.0\.mar'"):
        published(file="brain-1.0.0.mar")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "Invalid JSON"),
        (b'{"serial": -1}', "key 'serial' has value -1"),
        (b'{"serial": 1, "archives": [], "more": 1}', "unknown key 'more'"),
        (
            json.dumps({"serial": 1, "archives": [json.loads(published().model_dump_json())] * 2}).encode(),
            "duplicate archive chest 1.0.0",
        ),
    ],
)
def test_an_invalid_catalog_is_rejected(text: bytes, message: str) -> None:
    with pytest.raises(StoreError, match=f"^here: .*{message}"):
        parse(text, "here")
