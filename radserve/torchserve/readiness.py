"""Readiness: every worker is ready, and every model answers its sample as it did at build time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx

from radserve.torchserve import sample_check
from radserve.torchserve.launch import Address
from radserve.torchserve.registry import ModelRegistry, ModelVersion


class Readiness:
    """Checks whether TorchServe is ready.

    Parameters
    ----------
    required
        Returns the versions that must be ready: those that receive requests, not standby versions and candidates.
    """

    def __init__(
        self, registry: ModelRegistry, address: Address, required: Callable[[], Sequence[ModelVersion]]
    ) -> None:
        self._registry = registry
        self._required = required
        self._client = httpx.AsyncClient(base_url=address.url, timeout=30.0)

    async def problem(self, *, infer: bool) -> str | None:
        """Return why the server is not ready, or None.

        Parameters
        ----------
        infer
            Also send each model its sample.
        """
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
        """Send a version its sample and return what is wrong with the response, or None.

        Raises
        ------
        httpx.HTTPError
            If TorchServe does not respond.
        """
        response = await self._client.post(version.model.path, content=version.model.sample)
        if response.status_code != httpx.codes.OK:
            return f"{version}: the request with its sample failed with status {response.status_code}."
        prediction = response.json()
        if prediction["model"]["sha256"] != version.entry.sha256:
            return f"{version}: another archive answered its sample, sha256 {prediction['model']['sha256']}."
        difference = sample_check.difference(prediction, version.model.expected)
        return f"{version}: the prediction for its sample differs: {difference}." if difference else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
