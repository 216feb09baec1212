"""`radserve serve` and `radserve front`: the server, and the proxy as a separate process.

Every option has an environment variable, for containers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

MODEL_STORE: Final = Path("model_store")
CONFIGURATION: Final = Path(__file__).parents[1] / "torchserve" / "config.properties"

Store = Annotated[
    Path,
    typer.Option("--model-store", envvar="RADSERVE_MODEL_STORE", help="Folder of the archives and their index."),
]
Config = Annotated[Path, typer.Option(envvar="RADSERVE_CONFIG", help="TorchServe's base configuration.")]
HealthPort = Annotated[
    int, typer.Option(envvar="RADSERVE_HEALTH_PORT", help="Port of /live, /ready, /auth and /metrics, on loopback.")
]
MetricsPort = Annotated[
    int, typer.Option(envvar="RADSERVE_METRICS_PORT", help="Port of TorchServe's /metrics, on loopback.")
]
InferencePort = Annotated[
    int, typer.Option(envvar="RADSERVE_INFERENCE_PORT", help="Port of TorchServe behind the proxy, on loopback.")
]
DrainTimeout = Annotated[
    float, typer.Option(envvar="RADSERVE_DRAIN_TIMEOUT", help="Seconds to wait for requests in flight when stopping.")
]
Host = Annotated[str, typer.Option(envvar="RADSERVE_HOST", help="Address to listen on; 0.0.0.0 for all interfaces.")]
ManagementHost = Annotated[
    str, typer.Option(envvar="RADSERVE_MANAGEMENT_HOST", help="Address of the management API; same as --host if empty.")
]
ManagementPort = Annotated[
    int, typer.Option(envvar="RADSERVE_MANAGEMENT_PORT", help="Public port of the management API (role manage).")
]
MetricsPortPublic = Annotated[
    int, typer.Option(envvar="RADSERVE_METRICS_PORT_PUBLIC", help="Public port of the metrics (role read).")
]
Certificate = Annotated[
    Path | None,
    typer.Option(envvar="RADSERVE_CERTIFICATE", help="PEM file with certificate and chain; SIGHUP reloads it."),
]
CertificateKey = Annotated[
    Path | None, typer.Option(envvar="RADSERVE_CERTIFICATE_KEY", help="PEM file with the certificate's key.")
]
PlainHttp = Annotated[
    bool,
    typer.Option(
        "--plain-http", envvar="RADSERVE_PLAIN_HTTP", help="Serve without TLS, because a load balancer terminates it."
    ),
]
Rate = Annotated[int, typer.Option(min=1, envvar="RADSERVE_RATE", help="Requests per second of each key.")]
Concurrent = Annotated[int, typer.Option(min=1, envvar="RADSERVE_CONCURRENT", help="Open requests of each key.")]
Trusted = Annotated[
    str,
    typer.Option(
        "--trusted-proxy",
        envvar="RADSERVE_TRUSTED_PROXY",
        help="Comma-separated networks of load balancers whose X-Forwarded-For is trusted.",
    ),
]
Gateway = Annotated[
    str | None,
    typer.Option(
        envvar="RADSERVE_GATEWAY_UPSTREAM",
        help="HOST:PORT or unix:PATH of a gateway ('radserve-gateway'), to publish its page and API.",
    ),
]
AccessLog = Annotated[Path, typer.Option(envvar="RADSERVE_ACCESS_LOG", help="File for one JSON line per request.")]


def serve(
    *,
    models: Annotated[
        str, typer.Option(envvar="RADSERVE_MODELS", help="Comma-separated NAME or NAME/VERSION; all if empty.")
    ] = "",
    model_store: Store = MODEL_STORE,
    config: Config = CONFIGURATION,
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(envvar="RADSERVE_PORT", help="Port for clients; by default 8080, or 8443 with a proxy."),
    ] = None,
    front: Annotated[
        bool | None,
        typer.Option(
            "--front/--no-front",
            envvar="RADSERVE_FRONT",
            help="Publish through nginx; the default if --host is not loopback, or with TLS or --plain-http.",
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            envvar="RADSERVE_KEYS_SOURCE",
            help="File of API keys ('radserve keys create'), env:NAME or secretsmanager:NAME[:REGION].",
        ),
    ] = None,
    certificate: Certificate = None,
    certificate_key: CertificateKey = None,
    plain_http: PlainHttp = False,
    management_host: ManagementHost = "",
    management_port: ManagementPort = 8444,
    metrics_port_public: MetricsPortPublic = 9180,
    rate: Rate = 200,
    concurrent: Concurrent = 64,
    trusted_proxy: Trusted = "",
    access_log: AccessLog = Path("/dev/stdout"),
    gateway: Gateway = None,
    inference_port: InferencePort = 8080,
    health_port: HealthPort = 8090,
    metrics_port: MetricsPort = 8082,
    workers: Annotated[
        int | None,
        typer.Option(min=1, envvar="RADSERVE_WORKERS", help="Workers per model; by default the cores are divided."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            envvar="RADSERVE_RUNTIME", help="Folder for all files that are written (0700); temporary by default."
        ),
    ] = None,
    startup_timeout: Annotated[
        float, typer.Option(envvar="RADSERVE_STARTUP_TIMEOUT", help="Seconds until a start counts as failed.")
    ] = 120.0,
    drain_delay: Annotated[
        float,
        typer.Option(
            envvar="RADSERVE_DRAIN_DELAY",
            help="Seconds for which a stopping server still answers while /ready returns 503.",
        ),
    ] = 0.0,
    drain_timeout: DrainTimeout = 60.0,
    state: Annotated[
        Path | None,
        typer.Option(
            envvar="RADSERVE_STATE",
            help="Folder for the deployment, rollouts and audit log, which survive a restart; by default 'state' in "
            "the model store.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="RADSERVE_STORE",
            help="Archive store to pull new versions from: a folder, s3://BUCKET/PREFIX or https://.",
        ),
    ] = None,
    store_public_key: Annotated[
        Path | None,
        typer.Option(envvar="RADSERVE_STORE_PUBLIC_KEY", help="Public key (PEM) that verifies the store's index."),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(
            envvar="RADSERVE_SETTLE",
            help="Seconds that a version remains after nginx stopped using it, for bodies in transit.",
        ),
    ] = 30.0,
) -> None:
    """Serve the archives of the model store until SIGTERM or Ctrl-C.

    On loopback, clients reach TorchServe directly and without keys. Any other
    address is published through nginx, with keys, and TLS or --plain-http.

    Exit codes:
    0    stopped
    1    not started
    3    TorchServe died
    4    not ready in time
    5    stopped with unfinished requests
    6    nginx died
    """
    import asyncio

    from radserve import logging
    from radserve.errors import ServeError
    from radserve.host import ports
    from radserve.proxy.options import ProxyOptions, networks
    from radserve.server import supervisor
    from radserve.server.options import ServerOptions
    from radserve.store import open_store
    from radserve.torchserve.launch import Address

    logging.configure()
    local = ports.parse_address(host).is_loopback
    if front is False and not local:
        raise ServeError(f"--no-front: without nginx the server listens on loopback only, not on {host}; omit --host.")
    with_proxy = front or not local or certificate is not None or plain_http
    if gateway and not with_proxy:
        raise ServeError("--gateway: needs nginx; add --front, or omit --gateway.")
    proxy = None
    if with_proxy:
        proxy = ProxyOptions(
            host=host,
            port=8443 if port is None else port,
            management_host=management_host or host,
            management_port=management_port,
            metrics_port=metrics_port_public,
            certificate=certificate,
            certificate_key=certificate_key,
            plain_http=plain_http,
            rate=rate,
            concurrent=concurrent,
            trusted=networks(trusted_proxy),
            access_log=access_log,
            gateway=gateway or None,
        )
    options = ServerOptions(
        store=model_store.resolve(),
        configuration=config,
        address=Address("127.0.0.1", inference_port if with_proxy else 8080 if port is None else port, metrics_port),
        health_port=health_port,
        models=[name for name in models.split(",") if name],
        workers=workers,
        startup_timeout=startup_timeout,
        drain_timeout=drain_timeout,
        drain_delay=drain_delay,
        proxy=proxy,
        keys=keys or None,
        run_directory=runtime,
        state=state,
        source=open_store(store, public_keys=store_public_key) if store else None,
        settle=settle,
    )
    raise typer.Exit(asyncio.run(supervisor.serve(options, typer.echo)))


def front(
    *,
    runtime: Annotated[
        Path, typer.Option(envvar="RADSERVE_RUNTIME", help="Run directory of the server, shared by both processes.")
    ],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="RADSERVE_PORT", help="Public port of the models.")] = 8443,
    certificate: Certificate = None,
    certificate_key: CertificateKey = None,
    plain_http: PlainHttp = False,
    management_host: ManagementHost = "",
    management_port: ManagementPort = 8444,
    metrics_port_public: MetricsPortPublic = 9180,
    rate: Rate = 200,
    concurrent: Concurrent = 64,
    trusted_proxy: Trusted = "",
    access_log: AccessLog = Path("/dev/stdout"),
    gateway: Gateway = None,
    inference_port: InferencePort = 8080,
    health_port: HealthPort = 8090,
    metrics_port: MetricsPort = 8082,
    model_store: Store = MODEL_STORE,
    config: Config = CONFIGURATION,
    response_timeout: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar="RADSERVE_RESPONSE_TIMEOUT",
            help="Longest response time of a model, in seconds; by default from the archives of the model store.",
        ),
    ] = None,
    drain_timeout: DrainTimeout = 60.0,
) -> None:
    """Run nginx for a server in another process.

    Start that server with 'radserve serve --no-front --keys FILE --runtime DIR';
    it validates the keys. SIGTERM finishes the requests in flight, SIGHUP
    reloads the certificate. Exits with nginx's exit code.
    """
    import asyncio

    from radserve import logging
    from radserve.host.run_directory import RunDirectory
    from radserve.proxy import standalone
    from radserve.proxy.options import ProxyOptions, networks
    from radserve.torchserve.launch import Address

    logging.configure()
    options = ProxyOptions(
        host=host,
        port=port,
        management_host=management_host or host,
        management_port=management_port,
        metrics_port=metrics_port_public,
        certificate=certificate,
        certificate_key=certificate_key,
        plain_http=plain_http,
        rate=rate,
        concurrent=concurrent,
        trusted=networks(trusted_proxy),
        access_log=access_log,
        gateway=gateway or None,
    )
    address = Address("127.0.0.1", inference_port, metrics_port)
    upstreams = standalone.upstreams(
        address, health_port, RunDirectory(runtime.absolute()), model_store, config, response_timeout, drain_timeout
    )
    raise typer.Exit(asyncio.run(standalone.run(options, upstreams)))
