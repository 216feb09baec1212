"""Settings of the gateway: environment variables RADSERVE_GATEWAY_..., validated before anything starts."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AnyHttpUrl, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.errors import SettingsError
from gateway.problems import describe_validation

PREFIX: Final = "RADSERVE_GATEWAY_"

_SUPERVISOR: Final = "http://127.0.0.1:8090"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

Names = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated in a variable."""


class Settings(BaseSettings):
    """Settings of one gateway.

    Attributes
    ----------
    server
        Base URL of TorchServe, or of the proxy in front of it.
    supervisor
        Base URL of /ready and /catalog. Default: port 8090 of this machine if `server` is plain HTTP on this machine,
        else `server`, because the proxy serves both.
    server_key
        API key with the role `predict` for `server`.
    server_ca
        PEM file of the certificate authority of `server`, if the system does not trust it.
    archive
        Model archive (.mar) to run in this process instead of sending requests to `server`.
    timeout
        Seconds until a request to `server` fails.
    max_bytes
        Largest request body in bytes.
    max_files
        Maximum number of files in a form.
    keys
        Location of the API keys, see `radserve.auth.keyring.source`; empty for none.
    oidc_issuer, oidc_audience, oidc_roles_claim, oidc_role_prefix
        Accept tokens of this issuer for this audience; the claim lists roles (`predict`, `read`, `manage`).
    proxies
        Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted.
    rate
        Rate limit of a caller, in the notation of `limits`: `200/second`.
    failures
        Requests with an invalid credential that an address may send per minute.
    rate_storage
        Storage of the rate limiter: `memory://`, or redis://... to share limits between gateways.
    origins
        Web origins that may call the API (CORS): `https://app.example`.
    history
        Result history: `sqlite:PATH`, `redis://[:PASSWORD@]HOST[:PORT]/[DB]` (rediss: TLS), or `none`.
    retention
        Days until results are deleted.
    keep_names
        Whether the history records file names.
    images
        Folder that stores the images of results; unset to store none.
    uploads
        `s3://BUCKET/PREFIX` for images larger than `max_bytes`; unset to turn uploads off.
    max_upload
        Largest upload in bytes.
    url_hosts
        Hosts from which images may be fetched by URL.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    server: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8080")
    supervisor: AnyHttpUrl | None = None
    server_key: str = Field(default="", repr=False)
    server_ca: Path | None = None
    archive: Path | None = None
    timeout: Annotated[float, Field(gt=0, le=900)] = 60.0
    max_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    max_files: Annotated[int, Field(ge=1, le=1000)] = 64
    keys: str = Field(default="", repr=False)
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_roles_claim: str = "roles"
    oidc_role_prefix: str = "radserve:"
    proxies: Names = ()
    rate: str = "200/second"
    failures: Annotated[int, Field(ge=1)] = 60
    rate_storage: str = Field(default="memory://", repr=False)
    origins: Names = ()
    history: str = Field(default="sqlite:state/history.sqlite3", repr=False)
    retention: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    keep_names: bool = False
    images: Path | None = None
    uploads: str = ""
    max_upload: Annotated[int, Field(ge=1024)] = 128 * 1024 * 1024
    url_hosts: Names = ()
    log: Literal["DEBUG", "INFO", "WARNING"] = "INFO"

    @field_validator("origins", "proxies", "url_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @classmethod
    def read(cls, **values: object) -> Self:
        """Read the environment variables, and the files named like them in the folder RADSERVE_GATEWAY_SECRETS.

        A variable wins over a file. Mounted secrets therefore need no variable.

        Raises
        ------
        SettingsError
            If a value is invalid. The message names the variable, but not the value: it may be a secret.
        """
        folder = os.environ.get(f"{PREFIX}SECRETS") or None
        if folder is not None and not Path(folder).is_dir():
            raise SettingsError(f"{PREFIX}SECRETS: {folder} is not a folder.")
        try:
            return cls(_secrets_dir=folder, **values)  # type: ignore[arg-type, call-arg]
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            raise SettingsError(describe_validation(errors, lambda field: f"{PREFIX}{field.upper()}")) from error

    @property
    def supervisor_url(self) -> str:
        """Base URL of the supervisor, without a trailing slash."""
        is_local = self.server.scheme == "http" and self.server.host in _LOOPBACK
        return str(self.supervisor or (_SUPERVISOR if is_local else self.server)).rstrip("/")

    @property
    def retention_period(self) -> timedelta:
        """Time until results are deleted."""
        return timedelta(days=self.retention)
