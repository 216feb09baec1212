"""Readiness: every model has its workers and answers its sample as it did at build time."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from radserve.torchserve.connection import connect
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair

TOLERANCE: Final = 0.01
"""Largest accepted difference of a probability or fraction; as in `handlers.torchserve_handler`, which needs torch."""

_SAMPLE_TIMEOUT: Final = 30.0
_SILENCE_TIMEOUT: Final = 10.0
"""Seconds for a sample while the management API is silent. With the 5 seconds of that API and the monitor's two checks,
a TorchServe that hangs makes the server unavailable after about 30 seconds."""


@dataclass(frozen=True)
class Problem:
    """Why the server is not as declared; fatal if a model cannot answer.

    `versions` are the only ones that the problem concerns; empty if it may concern all of them.
    """

    detail: str
    fatal: bool
    versions: frozenset[Pair] = frozenset()


class Readiness:
    """Checks whether TorchServe is ready.

    `required` returns the versions that must be, those with traffic; `failures` the number of responses of a version
    to clients that failed in a row, if it is suspicious.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        inference: Path,
        required: Callable[[], Sequence[ModelVersion]],
        failures: Callable[[str, str], int] = lambda *_: 0,
    ) -> None:
        self._registry = registry
        self._required = required
        self._failures = failures
        self._client = connect(inference, _SAMPLE_TIMEOUT)

    async def problem(self, *, infer: bool) -> Problem | None:
        """Return the worst problem, or None; `infer` also sends each model its sample.

        A version whose responses to clients fail gets its sample in any case.

        The management API may be silent for seconds, for example during a garbage collection. That is not fatal as
        long as every model answers its sample.
        """
        try:
            await self._registry.refresh()
        except (httpx.HTTPError, OSError) as error:
            failure = await self._failure(self._required(), _SILENCE_TIMEOUT)
            if failure is not None:
                self._registry.forget_workers()
                return failure
            return Problem(f"The management API does not respond ({type(error).__name__}).", fatal=False)
        shortage = self._shortage()
        versions = self._required() if infer else self._suspicious()
        failure = None if shortage and shortage.fatal else await self._failure(versions, _SAMPLE_TIMEOUT)
        if failure and (infer or self._suspicious()):  # else, clients were answered meanwhile
            return failure
        return shortage or self._suspicion()

    def _suspicious(self) -> list[ModelVersion]:
        """Return the versions whose latest responses to clients all failed."""
        return [version for version in self._required() if self._failures(*version.pair)]

    def _suspicion(self) -> Problem | None:
        for version in self._suspicious():
            count = self._failures(*version.pair)
            text = f"{version}: it answers its sample, but its last {count} responses to clients failed with 5xx."
            return Problem(text, fatal=False, versions=frozenset({version.pair}))
        return None

    def _shortage(self) -> Problem | None:
        """Return the version that lacks workers, one without any first."""
        required = self._required()
        missing = [version for version in required if version.ready < version.workers]
        if not missing:
            return None
        version = min(missing, key=lambda item: item.ready > 0)
        detail = f"{version}: {version.ready} of {version.workers} workers are ready."
        started = sum(item.ready > 0 for item in required)
        if started < len(required) > 1:
            detail = f"{started} of {len(required)} models are ready. {detail}"
        return Problem(detail, version.ready == 0, frozenset({version.pair}))

    async def _failure(self, versions: Sequence[ModelVersion], seconds: float) -> Problem | None:
        """Return which of the versions do not answer their samples, and why the first does not; None if all do."""
        try:  # at the same time, so that several that hang take no longer than one
            details = await asyncio.gather(*(self._timely_problem(version, seconds) for version in versions))
        except (httpx.HTTPError, OSError) as error:
            return Problem(f"The engine does not respond ({type(error).__name__}).", fatal=True)
        failures = {version.pair: detail for version, detail in zip(versions, details, strict=True) if detail}
        return Problem(next(iter(failures.values())), fatal=True, versions=frozenset(failures)) if failures else None

    async def _timely_problem(self, version: ModelVersion, seconds: float) -> str | None:
        try:
            return await self.sample_problem(version, seconds)
        except httpx.ReadTimeout:
            return f"{version}: its sample got no response within {seconds:g} s."

    async def sample_problem(self, version: ModelVersion, seconds: float = _SAMPLE_TIMEOUT) -> str | None:
        """Send a version its sample; return what is wrong with the response, or None."""
        response = await self._client.post(version.model.path, content=version.model.sample, timeout=seconds)
        if response.status_code != httpx.codes.OK:
            return f"{version}: the request with its sample failed with status {response.status_code}."
        prediction = response.json()
        if prediction["model"]["sha256"] != version.entry.sha256:
            return f"{version}: another archive answered its sample, sha256 {prediction['model']['sha256']}."
        profile = version.model.profile
        if prediction.get("profile") != (profile.reference if profile else None):
            return f"{version}: its worker does not apply the site profile; build the archive with this release."
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
