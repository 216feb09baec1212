"""API keys: made once, kept as digests, valid until they are not."""

from __future__ import annotations

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


def test_a_key_has_a_prefix_an_id_and_256_random_bits_of_which_only_a_digest_is_kept() -> None:
    made = [Keys().add("ward", [Role.PREDICT]) for _ in range(20)]
    texts = [text for _, text in made]
    assert all(re.fullmatch(api_keys.PATTERN, text) for text in texts)
    assert len(set(texts)) == 20
    kept, text = made[0]
    prefix, identity, secret = text.split("_")
    assert (prefix, len(bytes.fromhex(secret)) * 8) == ("radserve", 256)
    stored = kept.model_dump_json()
    assert secret not in stored
    assert identity in stored
    assert hashlib.sha256(secret.encode()).hexdigest() in stored


def test_a_key_is_found_by_its_whole_text_only() -> None:
    both, first = Keys().add("first", [Role.PREDICT])
    both, second = both.add("second", [Role.READ, Role.MANAGE, Role.READ])
    found = both.find(second)
    assert found is not None
    assert (found.name, found.roles) == ("second", (Role.READ, Role.MANAGE))
    mixed = first.rsplit("_", 1)[0] + "_" + second.rsplit("_", 1)[1]
    for wrong in ("", "radserve", mixed, first[:-1], first + "0", first.upper(), f" {first}", first + "\n", "é" * 86):
        assert both.find(wrong) is None, wrong


def test_an_expired_key_is_not_found() -> None:
    kept, text = Keys().add("late", [Role.PREDICT], PAST)
    assert kept.find(text) is None
    assert kept.valid == ()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    kept, text = kept.add("early", [Role.PREDICT], tomorrow)
    found = kept.find(text)
    assert found is not None
    assert not found.expired()
    assert found.expired(tomorrow)


def test_an_unknown_id_costs_the_same_comparison_as_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return compare(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    kept, text = Keys().add("known", [Role.PREDICT])
    for wrong in (text[:-4] + "0000", "radserve_" + "0" * 12 + "_" + "0" * 64, "nonsense"):
        assert kept.find(wrong) is None
    assert compared == [(64, 64)] * 3


def test_a_name_is_used_once_and_can_stand_in_a_header() -> None:
    kept, _ = Keys().add("ward", [Role.PREDICT])
    with pytest.raises(KeysError, match="revoke ward"):
        kept.add("ward", [Role.READ])
    for wrong in ("", "two words", "a\nb", "ä", "x" * 65, "-x"):
        with pytest.raises(KeysError, match="name: "):
            kept.add(wrong, [Role.READ])
    with pytest.raises(KeysError, match="roles: "):
        kept.add("nothing", [])


def test_a_key_is_removed_by_id_or_name() -> None:
    kept, text = Keys().add("ward", [Role.PREDICT])
    identity = text.split("_")[1]
    for wanted in ("ward", identity):
        left, gone = kept.remove(wanted)
        assert (left.keys, gone.name) == ((), "ward")
    with pytest.raises(KeysError, match="'warden'; there are: ward"):
        kept.remove("warden")


def test_what_is_broken_is_said_without_what_it_holds() -> None:
    kept, _ = Keys().add("ward", [Role.PREDICT])
    (stored,) = json.loads(kept.model_dump_json())["keys"]
    for change, said in (
        ({"sha256": "hunter2"}, "keys.0.sha256"),
        ({"roles": ["admin"]}, "keys.0.roles.0"),
        ({"expires": "2030-01-01T00:00:00"}, "keys.0.expires"),
        ({"secret": "hunter2"}, "keys.0.secret"),
    ):
        text = json.dumps({"keys": [stored | change]}).encode()
        with pytest.raises(KeysError, match=f"^here: {re.escape(said)}") as error:
            api_keys.parse(text, "here")
        assert "hunter2" not in str(error.value)
    with pytest.raises(KeysError, match="two keys have the id"):
        api_keys.parse(json.dumps({"keys": [stored, stored | {"name": "other"}]}).encode(), "here")
    for broken in (b"", b"[]", b"{", b"\xff"):
        with pytest.raises(KeysError, match=r"^here: "):
            api_keys.parse(broken, "here")


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("90d", 2160), ("2w", 336)])
def test_a_lifetime_is_hours_days_or_weeks(text: str, hours: int) -> None:
    assert api_keys.lifetime(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5d", "1y", "1d ", "999999d"])
def test_anything_else_is_no_lifetime(text: str) -> None:
    with pytest.raises(KeysError, match="--expires has value"):
        api_keys.lifetime(text)
