"""Certificates that would not do are refused before nginx sees them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from radserve.errors import ServeError
from radserve.proxy import certificate
from tests.authority import Authority


def test_a_good_one_says_when_it_expires(authority: Authority) -> None:
    pair = authority.issue("good", days=30)
    expires = certificate.check(pair.certificate, pair.key)
    assert expires == pytest.approx(time.time() + 30 * 86400, abs=60)


def test_a_chain_in_the_same_file_is_read(authority: Authority) -> None:
    pair = authority.issue("chain")
    pair.certificate.write_bytes(pair.certificate.read_bytes() + authority.root.read_bytes())
    certificate.check(pair.certificate, pair.key)


def test_an_expired_one_is_refused(authority: Authority) -> None:
    pair = authority.issue("expired", days=-1)
    with pytest.raises(ServeError, match=r"expired\.pem: certificate has expired; renew it"):
        certificate.check(pair.certificate, pair.key)


def test_a_key_of_another_one_is_refused(authority: Authority) -> None:
    pair, other = authority.issue("one"), authority.issue("another")
    with pytest.raises(ServeError, match=r"another\.key: is not the key of .*one\.pem"):
        certificate.check(pair.certificate, other.key)


def test_files_that_are_missing_or_hold_something_else_are_named(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("present")
    with pytest.raises(ServeError, match=r"nowhere\.pem: No such file"):
        certificate.check(tmp_path / "nowhere.pem", pair.key)
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    with pytest.raises(ServeError, match=r"other\.pem"):
        certificate.check(other, pair.key)
    with pytest.raises(ServeError, match=r"other\.pem"):
        certificate.check(pair.certificate, other)


def test_an_encrypted_key_is_refused_instead_of_asked_about(authority: Authority) -> None:
    pair = authority.issue("locked", encryption=BestAvailableEncryption(b"secret"))
    with pytest.raises(ServeError, match="needs it decrypted"):
        certificate.check(pair.certificate, pair.key)
