"""`radserve serve` and `radserve front`: the server, and the proxy as a separate process; options have variables."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from radserve.cli.options import option, setting, with_groups
from radserve.schema.domain import Mode

if TYPE_CHECKING:
    from radserve.proxy.options import ProxyOptions
    from radserve.server.options import ServerOptions

MODEL_STORE: Final = Path("model_store")
_ARCHIVES: Final = Path("archives")
CONFIGURATION: Final = Path(__file__).parents[1] / "torchserve" / "config.properties"

Store = Annotated[
    Path, typer.Option("--model-store", envvar="RADSERVE_MODEL_STORE", help="Folder of the archives and their index.")
]
Config = Annotated[Path, typer.Option(envvar="RADSERVE_CONFIG", help="TorchServe's base configuration.")]


def _port(default: int | None, variable: str, text: str) -> Any:
    """Declare an option for a port; the help lists them together."""
    return setting(default, variable, text, rich_help_panel="Ports")


@dataclass(frozen=True)
class Publication:
    """Options that both commands share: where models are published, and how nginx reaches TorchServe."""

    host: str = setting("127.0.0.1", "RADSERVE_HOST", "Address to listen on; 0.0.0.0 for all interfaces.")
    certificate: Path | None = setting(
        None, "RADSERVE_CERTIFICATE", "PEM file with certificate and chain; SIGHUP reloads it."
    )
    certificate_key: Path | None = setting(None, "RADSERVE_CERTIFICATE_KEY", "PEM file with the certificate's key.")
    plain_http: bool = setting(
        False, "RADSERVE_PLAIN_HTTP", "Serve without TLS, because a load balancer terminates it.", "--plain-http"
    )
    management_host: str = setting(
        "", "RADSERVE_MANAGEMENT_HOST", "Address of the management API; same as --host if empty."
    )
    management_port: int = _port(8444, "RADSERVE_MANAGEMENT_PORT", "Public port of the management API (role manage).")
    metrics_port_public: int = _port(9180, "RADSERVE_METRICS_PORT_PUBLIC", "Public port of the metrics (role read).")
    rate: int = setting(200, "RADSERVE_RATE", "Requests per second of each key.", min=1)
    concurrent: int = setting(64, "RADSERVE_CONCURRENT", "Open requests of each key; twice as many in all.", min=1)
    memory: str = setting("", "RADSERVE_MEMORY", "Memory of the server, like 8g; by default the container's limit.")
    trusted_proxy: str = setting(
        "", "RADSERVE_TRUSTED_PROXY", "Comma-separated networks of load balancers whose X-Forwarded-For is trusted."
    )
    access_log: Path | None = setting(
        None,
        "RADSERVE_ACCESS_LOG",
        "File for one JSON line per request; by default standard output, and none on loopback without keys.",
    )
    gateway: str | None = setting(
        None,
        "RADSERVE_GATEWAY_UPSTREAM",
        "HOST:PORT or unix:PATH of a gateway ('radserve-gateway'), to publish its page and API.",
    )
    health_port: int = _port(8090, "RADSERVE_HEALTH_PORT", "Port of /live, /ready, /auth and /metrics, on loopback.")
    metrics_port: int = _port(8082, "RADSERVE_METRICS_PORT", "Port of TorchServe's /metrics, on loopback.")
    model_store: Store = MODEL_STORE
    config: Config = CONFIGURATION
    drain_timeout: float = setting(
        60.0, "RADSERVE_DRAIN_TIMEOUT", "Seconds to wait for requests in flight when stopping."
    )

    def proxy(self, port: int, *, keyless: bool = False) -> ProxyOptions:
        """Return the proxy's options, with a port for clients."""
        from radserve.proxy.options import ProxyOptions, networks

        return ProxyOptions(
            host=self.host,
            port=port,
            management_host=self.management_host or self.host,
            management_port=self.management_port,
            metrics_port=self.metrics_port_public,
            certificate=self.certificate,
            certificate_key=self.certificate_key,
            plain_http=self.plain_http,
            rate=self.rate,
            concurrent=self.concurrent,
            trusted=networks(self.trusted_proxy),
            access_log=self.access_log or Path(os.devnull if keyless else "/dev/stdout"),
            gateway=self.gateway or None,
            keyless=keyless,
            scrape_port=self.metrics_port,
        )


@dataclass(frozen=True)
class ServeOptions(Publication):
    """Options of `radserve serve`."""

    models: str = setting("", "RADSERVE_MODELS", "Comma-separated NAME or NAME/VERSION; all if empty.")
    port: int | None = _port(None, "RADSERVE_PORT", "Port for clients. Default: 8080, or 8443 with keys.")
    with_gateway: bool = setting(
        False,
        "RADSERVE_WITH_GATEWAY",
        "Run a gateway beside the server, with the web page; on this machine only.",
        "--with-gateway/--without-gateway",
    )
    gateway_port: int = _port(8000, "RADSERVE_GATEWAY_PORT", "Port of the gateway and its page.")
    gateway_host: str = setting("127.0.0.1", "RADSERVE_GATEWAY_HOST", "Address of the gateway.")
    front: bool | None = setting(
        None,
        "RADSERVE_FRONT",
        "Require keys; the default if --host is not loopback, or with TLS or --plain-http. --no-front starts no nginx, "
        "for 'radserve front' in another process.",
        "--front/--no-front",
    )
    keys: str | None = setting(
        None,
        "RADSERVE_KEYS_SOURCE",
        "File of API keys ('radserve keys create'), env:NAME, secretsmanager:NAME[:REGION] or ssm:NAME[:REGION].",
    )
    workers: int | None = setting(
        None, "RADSERVE_WORKERS", "Workers per model. Default: depends on the number of cores and models.", min=1
    )
    engine: Literal["torchserve", "ray"] = setting(
        "torchserve",
        "RADSERVE_ENGINE",
        "What runs the archives: TorchServe, or Ray Serve (extra batch), which has no rollouts and no management API.",
    )
    worker_start: Literal["fork", "fresh"] = setting(
        "fork",
        "RADSERVE_WORKER_START",
        "How workers start: fork shares one import of torch, which saves seconds and memory; fresh imports it in each.",
    )
    require: str = setting(
        "",
        "RADSERVE_REQUIRE",
        "Comma-separated attributes without which no image is analysed: age, or MODEL:age. Images must state them, or "
        "clients assure them.",
    )
    domain: Mode = setting(
        "strict",
        "RADSERVE_DOMAIN",
        "Images unlike the training images: strict rejects them, warn marks their results, off compares no image.",
    )
    profile: str = setting(
        "", "RADSERVE_PROFILE", "Comma-separated site profiles to apply ('radserve calibrate NAME --site DIR')."
    )
    profile_key: str | None = setting(
        None, "RADSERVE_PROFILE_KEY", "Public key (PEM) that verifies site profiles: a file, or env:NAME."
    )
    runtime: Path | None = setting(
        None,
        "RADSERVE_RUNTIME",
        "Run directory (0700): sockets, configuration, extracted archives; temporary by default.",
    )
    startup_timeout: float = setting(
        300.0, "RADSERVE_STARTUP_TIMEOUT", "Seconds after which a start fails; a busy machine can need more."
    )
    drain_delay: float = setting(
        0.0, "RADSERVE_DRAIN_DELAY", "Seconds for which a stopping server still answers while /ready returns 503."
    )
    build_missing: bool = option(
        False, "First build archives of this checkout that are missing or outdated in ./model_store.", "--build-missing"
    )
    check: bool = option(
        False, "Check the options, the run directory, the ports and the model store, and exit.", "--check"
    )
    user: str | None = setting(
        None, "RADSERVE_USER", "Service user that a server started by root becomes, with all its processes."
    )
    state: Path | None = setting(
        None,
        "RADSERVE_STATE",
        "Folder for the deployment, rollouts and audit log, which survive a restart; by default 'state' in the model "
        "store.",
    )
    store: str | None = setting(
        None, "RADSERVE_STORE", "Archive store to pull new versions from: a folder, s3://BUCKET/PREFIX or https://."
    )
    store_public_key: Path | None = setting(
        None, "RADSERVE_STORE_PUBLIC_KEY", "Public key (PEM) that verifies the store's index."
    )
    settle: float = setting(
        30.0, "RADSERVE_SETTLE", "Seconds that a version remains after nginx stopped using it, for bodies in transit."
    )
    silence: float = setting(
        30.0,
        "RADSERVE_SILENCE",
        "Seconds that TorchServe's management API may be silent before a change fails or a rollout is rolled back.",
    )


@with_groups
def serve(options: ServeOptions) -> None:
    """Serve the archives of the model store until SIGTERM or Ctrl-C.

    nginx is in front of TorchServe. On loopback it serves this machine without
    keys. Any other address needs keys, and TLS or --plain-http.

    Exit codes:
    0    stopped, or checked
    1    not started
    3    the engine died
    4    not ready in time
    5    stopped with unfinished requests
    6    nginx died
    7    the gateway died
    """
    from radserve import logging
    from radserve.build import model_store
    from radserve.host import service_user

    logging.configure()
    if options.build_missing and not options.check:
        _build_missing()
    service_user.become(options.user or None)
    server = server_options(options)
    server.require_safe()
    gateway = {"--gateway-port": (options.gateway_host, options.gateway_port)} if options.with_gateway else None
    server.require_ports(gateway)
    if not (options.check and options.build_missing and server.store == MODEL_STORE.resolve()):  # built after the check
        model_store.require_archives(server.store)
    if options.check:
        return
    if options.with_gateway:
        raise typer.Exit(_serve_with_gateway(options))
    from radserve.server import supervisor

    raise typer.Exit(asyncio.run(supervisor.serve(server, typer.echo)))


def _arguments() -> list[str]:
    """Return the arguments of this command, without the option for a step that is done once."""
    return [argument for argument in sys.argv[1:] if argument != "--build-missing"]


def _build_missing() -> None:
    """Check the options, then build; each in a process of its own, because a build takes memory and a minute.

    The check becomes the service user, and the build does not. Without anything to build, both would repeat imports.
    """
    from radserve.build import builder, source
    from radserve.host.process import die_with_parent

    if not builder.outdated(source.find_sources(_ARCHIVES), MODEL_STORE):
        return
    for arguments in ([*sys.argv[1:], "--check"], ["build", "--missing"]):
        command = [sys.executable, "-P", "-m", "radserve", *arguments]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, preexec_fn=die_with_parent).returncode
        if code:
            raise typer.Exit(code)


def server_options(options: ServeOptions) -> ServerOptions:
    """Return the options of the server; raises ServeError if they contradict each other."""
    from radserve.errors import ServeError
    from radserve.host.resources import parse_memory
    from radserve.server.options import ServerOptions
    from radserve.site import signed_profile
    from radserve.store import open_store

    published = _is_published(options)
    if options.front is False and (published or options.gateway):
        raise ServeError("--no-front starts no nginx; set --host, TLS and --gateway for 'radserve front' instead.")
    if options.gateway and not published:
        raise ServeError("--gateway: needs keys; add --front, or omit --gateway.")
    if options.with_gateway and (published or options.front is not None):
        raise ServeError(
            "--with-gateway works on one machine only, but these options publish the server, or start no nginx. Start "
            "the gateway separately and set --gateway: docs/gateway.md."
        )
    return ServerOptions(
        store=options.model_store.resolve(),
        configuration=options.config,
        health_port=options.health_port,
        models=[name for name in options.models.split(",") if name],
        workers=options.workers,
        memory=parse_memory(options.memory),
        engine=options.engine,
        worker_start=options.worker_start,
        requests=2 * options.concurrent,
        profiles=signed_profile.load([name for name in options.profile.split(",") if name], options.profile_key),
        require=options.require,
        domain=options.domain,
        startup_timeout=options.startup_timeout,
        drain_timeout=options.drain_timeout,
        drain_delay=options.drain_delay,
        proxy=None if options.front is False else options.proxy(_port_of(options), keyless=not published),
        keys=options.keys or None,
        run_directory=options.runtime,
        state=options.state,
        source=open_store(options.store, public_keys=options.store_public_key) if options.store else None,
        settle=options.settle,
        silence=options.silence,
    )


def _is_published(options: ServeOptions) -> bool:
    """Return whether clients need keys."""
    from radserve.host import ports

    local = ports.parse_address(options.host).is_loopback
    return options.front or not local or options.certificate is not None or options.plain_http


def _port_of(options: ServeOptions) -> int:
    return (8443 if _is_published(options) else 8080) if options.port is None else options.port


def _serve_with_gateway(options: ServeOptions) -> int:
    """Run server and gateway as two processes: this command again, without the gateway, and `radserve-gateway`."""
    from radserve.cli import with_gateway

    port, health_port, keys = _port_of(options), options.health_port, options.keys or ""
    addresses = with_gateway.Addresses(
        options.host, port, health_port, options.gateway_host, options.gateway_port, keys
    )
    return with_gateway.run(addresses, [*_arguments(), "--without-gateway"], typer.echo, options.drain_timeout)


@dataclass(frozen=True)
class StandaloneProxyOptions(Publication):
    """Options of `radserve front`."""

    runtime: Path = setting(..., "RADSERVE_RUNTIME", "Run directory of the server, shared by both processes.")
    port: int = _port(8443, "RADSERVE_PORT", "Public port of the models.")
    response_timeout: int | None = setting(
        None,
        "RADSERVE_RESPONSE_TIMEOUT",
        "Longest response time of a model, in seconds; by default from the archives of the model store.",
        min=1,
    )


@with_groups
def front(options: StandaloneProxyOptions) -> None:
    """Run nginx for a server in another process.

    Start that server with 'radserve serve --no-front --keys FILE --runtime DIR';
    it validates the keys. SIGTERM finishes the requests in flight, SIGHUP
    reloads the certificate. Exits with nginx's exit code.
    """
    from radserve import logging
    from radserve.host.resources import parse_memory
    from radserve.host.run_directory import RunDirectory
    from radserve.proxy import standalone

    logging.configure()
    upstreams = standalone.upstreams(
        options.health_port,
        RunDirectory(options.runtime.absolute()),
        options.model_store,
        options.config,
        options.response_timeout,
        options.drain_timeout,
        memory=parse_memory(options.memory),
        requests=2 * options.concurrent,
    )
    raise typer.Exit(asyncio.run(standalone.run(options.proxy(options.port), upstreams)))
