"""deploy/kubernetes/components: the ingress and the service monitor, compared with their targets."""

import re
from typing import Any

import yaml

from radserve.proxy.options import networks
from tests.deploy.manifests import longest, one
from tests.server import ROOT


def test_ingress_routes_only_to_the_api(whole: list[dict[str, Any]]) -> None:
    ingress = one(whole, "Ingress")["spec"]
    paths = [path for rule in ingress["rules"] for path in rule["http"]["paths"]]
    assert {path["path"] for path in paths} == {"/predictions", "/explanations"}
    ports = {port["name"] for port in one(whole, "Service")["spec"]["ports"]}
    for path in paths:
        assert path["backend"]["service"]["name"] == one(whole, "Service")["metadata"]["name"]
        assert path["backend"]["service"]["port"]["name"] in ports - {"metrics"}
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]


def test_ingress_body_limit_matches_nginx(whole: list[dict[str, Any]]) -> None:
    annotations = one(whole, "Ingress")["metadata"]["annotations"]
    read = re.search(r"^max_request_size=(\d+)$", (ROOT / "config.properties").read_text(), flags=re.MULTILINE)
    assert read
    megabytes = int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"].removesuffix("m"))
    assert megabytes << 20 >= int(read[1])


def test_ingress_timeout_matches_nginx(whole: list[dict[str, Any]]) -> None:
    annotations = one(whole, "Ingress")["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > longest()


def test_the_server_trusts_the_ingress_controllers_address(whole: list[dict[str, Any]]) -> None:
    """Otherwise all clients share the limits of one address."""
    (container,) = one(whole, "Deployment")["spec"]["template"]["spec"]["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    trusted = networks(environment["RADSERVE_TRUSTED_PROXY"])
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "radserve" / "values.yaml").read_text())
    assert set(trusted) == set(values["ingress"]["trustedProxies"])
    assert "10.0.0.0/8" in trusted


def test_service_monitor_matches_the_prometheus_configuration(whole: list[dict[str, Any]]) -> None:
    monitor = one(whole, "ServiceMonitor")["spec"]
    configured = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    published = [job for job in configured if job.get("scheme") == "https" and job["job_name"] != "gateway"]
    expected = {job["job_name"]: job["metrics_path"] for job in published}  # no gateway runs in the cluster
    endpoints = {item["relabelings"][0]["replacement"]: item["path"] for item in monitor["endpoints"]}
    assert endpoints == expected
    assert all(
        item["relabelings"] == [{"targetLabel": "job", "replacement": job}]
        for job, item in zip(endpoints, monitor["endpoints"], strict=True)
    )
    assert monitor["selector"]["matchLabels"].items() <= one(whole, "Service")["metadata"]["labels"].items()


def test_service_monitor_refers_to_an_existing_secret(whole: list[dict[str, Any]]) -> None:
    (secret,) = [item for item in whole if item["metadata"]["name"] == "radserve-metrics"]
    for endpoint in one(whole, "ServiceMonitor")["spec"]["endpoints"]:
        references = [endpoint["authorization"]["credentials"], endpoint["tlsConfig"]["ca"]["secret"]]
        assert {item["name"] for item in references} == {"radserve-metrics"}
        assert {item["key"] for item in references} == set(secret["data"])
        service = one(whole, "Service")["metadata"]
        assert endpoint["tlsConfig"]["serverName"] == f"{service['name']}.{service['namespace']}.svc"


def test_the_site_profile_and_its_key_are_mounted_where_the_server_reads_them(whole: list[dict[str, Any]]) -> None:
    files = one(whole, "ConfigMap")["data"]
    pod = one(whole, "Deployment")["spec"]["template"]["spec"]
    (volume,) = [item for item in pod["volumes"] if "configMap" in item]
    assert volume["configMap"]["name"] == one(whole, "ConfigMap")["metadata"]["name"]
    (container,) = pod["containers"]
    (mount,) = [item for item in container["volumeMounts"] if item["name"] == volume["name"]]
    environment = {item["name"]: item["value"] for item in container["env"]}
    paths = [environment[name] for name in ("RADSERVE_PROFILE", "RADSERVE_PROFILE_KEY")]
    assert set(paths) == {f"{mount['mountPath']}/{file}" for file in files}
    assert mount["readOnly"]
