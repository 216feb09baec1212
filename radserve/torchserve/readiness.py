"""Readiness: every worker is ready, and every model answers its sample as it did at build time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from radserve.torchserve.connection import connect
from radserve.torchserve.registry import ModelRegistry, ModelVersion

TOLERANCE: Final = 0.01
"""Largest accepted difference of a probability or fraction; as in `handlers.torchserve_handler`, which needs torch."""


class Readiness:
    """Checks whether TorchServe is ready; `required` returns the versions that must be, those with traffic."""

    def __init__(
        self, registry: ModelRegistry, inference: Path, required: Callable[[], Sequence[ModelVersion]]
    ) -> None:
        self._registry = registry
        self._required = required
        self._client = connect(inference, timeout=30.0)

    async def problem(self, *, infer: bool) -> str | None:
        """Return why the server is not ready, or None; `infer` also sends each model its sample."""
        try:
            await self._registry.refresh()
            for version in self._required():
                if version.ready < version.workers:
                    return f"{version}: {version.ready} of {version.workers} workers are ready."
            for version in self._required() if infer else ():
                problem = await self.sample_problem(version)
                if problem:
                    return problem
        except (httpx.HTTPError, OSError) as error:
            self._registry.forget_workers()
            return f"TorchServe does not respond ({type(error).__name__})."
        return None

    async def sample_problem(self, version: ModelVersion) -> str | None:
        """Send a version its sample; return what is wrong with the response, or None."""
        response = await self._client.post(version.model.path, content=version.model.sample)
        if response.status_code != httpx.codes.OK:
            return f"{version}: the request with its sample failed with status {response.status_code}."
        prediction = response.json()
        if prediction["model"]["sha256"] != version.entry.sha256:
            return f"{version}: another archive answered its sample, sha256 {prediction['model']['sha256']}."
        text = difference(prediction, version.model.expected)
        return f"{version}: the prediction for its sample differs: {text}." if text else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def difference(prediction: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Describe the first difference between a prediction and the archive's `TorchServeHandler.summary`, or None."""
    values = _values(prediction)
    for name, target in _values(expected).items():
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(target, str):
            same = abs(value - target) <= TOLERANCE
        else:
            same = value == target
        if not same:
            return f"{name} is {_text(value)}, expected {_text(target)} as at build time"
    return None


def _values(document: Mapping[str, Any]) -> dict[str, str | float]:
    values = {f"probability of {label}": value for label, value in document.get("probabilities", {}).items()}
    if "label" in document:
        values["label"] = document["label"]
    fraction = document.get("fraction", document.get("area", {}).get("fraction"))
    return values if fraction is None else values | {"fraction": fraction}


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "missing" if value is None else str(value)
