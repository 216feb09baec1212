import pytest

from gateway.access import Caller
from gateway.access.permissions import require_deletable, visible_client
from gateway.errors import NotAllowedError
from radserve.auth.api_keys import Role


@pytest.mark.parametrize(("roles", "client"), [({Role.PREDICT}, "a"), ({Role.READ}, None), ({Role.MANAGE}, None)])
def test_only_read_and_manage_see_the_results_of_all_clients(roles: set[Role], client: str | None) -> None:
    assert visible_client(Caller("a", frozenset(roles))) == client


def test_a_caller_without_a_role_sees_nothing() -> None:
    with pytest.raises(NotAllowedError, match="predict"):
        visible_client(Caller("a", frozenset()))


def test_results_of_others_are_deleted_with_the_role_manage_only() -> None:
    reader = Caller("a", frozenset({Role.PREDICT, Role.READ}))
    require_deletable(reader, "a")
    require_deletable(Caller("b", frozenset({Role.MANAGE})), "a")
    with pytest.raises(NotAllowedError, match="manage"):
        require_deletable(reader, "b")
