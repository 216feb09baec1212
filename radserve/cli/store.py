"""`radserve store`: publish archives and pull them into model stores."""

from __future__ import annotations

import json as json_
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from handlers.errors import RadServeError
from radserve.cli.serve import MODEL_STORE
from radserve.cli.serve import Store as ModelStore

if TYPE_CHECKING:
    from radserve.build.model_store import Entry
    from radserve.store.store import Store

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DEFAULT_STORE: Final = "store"

app = typer.Typer(
    help="Publish archives in a store (a folder, s3:// or, read-only, https://) and pull them from there.",
    no_args_is_help=True,
)

Url = Annotated[
    str, typer.Option("--store", envvar="RADSERVE_STORE", help="Folder, s3://BUCKET/PREFIX, or https:// (read-only).")
]
SigningKey = Annotated[
    str, typer.Option(envvar="RADSERVE_STORE_SIGNING_KEY", help="File with the key that signs the index, or env:NAME.")
]
PublicKey = Annotated[
    str,
    typer.Option(envvar="RADSERVE_STORE_PUBLIC_KEY", help="File with the keys that may sign the index, or env:NAME."),
]
Names = Annotated[list[str] | None, typer.Argument(help="NAME (newest version) or NAME/VERSION.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def push(
    names: Names = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Every archive of the model store.")] = False,
    store: Url = _DEFAULT_STORE,
    model_store: ModelStore = MODEL_STORE,
    signing_key: SigningKey = "",
    public_key: PublicKey = "",
    json: Json = False,
) -> None:
    """Publish archives of the model store.

    A published version never changes: pushing the same content again does
    nothing, other content is rejected. An interrupted push can be resumed.

    Exit codes:
    0    all archives are published
    1    at least one failed
    2    wrong usage
    """
    opened = _open(store, signing_key, public_key)
    results = _Results(opened.name)
    for entry in _select(model_store, names or (), every=all_):
        with results.of(entry.name, entry.version) as progress:
            result = opened.push(entry, model_store, progress)
            results.add(result.archive.model_dump(mode="json"), "pushed" if result.fresh else "unchanged")
    results.report(json=json, unchanged="already published with the same content")


@app.command()
def pull(
    names: Names = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Every version of every archive.")] = False,
    store: Url = _DEFAULT_STORE,
    model_store: ModelStore = MODEL_STORE,
    public_key: PublicKey = "",
    accept_older: Annotated[
        bool, typer.Option("--accept-older", help="Accept an older index: the store was restored from a backup.")
    ] = False,
    json: Json = False,
) -> None:
    """Download archives into the model store.

    An archive appears there after its size, checksum and content are checked.
    An interrupted pull can be resumed.

    Exit codes:
    0    the model store holds all archives
    1    at least one failed
    2    wrong usage
    """
    opened = _open(store, "", public_key)
    archives = _parse(names or (), every=all_)
    if all_:
        archives = [(item.name, item.version) for item in opened.entries()]
    results = _Results(opened.name)
    for name, version in archives:
        with results.of(name, version) as progress:
            result = opened.fetch(name, version, model_store, progress, accept_older=accept_older)
            results.add(result.entry.model_dump(mode="json"), "pulled" if result.fresh else "unchanged")
    results.report(json=json, unchanged=f"already in {model_store}")


@app.command("list")
def list_(*, store: Url = _DEFAULT_STORE, public_key: PublicKey = "", json: Json = False) -> None:
    """List published archives.

    Exit codes:
    0    listed
    1    the store cannot be read, or its signature is wrong
    """
    from radserve.cli import store_view

    opened = _open(store, "", public_key)
    snapshot = opened.snapshot()
    serial, archives = snapshot.catalog.serial, snapshot.catalog.archives
    if json:
        _print_json(
            {
                "store": opened.name,
                "serial": serial,
                "signed_by": list(snapshot.key_ids),
                "verified_by": snapshot.verified_by,
                "archives": [item.model_dump(mode="json") for item in archives],
            }
        )
        return
    store_view.print_archives(archives)
    signature = "not signed"
    if snapshot.key_ids:
        check = "verified" if snapshot.verified_by else "not verified: no --public-key"
        signature = f"signed by {snapshot.key_ids[0][:16]} ({check})"
    typer.echo(f"{opened.name}: serial {serial}, {signature}", err=True)


@app.command()
def verify(
    *,
    store: Url = _DEFAULT_STORE,
    model_store: Annotated[
        Path | None, typer.Option(help="Also check the archives of this model store, and compare them with the store.")
    ] = None,
    public_key: PublicKey = "",
    json: Json = False,
) -> None:
    """Read every archive of the store and compare it with the index.

    Exit codes:
    0    all archives are intact
    1    at least one is not, the store cannot be read, or its signature is
         wrong
    """
    from radserve.cli import store_view

    opened = _open(store, "", public_key)
    with store_view.progress_bar("verify") as progress:
        report = opened.verify(model_store, progress)
    if json:
        _print_json({"store": opened.name, **asdict(report)})
    else:
        store_view.print_report(report)
    for item in report.failures:
        typer.echo(f"radserve: {item.where}: {item.name} {item.version}: {item.problem}", err=True)
    if report.failures:
        raise typer.Exit(1)


@app.command()
def gc(
    *,
    store: Url = _DEFAULT_STORE,
    public_key: PublicKey = "",
    older_than: Annotated[str, typer.Option(help="Keep data younger than this: 30m, 24h, 7d.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
    json: Json = False,
) -> None:
    """Delete blobs that no published version needs, and data of interrupted pushes.

    Published versions are never deleted.

    Exit codes:
    0    deleted, or nothing to delete
    1    the store cannot be read or written
    2    wrong usage
    """
    from radserve.cli.store_view import megabytes

    age = _duration(older_than)
    opened = _open(store, "", public_key)
    garbage = opened.collect_garbage(age, dry_run=dry_run)
    if json:
        blobs = [{"sha256": item.sha256, "size": item.size} for item in garbage.blobs]
        uploads = [item.key for item in garbage.uploads]
        _print_json({"store": opened.name, "dry_run": dry_run, "blobs": blobs, "unfinished": uploads})
        return
    for blob in garbage.blobs:
        typer.echo(f"sha256 {blob.sha256}  {megabytes(blob.size)}")
    for upload in garbage.uploads:
        typer.echo(f"unfinished push {upload.key}")
    verb = "Would delete" if dry_run else "Deleted"
    size = megabytes(sum(item.size for item in garbage.blobs))
    typer.echo(f"{verb} {len(garbage.blobs)} blobs ({size}) and {len(garbage.uploads)} unfinished pushes.", err=True)


@app.command()
def sign(
    *,
    store: Url = _DEFAULT_STORE,
    signing_key: SigningKey = "",
    public_key: PublicKey = "",
    accept_unsigned: Annotated[
        bool, typer.Option("--accept-unsigned", help="Sign an index without a signature, which you have checked.")
    ] = False,
) -> None:
    """Sign the index for the first time, or with a new key.

    Exit codes:
    0    signed
    1    not signed
    """
    opened = _open(store, signing_key, public_key)
    catalog = opened.sign(accept_unsigned=accept_unsigned)
    typer.echo(f"{opened.name}: signed {len(catalog.archives)} archives, serial {catalog.serial}.", err=True)


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="File for the private key; the public key is written to FILE.pub.")],
) -> None:
    """Create a key pair (Ed25519) for signing the index.

    Exit codes:
    0    created
    1    a file exists already, or cannot be written
    """
    from radserve.store import signature

    key_id = signature.generate(file)
    typer.echo(f"Key {key_id[:16]}: keep {file} secret and give {file}.pub to everyone who pulls.", err=True)


class _Results:
    """Outcome of every archive; a failure does not stop the others."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._archives: list[dict[str, Any]] = []
        self._failures: list[dict[str, Any]] = []

    @contextmanager
    def of(self, name: str, version: str | None) -> Iterator[Any]:
        from radserve.cli.store_view import progress_bar

        try:
            with progress_bar(f"{name} {version or ''}".strip()) as progress:
                yield progress
        except RadServeError as error:
            self._failures.append({"name": name, "version": version, "problem": str(error)})

    def add(self, document: dict[str, Any], status: str) -> None:
        self._archives.append(document | {"status": status})

    def report(self, *, json: bool, unchanged: str) -> None:
        from radserve.cli.store_view import megabytes

        if json:
            _print_json({"store": self._store, "archives": self._archives, "failed": self._failures})
        for item in () if json else self._archives:
            status = unchanged if item["status"] == "unchanged" else item["status"]
            typer.echo(
                f"{item['name']} {item['version']}  {status}  {megabytes(item['size'])}  sha256 {item['sha256']}"
            )
        for item in self._failures:
            typer.echo(f"radserve: {item['problem']}", err=True)
        if self._failures:
            raise typer.Exit(1)


def _open(store: str, signing_key: str, public_key: str) -> Store:
    from radserve.store import open_store

    return open_store(store, signing_key=signing_key, public_keys=public_key)


def _select(model_store: Path, names: Sequence[str], *, every: bool) -> list[Entry]:
    """Return the archives to push; --all skips those without trained weights."""
    from radserve.build import model_store as model_stores

    archives = _parse(names, every=every)
    index = model_stores.read(model_store)
    if every:
        untrained = [item for item in index.archives if item.version == model_stores.UNTRAINED]
        for item in untrained:
            typer.echo(f"radserve: {item.name} {item.version}: skipped, it is untrained.", err=True)
        return [item for item in index.archives if item not in untrained]
    entries = []
    for name, version in archives:
        entry = index.find(name, version)
        if entry is None:
            available = ", ".join(f"{item.name}/{item.version}" for item in index.archives) or "none"
            title = f"{name}/{version}" if version else name
            raise typer.BadParameter(
                f"no archive {title!r} in {model_store}. Available: {available}. Build it: radserve build {name}"
            )
        entries.append(entry)
    return entries


def _parse(names: Sequence[str], *, every: bool) -> list[tuple[str, str | None]]:
    """Split NAME or NAME/VERSION."""
    if bool(names) == every:
        raise typer.BadParameter("specify either archives (NAME or NAME/VERSION) or --all.")
    split = [name.partition("/") for name in names]
    return [(name, version or None) for name, _, version in split]


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if match is None:
        raise typer.BadParameter(f"--older-than has value {text!r}; use minutes, hours, days or weeks: 30m, 24h, 7d.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _print_json(document: object) -> None:
    typer.echo(json_.dumps(document, indent=2))
