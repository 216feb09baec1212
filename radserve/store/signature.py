"""Signatures of a store's index: Ed25519 keys in PEM files and DSSE envelopes.

An envelope (https://github.com/secure-systems-lab/dsse) signs the bytes of its payload, so a reader parses nothing
before it has checked the signature. The id of a key is the SHA-256 of its DER form (SubjectPublicKeyInfo).
"""

from __future__ import annotations

import hashlib
import json
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
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # not in its __all__

logger = logging.getLogger(__name__)

PAYLOAD_TYPE: Final = "application/vnd.radserve.store-index.v1+json"
_PUBLIC_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)

KeySource = str | Path | None
"""Path of a PEM file, or `env:NAME` for a variable with its content; None or empty for no key."""


@dataclass(frozen=True)
class KeyRing:
    """Keys of one user of a store.

    `signer` signs the index on push; None for users who only pull, and for unsigned stores. One of the `trusted` keys
    must have signed the index; empty to skip the check.
    """

    signer: CryptoSigner | None = None
    trusted: tuple[SSlibKey, ...] = ()

    @classmethod
    def load(cls, signing_key: KeySource, public_keys: KeySource) -> Self:
        """Read keys; the public half of the signing key is trusted as well."""
        signer = read_signing_key(signing_key) if signing_key else None
        trusted = list(read_public_keys(public_keys)) if public_keys else []
        if signer is not None:
            trusted.append(signer.public_key)
        return cls(signer, tuple({key.keyid: key for key in trusted}.values()))


@dataclass(frozen=True)
class VerifiedPayload:
    """Content of an envelope.

    `key_ids` are the keys that it claims to be signed with; empty if it is unsigned. `verified_by` is the trusted key
    whose signature was checked; None if no key is trusted.
    """

    payload: bytes
    key_ids: tuple[str, ...]
    verified_by: str | None


def seal(payload: bytes, signer: CryptoSigner | None, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return an envelope (JSON) with this payload, signed if there is a signer."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, payload_type, {})
    if signer is not None:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict(), indent=2).encode() + b"\n"


def unseal(
    data: bytes, trusted: tuple[SSlibKey, ...], source: str, payload_type: str = PAYLOAD_TYPE
) -> VerifiedPayload:
    """Return the payload of an envelope; if any key is trusted, one must have signed it. Raises StoreError."""
    from securesystemslib.dsse import Envelope

    try:
        document = json.loads(data)
        for signature in document["signatures"]:
            signature.setdefault("keyid", "")  # optional in the protocol
        envelope = Envelope.from_dict(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = "the index of an archive store; check the URL" if payload_type == PAYLOAD_TYPE else "a DSSE envelope"
        raise StoreError(f"{source}: not {expected}.") from error
    verified_by = _verify(envelope, trusted, source) if trusted else None
    if envelope.payload_type != payload_type:
        raise StoreError(
            f"{source}: payload type {envelope.payload_type!r}; this version of radserve reads {payload_type!r}."
        )
    return VerifiedPayload(envelope.payload, tuple(envelope.signatures), verified_by)


def _verify(envelope: Envelope, trusted: tuple[SSlibKey, ...], source: str) -> str:
    """Return the id of the trusted key that signed it; key ids are hints, which `Envelope.verify` would compare."""
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
    from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # not in its __all__

    if not envelope.signatures:
        raise StoreError(
            f"{source}: not signed, but a public key is configured. "
            "Sign it with: radserve store sign --accept-unsigned --signing-key FILE."
        )
    for key in trusted:
        for signature in envelope.signatures.values():
            try:
                key.verify_signature(Signature(key.keyid, signature.signature), envelope.pae())
            except (UnverifiedSignatureError, VerificationError):
                continue
            return key.keyid
    known = {key.keyid for key in trusted}
    claimed = ", ".join(key_id[:16] or "without an id" for key_id in envelope.signatures)
    if known & set(envelope.signatures):
        raise StoreError(f"{source}: wrong signature (key {claimed}); the index was changed after it was signed.")
    raise StoreError(
        f"{source}: signed by key {claimed}, which is not trusted. Trusted keys: "
        f"{', '.join(sorted(key_id[:16] for key_id in known))}. After a key rotation, add the new key to --public-key."
    )


def read_signing_key(source: str | Path) -> CryptoSigner:
    """Read a private key: Ed25519, in PEM without a password."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = _read(source, "--signing-key")
    if _is_path(source) and key_file.readable_by_others(Path(source)):
        logger.warning("%s: other users can read the signing key; run: chmod 600 %s", source, source)
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise StoreError(
            f"{source}: not a private key in PEM without a password; create one with 'radserve store keygen FILE'."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{source}: not an Ed25519 key; create one with 'radserve store keygen FILE'.")
    return _signer(key)


def read_public_keys(source: str | Path) -> tuple[SSlibKey, ...]:
    """Read one or more Ed25519 public keys in PEM; two during a key rotation."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    blocks = _PUBLIC_PEM.findall(_read(source, "--public-key"))
    if not blocks:
        raise StoreError(f"{source}: no public key in PEM; 'radserve store keygen FILE' writes one to FILE.pub.")
    try:
        keys = [load_pem_public_key(block) for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{source}: unreadable public key: {error}.") from error
    trusted = [_public_key(key) for key in keys if isinstance(key, Ed25519PublicKey)]
    if len(trusted) < len(keys):
        raise StoreError(f"{source}: not an Ed25519 key.")
    return tuple(trusted)


def generate(path: Path) -> str:
    """Write a key pair, for the owner only and to `FILE.pub`, and return its id; StoreError if a file exists."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate()
    signer, public = _signer(key), path.with_name(f"{path.name}.pub")
    if public.exists():
        raise StoreError(f"{public}: exists; choose another name.")
    _create(path, signer.private_bytes, 0o600)
    _create(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return signer.public_key.keyid


def _signer(key: Ed25519PrivateKey) -> CryptoSigner:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # not in its __all__

    return CryptoSigner(key, _public_key(key.public_key()))


def _public_key(key: Ed25519PublicKey) -> SSlibKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # not in its __all__

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SSlibKey.from_crypto(key, keyid=hashlib.sha256(der).hexdigest())


def _create(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
    except FileExistsError as error:
        raise StoreError(f"{path}: exists; choose another name.") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}.") from error


def _is_path(source: str | Path) -> bool:
    return isinstance(source, Path) or not source.startswith("env:")


def _read(source: str | Path, option: str) -> bytes:
    if not _is_path(source):
        variable = str(source).removeprefix("env:")
        text = os.environ.get(variable)
        if not text:
            raise StoreError(f"{option} env:{variable}: variable not set; it must contain a key in PEM.")
        return text.encode()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise StoreError(
            f"{option} {source}: {error.strerror}. Create keys with 'radserve store keygen FILE'."
        ) from error
