"""Tests of radserve.auth.api_keys."""

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from radserve.auth import api_keys
from radserve.auth.api_keys import Keys, Role
from radserve.errors import KeysError

PAST = datetime(2020, 1, 1, tzinfo=UTC)


def test_a_key_has_a_prefix_an_id_and_256_random_bits_stored_as_a_digest() -> None:
    created = [Keys().add("ward", [Role.PREDICT]) for _ in range(20)]
    texts = [text for _, text in created]
    assert all(re.fullmatch(api_keys.PATTERN, text) for text in texts)
    assert len(set(texts)) == 20
    keys, text = created[0]
    prefix, identity, secret = text.split("_")
    assert (prefix, len(bytes.fromhex(secret)) * 8) == ("radserve", 256)
    stored = keys.model_dump_json()
    assert secret not in stored
    assert identity in stored
    assert hashlib.sha256(secret.encode()).hexdigest() in stored


def test_find_needs_the_whole_text() -> None:
    both, first = Keys().add("first", [Role.PREDICT])
    both, second = both.add("second", [Role.READ, Role.MANAGE, Role.READ])
    key = both.find(second)
    assert key is not None
    assert (key.name, key.roles) == ("second", (Role.READ, Role.MANAGE))
    mixed = first.rsplit("_", 1)[0] + "_" + second.rsplit("_", 1)[1]
    for invalid in ("", "radserve", mixed, first[:-1], first + "0", first.upper(), f" {first}", first + "\n", "é" * 86):
        assert both.find(invalid) is None, invalid


def test_find_ignores_expired_keys() -> None:
    keys, text = Keys().add("late", [Role.PREDICT], PAST)
    assert keys.find(text) is None
    assert keys.valid == ()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    keys, text = keys.add("early", [Role.PREDICT], tomorrow)
    key = keys.find(text)
    assert key is not None
    assert not key.expired()
    assert key.expired(tomorrow)


def test_an_unknown_id_takes_as_long_as_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return compare(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    keys, text = Keys().add("known", [Role.PREDICT])
    for invalid in (text[:-4] + "0000", "radserve_" + "0" * 12 + "_" + "0" * 64, "nonsense"):
        assert keys.find(invalid) is None
    assert compared == [(64, 64)] * 3


def test_a_name_is_unique_and_valid_in_a_header() -> None:
    keys, _ = Keys().add("ward", [Role.PREDICT])
    with pytest.raises(KeysError, match="revoke ward"):
        keys.add("ward", [Role.READ])
    for invalid in ("", "two words", "a\nb", "ä", "x" * 65, "-x"):
        with pytest.raises(KeysError, match="key 'name' has value"):
            keys.add(invalid, [Role.READ])
    with pytest.raises(KeysError, match="key 'roles'"):
        keys.add("nothing", [])


def test_remove_accepts_id_or_name() -> None:
    keys, text = Keys().add("ward", [Role.PREDICT])
    identity = text.split("_")[1]
    for key in ("ward", identity):
        remaining, removed = keys.remove(key)
        assert (remaining.keys, removed.name) == ((), "ward")
    with pytest.raises(KeysError, match=r"'warden'\. Available: ward"):
        keys.remove("warden")


def test_parse_errors_do_not_reveal_values() -> None:
    keys, _ = Keys().add("ward", [Role.PREDICT])
    (stored,) = json.loads(keys.model_dump_json())["keys"]
    for change, key in (
        ({"sha256": "hunter2"}, "keys.0.sha256"),
        ({"roles": ["admin"]}, "keys.0.roles.0"),
        ({"expires": "2030-01-01T00:00:00"}, "keys.0.expires"),
        ({"secret": "hunter2"}, "keys.0.secret"),
    ):
        text = json.dumps({"keys": [stored | change]}).encode()
        with pytest.raises(KeysError, match=f"^here: (unknown )?key '{re.escape(key)}'") as error:
            api_keys.parse(text, "here")
        assert "hunter2" not in str(error.value)
    with pytest.raises(KeysError, match="two keys have the id"):
        api_keys.parse(json.dumps({"keys": [stored, stored | {"name": "other"}]}).encode(), "here")
    for broken in (b"", b"[]", b"{", b"\xff"):
        with pytest.raises(KeysError, match=r"^here: "):
            api_keys.parse(broken, "here")


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("90d", 2160), ("2w", 336)])
def test_lifetime_parses_hours_days_and_weeks(text: str, hours: int) -> None:
    assert api_keys.lifetime(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5d", "1y", "1d ", "999999d"])
def test_lifetime_rejects_anything_else(text: str) -> None:
    with pytest.raises(KeysError, match="--expires has value"):
        api_keys.lifetime(text)
