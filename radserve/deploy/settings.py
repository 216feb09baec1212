"""Settings of an environment: a YAML file and changes from the command line."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from radserve.deploy.errors import SettingsError

StackName = Literal["storage", "secrets", "network", "prometheus", "service", "host", "monitoring", "front"]

STACKS: Final[tuple[StackName, ...]] = get_args(StackName)
"""All stacks, each after those whose outputs it uses."""

_EXAMPLE: Final = "See radserve/deploy/example-environment.yaml."
_TAG: Final = r"^[\w .:/=+@-]{1,128}$"


class Settings(BaseModel, extra="forbid", frozen=True):
    """One environment.

    `radserve/deploy/example-environment.yaml` explains every key. All values of `parameters` (by stack) are text, so a
    version such as 0.10 keeps its zero.
    """

    environment: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,18}[a-z0-9]$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    home: Literal["service", "host", "elsewhere"] = "service"
    front: Literal["none", "zip", "image"] = "none"
    package: Path = Path("dist/radserve-lambda.zip")
    prometheus: bool = True
    termination_protection: bool = False
    tags: dict[Annotated[str, Field(pattern=_TAG)], Annotated[str, Field(max_length=256)]] = {}
    parameters: dict[StackName, dict[str, str]] = {}

    @model_validator(mode="after")
    def _check_stacks(self) -> Self:
        for stack, parameters in self.parameters.items():
            if not parameters or self.has(stack):
                continue
            if stack == "front":
                raise ValueError("parameters.front needs a front: remove it, or set front to zip or image")
            home = stack if stack in ("service", "host") else "service or host"
            raise ValueError(f"parameters.{stack} cannot be used with home {self.home}: remove it, or set home: {home}")
        if self.home == "elsewhere" and self.front == "none":
            raise ValueError("home elsewhere needs a front: set front to zip or image")
        return self

    def has(self, stack: StackName) -> bool:
        """Return whether the environment has a stack."""
        if stack == "front":
            return self.front != "none"
        if stack in ("service", "host"):
            return stack == self.home
        if stack == "prometheus" and not self.prometheus:
            return False
        return stack in ("storage", "secrets") or self.home != "elsewhere"

    def stacks(self, only: Collection[str] = ()) -> tuple[StackName, ...]:
        """Return the environment's stacks, or those in `only`, in the order of their dependencies."""
        own = tuple(stack for stack in STACKS if self.has(stack))
        if unknown := [stack for stack in only if stack not in own]:
            raise SettingsError(f"{self.environment} has no stack {unknown[0]!r}. Available: {', '.join(own)}.")
        return tuple(stack for stack in own if not only or stack in only)

    def stack_name(self, stack: StackName) -> str:
        """Return the name of a stack in CloudFormation."""
        return f"radserve-{self.environment}-{stack}"

    def all_tags(self) -> dict[str, str]:
        """Return the tags of all resources."""
        return {**self.tags, "radserve:environment": self.environment}


def load(path: Path, changes: Iterable[str] = ()) -> Settings:
    """Read an environment's file (YAML) and apply changes to it.

    A change is KEY=VALUE, where KEY is a setting, a tag (tags.NAME) or a parameter (STACK.PARAMETER).
    """
    try:
        # The base loader keeps every value as text.
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - creates only text
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}. {_EXAMPLE}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{path} has no settings. {_EXAMPLE}")
    for change in changes:
        _change(document, change)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_problem(error)}") from error


def _change(document: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {change}: expected KEY=VALUE, for example service.MaxTasks=4.")
    section, dot, name = key.partition(".")
    if not dot:
        document[key] = value
        return
    if section not in (*STACKS, "tags"):
        raise SettingsError(f"--set {change}: unknown stack {section!r}. Available: {', '.join(STACKS)}.")
    parent = document
    if section != "tags":
        parent = document["parameters"] = document.get("parameters") or {}
    try:
        parent[section] = {**(parent.get(section) or {}), name: value}
    except (AttributeError, TypeError) as error:
        raise SettingsError(f"--set {change}: the file has no mapping for {section}.") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {key}. Available: {', '.join(Settings.model_fields)}."
    if problem["type"] == "missing":
        return f"{key} is missing."
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{key} has value {problem['input']!r}. {reason}." if key else f"{reason}."
