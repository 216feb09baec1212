"""The index of an archive store: published versions, which never change."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, model_validator

from radserve.build.model_store import UNTRAINED, Entry, order
from radserve.errors import StoreError
from radserve.validation_error import describe


class PublishedArchive(Entry):
    """An archive of a store and the time of its publication."""

    pushed: AwareDatetime
    quarantine: None = Field(default=None, exclude=True)  # local to each server

    @model_validator(mode="after")
    def _check_file(self) -> Self:
        # It becomes a path in the model store: an index must not replace the file of another archive.
        if self.file != file_name(self):
            raise ValueError(f"file has value {self.file!r}, it must be {file_name(self)!r}")
        return self

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Return an archive of a model store as published now."""
        own = {"file": file_name(entry), "pushed": datetime.now(UTC).replace(microsecond=0)}
        return cls(**entry.model_dump(exclude={"quarantine"}) | own)

    @property
    def title(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} {self.version}"

    @property
    def entry(self) -> Entry:
        """Entry for the index of a model store."""
        return Entry(**self.model_dump(exclude={"pushed"}))


class Catalog(BaseModel, extra="forbid", frozen=True):
    """All archives of a store, sorted by name and version; `serial` counts the changes."""

    serial: Annotated[int, Field(ge=0)] = 0
    archives: tuple[PublishedArchive, ...] = ()

    @model_validator(mode="after")
    def _check_duplicates(self) -> Self:
        keys = [(item.name, item.version) for item in self.archives]
        duplicates = sorted({key for key in keys if keys.count(key) > 1})
        if duplicates:
            raise ValueError(f"duplicate archive {' '.join(duplicates[0])}")
        return self

    def find(self, name: str, version: str | None = None) -> PublishedArchive | None:
        """Return an archive, in its newest version if none is given."""
        matches = [item for item in self.archives if item.name == name and version in (None, item.version)]
        return max(matches, key=lambda item: order(item.version), default=None)

    def require(self, name: str, version: str | None, store: str) -> PublishedArchive:
        """Return an archive like `find`; a StoreError lists the available names or versions."""
        archive = self.find(name, version)
        if archive is not None:
            return archive
        if not self.archives:
            raise StoreError(f"{store}: empty; publish an archive with 'radserve store push NAME'.")
        versions = [item.version for item in self.archives if item.name == name]
        if versions:
            raise StoreError(f"{store}: {name} has no version {version}. Available: {', '.join(versions)}.")
        names = ", ".join(sorted({item.name for item in self.archives}))
        raise StoreError(f"{store}: unknown archive {name!r}. Available: {names}.")

    def add(self, archive: PublishedArchive) -> Self:
        """Return a catalog with one more archive; StoreError if its version has other content, or is untrained."""
        if archive.version == UNTRAINED:
            raise StoreError(f"{archive.title}: untrained; its random weights differ from build to build.")
        existing = self.find(archive.name, archive.version)
        if existing is None:
            archives = sorted(
                [*self.archives, archive], key=lambda item: (item.name, order(item.version), item.version)
            )
            return type(self)(serial=self.serial + 1, archives=tuple(archives))
        if existing.sha256 == archive.sha256:
            return self
        raise StoreError(
            f"{archive.title}: published on {existing.pushed:%Y-%m-%d} with sha256 {existing.sha256}, this one has "
            f"{archive.sha256}. A version never changes: raise it in the recipe (archive.yaml), build, and push that."
        )

    def next_serial(self) -> Self:
        """Return the same archives under the next serial."""
        return type(self)(serial=self.serial + 1, archives=self.archives)


def file_name(entry: Entry) -> str:
    """Return the file name of an archive in a model store."""
    return f"{entry.name}-{entry.version}.mar"


def parse(text: bytes, source: str) -> Catalog:
    """Parse a catalog (JSON); a StoreError names the source and every problem."""
    try:
        return Catalog.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(f"{source}: invalid index: {describe(error)}. Is this version of radserve too old?") from error
