"""How the gateway is configured: variables named RADSERVE_GATEWAY_..., checked before anything starts."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AnyHttpUrl, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.errors import SettingsError

PREFIX: Final = "RADSERVE_GATEWAY_"

_SUPERVISOR: Final = "http://127.0.0.1:8090"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

Words = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated in a variable."""


class Settings(BaseSettings):
    """What an operator may choose.

    Attributes
    ----------
    server
        Base URL of TorchServe, or of the nginx front before it.
    supervisor
        Base URL of /ready and /catalog. Where it is not set: port 8090 of this machine if `server` is plain HTTP on it,
        else `server`, for a front has both.
    server_key
        API key with the role predict, sent to `server`.
    server_ca
        PEM file of the authority that signed the front's certificate, where the system does not know it.
    archive
        Where it is set, the model is this archive (.mar), in this process, and `server` is not asked.
    timeout
        Seconds until the server behind has failed to answer.
    max_bytes
        Longest body that is taken.
    max_files
        Most files of one form.
    keys
        Where API keys are kept, as `radserve.auth.keyring.source` reads it; empty for none.
    oidc_issuer, oidc_audience, oidc_roles_claim, oidc_role_prefix
        Tokens of this issuer for this audience are taken as well; the claim lists roles (`predict`, `read`, `manage`).
    proxies
        Addresses and networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; none by default.
    rate
        Requests that a caller may send, as `limits` reads it: `200/second`.
    failures
        Requests without a valid key or token that an address may send in a minute.
    rate_storage
        Where they are counted: `memory://`, or redis://... for several gateways together.
    origins
        Origins that may ask from a browser (CORS): `https://app.example`. None by default.
    history
        Where results are kept: `sqlite:PATH`, `redis://[:PASSWORD@]HOST[:PORT]/[DB]` (rediss: TLS), or `none`.
    retention
        How long, in days.
    keep_names
        Whether the names of files are kept.
    images
        Folder for the images that were asked about; they are not kept where it is not set.
    uploads
        `s3://BUCKET/PREFIX` for images larger than the gateway takes; uploads are off where it is not set.
    max_upload
        Longest object, in bytes.
    url_hosts
        Hosts whose images may be named by URL; none by default.
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
    proxies: Words = ()
    rate: str = "200/second"
    failures: Annotated[int, Field(ge=1)] = 60
    rate_storage: str = Field(default="memory://", repr=False)
    origins: Words = ()
    history: str = Field(default="sqlite:state/history.sqlite3", repr=False)
    retention: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    keep_names: bool = False
    images: Path | None = None
    uploads: str = ""
    max_upload: Annotated[int, Field(ge=1024)] = 128 * 1024 * 1024
    url_hosts: Words = ()
    log: Literal["DEBUG", "INFO", "WARNING"] = "INFO"

    @field_validator("origins", "proxies", "url_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @classmethod
    def read(cls, **chosen: object) -> Self:
        """Read the variables, and the files of the folder RADSERVE_GATEWAY_SECRETS, which are named like them.

        A variable wins over a file. Secrets that are mounted need so stand in no variable.

        Raises
        ------
        SettingsError
            Naming the variable and what is wrong with it, without its value: some are secrets.
        """
        folder = os.environ.get(f"{PREFIX}SECRETS") or None
        if folder is not None and not Path(folder).is_dir():
            raise SettingsError(f"{PREFIX}SECRETS: {folder} is no folder.")
        try:
            return cls(_secrets_dir=folder, **chosen)  # type: ignore[arg-type, call-arg]
        except ValidationError as error:
            said = "; ".join(_problem(item) for item in error.errors(include_url=False, include_input=False))
            raise SettingsError(said) from error

    @property
    def health(self) -> str:
        """Base URL of the supervisor, without a slash at its end."""
        beside = self.server.scheme == "http" and self.server.host in _LOOPBACK
        return str(self.supervisor or (_SUPERVISOR if beside else self.server)).rstrip("/")

    @property
    def kept_for(self) -> timedelta:
        """How long results are kept."""
        return timedelta(days=self.retention)


def _problem(item: object) -> str:
    assert isinstance(item, dict)
    where = "_".join(str(part) for part in item["loc"]).upper()
    return f"{PREFIX}{where}: {item['msg']}"
