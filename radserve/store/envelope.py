"""The envelope that a store's index comes in: DSSE (https://github.com/secure-systems-lab/dsse, protocol 1.0.0).

What is signed are the bytes of the payload themselves, so that nothing is parsed before its signature is checked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radserve.errors import StoreError

if TYPE_CHECKING:
    from radserve.store.signing import PublicKey, SigningKey

TYPE: Final = "application/vnd.radserve.store-index.v1+json"


class _Signature(BaseModel):
    keyid: str = ""
    sig: str


class _Envelope(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    payload_type: Annotated[str, Field(alias="payloadType")]
    payload: str
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True)
class Opened:
    """What an envelope held.

    Attributes
    ----------
    claimed
        Ids of the keys that it says it is signed with; empty if it is unsigned.
    signer
        Id of the trusted key whose signature is right; None if none was asked for.
    """

    payload: bytes
    claimed: tuple[str, ...]
    signer: str | None


def encoded(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed (the protocol's PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, key: SigningKey | None) -> bytes:
    """Put a payload into an envelope, signed if there is a key."""
    signatures: tuple[_Signature, ...] = ()
    if key is not None:
        signature = key.sign(encoded(TYPE, payload))
        signatures = (_Signature(keyid=key.public.id, sig=base64.b64encode(signature).decode()),)
    sealed = _Envelope(payload_type=TYPE, payload=base64.b64encode(payload).decode(), signatures=signatures)
    return sealed.model_dump_json(by_alias=True, indent=2).encode() + b"\n"


def unseal(data: bytes, trusted: Sequence[PublicKey], source: str) -> Opened:
    """Take the payload out of an envelope, after its signature was checked if any key is trusted.

    Raises
    ------
    StoreError
        If it is no envelope, or not signed by a trusted key.
    """
    try:
        read = _Envelope.model_validate_json(data)
        payload = _decoded(read.payload)
        signatures = [(item.keyid, _decoded(item.sig)) for item in read.signatures]
    except (ValidationError, binascii.Error) as error:
        raise StoreError(f"{source}: is no index of an archive store; does the URL name one?") from error
    signer = _signer(encoded(read.payload_type, payload), signatures, trusted, source) if trusted else None
    if read.payload_type != TYPE:
        raise StoreError(f"{source}: holds {read.payload_type!r}; this version of radserve reads {TYPE!r}.")
    return Opened(payload, tuple(name for name, _ in signatures), signer)


def _signer(message: bytes, signatures: Sequence[tuple[str, bytes]], trusted: Sequence[PublicKey], source: str) -> str:
    if not signatures:
        raise StoreError(
            f"{source}: is not signed, and a public key is configured, so nothing in it is trusted. "
            "Whoever holds the signing key signs it: radserve store sign --accept-unsigned --signing-key FILE."
        )
    # The id of a key is a hint that nobody signed: every trusted key is tried.
    found = next((key.id for key in trusted for _, signature in signatures if key.verifies(signature, message)), None)
    if found is not None:
        return found
    known = {key.id for key in trusted}
    claimed = ", ".join(name[:16] or "without a name" for name, _ in signatures)
    if known & {name for name, _ in signatures}:
        raise StoreError(f"{source}: its signature (key {claimed}) is wrong: it was changed after it was signed.")
    raise StoreError(
        f"{source}: is signed by key {claimed}, which is not trusted here, only "
        f"{', '.join(sorted(name[:16] for name in known))}. "
        "If the key was changed, add the new public one to --public-key."
    )


def _decoded(text: str) -> bytes:
    """Decode base64, standard or URL-safe, as the protocol asks of readers."""
    return base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
