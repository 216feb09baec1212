"""`radserve keys`: make, list and revoke API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from radserve.auth.api_keys import Keys

app = typer.Typer(help="Make, list and revoke the API keys of a published server.", no_args_is_help=True)

Where = Annotated[
    str, typer.Option("--keys", envvar="RADSERVE_KEYS_SOURCE", help="File of the keys; to list, also what serve takes.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will use it; stands in the log beside each request.")],
    *,
    role: Annotated[
        list[str], typer.Option(help="predict (ask models), read (metrics), manage (workers, versions); repeatable.")
    ],
    keys: Where,
    expires: Annotated[str, typer.Option(help="How long it is valid: 12h, 90d, 52w; for ever if empty.")] = "",
) -> None:
    """Make a key and show it, once: only a digest of it is kept."""
    from radserve.auth import key_file
    from radserve.auth.api_keys import Role, lifetime

    unknown = sorted(set(role) - set(Role))
    if unknown:
        raise typer.BadParameter(f"--role has value {unknown[0]!r}; there are {', '.join(Role)}.")
    until = datetime.now(UTC).replace(microsecond=0) + lifetime(expires) if expires else None
    text = key_file.create(_file(keys), name, [Role(item) for item in role], until)
    valid = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "for ever"
    typer.echo(text)
    typer.echo(
        f"This is the key of {name} ({', '.join(role)}), valid {valid}. "
        "It is not shown again and cannot be recovered: store it now. Clients send it as 'Authorization: Bearer KEY' "
        "or 'X-API-Key: KEY'; a server that uses this file knows it within seconds.",
        err=True,
    )


@app.command("list")
def list_(
    *,
    keys: Where,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the keys: id, name, roles, dates. Secrets are not kept, so none can be shown."""
    from radserve.auth import keyring
    from radserve.auth.api_keys import parse

    source = keyring.source(keys)
    known = parse(source.read(), source.name)
    if json:
        typer.echo(known.model_dump_json(indent=2, exclude={"keys": {"__all__": {"sha256"}}}))
    else:
        _table(known)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id or name.")],
    *,
    keys: Where,
) -> None:
    """Revoke a key; a running server refuses it within ten seconds."""
    from radserve.auth import key_file

    gone = key_file.revoke(_file(keys), key)
    typer.echo(f"{gone.name} ({gone.id}) is revoked.", err=True)


def _file(words: str) -> Path:
    if words.startswith(("env:", "secretsmanager:", "ssm:")):
        raise typer.BadParameter(
            f"--keys has value {words!r}; keys are made and revoked in a file. Put its text there afterwards: "
            "aws secretsmanager put-secret-value --secret-id NAME --secret-string file://FILE"
        )
    return Path(words)


def _table(known: Keys) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Id", "Name", "Roles", "Created", "Expires")
    for key in known.keys:
        expires = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}" + " expired" * key.expired()
        table.add_row(key.id, key.name, ", ".join(key.roles), f"{key.created:%Y-%m-%d %H:%M}", expires)
    Console().print(table)
