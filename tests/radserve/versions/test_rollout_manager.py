"""Tests of radserve.versions.rollout_manager."""

import pytest

from handlers.profile import VerifiedProfile
from radserve.errors import ConflictError, NotServedError
from radserve.schema.rollout import RolloutSpec
from tests.handlers.test_profile import site_profile
from tests.radserve.versions.conftest import ADA, NAME, SPLIT, Service

pytestmark = pytest.mark.anyio

SPEC = RolloutSpec(version="2.0.0")


async def test_an_unknown_model_cannot_be_rolled_out(service: Service) -> None:
    with pytest.raises(NotServedError, match="Unknown model 'lung'"):
        await service.rollouts.start("lung", SPEC, ADA)


async def test_the_version_that_receives_the_requests_cannot_be_rolled_out(service: Service) -> None:
    with pytest.raises(ConflictError, match=r"1\.0\.0 already receives the requests"):
        await service.rollouts.start(NAME, RolloutSpec(version="1.0.0"), ADA)


async def test_a_model_whose_requests_are_split_cannot_be_rolled_out(proxied: Service) -> None:
    await proxied.version_manager.apply(SPLIT, ADA)
    with pytest.raises(ConflictError, match="its requests are split"):
        await proxied.rollouts.start(NAME, SPEC, ADA)


async def test_a_version_without_a_site_profile_does_not_replace_one_that_has(service: Service) -> None:
    profiles = [VerifiedProfile(site_profile(version=version), "b" * 64) for version in ("1.0.0", "2.0.0")]
    service.registration.profiles = profiles[:1]
    with pytest.raises(ConflictError, match=r"2\.0\.0 has no site profile, but 1\.0\.0 has one"):
        await service.rollouts.start(NAME, SPEC, ADA)
    assert service.audit == []
    service.registration.profiles = profiles
    await service.rollouts.start(NAME, SPEC, ADA)


async def test_only_a_rollout_in_progress_can_be_aborted(service: Service) -> None:
    with pytest.raises(NotServedError):
        await service.rollouts.abort(NAME, ADA)
    await service.end(await service.rollouts.start(NAME, SPEC, ADA))
    with pytest.raises(ConflictError, match="its rollout has ended; 'radserve models rollback brightness'"):
        await service.rollouts.abort(NAME, ADA)
