"""Tests of radserve.versions.request_hold: requests wait while TorchServe ends a worker."""

import asyncio

import pytest

from radserve.host.run_directory import RunDirectory
from radserve.versions.request_hold import RequestHold
from tests.radserve.versions.conftest import NAME, Service

pytestmark = pytest.mark.anyio


async def test_requests_pass_at_once_unless_they_are_held(service: Service) -> None:
    assert await service.forward() == "@torchserve"


async def test_requests_wait_while_they_are_held(service: Service) -> None:
    async with service.version_manager.scaling.hold.held(NAME):
        waiting = asyncio.create_task(service.forward())
        await asyncio.sleep(0.1)
        assert not waiting.done()
    assert await waiting == "@torchserve"


async def test_requests_are_not_held_forever(directory: RunDirectory, service: Service) -> None:
    service.version_manager.scaling.hold = RequestHold(directory, max_seconds=0.1)
    async with service.version_manager.scaling.hold.held(NAME) as released:
        await asyncio.wait_for(released.wait(), 5)
