"""deploy/kubernetes: built by the real kustomize, checked against Kubernetes' schemas, and its promises held."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from radserve.cli.main import COMMANDS
from tests.deploy.kustomize import attempt, one
from tests.server import ROOT

SOURCE = ROOT / "deploy" / "kubernetes"
VERSIONS = ["1.31", "1.34", kubernetes_validate.latest_version()]
OURS = {"app.kubernetes.io/name": "radserve"}


@pytest.fixture(scope="module")
def deployment(built: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = one(built, "Deployment")["spec"]
    return found


@pytest.fixture(scope="module")
def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


def option(container: dict[str, Any], name: str) -> str:
    """Return the value of an option of the container's command."""
    (found,) = [item.split("=", 1)[1] for item in container["args"] if item.startswith(f"{name}=")]
    return str(found)


# -- Built and checked


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_what_the_schemas_of_kubernetes_allow(whole: list[dict[str, Any]], version: str) -> None:
    checked = [item for item in whole if item["kind"] != "ServiceMonitor"]  # the operator's, not Kubernetes'
    assert len(checked) == len(whole) - 1
    for item in checked:
        kubernetes_validate.validate(item, version, strict=True)


def test_the_check_against_the_schemas_finds_a_wrong_key(built: list[dict[str, Any]]) -> None:
    wrong = one(built, "Deployment") | {"spec": {"replica": 2, **one(built, "Deployment")["spec"]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_it_builds_all_that_a_deployment_needs(built: list[dict[str, Any]]) -> None:
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


def test_all_of_it_lies_in_one_namespace(whole: list[dict[str, Any]]) -> None:
    assert {item["metadata"].get("namespace") for item in whole if item["kind"] != "Namespace"} == {"radserve"}


def test_without_the_files_of_the_secrets_nothing_is_built_and_the_missing_one_is_named(
    tmp_path: Path, overlay: str
) -> None:
    shutil.copytree(
        SOURCE, tmp_path / "copied", ignore=lambda folder, names: names if folder.endswith("secrets") else []
    )
    done = attempt(tmp_path / "copied" / "overlays" / overlay)
    assert done.returncode != 0
    assert "secrets/api_keys.json" in done.stderr


def test_git_has_no_file_of_a_secret() -> None:
    for ignore in SOURCE.rglob("secrets/.gitignore"):
        assert ignore.read_text().splitlines() == ["*", "!.gitignore"]
    assert {path.parent.parent.name for path in SOURCE.rglob("secrets/.gitignore")} == {"base", "service-monitor"}


def test_every_file_is_named_by_a_kustomization() -> None:
    # Also where no kustomize is installed: what is listed exists, and what exists is listed.
    for path in SOURCE.rglob("kustomization.yaml"):
        text = yaml.safe_load(path.read_text())
        listed = [*text.get("resources", []), *(patch["path"] for patch in text.get("patches", []))]
        assert all((path.parent / name).exists() for name in listed), path
        here = {item.name for item in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert here == {name for name in listed if "/" not in name}, path


# -- The container


def test_its_command_is_understood_by_the_command_line(container: dict[str, Any]) -> None:
    command, *options = container["args"]
    COMMANDS[command].load(command).make_context(command, options).close()


def test_the_image_is_the_overlays_in_a_pinned_version(container: dict[str, Any], overlay: str) -> None:
    wanted = {"cpu": "radserve/server-cpu", "gpu": "radserve/server"}[overlay]
    assert re.fullmatch(rf"{wanted}:\d+\.\d+\.\d+", container["image"])


def test_the_pod_is_as_restricted_as_the_strictest_standard_of_kubernetes(
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


def test_it_has_no_way_to_the_clusters_api(built: list[dict[str, Any]], pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert one(built, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == one(built, "ServiceAccount")["metadata"]["name"]


def test_what_it_writes_lies_in_memory_and_is_bounded_below_its_limit(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    empty = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/run/radserve"}
    assert all(volume["medium"] == "Memory" for volume in empty.values())
    assert sum(size(volume["sizeLimit"]) for volume in empty.values()) < size(
        container["resources"]["limits"]["memory"]
    )
    # A folder below the volume: the volume's own belongs to root, and the server takes none that others may enter.
    assert Path(option(container, "--runtime")).parent == Path("/run/radserve")


def size(text: str) -> int:
    """Read a quantity of memory."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def test_its_resources_are_asked_for_and_limited(container: dict[str, Any], overlay: str) -> None:
    resources = container["resources"]
    assert set(resources["requests"]) >= {"cpu", "memory"}
    # Without a CPU limit the supervisor would share out all cores of the node.
    assert set(resources["limits"]) == {"cpu", "memory"} | ({"nvidia.com/gpu"} if overlay == "gpu" else set())


def test_gpu_pods_go_to_nodes_with_a_gpu_only(pod: dict[str, Any], overlay: str) -> None:
    assert ("nodeSelector" in pod) == ("tolerations" in pod) == (overlay == "gpu")


def test_probes_go_through_the_front_and_ask_what_they_mean(container: dict[str, Any]) -> None:
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/ready",
        "readiness": "/ready",
        "liveness": "/live",
    }
    assert {(get["port"], get["scheme"]) for get in asked.values()} == {("https", "HTTPS")}
    assert {"name": "https", "containerPort": 8443} in container["ports"]
    for name in asked:
        assert container[f"{name}Probe"]["timeoutSeconds"] <= container[f"{name}Probe"]["periodSeconds"]


def test_a_start_is_given_longer_than_the_supervisor_gives_itself(container: dict[str, Any]) -> None:
    from radserve.server.options import Options

    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > Options.startup_timeout


def test_a_stop_is_given_longer_than_delay_and_drain(pod: dict[str, Any], container: dict[str, Any]) -> None:
    variables = {item["name"]: item["value"] for item in container["env"]}
    delay = float(variables["RADSERVE_DRAIN_DELAY"])
    readiness = container["readinessProbe"]
    # Long enough that the probe has failed, and told the load balancers, before requests are refused.
    assert delay >= readiness["periodSeconds"] * readiness["failureThreshold"]
    # TorchServe gets 10 s to end, and its workers 3 s (radserve.supervisor).
    assert pod["terminationGracePeriodSeconds"] > delay + float(option(container, "--drain-timeout")) + 13


def test_secrets_are_mounted_as_files_that_only_the_pods_group_reads(
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


# -- Around it


def test_a_rollout_and_a_drained_node_take_no_server_before_another_answers(
    built: list[dict[str, Any]], deployment: dict[str, Any]
) -> None:
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = one(built, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    scaler = one(built, "HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] > budget["maxUnavailable"]
    assert "replicas" not in deployment


def test_it_shrinks_more_slowly_than_it_grows(built: list[dict[str, Any]]) -> None:
    scaler = one(built, "HorizontalPodAutoscaler")["spec"]
    behavior = scaler["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] > behavior["scaleUp"]["stabilizationWindowSeconds"]
    assert scaler["scaleTargetRef"]["name"] == one(built, "Deployment")["metadata"]["name"]


def test_every_selector_finds_the_pods(built: list[dict[str, Any]], deployment: dict[str, Any]) -> None:
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


def test_the_service_has_the_api_and_the_metrics_but_not_the_management(
    built: list[dict[str, Any]], container: dict[str, Any]
) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in one(built, "Service")["spec"]["ports"]} == {"https", "metrics"} == set(ports)
    assert ports == {"https": 8443, "metrics": 9180}
    assert option(container, "--management-host") == "127.0.0.1"


def test_only_namespaces_that_were_let_in_reach_the_two_ports(built: list[dict[str, Any]]) -> None:
    policy = one(built, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    allowed = {
        rule["ports"][0]["port"]: [item["namespaceSelector"]["matchLabels"] for item in rule["from"]]
        for rule in policy["ingress"]
        if len(rule["ports"]) == 1
    }
    assert allowed == {"https": [{"radserve/client": "true"}], "metrics": [{"radserve/monitoring": "true"}]}
    assert len(policy["ingress"]) == 2


def test_it_can_ask_for_names_and_nothing_else(built: list[dict[str, Any]]) -> None:
    (rule,) = one(built, "NetworkPolicy")["spec"]["egress"]
    assert [item["namespaceSelector"]["matchLabels"] for item in rule["to"]] == [
        {"kubernetes.io/metadata.name": "kube-system"}
    ]
    assert {port["port"] for port in rule["ports"]} == {53}
