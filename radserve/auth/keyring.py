"""Keyring of a running server: reads API keys from their source and keeps them up to date."""

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
    """Storage of a keys file.

    Attributes
    ----------
    name
        Name in messages.
    period
        Seconds between two reads; None if the content cannot change.
    """

    name: str
    period: float | None

    def read(self) -> bytes:
        """Return the content; raise KeysError if it is unavailable."""


class File:
    """Local file, read every second: a revoked key must stop working within seconds."""

    period: float | None = 1.0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def read(self) -> bytes:
        """Return the content of the file."""
        return key_file.read(self._path)


class Variable:
    """Environment variable with the content of a keys file."""

    period: float | None = None

    def __init__(self, variable: str) -> None:
        self.name = f"variable {variable}"
        self._variable = variable

    def read(self) -> bytes:
        """Return the value of the variable."""
        text = os.environ.get(self._variable)
        if text is None:
            raise KeysError(
                f"--keys env:{self._variable}: this variable is not set; set it to the text of a keys file."
            )
        return text.encode()


class _AwsSource(ABC):
    """AWS service with the content of a keys file.

    Parameters
    ----------
    name
        Name or ARN, followed by `:REGION` if the default chain (AWS_REGION, profile) does not provide the region.
    """

    period: float | None = 300.0
    kind: ClassVar[str]
    service_name: ClassVar[str]
    service: ClassVar[Literal["secretsmanager", "ssm"]]

    def __init__(self, name: str) -> None:
        self._id, self._region = _split_region(name)
        self.name = f"{self.kind} {self._id}"
        self._client: Any = None

    def read(self) -> bytes:
        """Return the current content."""
        import boto3  # takes a third of a second to import
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                self._client = boto3.client(self.service, region_name=self._region)
            return self._get(self._client, self._id)
        except (BotoCoreError, ClientError) as error:
            raise KeysError(f"{self.name}: cannot be read from {self.service_name}: {error}") from error

    @abstractmethod
    def _get(self, client: Any, identifier: str) -> bytes: ...


class Secret(_AwsSource):
    """Current version of a secret in AWS Secrets Manager."""

    kind = "secret"
    service_name = "Secrets Manager"
    service = "secretsmanager"

    def _get(self, client: Any, identifier: str) -> bytes:
        value = client.get_secret_value(SecretId=identifier)
        return value["SecretString"].encode() if "SecretString" in value else bytes(value["SecretBinary"])


class Parameter(_AwsSource):
    """Parameter in AWS Systems Manager's Parameter Store, usually a SecureString."""

    kind = "parameter"
    service_name = "Parameter Store"
    service = "ssm"

    def _get(self, client: Any, identifier: str) -> bytes:
        return str(client.get_parameter(Name=identifier, WithDecryption=True)["Parameter"]["Value"]).encode()


def source(text: str) -> Source:
    """Return the source for a path, env:NAME, secretsmanager:NAME[:REGION] or ssm:NAME[:REGION].

    Raises
    ------
    KeysError
        If the path or name is empty.
    """
    kind, _, name = text.partition(":")
    if not text or (kind in _KINDS and not name):
        raise KeysError(f"--keys has value {text!r}; write a path, env:NAME, secretsmanager:NAME or ssm:NAME.")
    return _KINDS[kind](name) if kind in _KINDS else File(Path(text))


def secret(text: str) -> Source | None:
    """Return the AWS source that a setting names; None if the setting is a plain value.

    Raises
    ------
    KeysError
        If the name is empty.
    """
    return source(text) if text.partition(":")[0] in _AWS_KINDS else None


def _split_region(name: str) -> tuple[str, str | None]:
    """Split a name into name and region; region None means the default chain."""
    match = _REGION.fullmatch(name)
    if match:
        return match["name"], match["region"]
    return name, name.split(":")[3] if name.startswith("arn:") else None


_AWS_KINDS: Final[dict[str, Callable[[str], Source]]] = {"secretsmanager": Secret, "ssm": Parameter}
_KINDS: Final[dict[str, Callable[[str], Source]]] = {"env": Variable, **_AWS_KINDS}


class Keyring:
    """Keys as last read from a source.

    A source that is invalid at the start is an error. Later problems are logged, and the last valid keys remain in
    use: neither a typing error nor an outage of Secrets Manager locks clients out.

    Raises
    ------
    KeysError
        If the source is unreadable or invalid.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._content = source.read()
        self._keys = api_keys.parse(self._content, source.name)
        self._problem = ""

    @classmethod
    def open(cls, text: str) -> Self:
        """Open the source that the operator chose; see `source`.

        Raises
        ------
        KeysError
            If the source is unreadable or has no key.
        """
        opened = source(text)
        keyring = cls(opened)
        if not keyring.keys.keys:
            raise KeysError(
                f"{opened.name}: contains no key, so every request would be rejected. "
                "Create one with 'radserve keys create NAME --role predict --keys FILE'."
            )
        if not keyring.keys.valid:
            logger.warning("%s: all keys have expired", opened.name)
        if isinstance(opened, File) and key_file.readable_by_others(Path(text)):
            logger.warning("%s: other users can read this file; chmod 600 %s", opened.name, opened.name)
        return keyring

    @property
    def keys(self) -> api_keys.Keys:
        """All keys, including expired ones."""
        return self._keys

    def find(self, text: str) -> Key | None:
        """Return the valid key with this text."""
        return self._keys.find(text)

    def refresh(self) -> None:
        """Read the source again."""
        try:
            content = self._source.read()
            if content != self._content:
                self._keys, self._content = api_keys.parse(content, self._source.name), content
                logger.info("%s: reloaded, %d valid keys", self._source.name, len(self._keys.valid))
        except KeysError as error:
            if str(error) != self._problem:
                logger.error(  # noqa: TRY400 - the message is complete
                    "keys not reloaded, the last %d remain in use: %s", len(self._keys.keys), error
                )
            self._problem = str(error)
        else:
            if self._problem:
                logger.warning("%s: readable again", self._source.name)
            self._problem = ""

    async def watch(self) -> None:
        """Keep the keys up to date until cancelled."""
        while self._source.period is not None:
            await asyncio.sleep(self._source.period)
            await asyncio.to_thread(self.refresh)
