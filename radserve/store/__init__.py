"""Archive stores: published archives in immutable versions, for many servers.

A model store (`radserve.build.model_store`) is the folder that one server loads from. Archives are pushed from a model
store into an archive store, and pulled from there into other model stores.
"""

from radserve.store.index import PublishedArchive
from radserve.store.store import Store, open_store

__all__ = ["PublishedArchive", "Store", "open_store"]
