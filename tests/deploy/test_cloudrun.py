"""deploy/cloudrun: checked against Google's own description of the API that `gcloud run services replace` calls.

The client library carries it as run.v1.json: types, the annotations that each resource accepts, and in words what is
not supported. The GPU variant is built by the real kustomize.
"""

from __future__ import annotations

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
from tests.deploy.kustomize import build, longest
from tests.server import ROOT

SOURCE = ROOT / "deploy" / "cloudrun"
CPU = SOURCE / "cpu" / "service.yaml"
DESCRIPTION = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "run.v1.json"
SCHEMAS: dict[str, Any] = json.loads(DESCRIPTION.read_text())["schemas"]
GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL on Cloud Run (its container runtime contract)."""


def as_json_schema(node: Any) -> Any:
    """Turn Google's form of a schema into the standard's, in which nothing unknown is allowed."""
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
    """Name every field that is used, with what Google says of it."""
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
        found: dict[str, Any] = yaml.safe_load(CPU.read_text())
        return found
    (made,) = build(SOURCE / "gpu")
    return made


@pytest.fixture(scope="module")
def revision(service: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def container(revision: dict[str, Any]) -> dict[str, Any]:
    (found,) = revision["containers"]
    return dict(found)


def option(container: dict[str, Any], name: str) -> str:
    (found,) = [item.split("=", 1)[1] for item in container["args"] if item.startswith(f"{name}=")]
    return str(found)


# -- As the API takes it


def test_it_is_what_the_api_describes(service: dict[str, Any]) -> None:
    check(service)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "template", "spec", "concurrency"], 8),
        (["spec", "template", "spec", "containerConcurrency"], "8"),
        (["spec", "template", "spec", "containers", 0, "startupProbe", "path"], "/ready"),
    ],
)
def test_the_check_finds_unknown_keys_and_wrong_types(path: list[Any], value: Any) -> None:
    wrong = copy.deepcopy(yaml.safe_load(CPU.read_text()))
    node = wrong
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


def test_no_field_is_used_that_cloud_run_does_not_support(service: dict[str, Any]) -> None:
    fields = list(described(service, SCHEMAS["Service"]))
    assert "startupProbe" in dict(fields)
    assert [key for key, text in fields if text.startswith("Not supported by Cloud Run")] == []


def test_every_annotation_is_one_that_its_resource_accepts(service: dict[str, Any]) -> None:
    text = SCHEMAS["ObjectMeta"]["properties"]["annotations"]["description"]
    accepted = {key: set(kinds.split(", ")) for key, kinds in re.findall(r"\* `([^`]+)`: ([A-Za-z, ]+)", text)}
    template = service["spec"]["template"]["metadata"]["annotations"]
    assert {key for key in service["metadata"]["annotations"] if "Service" not in accepted[key]} == set()
    assert {key for key in template if "Revision" not in accepted[key]} == set()
    assert all(isinstance(value, str) for value in [*template.values(), *service["metadata"]["annotations"].values()])


def test_probes_keep_the_limits_that_the_api_states(container: dict[str, Any]) -> None:
    for name in ("startupProbe", "livenessProbe"):
        probe = container[name]
        assert 1 <= probe["timeoutSeconds"] < probe["periodSeconds"] <= 240


def test_a_request_is_given_as_long_as_the_front_gives_it(revision: dict[str, Any]) -> None:
    assert revision["timeoutSeconds"] > longest()


# -- What it promises


def test_its_command_is_understood_by_the_command_line(container: dict[str, Any]) -> None:
    command, *options = container["args"]
    COMMANDS[command].load(command).make_context(command, options).close()


def test_the_platform_sends_requests_where_the_front_listens_and_torchserve_does_not(container: dict[str, Any]) -> None:
    (port,) = container["ports"]
    assert port == {"name": "http1", "containerPort": int(option(container, "--port"))}
    assert port["containerPort"] not in {8080, 8082, 8090}
    assert {container[name]["httpGet"]["port"] for name in ("startupProbe", "livenessProbe")} == {port["containerPort"]}
    assert "--plain-http" in container["args"]


def test_probes_ask_what_they_mean_and_a_start_is_given_longer_than_the_supervisor_gives_itself(
    container: dict[str, Any],
) -> None:
    from radserve.server.options import Options

    startup = container["startupProbe"]
    assert startup["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    assert startup["periodSeconds"] * startup["failureThreshold"] > Options.startup_timeout


def test_the_drain_ends_before_the_platform_kills(container: dict[str, Any]) -> None:
    assert float(option(container, "--drain-timeout")) < GRACE


def test_an_instance_takes_as_many_requests_as_its_workers_compute_and_have_waiting(
    revision: dict[str, Any], container: dict[str, Any]
) -> None:
    assert revision["containerConcurrency"] == 2 * int(option(container, "--workers"))
    assert int(option(container, "--workers")) == int(container["resources"]["limits"]["cpu"])


def test_cpu_is_always_allocated_and_one_instance_always_there(service: dict[str, Any]) -> None:
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations["run.googleapis.com/cpu-throttling"] == "false"
    assert int(annotations["autoscaling.knative.dev/minScale"]) >= 1
    assert int(annotations["autoscaling.knative.dev/maxScale"]) >= int(annotations["autoscaling.knative.dev/minScale"])


def test_the_keys_come_from_secret_manager_as_a_file_and_no_variable_holds_one(
    revision: dict[str, Any], container: dict[str, Any]
) -> None:
    (volume,) = revision["volumes"]
    (mount,) = container["volumeMounts"]
    assert (mount["name"], volume["secret"]["secretName"]) == (volume["name"], "radserve-keys")
    assert option(container, "--keys") == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    assert "env" not in container


def test_it_runs_as_an_account_of_its_own(revision: dict[str, Any]) -> None:
    assert revision["serviceAccountName"] == "radserve@PROJECT.iam.gserviceaccount.com"


def test_the_image_is_pinned_to_a_whole_version(container: dict[str, Any]) -> None:
    assert re.fullmatch(r"REGION-docker\.pkg\.dev/PROJECT/radserve/server(-cpu)?:\d+\.\d+\.\d+", container["image"])


def test_the_gpu_variant_differs_in_image_gpu_and_memory_only() -> None:
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
    # The least that Cloud Run gives with an L4.
    assert container["resources"].pop("limits") == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    other["resources"].pop("limits")
    assert container.pop("image") == other.pop("image").replace("server-cpu", "server")
    assert gpu == cpu
