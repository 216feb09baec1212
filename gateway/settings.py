"""Settings of the gateway: environment variables RADSERVE_GATEWAY_..., validated before anything starts."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AnyHttpUrl, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.errors import SettingsError
from gateway.problems import describe_validation
from radserve.auth import key_sources
from radserve.errors import KeysError

PREFIX: Final = "RADSERVE_GATEWAY_"

_SUPERVISOR: Final = "http://127.0.0.1:8090"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_SECRETS: Final = ("server_key", "history", "rate_storage", "pacs_token")
"""Settings that may name a secret. `keys` may as well, but the keyring re-reads it: revoked keys must stop working."""

Names = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated in a variable."""


class Settings(BaseSettings):
    """Settings of one gateway; docs/gateway.md and the pages that it links describe each variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    server: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8080")
    supervisor: AnyHttpUrl | None = None
    server_key: str = Field(default="", repr=False)
    server_ca: Path | None = None
    archive: Path | None = None
    timeout: Annotated[float, Field(gt=0, le=900)] = 60.0  # seconds until a request to `server` fails
    max_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024  # of a request body
    max_files: Annotated[int, Field(ge=1, le=1000)] = 64  # in a form
    keys: str = Field(default="", repr=False)
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_roles_claim: str = "roles"
    oidc_role_prefix: str = "radserve:"
    proxies: Names = ()
    rate: str = "200/second"  # of a caller, in the notation of `limits`
    failures: Annotated[int, Field(ge=1)] = 60  # requests without a valid credential, per minute and address
    rate_storage: str = Field(default="memory://", repr=False)
    origins: Names = ()
    history: str = Field(default="sqlite:state/history.sqlite3", repr=False)
    retention: Annotated[float, Field(gt=0, le=36_500)] = 90.0  # days
    keep_names: bool = False
    images: Path | None = None
    overlays: bool = True  # whether masks and heat maps are stored
    uploads: str = ""
    max_upload: Annotated[int, Field(ge=1024)] = 128 * 1024 * 1024  # bytes
    url_hosts: Names = ()
    pacs: AnyHttpUrl | None = None  # status endpoint of `radserve pacs`
    pacs_token: str = Field(default="", repr=False)
    log: Literal["DEBUG", "INFO", "WARNING"] = "INFO"

    @field_validator("origins", "proxies", "url_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("pacs", mode="before")
    @classmethod
    def _optional(cls, value: object) -> object:
        return value or None

    @field_validator("pacs")
    @classmethod
    def _require_no_credentials(cls, value: AnyHttpUrl | None) -> AnyHttpUrl | None:
        """Reject a user name or password: errors print the URL."""
        if value is not None and (value.username or value.password):
            raise ValueError("must have no user name or password; use the setting pacs_token")
        return value

    @classmethod
    def read(cls, **values: object) -> Self:
        """Read the environment variables, and the files named like them in the folder RADSERVE_GATEWAY_SECRETS.

        A variable wins over a file. Mounted secrets therefore need no variable. Raises SettingsError, which names the
        variable of an invalid value, but not the value: it may be a secret.
        """
        folder = os.environ.get(f"{PREFIX}SECRETS") or None
        if folder is not None and not Path(folder).is_dir():
            raise SettingsError(f"{PREFIX}SECRETS: {folder} is not a folder.")
        try:
            return cls(_secrets_dir=folder, **values)  # type: ignore[arg-type, call-arg]
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            raise SettingsError(describe_validation(errors, lambda field: f"{PREFIX}{field.upper()}")) from error

    def resolve_secrets(self) -> Self:
        """Return the settings with the contents of named secrets; raises SettingsError that names the variable."""
        return self.model_copy(update={name: _resolve(name, getattr(self, name)) for name in _SECRETS})

    @property
    def supervisor_url(self) -> str:
        """Base URL of /ready and /catalog, without a trailing slash; the proxy of another machine serves both."""
        is_local = self.server.scheme == "http" and self.server.host in _LOOPBACK
        return str(self.supervisor or (_SUPERVISOR if is_local else self.server)).rstrip("/")

    @property
    def retention_period(self) -> timedelta:
        """Time until results are deleted."""
        return timedelta(days=self.retention)


def _resolve(setting: str, value: str) -> str:
    variable = f"{PREFIX}{setting.upper()}"
    try:
        source = key_sources.secret(value)
        text = value if source is None else source.read().decode().strip()
    except ImportError as error:
        raise SettingsError(f"{variable} names a secret; install boto3 to read it.") from error
    except UnicodeDecodeError as error:  # its message would repeat bytes of the secret
        raise SettingsError(f"{variable}: the secret is not UTF-8 text.") from error
    except KeysError as error:
        raise SettingsError(f"{variable}: {error}") from error
    if source is not None and not text:
        raise SettingsError(f"{variable}: the secret is empty.")
    return text
