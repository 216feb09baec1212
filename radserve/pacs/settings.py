"""Settings of the loop: one YAML file, described in docs/pacs.md."""

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import httpx
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydicom.datadict import tag_for_keyword

from radserve.dicom.kinds import Kind
from radserve.errors import PacsSettingsError
from radserve.schema.types import ModelName, Version
from radserve.validation_error import describe

_ENVIRONMENT: Final = "env:"
_FILE: Final = "file:"
_MAX_PORT: Final = 65535
_LOOPBACK: Final = ("127.0.0.1", "localhost")
_MIN_TOKEN: Final = 16  # characters
_SECRET: Final = range(24, 65)  # bytes, as Standard Webhooks requires


def _secret(value: str) -> str:
    """Return a secret, or that of the environment variable or file that `env:NAME` or `file:PATH` names."""
    if value.startswith(_FILE):
        path = Path(value.removeprefix(_FILE))
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text") from None  # the error would quote the secret
        if not secret:
            raise ValueError(f"{path} is empty")
        return secret
    if not value.startswith(_ENVIRONMENT):
        return value
    name = value.removeprefix(_ENVIRONMENT)
    if not os.environ.get(name):
        raise ValueError(f"the environment variable {name} is not set")
    return os.environ[name]


def _url(value: str) -> str:
    if "?" in value or not _is_url(value):
        raise ValueError("not a URL such as http://HOST:PORT/PATH; user name, password and token are keys of their own")
    return value.rstrip("/")


def _hook(value: str) -> str:
    if not _is_url(value):
        raise ValueError("not a URL such as https://HOST:PORT/PATH?QUERY, without user name, password and fragment")
    return value


def _is_url(value: str) -> bool:
    try:
        url = httpx.URL(value)
        is_valid = url.host.encode("idna") != b"" and (url.port or 1) <= _MAX_PORT
    except (httpx.InvalidURL, UnicodeError):
        return False
    return is_valid and re.fullmatch(r"https?://[^\s/@?#]+([/?][^\s#]*)?", value) is not None


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _keyword(value: str) -> str:
    if tag_for_keyword(value) is None:
        raise ValueError(f"{value!r} is not a DICOM attribute; write its keyword, such as Modality, or 'age'")
    return value


Secret = Annotated[str, AfterValidator(_secret)]
Url = Annotated[str, AfterValidator(_url)]
HookUrl = Annotated[str, AfterValidator(_hook)]
AeTitle = Annotated[str, Field(pattern=r"^[ -\[\]-~]{1,16}$")]  # PS3.5 table 6.2-1
Port = Annotated[int, Field(ge=1, le=_MAX_PORT)]
Seconds = Annotated[float, Field(gt=0)]
Values = Annotated[tuple[str, ...], BeforeValidator(_list), Field(min_length=1)]
Address = Annotated[str, StringConstraints(pattern=r"^[^\s:/]+:[0-9]{1,5}$")]
Kinds = Annotated[tuple[Kind, ...], BeforeValidator(_list), Field(min_length=1)]


class _Settings(BaseModel):
    """Base: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Settings):
    """Server or gateway that analyses the images."""

    url: Url = "http://127.0.0.1:8080"
    key: Secret | None = None
    cacert: Path | None = None
    timeout: Seconds = 120.0


class Web(_Settings):
    """Web service."""

    username: str | None = None
    password: Secret = ""
    token: Secret | None = None  # sent as `Authorization: Bearer TOKEN`
    timeout: Seconds = 60.0
    every: Seconds = 5.0  # seconds between two polls

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User name and password, for basic authentication."""
        return None if self.username is None else (self.username, self.password)

    @property
    def headers(self) -> dict[str, str]:
        """Header fields of every request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


class OrthancSource(Web):
    """Change feed of an Orthanc."""

    orthanc: Url
    history: bool = False  # at the first start, begin with the first change, not with the next


class DicomWebSource(Web):
    """Studies of the last days, by QIDO-RS and WADO-RS."""

    dicomweb: Url
    days: Annotated[int, Field(ge=0, le=365)] = 1  # before today, by study date


class Receiver(_Settings):
    """C-STORE service; `allowed` are the AE titles that may send."""

    ae: AeTitle = "RADSERVE"
    host: str = "127.0.0.1"
    port: Port = 11112
    allowed: Annotated[tuple[AeTitle, ...], Field(min_length=1)]


class StowDestination(Web):
    """STOW-RS service."""

    stow: Url


class StoreDestination(_Settings):
    """C-STORE service; with `commitment`, a result is done once its receiver has confirmed that it keeps it."""

    ae: AeTitle
    host: str
    port: Port
    calling: AeTitle = "RADSERVE"
    commitment: bool = False
    timeout: Seconds = 60.0


class Age(_Settings):
    """Range of ages in years."""

    at_least: Annotated[float, Field(ge=0)] = 0.0
    below: Annotated[float, Field(gt=0)] = 200.0


class Rule(_Settings):
    """Images with these attributes are sent to a model. An attribute may have any of the values; "" is absent."""

    name: str
    model: ModelName
    version: Version | None = None
    when: Annotated[Mapping[Annotated[str, AfterValidator(_keyword)], Values], Field(default_factory=dict)]
    age: Age | None = None
    write: Kinds | None = None  # instead of that of all rules


class Retry(_Settings):
    """Pauses double from `first` to `longest` seconds; after `attempts` failures that are no outages, a job is dead."""

    first: Seconds = 1.0
    longest: Seconds = 60.0
    attempts: Annotated[int, Field(ge=1)] = 10


class Status(_Settings):
    """HTTP endpoint with cases, metrics and health; the cases need `token`, which only loopback may lack."""

    address: Address
    token: Secret | None = None

    @property
    def host(self) -> str:
        """Address without the port."""
        return self.address.partition(":")[0]

    @property
    def port(self) -> int:
        """Port of the address."""
        return int(self.address.partition(":")[2])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.token is None and self.host not in _LOOPBACK:
            raise ValueError(f"{self.host} can be reached by other machines, so `token` must be set")
        if self.token is not None and len(self.token) < _MIN_TOKEN:
            raise ValueError(f"`token` must have at least {_MIN_TOKEN} characters")
        if not 1 <= self.port <= _MAX_PORT:
            raise ValueError(f"the port of `address` must be between 1 and {_MAX_PORT}")
        return self


class Webhook(_Settings):
    """Receiver of a message about each positive result; with `patient_data`, it has patient and accession number."""

    url: HookUrl
    secret: Secret  # `whsec_` and base64, or the text itself
    patient_data: bool = False
    timeout: Seconds = 10.0

    @property
    def key(self) -> bytes:
        """Key of the signature."""
        encoded = self.secret.removeprefix("whsec_")
        return self.secret.encode() if encoded == self.secret else base64.b64decode(encoded, validate=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            size = len(self.key)
        except ValueError:
            raise ValueError("`secret` must have base64 after `whsec_`") from None  # the error may quote it
        if size not in _SECRET:
            raise ValueError(f"`secret` must have {_SECRET[0]} to {_SECRET[-1]} bytes")
        return self


class Settings(_Settings):
    """All settings."""

    folder: Path
    server: Server = Server()
    sources: tuple[OrthancSource | DicomWebSource, ...] = ()
    receiver: Receiver | None = None
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    destinations: Annotated[tuple[StowDestination | StoreDestination, ...], Field(min_length=1)]
    write: Kinds = ("sr", "seg", "sc")
    workers: Annotated[int, Field(ge=1, le=32)] = 2
    retry: Retry = Retry()
    free: Annotated[int, Field(ge=0)] = 512 * 1024 * 1024  # bytes on the disk below which no image is accepted
    keep_days: Annotated[int, Field(ge=1)] = 90  # finished jobs are forgotten later
    status: Status | None = None
    webhook: Webhook | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_removed(cls, document: Any) -> Any:
        if isinstance(document, dict) and "metrics_port" in document:
            raise ValueError("`metrics_port` was replaced; write `status: {address: 127.0.0.1:PORT}`")
        return document

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources and self.receiver is None:
            raise ValueError("neither sources nor receiver is set, so no image would arrive")
        if self.receiver is None and any(getattr(item, "commitment", False) for item in self.destinations):
            raise ValueError("commitment needs a receiver: the confirmation arrives there")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        return self

    def kinds(self, rule: str) -> tuple[Kind, ...]:
        """Return the objects that are written for images of a rule, also for one that the settings no longer have."""
        return next((item.write for item in self.rules if item.name == rule and item.write), self.write)


def load(path: Path) -> Settings:
    """Read the settings; a PacsSettingsError names every invalid key."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Settings.model_validate(document)
    except OSError as error:
        raise PacsSettingsError(f"{path}: {error.strerror or error}.") from error
    except ValidationError as error:
        raise PacsSettingsError(f"{path}: {describe(error, values=False)}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PacsSettingsError(f"{path}: invalid YAML: {' '.join(str(error).split())}.") from error
