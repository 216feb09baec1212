"""The archive store: built archives kept for other machines, in immutable versions.

A model store (`radserve.build.model_store`) is the folder that one server loads from. Archives are pushed from a
model store into an archive store, and pulled from there into other model stores.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from radserve.store.index import Published
    from radserve.store.store import Store, open_store

__all__ = ["Published", "Store", "open_store"]


def __getattr__(name: str) -> object:
    """Import what is asked for: the command line loads this package at every start, for its options alone."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from radserve.store import index, store

    return {"Published": index.Published, "Store": store.Store, "open_store": store.open_store}[name]
