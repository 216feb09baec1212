"""The keys that a running server knows: read from where the operator keeps them, and kept up to date."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, Self

from radserve.auth import api_keys, key_file
from radserve.auth.api_keys import Key
from radserve.errors import KeysError

logger = logging.getLogger(__name__)

_REGION: Final = re.compile(r"(?P<name>.+):(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)")


class Source(Protocol):
    """Where keys are kept.

    Attributes
    ----------
    name
        What messages call it.
    period
        Seconds between two looks at it; None where nothing can change.
    """

    name: str
    period: float | None

    def read(self) -> bytes:
        """Return what is kept there; raise KeysError if that is impossible."""


class File:
    """A file, looked at every second: a revoked key must stop within seconds."""

    period: float | None = 1.0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def read(self) -> bytes:
        """Return what the file holds."""
        return key_file.read(self._path)


class Variable:
    """An environment variable, which holds what the file would."""

    period: float | None = None

    def __init__(self, variable: str) -> None:
        self.name = f"variable {variable}"
        self._variable = variable

    def read(self) -> bytes:
        """Return what the variable holds."""
        text = os.environ.get(self._variable)
        if text is None:
            raise KeysError(f"--keys env:{self._variable}: there is no such variable; it must hold a keys file's text.")
        return text.encode()


class _Kept(ABC):
    """What a service of AWS keeps, and which holds what the file would.

    Parameters
    ----------
    name
        Name or ARN, with `:REGION` behind it where the usual chain (AWS_REGION, profile) does not say it.
    """

    period: float | None = 300.0
    kind: ClassVar[str]
    place: ClassVar[str]
    service: ClassVar[Literal["secretsmanager", "ssm"]]

    def __init__(self, name: str) -> None:
        self._id, self._region = _located(name)
        self.name = f"{self.kind} {self._id}"
        self._client: Any = None

    def read(self) -> bytes:
        """Return what is kept there now."""
        import boto3  # a third of a second that only those who keep keys there pay
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                self._client = boto3.client(self.service, region_name=self._region)
            return self._get(self._client, self._id)
        except (BotoCoreError, ClientError) as error:
            raise KeysError(f"{self.name}: {self.place} does not give it: {error}") from error

    @abstractmethod
    def _get(self, client: Any, identity: str) -> bytes: ...


class Secret(_Kept):
    """The current version of a secret in AWS Secrets Manager."""

    kind = "secret"
    place = "Secrets Manager"
    service = "secretsmanager"

    def _get(self, client: Any, identity: str) -> bytes:
        found = client.get_secret_value(SecretId=identity)
        return found["SecretString"].encode() if "SecretString" in found else bytes(found["SecretBinary"])


class Parameter(_Kept):
    """A parameter of AWS Systems Manager's Parameter Store, mostly a SecureString."""

    kind = "parameter"
    place = "Parameter Store"
    service = "ssm"

    def _get(self, client: Any, identity: str) -> bytes:
        return str(client.get_parameter(Name=identity, WithDecryption=True)["Parameter"]["Value"]).encode()


def source(words: str) -> Source:
    """Return the source that the operator named: a path, env:NAME, secretsmanager:NAME[:REGION] or ssm:NAME[:REGION].

    Raises
    ------
    KeysError
        If nothing is named.
    """
    kind, _, name = words.partition(":")
    if not words or (kind in _KINDS and not name):
        raise KeysError(f"--keys has value {words!r}; write a path, env:NAME, secretsmanager:NAME or ssm:NAME.")
    return _KINDS[kind](name) if kind in _KINDS else File(Path(words))


def secret(words: str) -> Source | None:
    """Return the secret that a setting names (secretsmanager:NAME[:REGION], ssm:NAME[:REGION]); None if it names none.

    Raises
    ------
    KeysError
        If the name is missing.
    """
    return source(words) if words.partition(":")[0] in _SECRETS else None


def _located(name: str) -> tuple[str, str | None]:
    """Take name and region apart; None leaves the region to the usual chain."""
    match = _REGION.fullmatch(name)
    if match:
        return match["name"], match["region"]
    return name, name.split(":")[3] if name.startswith("arn:") else None


_SECRETS: Final[dict[str, Callable[[str], Source]]] = {"secretsmanager": Secret, "ssm": Parameter}
_KINDS: Final[dict[str, Callable[[str], Source]]] = {"env": Variable, **_SECRETS}


class Keyring:
    """The keys of a source, as last read.

    What is broken at the start is an error; what breaks later is said, and the last good keys stay: a slip of
    the hand or an outage of Secrets Manager locks nobody out.

    Raises
    ------
    KeysError
        If the source cannot be read.
    """

    def __init__(self, kept: Source) -> None:
        self._source = kept
        self._raw = kept.read()
        self._keys = api_keys.parse(self._raw, kept.name)
        self._problem = ""

    @classmethod
    def open(cls, words: str) -> Self:
        """Read the source that the operator named; see `source`.

        Raises
        ------
        KeysError
            If there is no key in it.
        """
        kept = source(words)
        ring = cls(kept)
        if not ring.keys.keys:
            raise KeysError(
                f"{kept.name}: holds no key, so nobody could ask anything. "
                "Make one with 'radserve keys create NAME --role predict --keys FILE'."
            )
        if not ring.keys.valid:
            logger.warning("%s: every key in it has expired", kept.name)
        if isinstance(kept, File) and key_file.readable_by_others(Path(words)):
            logger.warning("%s: others may read it; chmod 600 %s", kept.name, kept.name)
        return ring

    @property
    def keys(self) -> api_keys.Keys:
        """All keys, expired ones too."""
        return self._keys

    def find(self, text: str) -> Key | None:
        """Return the valid key that a client sent."""
        return self._keys.find(text)

    def refresh(self) -> None:
        """Look at the source again."""
        try:
            raw = self._source.read()
            if raw != self._raw:
                self._keys, self._raw = api_keys.parse(raw, self._source.name), raw
                logger.info("%s: %d keys are valid now", self._source.name, len(self._keys.valid))
        except KeysError as error:
            if str(error) != self._problem:
                logger.error("keys stay as last read (%d): %s", len(self._keys.keys), error)  # noqa: TRY400 - said in full
            self._problem = str(error)
        else:
            if self._problem:
                logger.warning("%s can be read again", self._source.name)
            self._problem = ""

    async def watch(self) -> None:
        """Keep up to date until cancelled."""
        while self._source.period is not None:
            await asyncio.sleep(self._source.period)
            await asyncio.to_thread(self.refresh)
