"""The index of an archive store: append-only."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from radserve.build.model_store import order
from radserve.errors import StoreError
from radserve.store.index import Catalog, Published, parse


def published(name: str = "chest", version: str = "1.0.0", content: int = 0, **changes: object) -> Published:
    fields = {
        "name": name,
        "version": version,
        "file": f"{name}-{version}.mar",
        "sha256": f"{content:064x}",
        "size": 1,
        "inputs": "1" * 64,
        "pushed": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Published.model_validate(fields | changes)


ARCHIVES = st.builds(
    published,
    st.sampled_from(["chest", "brain", "brain-2"]),
    st.sampled_from(["1.0", "1.0.0", "1.2.0", "1.10.0", "2.0.0"]),
    st.integers(0, 2),
)


def merged(archives: list[Published]) -> tuple[Catalog, set[tuple[str, str, str]]]:
    """Add archives one after the other; return what is refused besides."""
    catalog, refused = Catalog(), set()
    for item in archives:
        try:
            catalog = catalog.add(item)
        except StoreError:
            refused.add((item.name, item.version, item.sha256))
    return catalog, refused


@given(st.lists(ARCHIVES))
def test_what_was_added_stays_as_it_is_whatever_comes_after(archives: list[Published]) -> None:
    catalog = Catalog()
    for item in archives:
        before = catalog
        try:
            catalog = catalog.add(item)
        except StoreError:
            held = before.find(item.name, item.version)
            assert held is not None
            assert held.sha256 != item.sha256
        assert set(before.archives) <= set(catalog.archives)
        assert catalog.serial - before.serial == len(catalog.archives) - len(before.archives)
    assert catalog.serial == len(catalog.archives)
    assert Catalog.model_validate_json(catalog.model_dump_json()) == catalog


@given(st.lists(ARCHIVES, unique_by=lambda item: (item.name, item.version)), st.randoms())
def test_the_order_of_pushes_changes_nothing(archives: list[Published], random: object) -> None:
    shuffled = list(archives)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merged(shuffled) == merged(archives)
    found = [(item.name, order(item.version)) for item in merged(archives)[0].archives]
    assert found == sorted(found)


def test_the_same_bytes_again_change_nothing() -> None:
    catalog = Catalog().add(published())
    assert catalog.add(published(pushed=datetime(2026, 2, 1, tzinfo=UTC))) == catalog


def test_untrained_archives_are_refused() -> None:
    with pytest.raises(StoreError, match="untrained"):
        Catalog().add(published(version="0.0.0"))


def test_an_index_cannot_choose_which_file_of_a_model_store_it_replaces() -> None:
    with pytest.raises(ValidationError, match=r"it must be 'chest-1\.0\.0\.mar'"):
        published(file="brain-1.0.0.mar")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "the file: Invalid JSON"),
        (b'{"serial": -1}', "serial: "),
        (b'{"serial": 1, "archives": [], "more": 1}', "more: "),
        (
            json.dumps({"serial": 1, "archives": [json.loads(published().model_dump_json())] * 2}).encode(),
            "chest 1.0.0 stands in it twice",
        ),
    ],
)
def test_a_broken_catalog_is_said(text: bytes, said: str) -> None:
    with pytest.raises(StoreError, match=f"^here: .*{said}"):
        parse(text, "here")
