"""Reads, writes and compares deployment.yaml; its models are in `radserve.schema.deployment`.

Pure functions that the command line and the server share.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from radserve.build.model_store import order
from radserve.errors import DeploymentError
from radserve.schema.deployment import Action, DeployedModel, DeployedVersion
from radserve.schema.deployment import Change as Change  # noqa: PLC0414 - part of this module's interface
from radserve.schema.deployment import Deployment as Deployment  # noqa: PLC0414
from radserve.schema.deployment import percent as percent  # noqa: PLC0414

Served = DeployedVersion
Versions = DeployedModel

FILE: Final = "deployment.yaml"

_ACTIONS: Final[tuple[Action, ...]] = ("register", "scale", "share", "unregister")
"""In the order in which they are done, so that no version has to answer before it is there."""


def to_yaml(deployment: Deployment) -> str:
    """Write a deployment as a file that `parse` reads; equal deployments give equal text."""
    models = {
        name: {"versions": {key: _written(model.versions[key]) for key in sorted(model.versions, key=_order)}}
        for name, model in sorted(deployment.models.items())
    }
    return yaml.safe_dump({"models": models}, sort_keys=False)


def load(path: Path) -> Deployment:
    """Read a file.

    Raises
    ------
    DeploymentError
        If it cannot be read; also see `parse`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DeploymentError(
            f"{path}: {error.strerror or error}. 'radserve models export > {FILE}' writes what a server has."
        ) from error
    except UnicodeDecodeError as error:
        raise DeploymentError(f"{path}: not UTF-8: {error}.") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Deployment:
    """Read a deployment from YAML, of which JSON is a part.

    Parameters
    ----------
    source
        Names the text in errors.

    Raises
    ------
    DeploymentError
        Naming the source, the keys and the values of everything that is wrong.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that refuses more
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise DeploymentError(f"{source}: {line}{error.problem}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DeploymentError(f"{source}: not YAML: {' '.join(str(error).split())}.") from error
    return validate(document, source)


def validate(document: Any, source: str) -> Deployment:
    """Check a deployment that was read from `source`; see `parse`."""
    if not isinstance(document, dict):
        raise DeploymentError(f"{source}: holds no deployment; it begins with 'models:', which may be {{}}.")
    try:
        return Deployment.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors(include_url=False)))
        raise DeploymentError(f"{source}: {problems}.") from error


def changes(have: Deployment, want: Deployment) -> tuple[Change, ...]:
    """Tell what makes `have` into `want`.

    Sorted by model, then in the order in which they can be done: register, scale, share, unregister. Workers that
    `want` leaves to the server stay as they are. A version that goes loses its share with it, and one that comes has
    none until its share changes.
    """
    found = (change for name in {*have.models, *want.models} for change in _of_model(name, have, want))
    return tuple(sorted(found, key=lambda item: (item.model, _ACTIONS.index(item.action), _order(item.version))))


def _order(version: str) -> tuple[tuple[int, ...], str]:
    return order(version), version  # 1.0 and 1.00 are two names


def _of_model(name: str, have: Deployment, want: Deployment) -> Iterator[Change]:
    versions = {version for side in (have, want) if name in side.models for version in side.models[name].versions}
    for version in versions:
        for action, detail in _of_version(have.find(name, version), want.find(name, version)):
            yield Change(action=action, model=name, version=version, detail=f"{name} {version}: {detail}")


def _of_version(have: Served | None, want: Served | None) -> Iterator[tuple[Action, str]]:
    if want is None:
        assert have is not None
        yield "unregister", "is unregistered" + (f", with its {percent(have.share)} of requests" if have.share else "")
        return
    if have is None:
        yield "register", f"is registered with {_workers(want.workers)}"
    elif want.workers not in (None, have.workers):
        before = "" if have.workers is None else f" instead of {have.workers}"
        yield "scale", f"gets {_workers(want.workers)}{before}"
    before_share = have.share if have else 0.0
    if want.share != before_share:
        yield "share", f"gets {percent(want.share)} of requests instead of {percent(before_share)}"


def _workers(number: int | None) -> str:
    if number is None:
        return "as many workers as the server gives it"
    return f"{number} worker" + "s" * (number > 1)


def _written(item: Served) -> dict[str, Any]:
    return item.model_dump(exclude_none=True)


class _Loader(yaml.SafeLoader):
    """Refuses what YAML would silently read as something else: repeated keys, and keys that are no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        known: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise _wrong(key, f"is read as {key.tag.rpartition(':')[2]}, not as text")
            if key.value in known:
                raise _wrong(key, "stands there twice")
            known.add(key.value)
        return super().construct_mapping(node, deep)


def _wrong(key: yaml.Node, what: str) -> yaml.MarkedYAMLError:
    if not isinstance(key, yaml.ScalarNode):
        text = "a key that is itself a list or a map is not allowed"
    elif "twice" in what:
        text = f"key '{key.value}' {what}; keep one of them"
    else:
        text = f"key {key.value} {what}: write '{key.value}' with quotes (versions such as 1.0.0 need none)"
    return yaml.MarkedYAMLError(problem=text, problem_mark=key.start_mark)


def _problem(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "missing":
        more = ", and each of several versions needs it" if item["loc"][-1] == "share" else ""
        return f"key '{key}' is missing{more}"
    if item["type"] == "extra_forbidden":
        return f"key '{key}' is not known (its value is {_shown(item['input'])})"
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        return f"key '{key}': {item['msg'].removeprefix('Value error, ')}"
    reason = _REASONS.get(item["type"]) or item["msg"].removeprefix("Value error, ")
    if "[key]" in item["loc"]:
        reason = "names are small letters, digits and '-'" if len(item["loc"]) == 3 else "versions are 1.0.0 or '1.0'"
    return f"key '{key}' has value {_shown(item['input'])}: {reason}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_REASONS: Final = {
    "float_type": "it must be a number of percent, such as 5",
    "int_type": "it must be a whole number, such as 2",
    "model_type": "it must hold keys and values",
    "dict_type": "it must hold keys and values",
    "too_short": "it names no version; leave the model away where it shall not be served",
}
