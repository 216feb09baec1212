"""`radserve keys`: create, list and revoke API keys."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from radserve.auth import key_file
from radserve.auth.api_keys import Key, Role, lifetime, parse
from radserve.cli import terminal

app = typer.Typer(
    help="Create, list and revoke the API keys of a published server.", no_args_is_help=True, add_completion=False
)

KeysOption = Annotated[
    str,
    typer.Option(
        "--keys", envvar="RADSERVE_KEYS_SOURCE", help="File of the keys; 'list' accepts every source of 'serve'."
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="User of the key; logged with each request.")],
    *,
    role: Annotated[
        list[str], typer.Option(help="predict (models), read (metrics), manage (workers, versions); repeatable.")
    ],
    keys: KeysOption,
    expires: Annotated[str, typer.Option(help="Lifetime, as 12h, 90d or 52w; unlimited if empty.")] = "",
) -> None:
    """Create a key and print it once; only a digest is stored."""
    unknown = sorted(set(role) - set(Role))
    if unknown:
        raise typer.BadParameter(f"--role has value {unknown[0]!r}; choose from {', '.join(Role)}.")
    until = datetime.now(UTC).replace(microsecond=0) + lifetime(expires) if expires else None
    text = key_file.create(_file(keys), name, [Role(item) for item in role], until)
    valid = f"valid until {until:%Y-%m-%d %H:%M} UTC" if until else "valid without limit"
    typer.echo(text)
    typer.echo(
        f"Key of {name} ({', '.join(role)}), {valid}. Store it now: it cannot be shown again. "
        "Clients send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'. A running server reads this file within "
        "seconds.",
        err=True,
    )


@app.command("list")
def list_(*, keys: KeysOption, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the keys with id, name, roles and dates, without their secrets."""
    from radserve.auth import key_sources

    source = key_sources.source(keys)
    stored = parse(source.read(), source.name)
    if json:
        typer.echo(stored.model_dump_json(indent=2, exclude={"keys": {"__all__": {"sha256"}}}))
    else:
        rows = (
            (key.id, key.name, ", ".join(key.roles), f"{key.created:%Y-%m-%d %H:%M}", _expiry(key))
            for key in stored.keys
        )
        terminal.console().print(terminal.table("Id", "Name", "Roles", "=Created", "=Expires", rows=rows))


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="Id or name.")], *, keys: KeysOption) -> None:
    """Revoke a key; a running server rejects it within ten seconds."""
    revoked = key_file.revoke(_file(keys), key)
    typer.echo(f"Revoked {revoked.name} ({revoked.id}).", err=True)


def _file(source: str) -> Path:
    if source.startswith(("env:", "secretsmanager:", "ssm:")):
        raise typer.BadParameter(
            f"--keys has value {source!r}; keys are created and revoked in a file. Upload the file afterwards: "
            "aws secretsmanager put-secret-value --secret-id NAME --secret-string file://FILE"
        )
    return Path(source)


def _expiry(key: Key) -> str:
    return "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}" + " expired" * key.expired()
