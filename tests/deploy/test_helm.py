"""deploy/helm: linted and rendered by helm, validated against Kubernetes' schemas, compared with deploy/kubernetes."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from radserve.cli.main import COMMANDS
from tests.deploy.manifests import longest, one, run
from tests.deploy.test_kubernetes import VERSIONS, option
from tests.server import ROOT

CHART = ROOT / "deploy" / "helm" / "radserve"
BASE = ROOT / "deploy" / "kubernetes" / "base"
OPERATORS = {"ExternalSecret", "ServiceMonitor"}
"""Kinds of operators, which Kubernetes' schemas do not contain."""
EXTERNAL = {"external": {"enabled": True, "store": {"name": "aws"}}}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "gpu": {
        "gpu": {"enabled": True, "count": 2},
        "image": {"repository": "registry.example.org/radserve/server", "digest": f"sha256:{'a' * 64}"},
        "autoscaling": {"queueDepth": 2.5, "cpuPercent": 0},
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
    },
    "persistent": {
        "state": {"persistent": True, "storageClassName": "gp3", "store": "s3://models/candidates"},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
        "networkPolicy": {"egress": [{"ports": [{"protocol": "TCP", "port": 443}]}]},
    },
    "everything": {
        "secrets": EXTERNAL,
        "openshift": True,
        "models": "chest-xray-cnn",
        "siteProfiles": {"configMap": "profiles", "files": ["chest.json", "brain.json"], "publicKey": "site.pub"},
        "image": {"pullSecrets": [{"name": "registry"}]},
        "podAnnotations": {"note": "x"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "ingress": {"enabled": True},
    },
    "fixed": {"autoscaling": {"enabled": False}, "replicas": 3, "networkPolicy": {"enabled": False}},
}


def template(folder: Path, values: dict[str, Any], release: str = "radserve") -> subprocess.CompletedProcess[str]:
    """Render the chart and return the finished process."""
    (folder / "values.yaml").write_text(json.dumps(values))
    return run(
        "helm", "template", release, str(CHART), "--namespace", "imaging", "--values", str(folder / "values.yaml")
    )


def render(folder: Path, values: dict[str, Any], release: str = "radserve") -> list[dict[str, Any]]:
    """Render the chart and return its documents."""
    process = template(folder, values, release)
    assert process.returncode == 0, process.stderr
    return [item for item in yaml.safe_load_all(process.stdout) if item]


def pod(documents: list[dict[str, Any]], kind: str = "Deployment") -> dict[str, Any]:
    value: dict[str, Any] = one(documents, kind)["spec"]["template"]["spec"]
    return value


def server(documents: list[dict[str, Any]], kind: str = "Deployment") -> dict[str, Any]:
    (container,) = pod(documents, kind)["containers"]
    return dict(container)


@pytest.mark.parametrize("variant", VARIANTS)
def test_lint_finds_nothing(tmp_path: Path, variant: str) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps(VARIANTS[variant]))
    process = run("helm", "lint", "--strict", str(CHART), "--values", str(tmp_path / "values.yaml"))
    assert process.returncode == 0, process.stdout
    assert not re.search(r"\[(WARNING|ERROR)\]", process.stdout), process.stdout


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        ({"enabled": True, "trustedProxies": ["10.1.0.0/16", "fd00::/8"]}, "10.1.0.0/16,fd00::/8"),
        ({"enabled": True, "trustedProxies": []}, ""),
        ({"enabled": False}, None),
    ],
)
def test_only_an_ingress_controller_is_trusted(tmp_path: Path, ingress: dict[str, Any], expected: str | None) -> None:
    environment = {item["name"]: item["value"] for item in server(render(tmp_path, {"ingress": ingress}))["env"]}
    assert environment.get("RADSERVE_TRUSTED_PROXY") == expected


def test_a_trusted_proxy_is_a_network(tmp_path: Path) -> None:
    process = template(tmp_path, {"ingress": {"enabled": True, "trustedProxies": ["controller.example.org"]}})
    assert process.returncode == 1
    assert "trustedProxies" in process.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_rendered_documents_are_valid_for_kubernetes(tmp_path: Path, variant: str) -> None:
    documents = render(tmp_path, VARIANTS[variant])
    assert len(documents) >= 4
    for item in documents:
        if item["kind"] not in OPERATORS:
            for version in VERSIONS:
                kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 2},
        {"image": {"digest": "latest"}},
        {"secrets": {"external": {"enabled": True}}},
        {"autoscaling": {"cpuPercent": 0}},
        {"topologySpread": {"zone": "Never"}},
        {"siteProfiles": {"configMap": "profiles"}},
        {"siteProfiles": {"files": ["chest.json"]}},
        {"siteProfiles": {"configMap": "profiles", "files": ["../chest.json"]}},
    ],
)
def test_invalid_values_are_rejected(tmp_path: Path, values: dict[str, Any]) -> None:
    process = template(tmp_path, values)
    assert process.returncode != 0
    assert "values don't meet the specifications" in process.stderr


def test_every_value_is_in_the_schema_and_used() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global", "nameOverride"}
    texts = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    for name in values:
        assert f".Values.{name}" in texts, name


def test_chart_equals_the_kustomization(tmp_path: Path) -> None:
    """Compare what both have: the pod's settings, autoscaler, budget, policy and Service."""
    documents = render(tmp_path, {})
    plain = [yaml.safe_load(path.read_text()) for path in BASE.glob("*.yaml")]
    ours, theirs = server(documents), server(plain)
    for key in ("ports", "resources", "securityContext", "startupProbe", "readinessProbe", "livenessProbe", "env"):
        assert ours[key] == theirs[key], key
    assert set(theirs["args"]) <= set(ours["args"])
    for key in (
        "securityContext",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
    ):
        assert pod(documents)[key] == pod(plain)[key], key
    assert one(documents, "Deployment")["spec"]["strategy"] == one(plain, "Deployment")["spec"]["strategy"]
    for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "Service"):
        left, right = (
            {key: value for key, value in one(group, kind)["spec"].items() if key not in ("selector", "podSelector")}
            for group in (documents, plain)
        )
        assert left == right, kind


def test_names_and_selectors_differ_between_releases(tmp_path: Path) -> None:
    first, second = render(tmp_path, {}), render(tmp_path, {}, "research")
    assert {item["metadata"]["name"] for item in second} == {"research-radserve"}
    for kind, keys in (("Service", ("selector",)), ("PodDisruptionBudget", ("selector", "matchLabels"))):
        selectors = []
        for documents in (first, second):
            value = one(documents, kind)["spec"]
            for key in keys:
                value = value[key]
            labels = one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
            assert value.items() <= labels.items()
            selectors.append(value)
        assert selectors[0] != selectors[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_command_is_valid(tmp_path: Path, variant: str) -> None:
    kind = "StatefulSet" if VARIANTS[variant].get("state", {}).get("persistent") else "Deployment"
    command, *options = server(render(tmp_path, VARIANTS[variant]), kind)["args"]
    COMMANDS[command].load(command).make_context(command, options).close()


def test_image_has_the_charts_version_or_a_digest(tmp_path: Path) -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == str(chart["appVersion"]) == version[1]
    assert server(render(tmp_path, {}))["image"] == f"radserve/server-cpu:{version[1]}"
    expected = f"registry.example.org/radserve/server@sha256:{'a' * 64}"
    assert server(render(tmp_path, VARIANTS["gpu"]))["image"] == expected


def test_pods_are_spread_over_zones_and_nodes(tmp_path: Path) -> None:
    documents = render(tmp_path, {"topologySpread": {"zone": "DoNotSchedule"}})
    labels = one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    spread = {item["topologyKey"]: item for item in pod(documents)["topologySpreadConstraints"]}
    assert {key: item["whenUnsatisfiable"] for key, item in spread.items()} == {
        "topology.kubernetes.io/zone": "DoNotSchedule",
        "kubernetes.io/hostname": "ScheduleAnyway",
    }
    for item in spread.values():
        assert item["labelSelector"]["matchLabels"].items() <= labels.items()


def test_gpu_pods_request_gpus_on_gpu_nodes(tmp_path: Path) -> None:
    documents = render(tmp_path, VARIANTS["gpu"])
    assert server(documents)["resources"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"}
    assert pod(documents)["nodeSelector"] == {"nvidia.com/gpu.present": "true", "pool": "gpu"}
    assert [item["key"] for item in pod(documents)["tolerations"]] == ["nvidia.com/gpu", "pool"]


def test_autoscaler_uses_the_queue(tmp_path: Path) -> None:
    (metric,) = one(render(tmp_path, VARIANTS["gpu"]), "HorizontalPodAutoscaler")["spec"]["metrics"]
    (rule,) = yaml.safe_load((CHART.parent / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert metric["pods"] == {
        "metric": {"name": rule["name"]["as"]},
        "target": {"type": "AverageValue", "averageValue": "2500m"},
    }
    assert one(render(tmp_path, {}), "HorizontalPodAutoscaler")["spec"]["metrics"][0]["resource"]["name"] == "cpu"
    fixed = render(tmp_path, VARIANTS["fixed"])
    assert one(fixed, "Deployment")["spec"]["replicas"] == 3
    assert not [item for item in fixed if item["kind"] in ("HorizontalPodAutoscaler", "NetworkPolicy")]


def test_rule_of_the_adapter_computes_the_queue_depth(tmp_path: Path) -> None:
    """Three requests that wait all the time add three seconds of waiting per second."""
    (rule,) = yaml.safe_load((CHART.parent / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    name = rule["seriesQuery"].partition("{")[0]
    expression = (
        rule["metricsQuery"]
        .replace("<<.Series>>", name)
        .replace("<<.LabelMatchers>>", 'namespace="imaging",pod=~"a|b"')
        .replace("<<.GroupBy>>", "pod")
    )
    kept = (ROOT / "radserve" / "torchserve" / "metrics.yaml").read_text()
    assert f"name: {name}\n" in kept
    series = 'ts_queue_latency_microseconds{namespace="imaging",pod="%s",model_name="%s"}'
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": series % ("a", "m"), "values": "0+30000000x20"},
                    {"series": series % ("a", "n"), "values": "0+15000000x20"},
                    {"series": series % ("b", "m"), "values": "5x20"},
                ],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": "4m",
                        "exp_samples": [{"labels": '{pod="a"}', "value": 3}, {"labels": '{pod="b"}', "value": 0}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    process = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_site_profiles_are_mounted_where_the_server_reads_them(tmp_path: Path) -> None:
    documents = render(tmp_path, VARIANTS["everything"])
    (volume,) = [item for item in pod(documents)["volumes"] if "configMap" in item]
    assert volume["configMap"] == {"name": "profiles"}
    (mount,) = [item for item in server(documents)["volumeMounts"] if item["name"] == volume["name"]]
    environment = {item["name"]: item["value"] for item in server(documents)["env"]}
    folder = mount["mountPath"]
    assert environment["RADSERVE_PROFILE"] == f"{folder}/chest.json,{folder}/brain.json"
    assert environment["RADSERVE_PROFILE_KEY"] == f"{folder}/site.pub"
    assert not any(item["name"].startswith("RADSERVE_PROFILE") for item in server(render(tmp_path, {}))["env"])


def test_persistent_state_has_a_volume_for_each_pod(tmp_path: Path) -> None:
    documents = render(tmp_path, VARIANTS["persistent"])
    assert "Deployment" not in {item["kind"] for item in documents}
    spec = one(documents, "StatefulSet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    assert claim["spec"]["storageClassName"] == "gp3"
    assert claim["metadata"]["name"] not in {item["name"] for item in spec["template"]["spec"]["volumes"]}
    assert spec["serviceName"] in {item["metadata"]["name"] for item in documents if item["kind"] == "Service"}
    assert one(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"
    assert option(server(documents, "StatefulSet"), "--store") == "s3://models/candidates"
    temporary = {item["name"]: item for item in pod(render(tmp_path, {}))["volumes"]}
    assert temporary["state"] == {"name": "state", "emptyDir": {"sizeLimit": "10Gi"}}


def test_state_and_archives_are_writable(tmp_path: Path) -> None:
    documents = render(tmp_path, {})
    (prepare,) = pod(documents)["initContainers"]
    (mount,) = prepare["volumeMounts"]
    assert mount in server(documents)["volumeMounts"]
    for name in ("--state", "--model-store"):
        assert option(server(documents), name).startswith(f"{mount['mountPath']}/")
    volume, image = tmp_path / "volume", tmp_path / "image"
    for folder in (volume, image):
        folder.mkdir()
    (image / "index.json").write_text("1")
    (script,) = prepare["args"]
    for text in ("1", "2"):  # a persistent volume keeps its archives
        (image / "index.json").write_text(text)
        variables = {"PATH": os.environ["PATH"], "RADSERVE_MODEL_STORE": str(image)}
        command = [*prepare["command"], script.replace(mount["mountPath"], str(volume))]
        subprocess.run(command, env=variables, check=True)
        assert (volume / "model_store" / "index.json").read_text() == "1"
    assert (volume / "state").is_dir()


def test_platform_can_choose_the_user(tmp_path: Path) -> None:
    context = pod(render(tmp_path, VARIANTS["everything"]))["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_external_secrets_have_the_keys_that_the_pod_mounts(tmp_path: Path) -> None:
    assert not [item for item in render(tmp_path, {}) if item["kind"] == "ExternalSecret"]
    documents = render(tmp_path, {"secrets": EXTERNAL})
    secrets = {item["spec"]["target"]["name"]: item for item in documents if item["kind"] == "ExternalSecret"}
    arguments = server(documents)
    mounted = {item["name"]: item["secret"]["secretName"] for item in pod(documents)["volumes"] if "secret" in item}
    assert set(mounted.values()) == set(secrets)
    for volume, options in (("keys", ["--keys"]), ("tls", ["--certificate", "--certificate-key"])):
        item = secrets[mounted[volume]]
        assert item["apiVersion"] == "external-secrets.io/v1"
        assert item["spec"]["secretStoreRef"] == {"name": "aws", "kind": "ClusterSecretStore"}
        assert {data["secretKey"] for data in item["spec"]["data"]} == {
            Path(option(arguments, name)).name for name in options
        }
    assert secrets["radserve-tls"]["spec"]["target"]["template"] == {"type": "kubernetes.io/tls"}


def test_monitor_and_ingress_equal_the_components(tmp_path: Path) -> None:
    documents = render(tmp_path, VARIANTS["everything"])
    components = ROOT / "deploy" / "kubernetes" / "components"
    plain = yaml.safe_load((components / "service-monitor" / "service-monitor.yaml").read_text())["spec"]["endpoints"]
    ours = one(documents, "ServiceMonitor")["spec"]["endpoints"]
    for left, right in zip(ours, plain, strict=True):
        assert left["tlsConfig"].pop("serverName") == "radserve.imaging.svc"
        right["tlsConfig"].pop("serverName", None)
        assert left == {key: value for key, value in right.items() if value}
    selector = one(documents, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert selector.items() <= one(documents, "Service")["metadata"]["labels"].items()
    ingress = one(documents, "Ingress")
    example = yaml.safe_load((components / "ingress" / "ingress.yaml").read_text())
    assert ingress["spec"] == example["spec"]
    assert ingress["metadata"]["annotations"] == example["metadata"]["annotations"]
    assert int(ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > longest()
