"""Composition of the server: creates its components and connects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from radserve.auth.key_check import Keyring
from radserve.host.resources import WorkerPlan
from radserve.host.run_directory import RunDirectory
from radserve.proxy import configuration
from radserve.proxy.access_events import AccessEvents, TrafficWindow
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.server.asgi import AsgiServer
from radserve.server.health_api import health_app
from radserve.server.metrics import MetricsEndpoint
from radserve.server.options import ServerOptions
from radserve.server.served_models import ServedModels
from radserve.server.status import ServerStatus
from radserve.torchserve import launch
from radserve.torchserve.management import Management
from radserve.torchserve.readiness import Readiness
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.torchserve.verified_models import VerifiedModel
from radserve.versions.control_api import ControlApi, application
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.registration import Registration
from radserve.versions.rollout_manager import RolloutManager
from radserve.versions.storage import StateFolder
from radserve.versions.torchserve_api import TorchServeApi
from radserve.versions.traffic_routing import TrafficRouter
from radserve.versions.unregistration import Unregistration
from radserve.versions.version_manager import VersionManager
from radserve.versions.views import Views


@dataclass(frozen=True)
class Components:
    """Components of one server, none of them started.

    Attributes
    ----------
    models
        Verified models to load at the start.
    torchserve_configuration
        TorchServe's base configuration.
    health, control
        HTTP servers of the supervisor's health API and control API.
    """

    options: ServerOptions
    models: Sequence[VerifiedModel]
    plan: WorkerPlan
    run_directory: RunDirectory
    keyring: Keyring | None
    torchserve_configuration: str
    status: ServerStatus
    management: Management
    registry: ModelRegistry
    readiness: Readiness
    versions: VersionManager
    rollouts: RolloutManager
    traffic: AccessEvents
    health: AsgiServer
    control: AsgiServer
    proxy: Nginx | None


def compose(
    options: ServerOptions,
    models: Sequence[VerifiedModel],
    plan: WorkerPlan,
    run_directory: RunDirectory,
    keyring: Keyring | None,
    state: StateFolder,
) -> Components:
    """Create the components of a server."""
    torchserve_configuration = options.configuration.read_text(encoding="utf-8")
    management = Management(run_directory)
    registry = ModelRegistry(_initial_versions(models, state, plan), management, run_directory.busy)
    readiness = Readiness(registry, options.address, lambda: versions.versions_with_traffic)
    deployment = DeploymentStateManager(registry, state, TrafficRouter(run_directory))
    registration = Registration(
        registry,
        deployment,
        readiness,
        store=options.store,
        source=options.source,
        scratch=run_directory.folder / "tmp",
        threads=plan.threads,
        timeout=options.startup_timeout,
    )
    unregistration = Unregistration(registry, deployment, settle=options.settle, patience=options.drain_timeout)
    versions = VersionManager(registry, deployment, registration, unregistration, default_workers=plan.workers)
    window = TrafficWindow()
    rollouts = RolloutManager(versions, window, options.address.url)
    views = Views(versions, rollouts, registry, options.address.metrics_url)
    status = ServerStatus()
    served = ServedModels(registry, views, options.store)
    metrics = MetricsEndpoint(status, served.worker_statuses, run_directory.certificate)
    health = health_app(status, served, metrics, keyring)
    torchserve_api = TorchServeApi(versions, management, options.store)
    control = application(*ControlApi(versions, rollouts, views).routes(), *torchserve_api.routes())
    return Components(
        options=options,
        models=models,
        plan=plan,
        run_directory=run_directory,
        keyring=keyring,
        torchserve_configuration=torchserve_configuration,
        status=status,
        management=management,
        registry=registry,
        readiness=readiness,
        versions=versions,
        rollouts=rollouts,
        traffic=AccessEvents(run_directory.traffic, window.add),
        health=AsgiServer.on_port(health, options.address.host, options.health_port, "--health-port"),
        control=AsgiServer.on_socket(control, run_directory.control),
        proxy=_proxy(options, models, run_directory, torchserve_configuration),
    )


def _initial_versions(models: Sequence[VerifiedModel], state: StateFolder, plan: WorkerPlan) -> list[ModelVersion]:
    started = datetime.now(UTC).replace(microsecond=0)
    deployment = state.state.deployment
    versions = []
    for model in models:
        declared = deployment.find(model.entry.name, model.entry.version) if deployment else None
        workers = declared.workers if declared else None
        versions.append(ModelVersion(model, workers or plan.workers, started))
    return versions


def _proxy(
    options: ServerOptions, models: Sequence[VerifiedModel], run_directory: RunDirectory, torchserve_configuration: str
) -> Nginx | None:
    if options.proxy is None:
        return None
    address = options.address
    upstreams = Upstreams(
        torchserve=f"{address.host}:{address.port}",
        torchserve_metrics=f"{address.host}:{address.metrics_port}",
        supervisor=f"{address.host}:{options.health_port}",
        run_directory=run_directory,
        max_body=launch.max_request_size(torchserve_configuration),
        response_timeout=configuration.response_timeout(options.store / model.entry.file for model in models),
        drain_timeout=options.drain_timeout,
    )
    return Nginx(options.proxy, upstreams, run_directory.proxy)
