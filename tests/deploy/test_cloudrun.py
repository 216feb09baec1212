"""deploy/cloudrun, validated against Google's description of the API that `gcloud run services replace` calls.

The client library includes it as run.v1.json: types, the annotations of each resource and, as text,
unsupported fields. kustomize builds the GPU variant.
"""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import googleapiclient  # type: ignore[import-untyped]
import jsonschema
import pytest
import yaml

from radserve.cli.main import COMMANDS
from tests.deploy.manifests import build, longest
from tests.server import ROOT

SOURCE = ROOT / "deploy" / "cloudrun"
CPU = SOURCE / "cpu" / "service.yaml"
DESCRIPTION = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "run.v1.json"
SCHEMAS: dict[str, Any] = json.loads(DESCRIPTION.read_text())["schemas"]
GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL on Cloud Run (its container runtime contract)."""


def as_json_schema(node: Any) -> Any:
    """Convert a schema of Google into JSON Schema without additional properties."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    turned = {key: as_json_schema(value) for key, value in node.items() if key not in {"format", "id"}}
    if node.get("type") == "any":
        del turned["type"]
    if isinstance(node.get("$ref"), str):
        turned["$ref"] = f"#/definitions/{node['$ref']}"
    if isinstance(node.get("properties"), dict):
        turned["properties"] = {key: as_json_schema(value) for key, value in node["properties"].items()}
        turned["additionalProperties"] = False
    return turned


def check(service: dict[str, Any]) -> None:
    definitions = {name: as_json_schema(schema) for name, schema in SCHEMAS.items()}
    jsonschema.validate(
        service, {"$ref": "#/definitions/Service", "definitions": definitions}, jsonschema.Draft7Validator
    )


def described(service: Any, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every used field with Google's description of it."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"]]
    if isinstance(service, list):
        for item in service:
            yield from described(item, schema["items"])
    elif isinstance(service, dict):
        for key, value in service.items():
            field = schema.get("properties", {}).get(key)
            if field is not None:
                yield key, field.get("description", "")
                yield from described(value, field)


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "cpu":
        document: dict[str, Any] = yaml.safe_load(CPU.read_text())
        return document
    (document,) = build(SOURCE / "gpu")
    return document


@pytest.fixture(scope="module")
def revision(service: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = service["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(revision: dict[str, Any]) -> dict[str, Any]:
    (item,) = revision["containers"]
    return dict(item)


def option(container: dict[str, Any], name: str) -> str:
    (value,) = [item.split("=", 1)[1] for item in container["args"] if item.startswith(f"{name}=")]
    return str(value)


# -- Validity


def test_service_is_valid_for_the_api(service: dict[str, Any]) -> None:
    check(service)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "template", "spec", "concurrency"], 8),
        (["spec", "template", "spec", "containerConcurrency"], "8"),
        (["spec", "template", "spec", "containers", 0, "startupProbe", "path"], "/ready"),
    ],
)
def test_validation_rejects_unknown_keys_and_wrong_types(path: list[Any], value: Any) -> None:
    wrong = copy.deepcopy(yaml.safe_load(CPU.read_text()))
    node = wrong
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


def test_all_fields_are_supported_by_cloud_run(service: dict[str, Any]) -> None:
    fields = list(described(service, SCHEMAS["Service"]))
    assert "startupProbe" in dict(fields)
    assert [key for key, text in fields if text.startswith("Not supported by Cloud Run")] == []


def test_annotations_are_valid_for_their_resource(service: dict[str, Any]) -> None:
    text = SCHEMAS["ObjectMeta"]["properties"]["annotations"]["description"]
    accepted = {key: set(kinds.split(", ")) for key, kinds in re.findall(r"\* `([^`]+)`: ([A-Za-z, ]+)", text)}
    template = service["spec"]["template"]["metadata"]["annotations"]
    assert {key for key in service["metadata"]["annotations"] if "Service" not in accepted[key]} == set()
    assert {key for key in template if "Revision" not in accepted[key]} == set()
    assert all(isinstance(value, str) for value in [*template.values(), *service["metadata"]["annotations"].values()])


def test_probes_are_within_the_limits_of_the_api(container: dict[str, Any]) -> None:
    for name in ("startupProbe", "livenessProbe"):
        probe = container[name]
        assert 1 <= probe["timeoutSeconds"] < probe["periodSeconds"] <= 240


def test_request_timeout_exceeds_that_of_nginx(revision: dict[str, Any]) -> None:
    assert revision["timeoutSeconds"] > longest()


# -- Properties


def test_command_is_valid(container: dict[str, Any]) -> None:
    command, *options = container["args"]
    COMMANDS[command].load(command).make_context(command, options).close()


def test_container_port_is_that_of_nginx(container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    assert port == {"name": "http1", "containerPort": int(option(container, "--port"))}
    assert port["containerPort"] not in {8080, 8082, 8090}
    assert {container[name]["httpGet"]["port"] for name in ("startupProbe", "livenessProbe")} == {port["containerPort"]}
    assert "--plain-http" in container["args"]


def test_probes_use_ready_and_live_and_allow_a_slow_start(
    container: dict[str, Any],
) -> None:
    startup = container["startupProbe"]
    assert startup["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    assert startup["periodSeconds"] * startup["failureThreshold"] > float(option(container, "--startup-timeout"))


def test_drain_ends_before_sigkill(container: dict[str, Any]) -> None:
    assert float(option(container, "--drain-timeout")) < GRACE


def test_concurrency_is_two_requests_per_worker(revision: dict[str, Any], container: dict[str, Any]) -> None:
    assert revision["containerConcurrency"] == 2 * int(option(container, "--workers"))
    assert int(option(container, "--workers")) == int(container["resources"]["limits"]["cpu"])


def test_cpu_is_always_allocated_and_one_instance_always_runs(service: dict[str, Any]) -> None:
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations["run.googleapis.com/cpu-throttling"] == "false"
    assert int(annotations["autoscaling.knative.dev/minScale"]) >= 1
    assert int(annotations["autoscaling.knative.dev/maxScale"]) >= int(annotations["autoscaling.knative.dev/minScale"])


def test_keys_are_a_mounted_secret_and_not_in_variables(revision: dict[str, Any], container: dict[str, Any]) -> None:
    (volume,) = revision["volumes"]
    (mount,) = container["volumeMounts"]
    assert (mount["name"], volume["secret"]["secretName"]) == (volume["name"], "radserve-keys")
    assert option(container, "--keys") == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    assert "env" not in container


def test_service_has_a_dedicated_service_account(revision: dict[str, Any]) -> None:
    assert revision["serviceAccountName"] == "radserve@PROJECT.iam.gserviceaccount.com"


def test_image_is_pinned_to_a_full_version(container: dict[str, Any]) -> None:
    assert re.fullmatch(r"REGION-docker\.pkg\.dev/PROJECT/radserve/server(-cpu)?:\d+\.\d+\.\d+", container["image"])


def test_gpu_variant_differs_only_in_image_gpu_and_memory() -> None:
    (gpu,) = build(SOURCE / "gpu")
    cpu = yaml.safe_load(CPU.read_text())
    revision = gpu["spec"]["template"]["spec"]
    assert revision.pop("nodeSelector") == {"run.googleapis.com/accelerator": "nvidia-l4"}
    disabled = gpu["spec"]["template"]["metadata"]["annotations"].pop(
        "run.googleapis.com/gpu-zonal-redundancy-disabled"
    )
    assert disabled == "true"
    (container,) = revision["containers"]
    (other,) = cpu["spec"]["template"]["spec"]["containers"]
    # Minimum of Cloud Run for an L4.
    assert container["resources"].pop("limits") == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    other["resources"].pop("limits")
    assert container.pop("image") == other.pop("image").replace("server-cpu", "server")
    assert gpu == cpu
