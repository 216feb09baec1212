"""The envelope of a store's index (DSSE)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import StoreError
from radserve.store.envelope import TYPE, encoded, seal, unseal
from radserve.store.signing import SigningKey

KEY = SigningKey(Ed25519PrivateKey.generate())
OTHER = SigningKey(Ed25519PrivateKey.generate())


def changed(sealed: bytes, **values: Any) -> bytes:
    return json.dumps(json.loads(sealed) | values).encode()


def test_what_is_signed_is_what_the_protocol_says() -> None:
    """The example of the protocol's own page."""
    assert encoded("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.binary())
def test_what_was_sealed_is_unsealed(payload: bytes) -> None:
    opened = unseal(seal(payload, KEY), [OTHER.public, KEY.public], "here")
    assert (opened.payload, opened.claimed, opened.signer) == (payload, (KEY.public.id,), KEY.public.id)


def test_the_form_is_that_of_the_protocol() -> None:
    sealed = json.loads(seal(b"{}", KEY))
    assert set(sealed) == {"payloadType", "payload", "signatures"}
    assert set(sealed["signatures"][0]) == {"keyid", "sig"}
    KEY.public._key.verify(base64.b64decode(sealed["signatures"][0]["sig"]), encoded(TYPE, b"{}"))


def test_without_a_trusted_key_nothing_is_checked() -> None:
    assert unseal(seal(b"{}", None), [], "here").claimed == ()
    assert unseal(seal(b"{}", KEY), [], "here").signer is None


@pytest.mark.parametrize(
    ("sealed", "said"),
    [
        (seal(b"{}", None), "is not signed, and a public key is configured"),
        (seal(b"{}", OTHER), "is not trusted here"),
        (changed(seal(b"{}", KEY), payload=base64.b64encode(b"[]").decode()), "it was changed after it was signed"),
        (changed(seal(b"{}", KEY), payloadType="other"), "it was changed after it was signed"),
        (changed(seal(b"{}", KEY), signatures=[{"keyid": KEY.public.id, "sig": ""}]), "it was changed after"),
        (changed(seal(b"{}", KEY), signatures=[{"sig": "AAAA"}]), "key without a name"),
        (changed(seal(b"{}", KEY), signatures=[{"sig": "?"}]), "is no index of an archive store"),
        (b"{}", "is no index of an archive store"),
        (b'{"archives": []}', "is no index of an archive store"),
        (b"<html>", "is no index of an archive store"),
        (b"\xff", "is no index of an archive store"),
    ],
)
def test_what_no_trusted_key_signed_is_refused(sealed: bytes, said: str) -> None:
    with pytest.raises(StoreError, match=f"^here: .*{said}"):
        unseal(sealed, [KEY.public], "here")


def test_a_signature_counts_whatever_it_calls_its_key() -> None:
    """The protocol: the id is a hint, and readers take URL-safe base64 as well."""
    sealed = json.loads(seal(b"\xff\xfe", KEY))
    plain = sealed["signatures"][0]["sig"]
    safe = plain.translate(str.maketrans("+/", "-_"))
    for signature in ({"sig": plain}, {"keyid": "x", "sig": safe}):
        assert unseal(changed(json.dumps(sealed).encode(), signatures=[signature]), [KEY.public], "here").signer


def test_another_type_of_payload_is_refused(tmp_path: Path) -> None:
    sealed = seal(b"{}", None)
    with pytest.raises(StoreError, match="holds 'other'"):
        unseal(changed(sealed, payloadType="other"), [], "here")
