"""`radserve doctor`: checks whether this machine can run a server, and says what to do about each problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from radserve.cli.options import with_groups
from radserve.cli.serve import ServeOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radserve.host.checks import Finding
    from radserve.server.options import ServerOptions

_COLORS: Final = {"ok": "green", "warning": "yellow", "PROBLEM": "red"}


@with_groups
def doctor(options: ServeOptions) -> None:
    """Check ports, memory, disk, GPU, certificates, keys and versions.

    Accepts the options and variables of 'radserve serve', and checks what a
    server with them would need. Nothing is started. Run it before the server,
    which otherwise has the ports.

    Exit codes:
    0    no problem; there can be warnings
    1    at least one problem
    """
    counts = dict.fromkeys(_COLORS, 0)
    for finding in _findings(options):
        counts[finding.status] += 1
        typer.secho(f"{finding.status:<8}", fg=_COLORS[finding.status], nl=False)
        typer.echo(f" {finding.subject}: {finding.text}")
        if finding.advice:
            typer.echo(f"         {finding.advice}")
    typer.echo(f"{counts['PROBLEM']} problems, {counts['warning']} warnings.")
    raise typer.Exit(1 if counts["PROBLEM"] else 0)


def _findings(options: ServeOptions) -> Iterator[Finding]:
    from radserve.auth import checks as key_checks
    from radserve.cli.serve import server_options
    from radserve.errors import RadServeError
    from radserve.host import checks
    from radserve.host.checks import Finding
    from radserve.host.ports import LOOPBACK
    from radserve.proxy import nginx
    from radserve.torchserve import launch

    yield checks.python()
    yield checks.packages("radserve", "torch", "torchserve")
    yield checks.program("nginx", nginx.binary, "-v")
    yield checks.java(launch.java)
    yield from checks.gpu()
    try:
        server = server_options(options)
        server.require_safe()
    except RadServeError as error:
        yield Finding("Options", "PROBLEM", str(error))
        return
    listens = server.proxy.listens if server.proxy else {}
    listens |= {"--health-port": (LOOPBACK, server.health_port)}
    if options.with_gateway:
        listens["--gateway-port"] = (options.gateway_host, options.gateway_port)
    yield from checks.ports(listens)
    yield from _store_findings(options, server)
    if options.certificate is not None and options.certificate_key is not None:
        yield checks.certificate(options.certificate, options.certificate_key)
    if server.keys is not None:
        yield key_checks.keys(server.keys)


def _store_findings(options: ServeOptions, server: ServerOptions) -> Iterator[Finding]:
    """Check the archives, and the memory and the disk that they need."""
    from radserve.build import model_store
    from radserve.errors import StoreIndexError
    from radserve.host import checks, resources
    from radserve.host.checks import Finding

    try:
        model_store.require_archives(server.store)
        archives = model_store.read(server.store).archives
    except StoreIndexError as error:
        yield Finding("Model store", "PROBLEM", str(error))
        return
    size = sum(entry.size for entry in archives)
    yield Finding("Model store", "ok", f"{len(archives)} archives, {size / 1e6:.0f} MB, in {server.store}")
    models = {name.partition("/")[0] for name in server.models} or {entry.name for entry in archives}
    plan = resources.plan(len(models), resources.cores(), server.workers)
    yield checks.memory(len(models) * plan.workers, server.memory or resources.memory())
    yield checks.disk(options.runtime, size)
