"""API keys: format, roles, and the stored part of a key."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, model_validator

from radserve.errors import KeysError
from radserve.validation_error import describe

PATTERN: Final = r"radserve_[0-9a-f]{12}_[0-9a-f]{64}"
"""Text of a key: a prefix for scanners of leaked secrets, a public id, and 256 random bits. Hexadecimal digits and
underscores, so that a double click selects all of it."""
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_NO_DIGEST: Final = "0" * 64
"""Digest to compare an unknown id with, so that the comparison takes as long as for a known id."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The same as in `handlers.recipe`, which needs a YAML parser that the gateway on Lambda does not have."""
KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


class Role(StrEnum):
    """Permission of a key: run predictions, read metrics, or manage workers and versions."""

    PREDICT = "predict"
    READ = "read"
    MANAGE = "manage"


class Key(BaseModel, extra="forbid", frozen=True):
    """Stored part of a key; valid without limit if `expires` is None.

    `sha256` is the digest of the secret part. A slow hash would protect a password that can be guessed; for 256 random
    bits it would only slow down every request.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: KeyName
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    sha256: Sha256
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def expired(self, now: datetime | None = None) -> bool:
        """Return whether the key has expired."""
        return self.expires is not None and self.expires <= (now or datetime.now(UTC))


class Keys(BaseModel, extra="forbid", frozen=True):
    """All keys of a server."""

    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for field, values in (("id", [key.id for key in self.keys]), ("name", [key.name for key in self.keys])):
            duplicates = sorted({value for value in values if values.count(value) > 1})
            if duplicates:
                raise ValueError(f"two keys have the {field} {duplicates[0]!r}")
        return self

    @property
    def valid(self) -> tuple[Key, ...]:
        """Keys that have not expired."""
        return tuple(key for key in self.keys if not key.expired())

    def find(self, text: str) -> Key | None:
        """Return the valid key with this text, in a time that does not depend on how much of the text is right."""
        _, identity, secret = text.split("_") if re.fullmatch(PATTERN, text) else ("", "", "")
        known = next((key for key in self.keys if key.id == identity), None)
        same = hmac.compare_digest(_digest(secret), known.sha256 if known else _NO_DIGEST)
        return known if known is not None and same and not known.expired() else None

    def add(self, name: str, roles: Sequence[Role], expires: datetime | None = None) -> tuple[Self, str]:
        """Return the keys with a new one, and its text, which cannot be recovered; raises KeysError."""
        if any(key.name == name for key in self.keys):
            raise KeysError(f"A key named {name!r} exists; revoke it first ('radserve keys revoke {name}').")
        secret = secrets.token_hex(32)
        try:
            key = Key(
                id=secrets.token_hex(6),
                name=name,
                roles=tuple(dict.fromkeys(roles)),
                sha256=_digest(secret),
                created=datetime.now(UTC).replace(microsecond=0),
                expires=expires,
            )
        except ValidationError as error:
            raise KeysError(f"Key {name!r}: {describe(error)}.") from error
        return type(self)(keys=(*self.keys, key)), f"radserve_{key.id}_{secret}"

    def remove(self, id_or_name: str) -> tuple[Self, Key]:
        """Return the keys without one key, and the removed key; raises KeysError if it does not exist."""
        removed = next((key for key in self.keys if id_or_name in (key.id, key.name)), None)
        if removed is None:
            available = ", ".join(key.name for key in self.keys) or "none"
            raise KeysError(f"Unknown key {id_or_name!r}. Available: {available}.")
        return type(self)(keys=tuple(key for key in self.keys if key is not removed)), removed


def parse(text: bytes, source: str) -> Keys:
    """Parse stored keys (JSON); raises KeysError with the source and the problem, without any value."""
    try:
        return Keys.model_validate_json(text)
    except ValidationError as error:
        raise KeysError(
            f"{source}: {describe(error, values=False)}. Write this file with 'radserve keys create'."
        ) from error


def lifetime(text: str) -> timedelta:
    """Parse the lifetime of a key, a number with h, d or w; raises KeysError."""
    match = re.fullmatch(r"([1-9]\d{0,4})([hdw])", text)
    if match is None:
        raise KeysError(f"--expires has value {text!r}; write hours, days or weeks: 12h, 90d, 52w.")
    return int(match[1]) * _UNITS[match[2]]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
