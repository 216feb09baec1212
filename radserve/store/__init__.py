"""Archive stores: published archives in immutable versions, for many servers.

A model store (`radserve.build.model_store`) is the folder that one server loads from. Archives are pushed from a model
store into an archive store, and pulled from there into other model stores.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from radserve.store.index import PublishedArchive
    from radserve.store.store import Store, open_store

__all__ = ["PublishedArchive", "Store", "open_store"]


def __getattr__(name: str) -> object:
    """Import on first use, to keep the command line's start fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from radserve.store import index, store

    return getattr(index if name == "PublishedArchive" else store, name)
