"""deploy/kubernetes: built by kustomize, validated against Kubernetes' schemas, checked for documented rules."""

import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from radserve.cli.main import COMMANDS
from tests.deploy.manifests import attempt, one
from tests.server import ROOT

SOURCE = ROOT / "deploy" / "kubernetes"
VERSIONS = ["1.31", "1.34", kubernetes_validate.latest_version()]
OURS = {"app.kubernetes.io/name": "radserve"}


@pytest.fixture(scope="module")
def deployment(built: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = one(built, "Deployment")["spec"]
    return value


@pytest.fixture(scope="module")
def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = deployment["template"]["spec"]
    return value


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (value,) = pod["containers"]
    return dict(value)


def option(container: dict[str, Any], name: str) -> str:
    """Return the value of an option of the container's command."""
    (value,) = [item.split("=", 1)[1] for item in container["args"] if item.startswith(f"{name}=")]
    return str(value)


# -- Validity


@pytest.mark.parametrize("version", VERSIONS)
def test_resources_are_valid_for_kubernetes(whole: list[dict[str, Any]], version: str) -> None:
    checked = [item for item in whole if item["kind"] != "ServiceMonitor"]  # the operator's, not Kubernetes'
    assert len(checked) == len(whole) - 1
    for item in checked:
        kubernetes_validate.validate(item, version, strict=True)


def test_validation_rejects_an_unknown_key(built: list[dict[str, Any]]) -> None:
    wrong = one(built, "Deployment") | {"spec": {"replica": 2, **one(built, "Deployment")["spec"]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_overlay_has_all_resources(built: list[dict[str, Any]]) -> None:
    assert sorted(item["kind"] for item in built) == [
        "Deployment",
        "HorizontalPodAutoscaler",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Secret",
        "Secret",
        "Service",
        "ServiceAccount",
    ]


def test_resources_are_in_one_namespace(whole: list[dict[str, Any]]) -> None:
    assert {item["metadata"].get("namespace") for item in whole if item["kind"] != "Namespace"} == {"radserve"}


def test_build_without_secret_files_names_the_missing_file(tmp_path: Path, overlay: str) -> None:
    shutil.copytree(
        SOURCE, tmp_path / "copied", ignore=lambda folder, names: names if folder.endswith("secrets") else []
    )
    process = attempt(tmp_path / "copied" / "overlays" / overlay)
    assert process.returncode != 0
    assert "secrets/api_keys.json" in process.stderr


def test_git_ignores_secret_files() -> None:
    for ignore in SOURCE.rglob("secrets/.gitignore"):
        assert ignore.read_text().splitlines() == ["*", "!.gitignore"]
    assert {path.parent.parent.name for path in SOURCE.rglob("secrets/.gitignore")} == {"base", "service-monitor"}


def test_every_file_is_listed_in_a_kustomization() -> None:
    # Without kustomize: listed files exist, and existing files are listed.
    for path in SOURCE.rglob("kustomization.yaml"):
        text = yaml.safe_load(path.read_text())
        listed = [*text.get("resources", []), *(patch["path"] for patch in text.get("patches", []))]
        assert all((path.parent / name).exists() for name in listed), path
        here = {item.name for item in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert here == {name for name in listed if "/" not in name}, path


# -- The container


def test_command_is_valid(container: dict[str, Any]) -> None:
    command, *options = container["args"]
    COMMANDS[command].load(command).make_context(command, options).close()


def test_image_of_the_overlay_is_pinned(container: dict[str, Any], overlay: str) -> None:
    name = {"cpu": "radserve/server-cpu", "gpu": "radserve/server"}[overlay]
    assert re.fullmatch(rf"{name}:\d+\.\d+\.\d+", container["image"])


def test_pod_meets_the_restricted_security_standard(
    built: list[dict[str, Any]], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} == {"secret", "emptyDir"}
    assert one(built, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_pod_cannot_use_the_kubernetes_api(built: list[dict[str, Any]], pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert one(built, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == one(built, "ServiceAccount")["metadata"]["name"]


def test_writable_volumes_are_in_memory_below_the_memory_limit(pod: dict[str, Any], container: dict[str, Any]) -> None:
    empty = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/run/radserve"}
    assert all(volume["medium"] == "Memory" for volume in empty.values())
    assert sum(size(volume["sizeLimit"]) for volume in empty.values()) < size(
        container["resources"]["limits"]["memory"]
    )
    # A subfolder, because root owns the volume and the server requires a private folder.
    assert Path(option(container, "--runtime")).parent == Path("/run/radserve")


def size(text: str) -> int:
    """Parse a quantity of memory."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def test_container_has_requests_and_limits(container: dict[str, Any], overlay: str) -> None:
    resources = container["resources"]
    assert set(resources["requests"]) >= {"cpu", "memory"}
    # Without a CPU limit, the supervisor would use all cores of the node.
    assert set(resources["limits"]) == {"cpu", "memory"} | ({"nvidia.com/gpu"} if overlay == "gpu" else set())


def test_gpu_pods_run_only_on_gpu_nodes(pod: dict[str, Any], overlay: str) -> None:
    assert ("nodeSelector" in pod) == ("tolerations" in pod) == (overlay == "gpu")


def test_probes_go_through_nginx(container: dict[str, Any]) -> None:
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: get["path"] for name, get in probes.items()} == {
        "startup": "/ready",
        "readiness": "/ready",
        "liveness": "/live",
    }
    assert {(get["port"], get["scheme"]) for get in probes.values()} == {("https", "HTTPS")}
    assert {"name": "https", "containerPort": 8443} in container["ports"]
    for name in probes:
        assert container[f"{name}Probe"]["timeoutSeconds"] <= container[f"{name}Probe"]["periodSeconds"]


def test_startup_probe_exceeds_the_supervisors_limit(container: dict[str, Any]) -> None:
    from radserve.server.options import ServerOptions

    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > ServerOptions.startup_timeout


def test_grace_period_exceeds_delay_and_drain(pod: dict[str, Any], container: dict[str, Any]) -> None:
    variables = {item["name"]: item["value"] for item in container["env"]}
    delay = float(variables["RADSERVE_DRAIN_DELAY"])
    readiness = container["readinessProbe"]
    # Long enough for the probe to fail and load balancers to react before requests are rejected.
    assert delay >= readiness["periodSeconds"] * readiness["failureThreshold"]
    # TorchServe has 10 s to stop and its workers 3 s (radserve.server).
    assert pod["terminationGracePeriodSeconds"] > delay + float(option(container, "--drain-timeout")) + 13


def test_secret_files_are_readable_only_by_the_pods_group(
    built: list[dict[str, Any]], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    secrets = {item["metadata"]["name"]: set(item["data"]) for item in built if item["kind"] == "Secret"}
    volumes = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    assert {volume["secretName"] for volume in volumes.values()} == set(secrets)
    assert {volume["defaultMode"] for volume in volumes.values()} == {0o440}
    files = {
        f"{mount['mountPath']}/{name}"
        for mount in container["volumeMounts"]
        if mount["name"] in volumes
        for name in secrets[volumes[mount["name"]]["secretName"]]
    }
    assert files == {option(container, name) for name in ("--keys", "--certificate", "--certificate-key")}
    assert {item["name"] for item in container["env"]} == {"RADSERVE_DRAIN_DELAY"}


# -- Other resources


def test_rollouts_and_node_drains_keep_servers_available(
    built: list[dict[str, Any]], deployment: dict[str, Any]
) -> None:
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = one(built, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    scaler = one(built, "HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] > budget["maxUnavailable"]
    assert "replicas" not in deployment


def test_scale_down_is_slower_than_scale_up(built: list[dict[str, Any]]) -> None:
    scaler = one(built, "HorizontalPodAutoscaler")["spec"]
    behavior = scaler["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] > behavior["scaleUp"]["stabilizationWindowSeconds"]
    assert scaler["scaleTargetRef"]["name"] == one(built, "Deployment")["metadata"]["name"]


def test_selectors_match_the_pods(built: list[dict[str, Any]], deployment: dict[str, Any]) -> None:
    labels = deployment["template"]["metadata"]["labels"].items()
    spread = [
        item["labelSelector"]["matchLabels"] for item in deployment["template"]["spec"]["topologySpreadConstraints"]
    ]
    selectors = [
        deployment["selector"]["matchLabels"],
        one(built, "Service")["spec"]["selector"],
        one(built, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(built, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *spread,
    ]
    assert len(spread) == 2
    for selector in selectors:
        assert selector.items() <= labels
        assert selector.items() >= OURS.items()


def test_service_publishes_api_and_metrics_but_not_management(
    built: list[dict[str, Any]], container: dict[str, Any]
) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in one(built, "Service")["spec"]["ports"]} == {"https", "metrics"} == set(ports)
    assert ports == {"https": 8443, "metrics": 9180}
    assert option(container, "--management-host") == "127.0.0.1"


def test_only_labelled_namespaces_can_reach_the_ports(built: list[dict[str, Any]]) -> None:
    policy = one(built, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    allowed = {
        rule["ports"][0]["port"]: [item["namespaceSelector"]["matchLabels"] for item in rule["from"]]
        for rule in policy["ingress"]
        if len(rule["ports"]) == 1
    }
    assert allowed == {"https": [{"radserve/client": "true"}], "metrics": [{"radserve/monitoring": "true"}]}
    assert len(policy["ingress"]) == 2


def test_egress_allows_only_dns(built: list[dict[str, Any]]) -> None:
    (rule,) = one(built, "NetworkPolicy")["spec"]["egress"]
    assert [item["namespaceSelector"]["matchLabels"] for item in rule["to"]] == [
        {"kubernetes.io/metadata.name": "kube-system"}
    ]
    assert {port["port"] for port in rule["ports"]} == {53}
