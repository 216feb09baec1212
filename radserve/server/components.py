"""Components of a server, and how they are connected."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from radserve.auth.key_check import Keyring
from radserve.host import resources, unix_socket
from radserve.host.background import BackgroundTasks
from radserve.host.ports import LOOPBACK
from radserve.host.resources import WorkerPlan
from radserve.host.run_directory import RunDirectory
from radserve.proxy import configuration
from radserve.proxy.access_events import AccessEvents, TrafficWindow
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.server.asgi import listen_on_port, serving
from radserve.server.health_api import health_app
from radserve.server.metrics import MetricsEndpoint
from radserve.server.options import ServerOptions
from radserve.server.status import ServerStatus
from radserve.torchserve import capacity, launch
from radserve.torchserve.management import Management
from radserve.torchserve.readiness import Readiness
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.torchserve.verified_models import VerifiedModel
from radserve.torchserve.worker_start import write_launcher
from radserve.versions.control_api import ControlApi, application
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.read_only import ReadOnly
from radserve.versions.registration import Registration
from radserve.versions.request_hold import RequestHold
from radserve.versions.rollout_manager import RolloutManager
from radserve.versions.stored_state import StateFolder
from radserve.versions.torchserve_api import TorchServeApi
from radserve.versions.unregistration import Unregistration
from radserve.versions.version_manager import VersionManager
from radserve.versions.views import Views


class Components:
    """Components of one server, connected and not started."""

    def __init__(
        self,
        options: ServerOptions,
        models: Sequence[VerifiedModel],
        plan: WorkerPlan,
        run_directory: RunDirectory,
        keyring: Keyring | None,
        state: StateFolder,
    ) -> None:
        self.options = options
        self.models = models
        self.plan = plan
        self.run_directory = run_directory
        self.keyring = keyring
        self.torchserve_configuration = options.configuration.read_text(encoding="utf-8")
        self.capacity = capacity.plan(options.memory or resources.memory(), self._max_body(), requests=options.requests)
        self.python = write_launcher(run_directory) if options.forks else sys.executable
        self.status = ServerStatus(detail=f"{options.engine_name} is starting.")
        self.tasks = BackgroundTasks()
        self.management = Management(run_directory)
        versions = _initial_versions(models, state, plan)
        self.registry = ModelRegistry(versions, self.management, run_directory, options.silence)
        window = TrafficWindow()
        self.readiness = Readiness(
            self.registry,
            run_directory.inference,
            lambda: self.versions.versions_with_traffic,
            window.failures_in_a_row,
        )
        deployment = DeploymentStateManager(self.registry, state, run_directory, options.store)
        hold = RequestHold(run_directory)
        self.versions = VersionManager(
            self.registry,
            deployment,
            Registration(
                self.registry,
                deployment,
                self.readiness,
                store=options.store,
                source=options.source,
                models=run_directory.models,
                profiles=options.profiles,
                python=self.python,
                threads=plan.threads,
                timeout=options.startup_timeout,
            ),
            Unregistration(
                self.registry,
                deployment,
                settle=options.settle,
                patience=self._response_timeout() + configuration.MARGIN,
            ),
            hold,
            default_workers=plan.workers,
        )
        self.rollouts = RolloutManager(self.versions, window, run_directory.inference)
        views = Views(self.versions, self.rollouts, run_directory.metrics)
        metrics = MetricsEndpoint(self.status, self.registry, views.share, window, run_directory.certificate)
        health = health_app(self.status, self.tasks, views, options.store, options.domain, metrics, keyring)
        torchserve_api = TorchServeApi(self.versions, self.management, options.store)
        control_api = ControlApi(self.versions, self.rollouts, views)
        control = application(*control_api.routes(), *torchserve_api.routes(), hold.route())
        if options.engine == "ray":
            control.add_middleware(ReadOnly)
        self.traffic = AccessEvents(run_directory.traffic, window.add)
        self.health = serving(health, listen_on_port(LOOPBACK, options.health_port, "--health-port"))
        self.control = serving(control, unix_socket.listen(run_directory.control))
        self.proxy = self._create_proxy()

    def _max_body(self) -> int:
        return launch.max_size(self.torchserve_configuration, "request")

    def _response_timeout(self) -> int:
        return configuration.response_timeout(self.options.store / model.entry.file for model in self.models)

    def _create_proxy(self) -> Nginx | None:
        options = self.options
        if options.proxy is None:
            return None
        upstreams = Upstreams(
            options.health_port,
            self.run_directory,
            max_body=self._max_body(),
            response_timeout=self._response_timeout(),
            capacity=self.capacity,
            drain_timeout=options.drain_timeout,
        )
        return Nginx(options.proxy, upstreams)


def _initial_versions(models: Sequence[VerifiedModel], state: StateFolder, plan: WorkerPlan) -> list[ModelVersion]:
    started = datetime.now(UTC).replace(microsecond=0)
    deployment = state.state.deployment
    versions = []
    for model in models:
        declared = deployment.find(model.entry.name, model.entry.version) if deployment else None
        workers = declared.workers if declared else None
        versions.append(ModelVersion(model, workers or plan.workers, started))
    return versions
