"""Real Prometheus and node-exporter scrape a loaded server through its proxy, as compose arranges it."""

import json
import math
import shutil
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.server import free_ports
from radserve.build.source import find_sources
from tests.authority import Authority
from tests.built_archives import Provide
from tests.conftest import ROOT
from tests.gateways import gateway
from tests.prometheus import Prometheus, node_exporter, prometheus, recorded
from tests.proxy import Keys
from tests.repack import NAME
from tests.server import running

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("prometheus-node-exporter")),
        reason="needs Debian's prometheus and prometheus-node-exporter",
    ),
]

MODELS = (NAME, "cifar10-lenet", "glioma-unet")
ROUNDS = 12
DASHBOARDS = {
    path.stem: json.loads(path.read_bytes()) for path in (ROOT / "docker" / "grafana" / "dashboards").iterdir()
}
QUERIES = [
    pytest.param(target["expr"], id=f"{name}: {panel['title']}: {target['legendFormat']}")
    for name, dashboard in sorted(DASHBOARDS.items())
    for panel in dashboard["panels"]
    for target in panel.get("targets", [])
]
VARIABLES = {
    f"{name}: {item['name']}": item["query"]["query"]
    for name, dashboard in sorted(DASHBOARDS.items())
    for item in dashboard["templating"]["list"]
    if item["type"] == "query"
}


@dataclass(frozen=True)
class Monitored:
    """A Prometheus, and the requests to the server that it scrapes."""

    prometheus: Prometheus
    sent: dict[tuple[str, str], int]
    """Number of requests by model and status."""


def sample(model: str) -> bytes:
    (path,) = (ROOT / "archives" / model).glob("sample.[jpt]*g")
    return path.read_bytes()


def ask_everything(client: httpx.Client) -> dict[tuple[str, str], int]:
    """Send valid and invalid requests to each model, and count the statuses."""
    sent: dict[tuple[str, str], int] = {}
    for model in MODELS:
        image = sample(model)
        requests: list[tuple[str, bytes, dict[str, str]]] = [
            (f"/predictions/{model}", image, {}),
            (f"/predictions/{model}/1.0.0", image, {}),
            (f"/explanations/{model}", image, {}),
            (f"/predictions/{model}", b"no image", {}),
            (f"/predictions/{model}", image[: len(image) // 2], {}),
            (f"/predictions/{model}", image, {"accept": "text/html"}),
        ]
        for path, content, headers in requests:
            status = str(client.post(path, content=content, headers=headers).status_code)
            sent[model, status] = sent.get((model, status), 0) + 1
    client.post(f"/predictions/{NAME}", headers={"authorization": "Bearer unknown"})
    return sent


@pytest.fixture(scope="module")
def monitored(
    provide: Provide, keys: Keys, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitored]:
    """Send load to a published server with several models, scraped by Prometheus."""
    models, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("monitoring")
    provide(models, find_sources(ROOT / "archives", MODELS))
    pair = authority.issue("monitored")
    (folder / "key").write_text(keys.texts["read"])
    management, metrics, behind = map(str, free_ports(3))
    options = {
        "--keys": keys.file,
        "--certificate": pair.certificate,
        "--certificate-key": pair.key,
        "--management-port": management,
        "--metrics-port-public": metrics,
        "--access-log": folder / "access.log",
        "--gateway": f"127.0.0.1:{behind}",
        "--workers": "1",
        "--domain": "warn",  # the panels need compared images
    }
    command = [str(word) for option in options.items() for word in option]
    with (
        running(models, folder / "log", *command) as server,
        gateway(
            server,
            folder,
            port=behind,
            server=server.url.replace("http:", "https:"),
            server_key=keys.texts["predict"],
            server_ca=authority.root,
            keys=keys.file,
        ),
        node_exporter(folder) as node,
        # No GPU is here: the GPU's panels query a recorded exposition of dcgm-exporter.
        recorded((Path(__file__).parent / "dcgm.txt").read_text(), tmp_path_factory.mktemp("dcgm")) as gpu,
        httpx.Client(
            base_url=server.url.replace("http:", "https:"),
            verify=ssl.create_default_context(cafile=str(authority.root)),
            headers={"authorization": f"Bearer {keys.texts['predict']}"},
            timeout=30,
        ) as client,
    ):
        proxy = f"127.0.0.1:{metrics}"
        targets = {"torchserve": proxy, "supervisor": proxy, "gateway": proxy, "node": node, "gpu": gpu}
        with prometheus(folder, targets, folder / "key", pair.certificate) as monitor:
            monitor.until("radserve_requests_total")  # the zeros, before the first prediction
            sent: dict[tuple[str, str], int] = {}
            for _ in range(ROUNDS):
                for item, count in ask_everything(client).items():
                    sent[item] = sent.get(item, 0) + count
                # Nothing that a model would count.
                client.get("/api/models")
                client.post("/api/predictions/nothing", content=b"x")
                time.sleep(0.5)
            total = sum(sent.values())
            monitor.until(f"sum(radserve_requests_total) == {total + len(MODELS)}")  # each predicted its sample
            monitor.until("label:radserve_labels:share1d")
            time.sleep(2)  # a rate needs a second scrape
            yield Monitored(monitor, sent)


def shown(query: str) -> str:
    """Replace Grafana's variables: a range that contains the load, and all values."""
    for name in ("model", "version", "instance", "gpu"):
        query = query.replace(f"${name}", ".*")
    return query.replace("$__rate_interval", "2m")


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboards_returns_data(monitored: Monitored, query: str) -> None:
    assert "$" not in shown(query)
    series = monitored.prometheus.ask(shown(query))
    assert any(math.isfinite(value) for value in series.values()), series


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_has_values(monitored: Monitored, name: str) -> None:
    inside = shown(VARIABLES[name]).removeprefix("label_values(").removesuffix(")")
    metric, _, label = inside.rpartition(", ")
    assert monitored.prometheus.ask(f"count by ({label}) ({metric})")


def test_every_target_is_scraped_with_tls_and_key(monitored: Monitored) -> None:
    targets = monitored.prometheus.get("targets")["activeTargets"]
    assert {item["labels"]["job"]: (item["health"], item["lastError"]) for item in targets} == dict.fromkeys(
        ("torchserve", "supervisor", "gateway", "node", "gpu", "prometheus"), ("up", "")
    )
    assert {item["scrapeUrl"].partition(":")[0] for item in targets if "/metrics/" in item["scrapeUrl"]} == {"https"}


def test_all_rules_are_healthy_and_no_alert_fires(monitored: Monitored) -> None:
    groups = monitored.prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {(rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"} == set()
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []


def test_every_request_is_counted_once_by_model_version_and_status(monitored: Monitored) -> None:
    series = monitored.prometheus.ask("sum by (code, model_name) (radserve_requests_total) > 0")
    wanted = {(code, model): count + (code == "200") for (model, code), count in monitored.sent.items()}
    assert series == wanted
    assert monitored.prometheus.ask("count by (model_version) (radserve_requests_total)").keys() == {("1.0.0",)}


def test_a_rejected_image_is_counted_by_its_reason(monitored: Monitored) -> None:
    series = monitored.prometheus.ask(f'radserve_refusals_total{{model_name="{NAME}"}} > 0')
    version = (NAME, "1.0.0")
    assert series == {
        ("400", *version, "UnreadableImage"): ROUNDS,
        ("406", *version, "NotAcceptable"): ROUNDS,
        ("415", *version, "UnsupportedMediaType"): ROUNDS,
    }


def test_a_missing_explanation_is_rejected_and_counted(monitored: Monitored) -> None:
    series = monitored.prometheus.ask('sum by (reason) (radserve_refusals_total{model_name="glioma-unet", code="404"})')
    assert series == {("NotFound",): ROUNDS}


def test_each_image_is_counted_under_one_label_of_its_recipe(monitored: Monitored) -> None:
    series = monitored.prometheus.ask("sum by (model_name) (radserve_labels_total)")
    assert series == {(NAME,): 3 * ROUNDS + 1, ("cifar10-lenet",): 3 * ROUNDS + 1, ("glioma-unet",): 2 * ROUNDS + 1}
    labels = monitored.prometheus.ask("count by (model_name, label) (radserve_labels_total)")
    assert {label for label, model in labels if model == NAME} == {"normal", "pneumonia"}
    assert {label for label, model in labels if model == "glioma-unet"} == {"background", "tumour"}


def test_histograms_are_complete(monitored: Monitored) -> None:
    for name in ("stage_seconds", "probability", "batch_requests", "request_images"):
        counts = monitored.prometheus.ask(f"radserve_{name}_count")
        assert counts == {
            tuple(value for value in labels if value != "+Inf"): value
            for labels, value in monitored.prometheus.ask(f'radserve_{name}_bucket{{le="+Inf"}}').items()
        }
        assert sum(counts.values()) > 0


def test_the_number_of_series_stays_bounded(monitored: Monitored) -> None:
    series = monitored.prometheus.ask('count by (model_name) ({__name__=~"radserve_.+", job="torchserve"})')
    assert set(series) == {(model,) for model in MODELS}
    assert max(series.values()) < 250
    text = json.dumps(monitored.prometheus.get("series", **{"match[]": '{job="torchserve"}'}))
    assert "ostname" not in text


def test_the_supervisor_exposes_archives_workers_and_certificate(monitored: Monitored, authority: Authority) -> None:
    ask: Any = monitored.prometheus.ask
    assert ask("radserve_ready") == {(): 1}
    assert ask("radserve_state == 1") == {("ready",): 1}
    assert ask("radserve_workers_ready") == {(model, "1.0.0"): 1 for model in MODELS}
    assert {model for model, _, _ in ask("radserve_archive_info")} == set(MODELS)
    (days,) = ask("(radserve_certificate_not_after_seconds - time()) / 86400").values()
    assert 28 < days < 31
    assert set(ask("radserve_auth_decisions_total")) == {("allowed",), ("unauthenticated",)}
