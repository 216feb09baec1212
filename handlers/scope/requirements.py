"""Attributes that an operator requires: `age,view` for all models, `MODEL:age` for one."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from handlers.errors import ScopeError
from handlers.scope.statement import ATTRIBUTES

_NAME: Final = re.compile(r"[a-z0-9-]+")


def of(model: str, text: str) -> frozenset[str]:
    """Return the attributes that are required of images for a model; `ScopeError` if the text is invalid.

    A model whose scope does not restrict an attribute analyses images without it.
    """
    return frozenset(attribute for name, attribute in _parse(text) if name in (None, model))


def check(text: str, models: Collection[str]) -> None:
    """Raise `ScopeError` if the text is invalid or names a model that is not among those of the model store."""
    for name, attribute in _parse(text):
        if name is not None and name not in models:
            raise ScopeError(
                f"Unknown model {name!r} in {name}:{attribute}. Available: {', '.join(sorted(models)) or 'none'}. "
                f"Write NAME:{attribute} with one of them, or {attribute} for all models."
            )


def without_effect(text: str, scopes: Mapping[str, Collection[str]]) -> list[str]:
    """Return the requirements that concern no served model; `scopes` has the restricted attributes of each."""
    return [
        attribute if name is None else f"{name}:{attribute}"
        for name, attribute in _parse(text)
        if not any(attribute in scopes.get(model, ()) for model in (scopes if name is None else [name]))
    ]


def _parse(text: str) -> list[tuple[str | None, str]]:
    """Return pairs of a model, None for all models, and an attribute."""
    pairs: list[tuple[str | None, str]] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, attribute = (part.strip() for part in item.rpartition(":"))
        if attribute not in ATTRIBUTES:
            raise ScopeError(f"Unknown attribute {attribute!r} is required. Available: {', '.join(ATTRIBUTES)}.")
        if colon and not _NAME.fullmatch(name):
            raise ScopeError(
                f"Invalid model name {name!r} in {item}. Write NAME:{attribute}, with the name of one model and "
                f"without a version, or {attribute} for all models."
            )
        pairs.append((name if colon else None, attribute))
    return pairs
