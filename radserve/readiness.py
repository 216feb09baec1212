"""True readiness: every worker ready, and every model answering its sample as it did when it was built."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from radserve import torchserve
from radserve.metrics import Crew
from radserve.served import Served
from radserve.torchserve import Address, Management


class Readiness:
    """Asks TorchServe whether it is ready.

    Parameters
    ----------
    workers
        That each archive should have.
    """

    def __init__(self, served: Sequence[Served], workers: int, address: Address, management: Management) -> None:
        self._served = served
        self._workers = workers
        self._management = management
        self._client = httpx.AsyncClient(base_url=address.url, timeout=30.0)
        self._ready: dict[str, int] = {}

    @property
    def crews(self) -> list[Crew]:
        """The workers of each archive, as last heard of."""
        return [Crew(item.entry, self._workers, self._ready.get(item.path, 0)) for item in self._served]

    async def problem(self, *, infer: bool) -> str | None:
        """Say why the server is not ready, or None.

        Parameters
        ----------
        infer
            Ask each model its sample as well.
        """
        try:
            for item in self._served:
                model = await self._management.describe(item.entry.name, item.entry.version)
                self._ready[item.path] = torchserve.ready_workers(model)
            for crew in self.crews:
                if crew.ready < crew.wanted:
                    return f"{crew.entry.name} {crew.entry.version}: {crew.ready} of {crew.wanted} workers are ready."
            for item in self._served if infer else ():
                problem = await self._ask_sample(item)
                if problem:
                    return problem
        except (httpx.HTTPError, OSError) as error:
            self._ready.clear()
            return f"TorchServe does not answer yet ({type(error).__name__})."
        return None

    async def _ask_sample(self, item: Served) -> str | None:
        response = await self._client.post(item.path, content=item.sample)
        if response.status_code != httpx.codes.OK:
            return f"{item.entry.name} {item.entry.version}: its sample was answered with {response.status_code}."
        found, wanted = response.json(), item.answer
        if found["model"]["sha256"] != item.entry.sha256 or found["label"] != wanted["label"]:
            return f"{item.entry.name} {item.entry.version}: its sample got another answer than when it was built."
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
