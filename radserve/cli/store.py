"""`radserve store`: publish archives and pull them into model stores."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from handlers.errors import RadServeError
from radserve.build import model_store as model_stores
from radserve.build.model_store import Entry
from radserve.cli import terminal
from radserve.cli.options import setting, with_groups
from radserve.cli.serve import MODEL_STORE
from radserve.cli.serve import Store as ModelStore

if TYPE_CHECKING:
    from radserve.store.object_storage import Progress
    from radserve.store.store import Store, Transfer

    _Transfers = Mapping[tuple[str, str | None], Callable[[Progress], Transfer]]

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

app = typer.Typer(
    help="Publish archives in a store (a folder, s3:// or, read-only, https://) and pull them from there.",
    no_args_is_help=True,
    add_completion=False,
)

SigningKey = Annotated[
    str, typer.Option(envvar="RADSERVE_STORE_SIGNING_KEY", help="File with the key that signs the index, or env:NAME.")
]
Names = Annotated[list[str] | None, typer.Argument(help="NAME (newest version) or NAME/VERSION.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(frozen=True)
class Location:
    """Options that select a store."""

    store: str = setting("store", "RADSERVE_STORE", "Folder, s3://BUCKET/PREFIX, or https:// (read-only).")
    public_key: str = setting(
        "", "RADSERVE_STORE_PUBLIC_KEY", "File with the keys that may sign the index, or env:NAME."
    )

    def open(self, signing_key: str = "") -> Store:
        """Open the store."""
        from radserve.store import open_store

        return open_store(self.store, signing_key=signing_key, public_keys=self.public_key)


@app.command()
@with_groups
def push(
    names: Names = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Every archive of the model store.")] = False,
    location: Location,
    model_store: ModelStore = MODEL_STORE,
    signing_key: SigningKey = "",
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
    opened = location.open(signing_key)
    transfers: _Transfers = {
        (entry.name, entry.version): partial(opened.push, entry, model_store)
        for entry in _select(model_store, names or (), every=all_)
    }
    _run(opened.name, transfers, "pushed", "already published with the same content", json=json)


@app.command()
@with_groups
def pull(
    names: Names = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Every version of every archive.")] = False,
    location: Location,
    model_store: ModelStore = MODEL_STORE,
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
    opened = location.open()
    archives = _parse(names or (), every=all_)
    if all_:
        archives = [(item.name, item.version) for item in opened.entries()]
    transfers: _Transfers = {
        key: partial(opened.pull, *key, model_store, accept_older=accept_older) for key in archives
    }
    _run(opened.name, transfers, "pulled", f"already in {model_store}", json=json)


@app.command("list")
@with_groups
def list_(*, location: Location, json: Json = False) -> None:
    """List published archives.

    Exit codes:
    0    listed
    1    the store cannot be read, or its signature is wrong
    """
    opened = location.open()
    snapshot = opened.snapshot()
    serial, archives = snapshot.catalog.serial, snapshot.catalog.archives
    if json:
        terminal.print_json(
            {
                "store": opened.name,
                "serial": serial,
                "signed_by": list(snapshot.key_ids),
                "verified_by": snapshot.verified_by,
                "archives": [item.model_dump(mode="json") for item in archives],
            }
        )
        return
    rows = (
        (item.name, item.version, terminal.size(item.size), f"{item.pushed:%Y-%m-%d %H:%M}", item.sha256[:16])
        for item in archives
    )
    terminal.console().print(terminal.table("Name", "Version", ">Size", "=Pushed", "=SHA-256", rows=rows))
    signature = "not signed"
    if snapshot.key_ids:
        check = "verified" if snapshot.verified_by else "not verified: no --public-key"
        signature = f"signed by {snapshot.key_ids[0][:16]} ({check})"
    typer.echo(f"{opened.name}: serial {serial}, {signature}", err=True)


@app.command()
@with_groups
def verify(
    *,
    location: Location,
    model_store: Annotated[
        Path | None, typer.Option(help="Also check the archives of this model store, and compare them with the store.")
    ] = None,
    json: Json = False,
) -> None:
    """Read every archive of the store and compare it with the index.

    Exit codes:
    0    all archives are intact
    1    at least one is not, the store cannot be read, or its signature is
         wrong
    """
    opened = location.open()
    with _progress_bar("verify") as progress:
        report = opened.verify(model_store, progress)
    if json:
        terminal.print_json({"store": opened.name, **asdict(report)})
    else:
        rows = (
            (item.where, item.name, item.version, "damaged" if item.problem else "intact") for item in report.checked
        )
        terminal.console().print(terminal.table("Where", "Name", "Version", "=Status", rows=rows))
    for item in report.failures:
        typer.echo(f"radserve: {item.where}: {item.name} {item.version}: {item.problem}", err=True)
    if report.failures:
        raise typer.Exit(1)


@app.command()
@with_groups
def gc(
    *,
    location: Location,
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
    age = _duration(older_than)
    opened = location.open()
    garbage = opened.collect_garbage(age, dry_run=dry_run)
    if json:
        blobs = [{"sha256": item.sha256, "size": item.size} for item in garbage.blobs]
        uploads = [item.key for item in garbage.uploads]
        terminal.print_json({"store": opened.name, "dry_run": dry_run, "blobs": blobs, "unfinished": uploads})
        return
    for blob in garbage.blobs:
        typer.echo(f"sha256 {blob.sha256}  {terminal.size(blob.size)}")
    for upload in garbage.uploads:
        typer.echo(f"unfinished push {upload.key}")
    verb = "Would delete" if dry_run else "Deleted"
    size = terminal.size(sum(item.size for item in garbage.blobs))
    typer.echo(f"{verb} {len(garbage.blobs)} blobs ({size}) and {len(garbage.uploads)} unfinished pushes.", err=True)


@app.command()
@with_groups
def sign(
    *,
    location: Location,
    signing_key: SigningKey = "",
    accept_unsigned: Annotated[
        bool, typer.Option("--accept-unsigned", help="Sign an index without a signature, which you have checked.")
    ] = False,
) -> None:
    """Sign the index for the first time, or with a new key.

    Exit codes:
    0    signed
    1    not signed
    """
    opened = location.open(signing_key)
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


def _run(store: str, transfers: _Transfers, done: str, unchanged: str, *, json: bool) -> None:
    """Transfer archives and report each one; a failure does not stop the others."""
    archives: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for (name, version), transfer in transfers.items():
        try:
            with _progress_bar(f"{name} {version or ''}".strip()) as progress:
                result = transfer(progress)
        except RadServeError as error:
            failures.append({"name": name, "version": version, "problem": str(error)})
            continue
        status = done if result.fresh else "unchanged"
        archives.append(result.archive.model_dump(mode="json") | {"status": status})
        if not json:
            item, shown = result.archive, done if result.fresh else unchanged
            typer.echo(f"{item.name} {item.version}  {shown}  {terminal.size(item.size)}  sha256 {item.sha256}")
    if json:
        terminal.print_json({"store": store, "archives": archives, "failed": failures})
    for failure in failures:
        typer.echo(f"radserve: {failure['problem']}", err=True)
    if failures:
        raise typer.Exit(1)


@contextmanager
def _progress_bar(title: str) -> Iterator[Progress]:
    """Show a progress bar on standard error if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    with rich_progress.Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _select(model_store: Path, names: Sequence[str], *, every: bool) -> list[Entry]:
    archives = _parse(names, every=every)
    index = model_stores.read(model_store)
    if every:
        for item in index.archives:
            if item.version == model_stores.UNTRAINED:
                typer.echo(f"radserve: {item.name} {item.version}: skipped, it is untrained.", err=True)
            else:
                archives.append((item.name, item.version))
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
    if bool(names) == every:
        raise typer.BadParameter("specify either archives (NAME or NAME/VERSION) or --all.")
    split = [name.partition("/") for name in names]
    return [(name, version or None) for name, _, version in split]


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if match is None:
        raise typer.BadParameter(f"--older-than has value {text!r}; use minutes, hours, days or weeks: 30m, 24h, 7d.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
