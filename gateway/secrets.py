"""Resolves settings that name a secret: `secretsmanager:NAME[:REGION]` or `ssm:NAME[:REGION]`."""

from __future__ import annotations

from typing import Final

from gateway.errors import SettingsError
from gateway.settings import PREFIX, Settings
from radserve.auth import keyring
from radserve.errors import KeysError

FIELDS: Final = ("server_key", "history", "rate_storage")
"""Settings that may name a secret. `keys` may as well, but the keyring re-reads it: revoked keys must stop working."""


def resolve(settings: Settings) -> Settings:
    """Return the settings with the named secrets in place, each read once.

    Raises
    ------
    SettingsError
        If a secret cannot be read; the message names the variable.
    """
    values = {name: _read(name, getattr(settings, name)) for name in FIELDS}
    return settings.model_copy(update={name: value for name, value in values.items() if value is not None})


def _read(setting: str, value: str) -> str | None:
    variable = f"{PREFIX}{setting.upper()}"
    try:
        source = keyring.secret(value)
        text = None if source is None else source.read().decode().strip()
    except ImportError as error:
        raise SettingsError(f"{variable} names a secret; install boto3 to read it.") from error
    except UnicodeDecodeError as error:  # its message would repeat bytes of the secret
        raise SettingsError(f"{variable}: the secret is not UTF-8 text.") from error
    except KeysError as error:
        raise SettingsError(f"{variable}: {error}") from error
    if text == "":
        raise SettingsError(f"{variable}: the secret is empty.")
    return text
