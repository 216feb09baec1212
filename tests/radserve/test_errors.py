from radserve.errors import ConflictError


def test_a_subclass_without_status_has_that_of_its_base() -> None:
    class LockedError(ConflictError, title="Locked"):
        pass

    class NestedError(LockedError):
        pass

    assert (NestedError.status, NestedError.title) == (409, "Locked")
