"""Attributes that an operator requires: `age,view` for all models, `MODEL:age` for one."""

from handlers.errors import ScopeError
from handlers.scope.statement import ATTRIBUTES


def of(model: str, text: str) -> frozenset[str]:
    """Return the attributes that are required of images for a model; `ScopeError` if the text is invalid.

    A model whose scope does not restrict an attribute analyses images without it.
    """
    items = [item.strip().rpartition(":") for item in text.split(",") if item.strip()]
    for _, _, attribute in items:
        if attribute not in ATTRIBUTES:
            raise ScopeError(f"Unknown attribute {attribute!r} is required. Available: {', '.join(ATTRIBUTES)}.")
    return frozenset(attribute for name, _, attribute in items if name in ("", model))
