"""Tests of radserve.proxy.certificate."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from radserve.errors import ServeError
from radserve.proxy import certificate
from tests.authority import Authority


def test_a_valid_certificate_is_accepted_with_and_without_its_chain(authority: Authority) -> None:
    pair = authority.issue("chain")
    certificate.check(pair.certificate, pair.key)
    pair.certificate.write_bytes(pair.certificate.read_bytes() + authority.root.read_bytes())
    certificate.check(pair.certificate, pair.key)


def test_an_expired_certificate_is_rejected(authority: Authority) -> None:
    pair = authority.issue("expired", days=-1)
    with pytest.raises(ServeError, match=r"expired\.pem: certificate has expired; renew it"):
        certificate.check(pair.certificate, pair.key)


def test_a_key_of_another_certificate_is_rejected(authority: Authority) -> None:
    pair, other = authority.issue("one"), authority.issue("another")
    with pytest.raises(ServeError, match=r"another\.key: not the key of .*one\.pem"):
        certificate.check(pair.certificate, other.key)


def test_an_error_names_a_missing_or_invalid_file(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("present")
    with pytest.raises(ServeError, match=r"nowhere\.pem: No such file"):
        certificate.check(tmp_path / "nowhere.pem", pair.key)
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    with pytest.raises(ServeError, match=r"other\.pem"):
        certificate.check(other, pair.key)
    with pytest.raises(ServeError, match=r"other\.pem"):
        certificate.check(pair.certificate, other)


def test_an_encrypted_key_is_rejected_instead_of_prompting(authority: Authority) -> None:
    pair = authority.issue("locked", encryption=BestAvailableEncryption(b"secret"))
    with pytest.raises(ServeError, match="is encrypted; decrypt it"):
        certificate.check(pair.certificate, pair.key)
