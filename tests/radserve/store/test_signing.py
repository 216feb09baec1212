"""Keys that an index is signed with, and what a signed store accepts."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from radserve.errors import StoreError
from radserve.store import open_store
from radserve.store.signing import Ring, read_public, read_signing
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Pair, make_pair, run


def test_keys_are_made_once_and_the_private_one_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "store.key"
    said = run("keygen", file).stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    public = tmp_path / "store.key.pub"
    (key,) = read_public(public)
    assert key.id[:16] in said
    assert read_signing(file).public.id == key.id
    before = file.read_bytes(), public.read_bytes()
    assert "exists already" in run("keygen", file, code=1).stderr
    file.unlink()
    assert "store.key.pub: exists already" in run("keygen", file, code=1).stderr
    assert not file.exists()
    assert public.read_bytes() == before[1]


def test_openssl_reads_and_makes_such_keys(tmp_path: Path) -> None:
    file = tmp_path / "openssl.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", file], check=True)
    public = subprocess.run(["openssl", "pkey", "-in", file, "-pubout"], check=True, capture_output=True).stdout
    assert read_signing(file).public.pem == public


def test_keys_come_from_the_environment_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNING", pair.private.read_text())
    monkeypatch.setenv("PUBLIC", pair.public.read_text() * 2)
    ring = Ring.open("env:SIGNING", "env:PUBLIC")
    assert ring.signing is not None
    assert [key.id for key in ring.trusted] == [ring.signing.public.id]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no p"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no private key|cannot be read"),
    ],
)
def test_what_is_no_key_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(StoreError, match=said):
        read_signing(file)
    with pytest.raises(StoreError, match=said):
        read_public(file)


def test_keys_of_another_kind_are_said(tmp_path: Path) -> None:
    file, public = tmp_path / "rsa", tmp_path / "rsa.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", file], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", file, "-pubout", "-out", public], check=True)
    with pytest.raises(StoreError, match="not Ed25519"):
        read_signing(file)
    with pytest.raises(StoreError, match="not Ed25519"):
        read_public(public)


def test_a_key_that_is_not_there_is_said() -> None:
    with pytest.raises(StoreError, match="--signing-key /nowhere: No such file"):
        Ring.open("/nowhere", None)
    with pytest.raises(StoreError, match="--public-key env:NOTHING_HERE: there is no such variable"):
        Ring.open(None, "env:NOTHING_HERE")


def test_a_signed_store_is_believed_by_those_who_know_the_key_alone(tmp_path: Path, pair: Pair) -> None:
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url, signing_key=pair.private).push(make(here), here)
    other = make_pair(tmp_path / "other.key")
    open_store(url, public_keys=pair.public).pull("chest", None, tmp_path / "there")
    with pytest.raises(StoreError, match="which is not trusted here"):
        open_store(url, public_keys=other.public).pull("chest", None, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    assert len(open_store(url).entries()) == 1


def test_nobody_pushes_to_a_signed_store_without_a_key_that_is_trusted(tmp_path: Path, pair: Pair) -> None:
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url, signing_key=pair.private).push(make(here), here)
    new = make(here, version="2.0.0")
    before = sorted((tmp_path / "store").rglob("*"))
    with pytest.raises(StoreError, match=r"is signed .* so a push must be: --signing-key"):
        open_store(url).push(new, here)
    with pytest.raises(StoreError, match="which is not trusted here"):
        open_store(url, signing_key=make_pair(tmp_path / "other.key").private).push(new, here)
    assert sorted((tmp_path / "store").rglob("*")) == before


def test_an_unsigned_store_is_refused_until_it_is_signed(tmp_path: Path, pair: Pair) -> None:
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url).push(make(here), here)
    reader, writer = open_store(url, public_keys=pair.public), open_store(url, signing_key=pair.private)
    for refused in (reader.entries, writer.entries, writer.sign):
        with pytest.raises(StoreError, match="store sign --accept-unsigned"):
            refused()
    run("sign", "--store", url, "--signing-key", pair.private, "--accept-unsigned")
    assert reader.listing().signer
    assert len(reader.entries()) == 1


def test_a_key_takes_the_place_of_another(tmp_path: Path, pair: Pair) -> None:
    """First all who pull get both public keys, then the index is signed with the new one."""
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


def test_an_index_that_was_changed_is_refused(tmp_path: Path, pair: Pair) -> None:
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url, signing_key=pair.private).push(make(here), here)
    index = tmp_path / "store" / "index.json"
    text = index.read_text()
    payload = text.split('"payload": "')[1].split('"')[0]
    index.write_text(text.replace(payload, ("f" if payload[8] != "f" else "g").join([payload[:8], payload[9:]])))
    with pytest.raises(StoreError, match="it was changed after it was signed"):
        open_store(url, public_keys=pair.public).pull("chest", None, tmp_path / "there")
