"""`radserve serve` and `radserve front`: a server, and what is published of it.

Each option can be set by a variable as well, since containers are configured that way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

MODEL_STORE: Final = Path("model_store")
CONFIGURATION: Final = Path(__file__).parents[1] / "torchserve" / "config.properties"

Store = Annotated[
    Path,
    typer.Option("--model-store", envvar="RADSERVE_MODEL_STORE", help="Folder of the built archives and their index."),
]
Config = Annotated[Path, typer.Option(envvar="RADSERVE_CONFIG", help="TorchServe's configuration.")]
HealthPort = Annotated[
    int, typer.Option(envvar="RADSERVE_HEALTH_PORT", help="Port of /live, /ready, /auth and /metrics, on loopback.")
]
MetricsPort = Annotated[
    int, typer.Option(envvar="RADSERVE_METRICS_PORT", help="Port of TorchServe's /metrics, on loopback.")
]
InferencePort = Annotated[
    int, typer.Option(envvar="RADSERVE_INFERENCE_PORT", help="Port of TorchServe behind the front, on loopback.")
]
DrainTimeout = Annotated[
    float, typer.Option(envvar="RADSERVE_DRAIN_TIMEOUT", help="Seconds that a stop waits for requests in flight.")
]
Host = Annotated[str, typer.Option(envvar="RADSERVE_HOST", help="Address that is published; 0.0.0.0 for all.")]
ManagementHost = Annotated[
    str, typer.Option(envvar="RADSERVE_MANAGEMENT_HOST", help="Address of the management API; --host if empty.")
]
ManagementPort = Annotated[
    int, typer.Option(envvar="RADSERVE_MANAGEMENT_PORT", help="Published port of the management API (role manage).")
]
MetricsPortPublic = Annotated[
    int, typer.Option(envvar="RADSERVE_METRICS_PORT_PUBLIC", help="Published port of the metrics (role read).")
]
Certificate = Annotated[
    Path | None, typer.Option(envvar="RADSERVE_CERTIFICATE", help="PEM file: certificate and chain. SIGHUP rereads it.")
]
CertificateKey = Annotated[
    Path | None, typer.Option(envvar="RADSERVE_CERTIFICATE_KEY", help="PEM file: the certificate's key.")
]
PlainHttp = Annotated[
    bool, typer.Option("--plain-http", envvar="RADSERVE_PLAIN_HTTP", help="No TLS here: it ends before this server.")
]
Rate = Annotated[int, typer.Option(min=1, envvar="RADSERVE_RATE", help="Requests a second for each key.")]
Concurrent = Annotated[
    int, typer.Option(min=1, envvar="RADSERVE_CONCURRENT", help="Requests that each key may have open.")
]
Trusted = Annotated[
    str,
    typer.Option(
        "--trusted-proxy",
        envvar="RADSERVE_TRUSTED_PROXY",
        help="Comma-separated networks of load balancers, whose X-Forwarded-For tells the client's address.",
    ),
]
Gateway = Annotated[
    str | None,
    typer.Option(
        envvar="RADSERVE_GATEWAY_UPSTREAM",
        help="HOST:PORT or unix:PATH of a gateway ('radserve-gateway'), whose page and API nginx then publishes.",
    ),
]
AccessLog = Annotated[Path, typer.Option(envvar="RADSERVE_ACCESS_LOG", help="File for a line of JSON a request.")]


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
        typer.Option(envvar="RADSERVE_PORT", help="Port that clients ask; by default 8080, or the front's 8443."),
    ] = None,
    front: Annotated[
        bool | None,
        typer.Option(
            "--front/--no-front",
            envvar="RADSERVE_FRONT",
            help="Publish by nginx; done where the host is not loopback, or TLS or --plain-http is asked for.",
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
        typer.Option(min=1, envvar="RADSERVE_WORKERS", help="Workers a model; by default the cores are shared."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(envvar="RADSERVE_RUNTIME", help="Folder for all that is written (0700); temporary if not named."),
    ] = None,
    startup_timeout: Annotated[
        float, typer.Option(envvar="RADSERVE_STARTUP_TIMEOUT", help="Seconds until a start has failed.")
    ] = 120.0,
    drain_delay: Annotated[
        float,
        typer.Option(
            envvar="RADSERVE_DRAIN_DELAY",
            help="Seconds for which a stop goes on answering while /ready says 503, for load balancers.",
        ),
    ] = 0.0,
    drain_timeout: DrainTimeout = 60.0,
    state: Annotated[
        Path | None,
        typer.Option(
            envvar="RADSERVE_STATE",
            help="Folder for what a restart must know: what is served, rollouts, the audit log. By default 'state' in "
            "the model store.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="RADSERVE_STORE",
            help="Where new versions are pulled from: a folder, s3://BUCKET/PREFIX or https://.",
        ),
    ] = None,
    store_public_key: Annotated[
        Path | None,
        typer.Option(envvar="RADSERVE_STORE_PUBLIC_KEY", help="Key (PEM) that must have signed the store's index."),
    ] = None,
    settle: Annotated[
        float,
        typer.Option(
            envvar="RADSERVE_SETTLE",
            help="Seconds that a version stays after nginx sends it nothing more, for bodies still on their way.",
        ),
    ] = 30.0,
) -> None:
    """Serve the archives of the model store until SIGTERM or Ctrl-C.

    On loopback TorchServe is asked directly and no key is needed. To anybody
    else it is published by nginx, with keys, and with TLS or --plain-http.

    Exit codes:
    0    stopped
    1    refused to start
    3    TorchServe died
    4    never became ready
    5    stopped with requests unfinished
    6    nginx died
    """
    import asyncio

    from radserve import logging
    from radserve.errors import ServeError
    from radserve.host import ports
    from radserve.proxy.options import Options, networks
    from radserve.server import options as serve_options
    from radserve.server import supervisor
    from radserve.store import open_store
    from radserve.torchserve.launch import Address

    logging.configure()
    local = ports.address(host).is_loopback
    if front is False and not local:
        raise ServeError(f"--no-front: TorchServe itself listens on loopback only, not on {host}; leave --host away.")
    wanted = front or not local or certificate is not None or plain_http
    if gateway and not wanted:
        raise ServeError("--gateway: nginx publishes it, and none is to be started; add --front, or leave it away.")
    published = None
    if wanted:
        published = Options(
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
    options = serve_options.Options(
        store=model_store.resolve(),
        configuration=config,
        address=Address("127.0.0.1", inference_port if wanted else 8080 if port is None else port, metrics_port),
        health_port=health_port,
        models=[name for name in models.split(",") if name],
        workers=workers,
        startup_timeout=startup_timeout,
        drain_timeout=drain_timeout,
        drain_delay=drain_delay,
        front=published,
        keys=keys or None,
        runtime=runtime,
        state=state,
        source=open_store(store, public_keys=store_public_key) if store else None,
        settle=settle,
    )
    raise typer.Exit(asyncio.run(supervisor.serve(options, typer.echo)))


def front(
    *,
    runtime: Annotated[
        Path, typer.Option(envvar="RADSERVE_RUNTIME", help="The server's runtime folder, which both must see.")
    ],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="RADSERVE_PORT", help="Published port of the models.")] = 8443,
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
            help="Longest that a model may take, in seconds; by default what the archives of the model store say.",
        ),
    ] = None,
    drain_timeout: DrainTimeout = 60.0,
) -> None:
    """Publish a server that runs beside this ('radserve serve --no-front --keys FILE --runtime DIR').

    Runs nginx until SIGTERM, which lets it finish what it has; SIGHUP makes it
    read the certificate anew. Keys are the server's business: it answers /auth.
    Ends with nginx's exit code.
    """
    import asyncio

    from radserve import logging
    from radserve.host.run_directory import RunDirectory
    from radserve.proxy import standalone
    from radserve.proxy.options import Options, networks
    from radserve.torchserve.launch import Address

    logging.configure()
    published = Options(
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
    address, shared = Address("127.0.0.1", inference_port, metrics_port), RunDirectory(runtime.absolute())
    behind = standalone.behind(address, health_port, shared, model_store, config, response_timeout, drain_timeout)
    raise typer.Exit(asyncio.run(standalone.run(published, behind, shared)))
