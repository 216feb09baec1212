"""The archive store: built archives kept for others, each version for ever.

Not to be confused with a model store, which is the folder that one server loads from (`radserve.build.model_store`): archives
are pushed from a model store into an archive store, and pulled from there into other model stores.
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
