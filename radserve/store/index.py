"""The index of an archive store: which versions were published, and the bytes they have for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from radserve.build.model_store import UNTRAINED, Entry, order
from radserve.errors import StoreError


class Published(Entry):
    """An archive of a store, and since when it is there."""

    pushed: AwareDatetime

    @model_validator(mode="after")
    def _named_after_itself(self) -> Self:
        # It becomes a path in the model store: an index must not choose which other archive it replaces.
        if self.file != file_name(self):
            raise ValueError(f"file has value {self.file!r}, it must be {file_name(self)!r}")
        return self

    @property
    def title(self) -> str:
        """Name and version, as messages have it."""
        return f"{self.name} {self.version}"

    @property
    def entry(self) -> Entry:
        """Itself as a model store's index has it."""
        return Entry(**self.model_dump(exclude={"pushed"}))


class Catalog(BaseModel):
    """All archives of a store, sorted by name and version; `serial` counts the changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: Annotated[int, Field(ge=0)] = 0
    archives: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        keys = [(item.name, item.version) for item in self.archives]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"{' '.join(twice[0])} stands in it twice")
        return self

    def find(self, name: str, version: str | None = None) -> Published | None:
        """Return the archive of that name, the newest if no version is asked for."""
        found = [item for item in self.archives if item.name == name and version in (None, item.version)]
        return max(found, key=lambda item: order(item.version), default=None)

    def add(self, new: Published) -> Self:
        """Return the catalog with an archive more; with the same one if it is there already.

        Raises
        ------
        StoreError
            If its version stands for other bytes, or is none that can stand for some.
        """
        if new.version == UNTRAINED:
            raise StoreError(
                f"{new.title}: is untrained, and no version of a store: random weights differ from build to build."
            )
        held = self.find(new.name, new.version)
        if held is None:
            archives = sorted([*self.archives, new], key=lambda item: (item.name, order(item.version), item.version))
            return type(self)(serial=self.serial + 1, archives=tuple(archives))
        if held.sha256 == new.sha256:
            return self
        raise StoreError(
            f"{new.title}: was pushed on {held.pushed:%Y-%m-%d} with sha256 {held.sha256}, this one has {new.sha256}. "
            "A version never changes: raise it in the recipe (archive.yaml), build, and push that."
        )

    def again(self) -> Self:
        """Return the same archives under the next serial."""
        return type(self)(serial=self.serial + 1, archives=self.archives)


def file_name(entry: Entry) -> str:
    """Return what the archive's file is called in a model store."""
    return f"{entry.name}-{entry.version}.mar"


def publish(entry: Entry) -> Published:
    """Return an archive as it is published now."""
    fields = entry.model_dump() | {"file": file_name(entry), "pushed": datetime.now(UTC).replace(microsecond=0)}
    return Published(**fields)


def parse(text: bytes, source: str) -> Catalog:
    """Read a catalog (JSON).

    Raises
    ------
    StoreError
        Naming the source and what is wrong.
    """
    try:
        return Catalog.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StoreError(f"{source}: {where}: {first['msg']}. No index that this version of radserve reads.") from error
