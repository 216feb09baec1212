"""The keys that a store's index is signed with: Ed25519 (RFC 8032), kept as PEM."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from radserve.auth import key_file
from radserve.errors import StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

logger = logging.getLogger(__name__)

_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)

Words = str | Path | None
"""Where a key is kept: a path, or env:NAME for a variable that holds what the file would; None or empty for nowhere."""


class PublicKey:
    """A key that tells whether an index is genuine; `id` is the SHA-256 of its DER form (SubjectPublicKeyInfo)."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key = key
        self.id = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        self.pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is this key's, of this message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A key that signs, and its public half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""
        return self._key.sign(message)


@dataclass(frozen=True)
class Ring:
    """The keys of one who uses a store.

    Attributes
    ----------
    signing
        Signs what is pushed; None for one who only pulls, or a store that is not signed.
    trusted
        One of these must have signed the index; empty if that is not checked.
    """

    signing: SigningKey | None = None
    trusted: tuple[PublicKey, ...] = ()

    @classmethod
    def open(cls, signing_key: Words, public_keys: Words) -> Self:
        """Read the keys; who signs trusts his own key as well.

        Raises
        ------
        StoreError
            Naming the source and what is wrong with it.
        """
        signing = read_signing(signing_key) if signing_key else None
        public = read_public(public_keys) if public_keys else ()
        own = (signing.public,) if signing else ()
        return cls(signing, tuple({key.id: key for key in (*public, *own)}.values()))


def read_signing(words: str | Path) -> SigningKey:
    """Read a private key.

    Raises
    ------
    StoreError
        If there is none, or one that is not Ed25519 in PEM.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = _read(words, "--signing-key")
    if _is_path(words) and key_file.readable_by_others(Path(words)):
        logger.warning("%s: others may read the signing key; chmod 600 %s", words, words)
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise StoreError(
            f"{words}: holds no private key in PEM without a password; make one with 'radserve store keygen FILE'."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{words}: holds a private key that is not Ed25519; 'radserve store keygen FILE' makes one.")
    return SigningKey(key)


def read_public(words: str | Path) -> tuple[PublicKey, ...]:
    """Read one or more public keys: two while one takes the other's place.

    Raises
    ------
    StoreError
        If there is none, or one that is not Ed25519 in PEM.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = _PEM.findall(_read(words, "--public-key"))
    if not found:
        raise StoreError(f"{words}: holds no public key in PEM; 'radserve store keygen FILE' writes one to FILE.pub.")
    try:
        keys = [load_pem_public_key(item) for item in found]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{words}: holds a public key that cannot be read: {error}.") from error
    trusted = [PublicKey(key) for key in keys if isinstance(key, Ed25519PublicKey)]
    if len(trusted) < len(keys):
        raise StoreError(f"{words}: holds a public key that is not Ed25519.")
    return tuple(trusted)


def generate(path: Path) -> PublicKey:
    """Make a key pair: the private half into a file that its owner alone can read, the public one beside it (.pub).

    Raises
    ------
    StoreError
        If one of the files exists (a signing key that is lost cannot be had again) or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    if public.exists():
        raise StoreError(f"{public}: exists already, and is not replaced; choose another name.")
    made = SigningKey(key)
    _create(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _create(public, made.public.pem, 0o644)
    return made.public


def _create(path: Path, text: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
    except FileExistsError as error:
        raise StoreError(f"{path}: exists already, and is not replaced; choose another name.") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}.") from error


def _is_path(words: str | Path) -> bool:
    return isinstance(words, Path) or not words.startswith("env:")


def _read(words: str | Path, option: str) -> bytes:
    if not _is_path(words):
        variable = str(words).removeprefix("env:")
        text = os.environ.get(variable)
        if not text:
            raise StoreError(f"{option} env:{variable}: there is no such variable; it must hold a key in PEM.")
        return text.encode()
    try:
        return Path(words).read_bytes()
    except OSError as error:
        raise StoreError(f"{option} {words}: {error.strerror}. Make keys with 'radserve store keygen FILE'.") from error
