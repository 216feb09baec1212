"""`radserve store`: archives published for ever, and fetched from there."""

from __future__ import annotations

import json as json_
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

app = typer.Typer(
    help="Publish archives in a store (a folder, s3:// or, to read, https://), and fetch them from there.",
    no_args_is_help=True,
)

Url = Annotated[
    str, typer.Option("--store", envvar="RADSERVE_STORE", help="Folder, s3://BUCKET/PREFIX, or https:// (read only).")
]
SigningKey = Annotated[
    str, typer.Option(envvar="RADSERVE_STORE_SIGNING_KEY", help="File of the key that signs the index, or env:NAME.")
]
PublicKey = Annotated[
    str,
    typer.Option(
        envvar="RADSERVE_STORE_PUBLIC_KEY", help="File of the keys that the index may be signed by, or env:NAME."
    ),
]
Names = Annotated[list[str] | None, typer.Argument(help="NAME or NAME/VERSION; the newest version if none is named.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
HERE: Final = "store"


@app.command()
def push(
    names: Names = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every archive of the model store.")] = False,
    store: Url = HERE,
    model_store: ModelStore = MODEL_STORE,
    signing_key: SigningKey = "",
    public_key: PublicKey = "",
    json: Json = False,
) -> None:
    """Publish archives of the model store, for ever.

    A version never changes: the same bytes again do nothing, other bytes are
    refused. What is interrupted is gone on with by the next push.

    Exit codes:
    0    all are published
    1    at least one is not; its line says why
    2    wrong usage
    """
    opened = _open(store, signing_key, public_key)
    done = _Outcome(opened.name)
    for entry in _local(model_store, names or (), everything=everything):
        with done.of(entry.name, entry.version), _bar(f"{entry.name} {entry.version}") as progress:
            pushed = opened.push(entry, model_store, progress)
            done.add(pushed.published.model_dump(mode="json"), "pushed" if pushed.fresh else "unchanged")
    done.say(json=json, unchanged="is published already, with the same bytes")


@app.command()
def pull(
    names: Names = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every version of every archive.")] = False,
    store: Url = HERE,
    model_store: ModelStore = MODEL_STORE,
    public_key: PublicKey = "",
    accept_older: Annotated[
        bool, typer.Option("--accept-older", help="The store was restored from a backup: believe its older index.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch archives into the model store.

    Nothing appears there before its size, checksum and contents are right.
    What is interrupted is gone on with by the next pull.

    Exit codes:
    0    all are there
    1    at least one is not; its line says why
    2    wrong usage
    """
    opened = _open(store, "", public_key)
    wanted = [_split(name) for name in names or ()]
    _require_choice(wanted, everything=everything)
    if everything:
        wanted = [(item.name, item.version) for item in opened.entries()]
    done = _Outcome(opened.name)
    for name, version in wanted:
        with done.of(name, version), _bar(f"{name} {version or ''}".strip()) as progress:
            pulled = opened.fetch(name, version, model_store, progress, accept_older=accept_older)
            done.add(pulled.entry.model_dump(mode="json"), "pulled" if pulled.fresh else "unchanged")
    done.say(json=json, unchanged=f"is in {model_store} already")


@app.command("list")
def list_(*, store: Url = HERE, public_key: PublicKey = "", json: Json = False) -> None:
    """List what is published.

    Exit codes:
    0    listed
    1    the store cannot be read, or its signature is wrong
    """
    from radserve.cli import store_view

    opened = _open(store, "", public_key)
    found = opened.listing()
    if json:
        _json(
            {
                "store": opened.name,
                "serial": found.catalog.serial,
                "signed_by": list(found.claimed),
                "verified_by": found.signer,
                "archives": [item.model_dump(mode="json") for item in found.catalog.archives],
            }
        )
        return
    store_view.archives(found.catalog.archives)
    signed = f"signed by {found.claimed[0][:16]}" if found.claimed else "not signed"
    checked = "checked" if found.signer else "not checked: no --public-key"
    typer.echo(
        f"{opened.name}: serial {found.catalog.serial}, {signed}{f' ({checked})' if found.claimed else ''}", err=True
    )


@app.command()
def verify(
    *,
    store: Url = HERE,
    model_store: Annotated[
        Path | None, typer.Option(help="Verify the archives of this model store as well, also against the store.")
    ] = None,
    public_key: PublicKey = "",
    json: Json = False,
) -> None:
    """Read everything that the store lists, and hold it against the index.

    Exit codes:
    0    everything is right
    1    something is not, and each such thing has a line; or the store cannot
         be read, or its signature is wrong
    """
    from dataclasses import asdict

    from radserve.cli import store_view

    opened = _open(store, "", public_key)
    with _bar("verify") as progress:
        found = opened.verify(model_store, progress)
    if json:
        _json({"store": opened.name, **asdict(found)})
    else:
        store_view.report(found)
    for item in found.wrong:
        typer.echo(f"radserve: {item.where}: {item.name} {item.version}: {item.problem}", err=True)
    if found.wrong:
        raise typer.Exit(1)


@app.command()
def gc(
    *,
    store: Url = HERE,
    public_key: PublicKey = "",
    older_than: Annotated[str, typer.Option(help="Leave what is younger: 30m, 24h, 7d.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove bytes that no published version needs, and what interrupted pushes left.

    A published version is never removed.

    Exit codes:
    0    removed, or nothing to remove
    1    the store cannot be read or written
    2    wrong usage
    """
    from radserve.cli.store_view import size

    grace = _duration(older_than)
    opened = _open(store, "", public_key)
    found = opened.collect(grace, dry_run=dry_run)
    if json:
        blobs = [{"sha256": item.sha256, "size": item.size} for item in found.blobs]
        uploads = [item.key for item in found.leftovers]
        _json({"store": opened.name, "dry_run": dry_run, "blobs": blobs, "unfinished": uploads})
        return
    for blob in found.blobs:
        typer.echo(f"sha256 {blob.sha256}  {size(blob.size)}")
    for leftover in found.leftovers:
        typer.echo(f"unfinished push {leftover.key}")
    verb = "would be removed" if dry_run else "removed"
    total = size(sum(item.size for item in found.blobs))
    typer.echo(f"{len(found.blobs)} blobs ({total}) and {len(found.leftovers)} unfinished pushes {verb}.", err=True)


@app.command()
def sign(
    *,
    store: Url = HERE,
    signing_key: SigningKey = "",
    public_key: PublicKey = "",
    accept_unsigned: Annotated[
        bool, typer.Option("--accept-unsigned", help="The index is not signed yet, and you know that it is right.")
    ] = False,
) -> None:
    """Sign the index as it is: the first time, or with the next key.

    Exit codes:
    0    signed
    1    it is not; the line says why
    """
    opened = _open(store, signing_key, public_key)
    signed = opened.sign(accept_unsigned=accept_unsigned)
    typer.echo(f"{opened.name}: {len(signed.archives)} archives, serial {signed.serial}, signed.", err=True)


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="For the private key; the public one is written to FILE.pub.")],
) -> None:
    """Make a key pair for signing a store's index (Ed25519).

    Exit codes:
    0    made
    1    a file exists already, or cannot be written
    """
    from radserve.store import signing

    made = signing.generate(file)
    typer.echo(
        f"{file}: keep it secret; who pushes has it. {file}.pub: give it to everyone who pulls. Key {made.id[:16]}.",
        err=True,
    )


class _Outcome:
    """What came of each archive; one that fails costs no other."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._archives: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []

    @contextmanager
    def of(self, name: str, version: str | None) -> Iterator[None]:
        try:
            yield
        except RadServeError as error:
            self._failed.append({"name": name, "version": version, "problem": str(error)})

    def add(self, document: dict[str, Any], status: str) -> None:
        self._archives.append(document | {"status": status})

    def say(self, *, json: bool, unchanged: str) -> None:
        from radserve.cli.store_view import size

        if json:
            _json({"store": self._store, "archives": self._archives, "failed": self._failed})
        for item in () if json else self._archives:
            how = unchanged if item["status"] == "unchanged" else item["status"]
            typer.echo(f"{item['name']} {item['version']}  {how}  {size(item['size'])}  sha256 {item['sha256']}")
        for item in self._failed:
            typer.echo(f"radserve: {item['problem']}", err=True)
        if self._failed:
            raise typer.Exit(1)


def _open(store: str, signing_key: str, public_key: str) -> Store:
    from radserve.store.store import open_store

    return open_store(store, signing_key=signing_key, public_keys=public_key)


@contextmanager
def _bar(title: str) -> Iterator[Any]:
    from radserve.cli.store_view import bar

    with bar(title) as progress:
        yield progress


def _local(model_store: Path, names: Sequence[str], *, everything: bool) -> list[Entry]:
    """Find what to push; of everything, the untrained are passed over."""
    from radserve.build import model_store as index

    wanted = [_split(name) for name in names]
    _require_choice(wanted, everything=everything)
    known = index.read(model_store)
    if everything:
        passed = [item for item in known.archives if item.version == index.UNTRAINED]
        for item in passed:
            typer.echo(f"radserve: {item.name} {item.version}: passed over, it is untrained.", err=True)
        return [item for item in known.archives if item not in passed]
    found = []
    for name, version in wanted:
        entry = known.find(name, version)
        if entry is None:
            there = ", ".join(f"{item.name}/{item.version}" for item in known.archives) or "nothing"
            shown = f"{name}/{version}" if version else name
            raise typer.BadParameter(
                f"{model_store}: holds no {shown!r}, but {there}; build it with 'radserve build {name}'."
            )
        found.append(entry)
    return found


def _require_choice(names: Sequence[object], *, everything: bool) -> None:
    if bool(names) == everything:
        raise typer.BadParameter("say which: either NAME or NAME/VERSION, several if you like, or --all.")


def _split(wanted: str) -> tuple[str, str | None]:
    name, _, version = wanted.partition("/")
    return name, version or None


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if match is None:
        raise typer.BadParameter(f"--older-than has value {text!r}; write minutes, hours, days or weeks: 30m, 24h, 7d.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _json(document: object) -> None:
    typer.echo(json_.dumps(document, indent=2))
