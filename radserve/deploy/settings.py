"""What an environment is: a small YAML file, and what the command line changes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from radserve.deploy.errors import SettingsError

StackName = Literal["storage", "secrets", "network", "service", "host", "monitoring", "front"]

_STACKS: Final = frozenset(get_args(StackName))
_TAG: Final = r"^[\w .:/=+@-]{1,128}$"


class Settings(BaseModel):
    """One environment.

    Attributes
    ----------
    environment
        Its name; stacks are called radserve-NAME-STACK.
    region
        Of AWS; that of the profile or of the variables if None.
    home
        What the server runs on: a cluster behind a load balancer, or one machine; or elsewhere, and the environment is
        no more than a front before it.
    front
        What the front door on Lambda is made of: a package, an image, or there is none.
    package
        The package, as scripts/build-lambda makes it.
    termination_protection
        Whether stacks refuse to be deleted.
    tags
        Put on everything that takes tags, beside radserve:environment.
    parameters
        Of the templates, by stack. All values are text, so that a version such as 0.10 stays what was written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    environment: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,18}[a-z0-9]$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    home: Literal["service", "host", "elsewhere"] = "service"
    front: Literal["none", "zip", "image"] = "none"
    package: Path = Path("dist/radserve-lambda.zip")
    termination_protection: bool = False
    tags: dict[Annotated[str, Field(pattern=_TAG)], Annotated[str, Field(max_length=256)]] = {}
    parameters: dict[StackName, dict[str, str]] = {}

    @model_validator(mode="after")
    def _one_home(self) -> Self:
        for stack in self.parameters:
            if not self.parameters[stack] or self.has(stack):
                continue
            if stack == "front":
                raise ValueError(
                    "parameters.front does not go with front none: remove it, or set front to zip or image"
                )
            wanted = stack if stack in ("service", "host") else "service or host"
            raise ValueError(
                f"parameters.{stack} does not go with home {self.home}: remove it, or set home to {wanted}"
            )
        if self.home == "elsewhere" and self.front == "none":
            raise ValueError("home elsewhere without a front is nothing at all: set front to zip or image")
        return self

    def has(self, stack: StackName) -> bool:
        """Tell whether the environment has a stack."""
        if stack == "front":
            return self.front != "none"
        if stack in ("service", "host"):
            return stack == self.home
        return stack in ("storage", "secrets") or self.home != "elsewhere"

    def all_tags(self) -> dict[str, str]:
        """Return the tags of everything that this environment has."""
        return {**self.tags, "radserve:environment": self.environment}


def load(path: Path, changes: Iterable[str] = ()) -> Settings:
    """Read an environment's file and change it.

    Parameters
    ----------
    changes
        KEY=VALUE, where KEY is one of the file's, a tag (tags.NAME) or a stack's parameter (STACK.PARAMETER).

    Raises
    ------
    SettingsError
        If the file cannot be read, or it or a change is wrong.
    """
    try:
        # The base loader leaves every value the text that it is.
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - it makes only text
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror or error}. See radserve/deploy/templates/example.yaml."
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{path} holds no settings. See radserve/deploy/templates/example.yaml.")
    for change in changes:
        document = _changed(document, change)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first(error)}") from error


def _changed(document: Mapping[str, Any], change: str) -> dict[str, Any]:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {change}: write KEY=VALUE, such as service.MaxTasks=4.")
    first, _, rest = key.partition(".")
    if not rest:
        return {**document, first: value}
    path = ("tags", rest) if first == "tags" else ("parameters", first, rest)
    if first not in _STACKS | {"tags"}:
        raise SettingsError(f"--set {change}: {first!r} is no stack; stacks are {', '.join(sorted(_STACKS))}.")
    return _put(document, path, value)


def _put(document: Mapping[str, Any], path: tuple[str, ...], value: str) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {**document, first: value}
    inner = document.get(first) or {}
    if not isinstance(inner, dict):
        raise SettingsError(f"{first} has value {inner!r}, where names and their values belong.")
    return {**document, first: _put(inner, tuple(rest), value)}


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in found["loc"] if part != "[key]")
    if found["type"] == "extra_forbidden":
        return f"{where} is no setting; settings are {', '.join(Settings.model_fields)}."
    if found["type"] == "missing":
        return f"{where} is missing."
    reason = found["msg"].removeprefix("Value error, ")
    return f"{where} has value {found['input']!r}. {reason}." if where else f"{reason}."
