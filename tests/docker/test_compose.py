"""docker/compose.yaml: read by compose tools and checked for the documented rules."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.settings import Settings
from radserve.pacs import settings as pacs_settings
from tests.docker.compose import COMPOSE, DOCKER, ENVIRONMENT, PORTS, merged, podman, run, tool
from tests.server import ROOT

PACS = {"COMPOSE_PROFILES": "cpu,pacs"}
GPU = {"COMPOSE_PROFILES": "gpu", "RADSERVE_GPU_TARGETS": "./prometheus/gpu.yml"}
SHARED = {"nginx", "gateway", "redis", "prometheus", "grafana", "node-exporter"}
LOCAL = {"orthanc": ["127.0.0.1:4242:4242"], "viewer": ["127.0.0.1:8445:8080"]}


@pytest.fixture(scope="module")
def cpu() -> dict[str, Any]:
    return merged({})


@pytest.fixture(scope="module")
def gpu() -> dict[str, Any]:
    return merged(GPU)


@pytest.fixture(scope="module")
def pacs() -> dict[str, Any]:
    return merged(PACS)


@pytest.fixture(scope="module", params=["cpu", "gpu", "pacs"])
def services(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = request.getfixturevalue(request.param)["services"]
    return services


def mounts(service: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return source, target and read-only flag of each mount."""
    items = []
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            source, target, *options = volume.split(":")
            items.append((source, target, bool(options) and "ro" in options[0].split(",")))
        else:
            items.append((volume["source"], volume["target"], bool(volume.get("read_only"))))
    return items


# -- Validity


@pytest.mark.parametrize("file", [COMPOSE, PORTS])
def test_file_is_valid_for_the_compose_specification(file: Path) -> None:
    process = run([tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(file)], {})
    assert process.returncode == 0, process.stdout + process.stderr


def test_validation_rejects_an_unknown_key(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "healtcheck:", 1))
    process = run([tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(wrong)], {})
    assert process.returncode == 1


@pytest.mark.parametrize("variables", [{}, GPU, PACS])
def test_docker_compose_reads_the_file(variables: dict[str, str]) -> None:
    docker = [["docker", "compose"], ["docker-compose"]]
    command = next(
        (item for item in docker if shutil.which(item[0]) and run([*item, "version"], {}).returncode == 0), None
    )
    if command is None:
        pytest.skip("needs docker compose; podman-compose has read it in the other tests")
    files = ["--env-file", "/dev/null", "-f", str(COMPOSE), "-f", str(PORTS)]
    process = run([*command, *files, "config", "--format", "json"], ENVIRONMENT | variables)
    assert process.returncode == 0, process.stderr
    assert set(json.loads(process.stdout)["services"]) == set(merged(variables, PORTS)["services"])


def test_missing_environment_file_gives_advice() -> None:
    process = podman({})
    assert process.returncode != 0
    assert "copy docker/.env.example to docker/.env" in process.stderr


def test_example_explains_every_variable() -> None:
    text = COMPOSE.read_text() + PORTS.read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)", text))
    lines = (DOCKER / ".env.example").read_text().splitlines()
    documented = {line.lstrip("#").split("=")[0] for line in lines if re.match(r"#?[A-Z_]+=", line)}
    assert documented == used | {"COMPOSE_PROFILES"}
    blocks = (DOCKER / ".env.example").read_text().strip().split("\n\n")
    assert all(block.startswith("# ") for block in blocks)


# -- Services and networks


def test_profile_starts_one_server_and_the_shared_services(
    cpu: dict[str, Any], gpu: dict[str, Any], pacs: dict[str, Any]
) -> None:
    assert set(pacs["services"]) == SHARED | {"server", "orthanc", "pacs", "viewer"}
    assert set(cpu["services"]) == SHARED | {"server"}
    assert set(gpu["services"]) == SHARED | {"server-gpu", "dcgm-exporter"}


def test_servers_differ_only_in_image_and_devices(cpu: dict[str, Any], gpu: dict[str, Any]) -> None:
    one, other = dict(cpu["services"]["server"]), dict(gpu["services"]["server-gpu"])
    assert one.pop("image").startswith("radserve/server-cpu:")
    assert other.pop("image").startswith("radserve/server:")
    assert (one.pop("profiles"), other.pop("profiles")) == (["cpu"], ["gpu"])
    devices = other["deploy"]["resources"].pop("reservations")["devices"]
    assert [(item["driver"], item["capabilities"]) for item in devices] == [("nvidia", ["gpu"])]
    assert one == other


def test_only_nginx_is_published_and_management_and_pacs_only_locally(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert published.pop("nginx") == ["0.0.0.0:8443:8443", "127.0.0.1:8444:8444"]
    assert published == (LOCAL if "pacs" in services else {})


def test_server_is_reachable_only_through_nginx(services: dict[str, dict[str, Any]]) -> None:
    server = next(service for name, service in services.items() if name.startswith("server"))
    assert server["network_mode"] == "service:nginx"
    assert "networks" not in server
    assert {"--no-front", "--host=127.0.0.1"} <= set(server["command"])
    assert services["nginx"]["command"][0] == "front"


def test_site_profiles_are_in_a_folder_that_the_server_reads() -> None:
    files = {"RADSERVE_PROFILE": "/run/profiles/a.json", "RADSERVE_PROFILE_KEY": "/run/profiles/site.key.pub"}
    server = merged(files)["services"]["server"]
    assert {"--profile=/run/profiles/a.json", "--profile-key=/run/profiles/site.key.pub"} <= set(server["command"])
    ((source, _, read_only),) = [item for item in mounts(server) if item[1] == "/run/profiles"]
    assert Path(source).name == "profiles"
    assert read_only
    assert {"--profile=", "--profile-key="} <= set(merged({})["services"]["server"]["command"])


def test_prometheus_target_is_an_alias_of_nginx(cpu: dict[str, Any]) -> None:
    nginx = cpu["services"]["nginx"]
    jobs = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for item in job.get("static_configs", []) for target in item["targets"]}
    assert "server:9180" in targets
    assert "server" in nginx["networks"]["monitoring"]["aliases"]
    assert "--metrics-port-public=9180" in nginx["command"]


def test_internal_networks_have_no_egress_and_services_join_only_what_they_need(pacs: dict[str, Any]) -> None:
    assert {name: bool((net or {}).get("internal")) for name, net in pacs["networks"].items()} == {
        "pacs": True,
        "pacs-ports": False,
        "front": False,
        "inner": True,
        "back": True,
        "monitoring": True,
    }
    where = {name: set(service.get("networks", [])) for name, service in pacs["services"].items()}
    assert where == {
        "orthanc": {"pacs", "pacs-ports"},
        "pacs": {"pacs", "inner", "monitoring"},
        "viewer": {"pacs", "pacs-ports"},
        "nginx": {"front", "monitoring", "inner"},
        "gateway": {"inner", "back"},
        "server": set(),
        "redis": {"back"},
        "prometheus": {"monitoring"},
        "grafana": {"monitoring"},
        "node-exporter": {"monitoring"},
    }


def test_overlay_publishes_monitoring_only_locally() -> None:
    services = merged({}, PORTS)["services"]
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert published.pop("nginx")
    assert published == {"grafana": ["127.0.0.1:3000:3000"], "prometheus": ["127.0.0.1:9090:9090"]}
    assert set(services["grafana"]["networks"]) == {"monitoring", "monitoring-ports"}


def test_gateway_has_no_port_and_uses_nginx(
    services: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = services["gateway"]
    assert not gateway.get("ports")
    variables = environment(gateway)
    socket = variables.pop("RADSERVE_GATEWAY_SOCKET")
    assert f"--gateway=unix:{socket}" in services["nginx"]["command"]
    for name in ("nginx", "gateway"):
        assert ("gateway", str(Path(socket).parent), False) in mounts(services[name])
    # Its variables and secrets are valid settings.
    for target in secrets(gateway):
        (tmp_path / target).write_text("redis://:x@redis:6379/0")
    for key, value in (variables | {"RADSERVE_GATEWAY_SECRETS": str(tmp_path)}).items():
        monkeypatch.setenv(key, value)
    settings = Settings.read()
    assert settings.supervisor_url == "https://server:8443"
    assert "server" in services["nginx"]["networks"]["inner"]["aliases"]
    assert (settings.history, settings.rate_storage) == ("redis://:x@redis:6379/0",) * 2
    assert settings.keys == "/run/keys/api_keys.json"
    assert not any(
        key.removeprefix("RADSERVE_GATEWAY_").lower() not in {*Settings.model_fields, "secrets"} for key in variables
    )


# -- Every container


def test_services_have_a_healthcheck_and_restart(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert service["restart"] == "unless-stopped", name


def test_services_run_without_privileges(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "devices", "userns_mode"} & set(service), name
        assert not any("docker.sock" in source for source, _, _ in mounts(service)), name


def test_services_have_limits_of_cpu_memory_processes_and_logs(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}, name


def test_images_are_pinned_to_a_full_version(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+[a-z0-9.-]*", service["image"]), name


def test_services_wait_for_their_dependencies(services: dict[str, dict[str, Any]]) -> None:
    server = next(name for name in services if name.startswith("server"))
    waits = {name: service["depends_on"] for name, service in services.items() if service.get("depends_on")}
    expected = {
        server: {"nginx"},
        "gateway": {"nginx", "redis"},
        "prometheus": {"nginx", "node-exporter"},
        "grafana": {"prometheus"},
    }
    if "pacs" in services:
        expected |= {"pacs": {"nginx", "orthanc"}, "viewer": {"orthanc"}}
    assert {name: set(needs) for name, needs in waits.items()} == expected
    assert all(item["condition"] == "service_healthy" for needs in waits.values() for item in needs.values())
    # A service in another's network namespace must restart with its owner.
    assert services[server]["depends_on"]["nginx"]["restart"] is True


def test_grace_period_exceeds_the_drain(services: dict[str, dict[str, Any]]) -> None:
    server = next(service for name, service in services.items() if name.startswith("server"))
    drain = next(float(item.split("=")[1]) for item in server["command"] if item.startswith("--drain-timeout="))
    # TorchServe has 10 s to stop and its workers 3 s (radserve.server).
    assert float(server["stop_grace_period"].removesuffix("s")) > drain + 13


# -- Files and secrets


def test_mounted_files_are_in_the_repository(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for source, target, read_only in mounts(service):
            if not source.startswith("."):
                continue
            if source not in {"./secrets/keys", "./secrets/tls"}:
                assert (DOCKER / source).exists(), f"{name}: {source}"
            assert read_only, f"{name}: {target} must not be written"


def test_host_file_system_is_mounted_read_only(services: dict[str, dict[str, Any]]) -> None:
    hosts = {source: read_only for service in services.values() for source, _, read_only in mounts(service)}
    assert {source for source in hosts if source.startswith("/")} <= {"/", "/dev/null"}
    assert hosts["/"]


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    variables = service.get("environment", {})
    pairs = variables.items() if isinstance(variables, dict) else (item.split("=", 1) for item in variables)
    return {key: str(value) for key, value in pairs}


def secrets(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the secrets of a service by the name of their file in the container."""
    entries: list[dict[str, str]] = [
        item if isinstance(item, dict) else {"source": item} for item in service.get("secrets", [])
    ]
    return {item.get("target", item["source"]): item["source"] for item in entries}


def test_secrets_are_files_and_not_in_variables(services: dict[str, dict[str, Any]], cpu: dict[str, Any]) -> None:
    assert all(set(secret) == {"file"} for secret in cpu["secrets"].values())
    used = {name for service in services.values() for name in secrets(service).values()}
    assert used == set(cpu["secrets"])
    for service in services.values():
        for key, value in environment(service).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY", key):
                assert key.endswith("__FILE") or value in ("/run/secrets", "/run/keys/api_keys.json")
                if key.endswith("__FILE"):
                    assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_commands_use_only_secrets_of_their_service(services: dict[str, dict[str, Any]]) -> None:
    prometheus = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    redis = (DOCKER / "redis" / "redis.conf").read_text()
    loop = (DOCKER / "pacs" / "pacs.yaml").read_text()
    for name, service in services.items():
        text = json.dumps(service) + {"prometheus": prometheus, "redis": redis, "pacs": loop}.get(name, "")
        # The gateway finds its secrets by folder and the names of settings.
        named = {item for item in secrets(service) if not item.startswith("radserve_gateway_")}
        assert set(re.findall(r"/run/secrets/(\w+)", text)) == named, name


def test_git_ignores_secrets_and_environment_file() -> None:
    for path in ("docker/secrets/tls/key.pem", "docker/secrets/keys/api_keys.json", "docker/.env"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0, path


def test_commands_of_our_images_are_valid(services: dict[str, dict[str, Any]]) -> None:
    from radserve.cli.main import COMMANDS

    for service in services.values():
        if service["image"].startswith("radserve/server"):
            command, *options = service["command"]
            COMMANDS[command].load(command).make_context(command, options).close()


def test_settings_of_the_pacs_loop_are_valid_and_name_services(
    pacs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (DOCKER / "pacs" / "pacs.yaml").read_text()
    (tmp_path / "gateway_key").write_text(key := "k" * 16)
    (tmp_path / "pacs.yaml").write_text(text.replace("/run/secrets", str(tmp_path)))
    loop = pacs_settings.load(tmp_path / "pacs.yaml")
    assert "pacs" in pacs["services"]["orthanc"]["networks"]
    assert {urlsplit(source.orthanc).hostname for source in loop.sources if hasattr(source, "orthanc")} == {"orthanc"}
    assert loop.server.url == "https://server:8443"
    assert loop.status is not None
    assert loop.status.token == key
    assert environment(merged({"RADSERVE_PACS": "x"})["services"]["gateway"])["RADSERVE_GATEWAY_PACS"] == "x"
    targets = yaml.safe_load((DOCKER / "prometheus" / "pacs.yml").read_text())
    assert targets == [{"targets": [f"pacs:{loop.status.port}"]}]
    named = re.findall(r"#RADSERVE_PACS=(\S+)", (DOCKER / ".env.example").read_text())
    assert named == [f"http://pacs:{loop.status.port}"]
    assert ("pacs", str(loop.folder.parent), False) in mounts(pacs["services"]["pacs"])
