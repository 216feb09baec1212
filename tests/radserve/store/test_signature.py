"""Signing keys, envelopes (DSSE), and signed stores."""

import base64
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # not in its __all__

from radserve.errors import StoreError
from radserve.store import open_store
from radserve.store.signature import PAYLOAD_TYPE, KeyRing, read_public_keys, read_signing_key, seal, unseal
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Pair, make_pair, run

DATA = Path(__file__).parent / "data"
SIGNER = CryptoSigner.generate_ed25519()
OTHER = CryptoSigner.generate_ed25519()


def changed(envelope: bytes, **values: Any) -> bytes:
    return json.dumps(json.loads(envelope) | values).encode()


@given(st.binary())
def test_unseal_returns_what_was_sealed(payload: bytes) -> None:
    content = unseal(seal(payload, SIGNER), (OTHER.public_key, SIGNER.public_key), "here")
    key_id = SIGNER.public_key.keyid
    assert (content.payload, content.key_ids, content.verified_by) == (payload, (key_id,), key_id)


def test_an_envelope_has_the_form_of_the_protocol() -> None:
    private = Ed25519PrivateKey.generate()
    envelope = json.loads(seal(b"{}", CryptoSigner(private)))
    assert set(envelope) == {"payloadType", "payload", "signatures"}
    (signature,) = envelope["signatures"]
    assert set(signature) == {"keyid", "sig"}
    message = b"DSSEv1 %d %b 2 {}" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode())
    private.public_key().verify(base64.b64decode(signature["sig"]), message)


def test_an_index_signed_by_version_0_1_is_verified(tmp_path: Path) -> None:
    """data/ was written before securesystemslib replaced the code that signs and verifies."""
    content = unseal((DATA / "signed-index.json").read_bytes(), read_public_keys(DATA / "signed-index.pub"), "here")
    assert content.verified_by is not None
    assert content.key_ids == (content.verified_by,)
    (tmp_path / "index.json").write_bytes((DATA / "signed-index.json").read_bytes())
    store = open_store(str(tmp_path), public_keys=DATA / "signed-index.pub")
    assert [item.title for item in store.entries()] == ["chest 1.0.0", "chest 1.1.0"]


def test_without_a_trusted_key_no_signature_is_checked() -> None:
    assert unseal(seal(b"{}", None), (), "here").key_ids == ()
    assert unseal(seal(b"{}", SIGNER), (), "here").verified_by is None


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        (seal(b"{}", None), "not signed, but a public key is configured"),
        (seal(b"{}", OTHER), "which is not trusted"),
        (changed(seal(b"{}", SIGNER), payload=base64.b64encode(b"[]").decode()), "changed after it was signed"),
        (changed(seal(b"{}", SIGNER), payloadType="other"), "changed after it was signed"),
        (changed(seal(b"{}", SIGNER), signatures=[{"keyid": SIGNER.public_key.keyid, "sig": ""}]), "changed after"),
        (changed(seal(b"{}", SIGNER), signatures=[{"sig": "AAAA"}]), "key without an id"),
        (changed(seal(b"{}", SIGNER), signatures=[{"sig": "?"}]), "not the index of an archive store"),
        (changed(seal(b"{}", SIGNER), signatures=7), "not the index of an archive store"),
        (changed(seal(b"{}", SIGNER), payload=7), "not the index of an archive store"),
        (b"{}", "not the index of an archive store"),
        (b"[]", "not the index of an archive store"),
        (b'{"archives": []}', "not the index of an archive store"),
        (b"<html>", "not the index of an archive store"),
        (b"\xff", "not the index of an archive store"),
    ],
)
def test_an_envelope_without_a_trusted_signature_is_rejected(envelope: bytes, message: str) -> None:
    with pytest.raises(StoreError, match=f"^here: .*{message}"):
        unseal(envelope, (SIGNER.public_key,), "here")


def test_key_ids_are_hints_and_signatures_may_be_url_safe() -> None:
    envelope = seal(b"\xff\xfe", SIGNER)
    standard = json.loads(envelope)["signatures"][0]["sig"]
    url_safe = standard.translate(str.maketrans("+/", "-_"))
    for signature in ({"sig": standard}, {"keyid": "x", "sig": url_safe}):
        assert unseal(changed(envelope, signatures=[signature]), (SIGNER.public_key,), "here").verified_by


def test_another_payload_type_is_rejected() -> None:
    with pytest.raises(StoreError, match="payload type 'other'"):
        unseal(changed(seal(b"{}", None), payloadType="other"), (), "here")


def test_keygen_replaces_no_file_and_protects_the_private_key(tmp_path: Path) -> None:
    file = tmp_path / "store.key"
    output = run("keygen", file).stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    public = tmp_path / "store.key.pub"
    (key,) = read_public_keys(public)
    assert key.keyid[:16] in output
    assert read_signing_key(file).public_key.keyid == key.keyid
    before = file.read_bytes(), public.read_bytes()
    assert "store.key.pub: exists" in run("keygen", file, code=1).stderr
    file.unlink()
    assert "store.key.pub: exists" in run("keygen", file, code=1).stderr
    assert not file.exists()
    assert public.read_bytes() == before[1]


def test_keys_of_openssl_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "openssl.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", file], check=True)
    public = subprocess.run(["openssl", "pkey", "-in", file, "-pubout"], check=True, capture_output=True).stdout
    (tmp_path / "p").write_bytes(public)
    assert read_public_keys(tmp_path / "p") == (read_signing_key(file).public_key,)


def test_keys_from_environment_variables(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNING", pair.private.read_text())
    monkeypatch.setenv("PUBLIC", pair.public.read_text() * 2)
    ring = KeyRing.load("env:SIGNING", "env:PUBLIC")
    assert ring.signer is not None
    assert [key.keyid for key in ring.trusted] == [ring.signer.public_key.keyid]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a private key|no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a private key|unreadable public key"),
    ],
)
def test_invalid_keys_are_rejected(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(StoreError, match=message):
        read_signing_key(file)
    with pytest.raises(StoreError, match=message):
        read_public_keys(file)


def test_keys_of_other_algorithms_are_rejected(tmp_path: Path) -> None:
    file, public = tmp_path / "rsa", tmp_path / "rsa.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", file], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", file, "-pubout", "-out", public], check=True)
    with pytest.raises(StoreError, match="not an Ed25519 key"):
        read_signing_key(file)
    with pytest.raises(StoreError, match="not an Ed25519 key"):
        read_public_keys(public)


def test_missing_keys_are_reported() -> None:
    with pytest.raises(StoreError, match="--signing-key /no/such/file: No such file"):
        KeyRing.load("/no/such/file", None)
    with pytest.raises(StoreError, match="--public-key env:NOTHING_HERE: variable not set"):
        KeyRing.load(None, "env:NOTHING_HERE")


def test_a_signed_store_is_read_only_with_its_key(tmp_path: Path, pair: Pair) -> None:
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url, signing_key=pair.private).push(make(here), here)
    other = make_pair(tmp_path / "other.key")
    open_store(url, public_keys=pair.public).pull("chest", None, tmp_path / "there")
    with pytest.raises(StoreError, match="which is not trusted"):
        open_store(url, public_keys=other.public).pull("chest", None, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    assert len(open_store(url).entries()) == 1


def test_a_push_to_a_signed_store_needs_its_key(tmp_path: Path, pair: Pair) -> None:
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url, signing_key=pair.private).push(make(here), here)
    new = make(here, version="2.0.0")
    before = sorted((tmp_path / "store").rglob("*"))
    with pytest.raises(StoreError, match=r"is signed .* so a push needs --signing-key"):
        open_store(url).push(new, here)
    with pytest.raises(StoreError, match="which is not trusted"):
        open_store(url, signing_key=make_pair(tmp_path / "other.key").private).push(new, here)
    assert sorted((tmp_path / "store").rglob("*")) == before


def test_an_unsigned_store_is_rejected_until_it_is_signed(tmp_path: Path, pair: Pair) -> None:
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url).push(make(here), here)
    reader, writer = open_store(url, public_keys=pair.public), open_store(url, signing_key=pair.private)
    for read in (reader.entries, writer.entries, writer.sign):
        with pytest.raises(StoreError, match="store sign --accept-unsigned"):
            read()
    run("sign", "--store", url, "--signing-key", pair.private, "--accept-unsigned")
    assert reader.snapshot().verified_by
    assert len(reader.entries()) == 1


def test_key_rotation(tmp_path: Path, pair: Pair) -> None:
    """Readers get both public keys before the index is signed with the new key."""
    url, here, new = str(tmp_path / "store"), tmp_path / "here", make_pair(tmp_path / "new.key")
    open_store(url, signing_key=pair.private).push(make(here), here)
    both = tmp_path / "both.pub"
    both.write_bytes(pair.public.read_bytes() + new.public.read_bytes())
    reader = open_store(url, public_keys=both)
    assert len(reader.entries()) == 1
    open_store(url, signing_key=new.private, public_keys=both).sign()
    assert len(reader.entries()) == 1
    assert len(open_store(url, public_keys=new.public).entries()) == 1
    with pytest.raises(StoreError, match="not trusted"):
        open_store(url, public_keys=pair.public).entries()
