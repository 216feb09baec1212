"""API keys: what one looks like, what is kept of it, whom it belongs to and what it may do."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from radserve.errors import KeysError

PATTERN: Final = r"radserve_[0-9a-f]{12}_[0-9a-f]{64}"
"""Text of a key: a prefix that scanners for leaked secrets can look for, an id that tells which key it is (no
secret: logs hold it), and 256 random bits. Hexadecimal, so that a double click marks all of it."""
_PARTS: Final = re.compile(r"radserve_([0-9a-f]{12})_([0-9a-f]{64})")
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_NOBODY: Final = "0" * 64
"""No secret is known to have this digest; an unknown id is compared with it, which takes as long as a known one."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""As in `handlers.recipe`, which needs a YAML parser; what reads keys (the gateway on Lambda) does not have one."""
KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


class Role(StrEnum):
    """What a key may be used for: ask models, read metrics, manage workers and versions."""

    PREDICT = "predict"
    READ = "read"
    MANAGE = "manage"


class Key(BaseModel):
    """What is kept of a key.

    Attributes
    ----------
    sha256
        Of the secret part. A slow hash protects passwords, which can be guessed; 256 random bits cannot,
        and a slow hash would only make every request slow.
    expires
        From when on it is no longer valid; None for never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: KeyName
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    sha256: Sha256
    created: AwareDatetime
    expires: AwareDatetime | None = None

    def expired(self, now: datetime | None = None) -> bool:
        """Whether it is no longer valid."""
        return self.expires is not None and self.expires <= (now or datetime.now(UTC))


class Keys(BaseModel):
    """All keys of a server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        for what, values in (("id", [key.id for key in self.keys]), ("name", [key.name for key in self.keys])):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two keys have the {what} {twice[0]!r}")
        return self

    @property
    def valid(self) -> tuple[Key, ...]:
        """Those that have not expired."""
        return tuple(key for key in self.keys if not key.expired())

    def find(self, text: str) -> Key | None:
        """Return the valid key that a client sent, in a time that does not tell how much of it was right."""
        match = _PARTS.fullmatch(text)
        identity, secret = match.groups() if match else ("", "")
        known = next((key for key in self.keys if key.id == identity), None)
        same = hmac.compare_digest(_digest(secret), known.sha256 if known else _NOBODY)
        return known if known is not None and same and not known.expired() else None

    def add(self, name: str, roles: Sequence[Role], expires: datetime | None = None) -> tuple[Self, str]:
        """Return the keys with a new one, and its text, which cannot be had again.

        Raises
        ------
        KeysError
            If the name is taken or no name.
        """
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
            raise KeysError(f"Key {name!r}: {_first(error)}.") from error
        return type(self)(keys=(*self.keys, key)), f"radserve_{key.id}_{secret}"

    def remove(self, wanted: str) -> tuple[Self, Key]:
        """Return the keys without the one of that id or name, and that one.

        Raises
        ------
        KeysError
            If there is none.
        """
        gone = next((key for key in self.keys if wanted in (key.id, key.name)), None)
        if gone is None:
            known = ", ".join(key.name for key in self.keys) or "none"
            raise KeysError(f"No key has the id or name {wanted!r}; there are: {known}.")
        return type(self)(keys=tuple(key for key in self.keys if key is not gone)), gone


def parse(text: bytes, source: str) -> Keys:
    """Read keys as they are stored (JSON).

    Raises
    ------
    KeysError
        Naming the source and what is wrong, without any value.
    """
    try:
        return Keys.model_validate_json(text)
    except ValidationError as error:
        raise KeysError(f"{source}: {_first(error)}. 'radserve keys create' writes what is read here.") from error


def lifetime(text: str) -> timedelta:
    """Read how long a key is valid: a number with h, d or w.

    Raises
    ------
    KeysError
        If it says no time.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})([hdw])", text)
    if match is None:
        raise KeysError(f"--expires has value {text!r}; write hours, days or weeks: 12h, 90d, 52w.")
    return int(match[1]) * _UNITS[match[2]]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
