"""True readiness: every worker ready, and every model answering its sample as it did when it was built."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx

from radserve.torchserve import sample_check
from radserve.torchserve.launch import Address
from radserve.torchserve.registry import ModelRegistry, ModelVersion


class Readiness:
    """Asks TorchServe whether it is ready.

    Parameters
    ----------
    needed
        Tells which versions requests go to; one that only stands by, or is tried, makes no server unready.
    """

    def __init__(self, fleet: ModelRegistry, address: Address, needed: Callable[[], Sequence[ModelVersion]]) -> None:
        self._fleet = fleet
        self._needed = needed
        self._client = httpx.AsyncClient(base_url=address.url, timeout=30.0)

    async def problem(self, *, infer: bool) -> str | None:
        """Say why the server is not ready, or None.

        Parameters
        ----------
        infer
            Ask each model its sample as well.
        """
        try:
            await self._fleet.look()
            for member in self._needed():
                if member.ready < member.workers:
                    return f"{member}: {member.ready} of {member.workers} workers are ready."
            for member in self._needed() if infer else ():
                problem = await self.answers(member)
                if problem:
                    return problem
        except (httpx.HTTPError, OSError) as error:
            self._fleet.forget_workers()
            return f"TorchServe does not answer yet ({type(error).__name__})."
        return None

    async def answers(self, member: ModelVersion) -> str | None:
        """Ask a version its sample; say what is wrong with the answer, or None.

        Raises
        ------
        httpx.HTTPError
            If there is none.
        """
        response = await self._client.post(member.served.path, content=member.served.sample)
        if response.status_code != httpx.codes.OK:
            return f"{member}: its sample was answered with {response.status_code}."
        found = response.json()
        if found["model"]["sha256"] != member.entry.sha256:
            return f"{member}: its sample was answered by another archive, {found['model']['sha256']}."
        wrong = sample_check.difference(found, member.served.answer)
        return f"{member}: its sample got another answer than when it was built: {wrong}." if wrong else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
