"""A backend that answers as it is told, without a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from gateway.backends.base import Catalog, Question, Reply
from gateway.errors import NotFoundError

SHA256 = "a" * 64
CATALOG: dict[str, Any] = {
    "models": [
        {
            "name": "chest",
            "versions": [
                {
                    "version": "1.0.0",
                    "sha256": SHA256,
                    "share": 100,
                    "task": "classification",
                    "title": "Pneumonia",
                    "labels": ["normal", "pneumonia"],
                    "positive": "pneumonia",
                    "threshold": 0.5,
                    "explains": True,
                    "input": {"color": "gray", "height": 112, "width": 160},
                    "trained_on": "films",
                    "licence": "none",
                }
            ],
        }
    ]
}


def prediction(image: bytes, /, **changes: Any) -> dict[str, Any]:
    """Return a right answer to an image, changed."""
    right = {
        "model": {"name": "chest", "version": "1.0.0", "sha256": SHA256},
        "label": "normal",
        "probability": 0.75,
        "probabilities": {"normal": 0.75, "pneumonia": 0.25},
        "positive": False,
        "threshold": 0.5,
        "image": {"format": "png", "width": 20, "height": 10, "sha256": hashlib.sha256(image).hexdigest()},
    }
    return {key: value for key, value in (right | changes).items() if value is not ...}


def reply(document: Any, status: int = 200, media_type: str = "application/json") -> Reply:
    """Reply with JSON."""
    return Reply(status, media_type, json.dumps(document).encode())


class Told:
    """Answers by a script; `asked` is what it was asked."""

    def __init__(self, script: Callable[[Question], Reply] | None = None) -> None:
        self.asked: list[Question] = []
        self.script = script or (lambda question: reply(prediction(question.body)))
        self.problem: str | None = None

    async def ask(self, question: Question) -> Reply:
        self.asked.append(question)
        return self.script(question)

    async def catalog(self) -> Catalog:
        return Catalog.model_validate(CATALOG)

    async def card(self, name: str, version: str) -> str:
        if (name, version) != ("chest", "1.0.0"):
            raise NotFoundError("not served")
        return "# Chest\n\n| a | b |\n|---|---|\n| 1 | <script>x</script> |\n"

    async def sample(self, name: str, version: str) -> bytes:
        if (name, version) != ("chest", "1.0.0"):
            raise NotFoundError("not served")
        return b"\x89PNG sample"

    async def ready(self) -> str | None:
        return self.problem

    async def close(self) -> None:
        pass
