"""Reads, writes and compares deployment.yaml (`radserve.schema.deployment`), on the command line and in the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from radserve.build.model_store import order
from radserve.errors import DeploymentError
from radserve.schema.deployment import Action, Change, DeployedVersion, Deployment, percent
from radserve.validation_error import describe

FILE: Final = "deployment.yaml"

_ACTIONS: Final[tuple[Action, ...]] = ("register", "scale", "share", "unregister")
"""The order in which changes are made: a version receives requests only once it is registered."""


def to_yaml(deployment: Deployment) -> str:
    """Return the text of a file that `parse` reads; equal deployments give equal text."""
    models = {
        name: {"versions": {key: versions[key].model_dump(exclude_none=True) for key in sorted(versions, key=_order)}}
        for name, versions in sorted((name, model.versions) for name, model in deployment.models.items())
    }
    return yaml.safe_dump({"models": models}, sort_keys=False)


def load(path: Path) -> Deployment:
    """Read a deployment from a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DeploymentError(
            f"{path}: {error.strerror or error}. Create one with 'radserve models export > {FILE}'."
        ) from error
    except UnicodeDecodeError as error:
        raise DeploymentError(f"{path}: not UTF-8: {error}.") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Deployment:
    """Read a deployment from YAML or JSON; a DeploymentError names `source` and every invalid key and value."""
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a stricter SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise DeploymentError(f"{source}: {line}{error.problem}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DeploymentError(f"{source}: invalid YAML: {' '.join(str(error).split())}.") from error
    return validate(document, source)


def validate(document: Any, source: str) -> Deployment:
    """Validate the content of a deployment file; see `parse`."""
    if not isinstance(document, dict):
        raise DeploymentError(f"{source}: not a deployment; it must begin with 'models:', which may be {{}}.")
    try:
        return Deployment.model_validate(document)
    except ValidationError as error:
        raise DeploymentError(f"{source}: {describe(error)}.") from error


def changes(current: Deployment, wanted: Deployment) -> tuple[Change, ...]:
    """Return the changes that turn one deployment into another.

    They are sorted by model, then in the order in which they can be made. The number of workers is unchanged if
    `wanted` leaves it to the server. A new version has no share until its share changes.
    """
    steps = [
        Change(action=action, model=name, version=version, detail=f"{name} {version}: {detail}")
        for name in {*current.models, *wanted.models}
        for version in {v for side in (current, wanted) if name in side.models for v in side.models[name].versions}
        for action, detail in _steps(current.find(name, version), wanted.find(name, version))
    ]
    return tuple(sorted(steps, key=lambda step: (step.model, _ACTIONS.index(step.action), _order(step.version))))


def _steps(current: DeployedVersion | None, wanted: DeployedVersion | None) -> Iterator[tuple[Action, str]]:
    if wanted is None:
        assert current is not None
        yield "unregister", "removed" + (f", with {percent(current.share)} of requests" if current.share else "")
        return
    if current is None:
        yield "register", f"new version, {_workers(wanted.workers)}"
    elif wanted.workers not in (None, current.workers):
        before = "" if current.workers is None else f" instead of {current.workers}"
        yield "scale", f"{_workers(wanted.workers)}{before}"
    share = current.share if current else 0.0
    if wanted.share != share:
        yield "share", f"{percent(wanted.share)} of requests instead of {percent(share)}"


def _workers(number: int | None) -> str:
    if number is None:
        return "default number of workers"
    return f"{number} worker" + "s" * (number > 1)


def _order(version: str) -> tuple[tuple[int, ...], str]:
    return order(version), version  # 1.0 and 1.00 are different names


class _Loader(yaml.SafeLoader):
    """Rejects what YAML would silently misread: duplicate keys, and keys that are not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _key_error(key, "a key must not be a list or a mapping")
            if key.tag != "tag:yaml.org,2002:str":
                kind = key.tag.rpartition(":")[2]
                raise _key_error(
                    key, f"key {key.value} is a {kind}, not text: quote it, '{key.value}' (1.0.0 needs no quotes)"
                )
            if key.value in keys:
                raise _key_error(key, f"duplicate key '{key.value}'")
            keys.add(key.value)
        return super().construct_mapping(node, deep)


def _key_error(key: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
