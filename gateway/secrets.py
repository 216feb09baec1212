"""Settings that are secrets, named instead of written: `secretsmanager:NAME[:REGION]` or `ssm:NAME[:REGION]`."""

from __future__ import annotations

from typing import Final

from gateway.errors import SettingsError
from gateway.settings import PREFIX, Settings
from radserve.auth import keyring
from radserve.errors import KeysError

NAMED: Final = ("server_key", "history", "rate_storage")
"""What may be named so. `keys` as well, but its keyring reads it again and again: a revoked key must stop."""


def resolve(settings: Settings) -> Settings:
    """Return settings that hold the secrets which they named, each read once.

    Raises
    ------
    SettingsError
        Naming the variable and the secret that cannot be read.
    """
    found = {name: _secret(name, getattr(settings, name)) for name in NAMED}
    return settings.model_copy(update={name: text for name, text in found.items() if text is not None})


def _secret(setting: str, words: str) -> str | None:
    try:
        source = keyring.secret(words)
        text = None if source is None else source.read().decode().strip()
    except ImportError as error:
        raise SettingsError(f"{PREFIX}{setting.upper()} names a secret, which needs boto3 to be read.") from error
    except (KeysError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}{setting.upper()}: {_said(error)}") from error
    if text == "":
        raise SettingsError(f"{PREFIX}{setting.upper()}: the secret that it names is empty.")
    return text


def _said(error: Exception) -> str:
    """Say what is wrong; of bytes that are no text not even one is repeated."""
    return "the secret that it names is no text." if isinstance(error, UnicodeDecodeError) else str(error)
