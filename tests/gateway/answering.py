"""A backend that answers every image alike, for tests of what surrounds it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.access import Access, Open
from gateway.app import assemble
from gateway.backend import Catalog, Question, Reply
from gateway.keeping import Keeping
from gateway.references import References, Source
from gateway.services import Services
from gateway.settings import Settings

LABELS = ("normal", "pneumonia")


class Answering:
    """Says of each image that it is normal, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    async def ask(self, question: Question) -> Reply:
        self.asked.append(question)
        return Reply(200, "application/json", json.dumps(document(question)).encode())

    async def catalog(self) -> Catalog:
        return Catalog(models=())

    async def card(self, name: str, version: str) -> str:
        return f"# {name} {version}"

    async def sample(self, name: str, version: str) -> bytes:
        return b"\x89PNG"

    async def ready(self) -> str | None:
        return None

    async def close(self) -> None:
        pass


def document(question: Question) -> dict[str, Any]:
    """Answer as TorchServe does."""
    return {
        "model": {"name": question.model, "version": question.version or "1.0.0", "sha256": "0" * 64},
        "label": LABELS[0],
        "probability": 0.75,
        "probabilities": dict(zip(LABELS, (0.75, 0.25), strict=True)),
        "positive": False,
        "threshold": 0.5,
        "image": {"format": "png", "width": 1, "height": 1, "sha256": hashlib.sha256(question.body).hexdigest()},
    }


def gateway(
    access: Access | None = None,
    sources: dict[str, Source] | None = None,
    backend: Answering | None = None,
    **services: Any,
) -> FastAPI:
    """Make an application of some real parts and this backend; `services` are further fields, `settings` among them."""
    settings = services.pop("settings", None) or Settings.read(history="none")
    return assemble(
        Services(
            settings=settings,
            backend=backend or Answering(),
            access=access or Open(),
            keeping=Keeping(None, settings),
            references=References(sources or {}),
            **services,
        )
    )


def client(app: FastAPI, **words: Any) -> httpx.AsyncClient:
    """Make a client that asks an application in this process."""
    transport = httpx.ASGITransport(app, client=words.pop("address", ("127.0.0.1", 40000)))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", **words)
