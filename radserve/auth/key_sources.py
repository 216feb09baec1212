"""Reads keys files from a path, an environment variable, AWS Secrets Manager or Parameter Store."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from radserve.auth import key_file
from radserve.errors import KeysError

_AWS: Final = {"secretsmanager": ("secret", "Secrets Manager"), "ssm": ("parameter", "Parameter Store")}
"""Prefix -> what it names, and the service, in messages."""
_REGION: Final = re.compile(r"(.+):([a-z]{2}(?:-[a-z]+)+-\d)")


@dataclass(frozen=True)
class Source:
    """Storage of a keys file, with its name in messages and the path of a local file.

    `period` is the number of seconds between two reads, None if the content cannot change. `read` raises KeysError.
    """

    name: str
    period: float | None
    read: Callable[[], bytes]
    path: Path | None = None


def source(text: str) -> Source:
    """Return the source for a path, env:NAME, secretsmanager:NAME[:REGION] or ssm:NAME[:REGION]; raises KeysError."""
    kind, _, name = text.partition(":")
    if not text or (kind in ("env", *_AWS) and not name):
        raise KeysError(f"--keys has value {text!r}; write a path, env:NAME, secretsmanager:NAME or ssm:NAME.")
    if kind == "env":
        return Source(f"variable {name}", None, partial(_read_variable, name))
    if kind in _AWS:
        return _aws_source(kind, name)
    path = Path(text)  # read every second: a revoked key must stop working within seconds
    return Source(str(path), 1.0, partial(key_file.read, path), path)


def secret(text: str) -> Source | None:
    """Return the AWS source that a setting names; None if the setting is a plain value."""
    return source(text) if text.partition(":")[0] in _AWS else None


def _read_variable(name: str) -> bytes:
    text = os.environ.get(name)
    if text is None:
        raise KeysError(f"--keys env:{name}: this variable is not set; set it to the text of a keys file.")
    return text.encode()


def _aws_source(kind: Any, name: str) -> Source:
    """Return a source for a name or ARN; `:REGION` after a name replaces the region of the default chain."""
    match = _REGION.fullmatch(name)
    identifier, region = match.groups() if match else (name, name.split(":")[3] if name.startswith("arn:") else None)
    noun, service = _AWS[kind]

    @cache
    def client() -> Any:
        import boto3  # takes a third of a second to import

        return boto3.client(kind, region_name=region)

    def read() -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if kind == "ssm":
                return str(client().get_parameter(Name=identifier, WithDecryption=True)["Parameter"]["Value"]).encode()
            value = client().get_secret_value(SecretId=identifier)
            return value["SecretString"].encode() if "SecretString" in value else bytes(value["SecretBinary"])
        except (BotoCoreError, ClientError) as error:
            raise KeysError(f"{noun} {identifier}: cannot be read from {service}: {error}") from error

    return Source(f"{noun} {identifier}", 300.0, read)
