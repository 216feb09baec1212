from gateway.errors import NotFoundError


def test_a_subclass_without_status_has_that_of_its_base() -> None:
    class GoneError(NotFoundError, title="Gone"):
        pass

    class NestedError(GoneError):
        pass

    assert (NestedError.status, NestedError.title) == (404, "Gone")
