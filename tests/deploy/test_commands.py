"""The commands of compose, Kubernetes and Cloud Run as processes, with other paths and ports."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.server import free_ports
from tests.deploy.manifests import one
from tests.docker.compose import make, merged
from tests.repack import NAME
from tests.server import ROOT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="needs nginx-light"
    ),
]
INNER = ("--health-port", "--metrics-port")
ALL = ("--port", "--management-port", "--metrics-port-public", *INNER)
SAMPLE = ROOT / "archives" / NAME / "sample.png"


@dataclass(frozen=True)
class Home:
    """Files and ports that replace those of a container."""

    folder: Path
    store: Path
    ports: dict[str, int]
    keys: dict[str, str]

    def command(self, arguments: Sequence[str], paths: dict[str, Path], own: Collection[str] = ALL) -> list[str]:
        """Return a container's command with the paths of this home and its ports for the options `own`."""
        command = [item for item in arguments if item.partition("=")[0] not in self.ports]
        for old, new in paths.items():
            command = [item.replace(f"={old}", f"={new}") for item in command]
        return [*command, *(f"{name}={self.ports[name]}" for name in own), f"--model-store={self.store}"]

    @contextmanager
    def runs(self, command: Sequence[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RADSERVE")}
        clean["RADSERVE_WORKERS"] = "1"  # each imports torch
        with (self.folder / "log").open("ab") as log:
            radserve = [sys.executable, "-m", "radserve", *command]
            process = subprocess.Popen(radserve, env=clean | variables, stdout=log, stderr=log, cwd=ROOT)
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=90)

    def client(self, port: str = "--port", *, plain: bool = False, key: str = "predict") -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.folder / "secrets" / "tls" / "certificate.pem"))
        url = f"{'http' if plain else 'https'}://localhost:{self.ports[port]}"
        headers = {"Authorization": f"Bearer {self.keys[key]}"}
        return httpx.Client(base_url=url, verify=context, headers=headers, timeout=30)

    def until(self, condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 120
        while not _quietly(condition):
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.2)


def _quietly(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except httpx.TransportError:
        return False


@pytest.fixture
def home(tmp_path: Path, store: Path) -> Home:
    """Create the secrets with scripts/make-secrets."""
    process = make(tmp_path / "secrets")
    assert process.returncode == 0, process.stderr
    lines = [line.split() for line in process.stdout.splitlines() if "radserve_" in line]
    keys = dict(lines) | {"read": (tmp_path / "secrets" / "prometheus_key").read_text()}
    return Home(tmp_path, store, dict(zip(ALL, free_ports(len(ALL)), strict=True)), keys)


def ready(client: httpx.Client) -> bool:
    return client.get("/ready").status_code == 200


def ask(client: httpx.Client) -> httpx.Response:
    return client.post(f"/predictions/{NAME}", content=SAMPLE.read_bytes())


def require_answer(client: httpx.Client) -> None:
    answer = ask(client)
    assert answer.status_code == 200, answer.text
    assert answer.json()["label"] == "pneumonia"


def test_compose_nginx_serves_again_after_a_server_restart(home: Home) -> None:
    services = merged({})["services"]
    paths = {
        "/run/radserve": home.folder / "runtime",
        "/run/keys": home.folder / "secrets" / "keys",
        "/run/tls": home.folder / "secrets" / "tls",
    }
    front = home.command(services["nginx"]["command"], paths)
    server = home.command(services["server"]["command"], paths, INNER)
    with home.runs(front) as nginx, home.client() as client:
        # Compose starts nginx before the server, so nginx returns an error at first.
        home.until(lambda: client.get("/ready").status_code in {502, 503}, nginx)
        assert ask(client).status_code >= 500
        for _ in range(2):
            assert not healthy(home, services["server"])
            with home.runs(server) as process:
                home.until(lambda: ready(client), process)
                require_answer(client)
                scrape(home)
                assert healthy(home, services["server"])
            assert process.returncode == 0
            assert healthy(home, services["nginx"])
            assert client.get("/ready").status_code in {502, 503}
        assert nginx.poll() is None


def healthy(home: Home, service: dict[str, Any]) -> bool:
    """Run a service's healthcheck with the ports of this home."""
    _, _, *arguments = service["healthcheck"]["test"]
    for inside, option in (("8443", "--port"), ("8090", "--health-port")):
        arguments[-1] = arguments[-1].replace(inside, str(home.ports[option]))
    return subprocess.run([sys.executable, *arguments], capture_output=True, check=False).returncode == 0


def scrape(home: Home) -> None:
    """Request the metrics like docker/prometheus/prometheus.yml."""
    configured = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    jobs = [job for job in configured if job.get("scheme") == "https" and job["job_name"] != "gateway"]
    with home.client("--metrics-port-public", key="read") as scraper, home.client("--metrics-port-public") as other:
        for job in jobs:
            # The name of the target, which the certificate must include.
            name = job["static_configs"][0]["targets"][0].partition(":")[0]
            response = scraper.get(job["metrics_path"], extensions={"sni_hostname": name})
            assert response.status_code == 200
            assert "# TYPE" in response.text
            assert other.get(job["metrics_path"]).status_code == 403
    assert jobs


def test_kubernetes_pod_answers_probes_and_serves_while_it_stops(home: Home) -> None:
    documents = [yaml.safe_load(path.read_text()) for path in (ROOT / "deploy" / "kubernetes" / "base").glob("*.yaml")]
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    (home.folder / "volume").mkdir(mode=0o777)
    arguments = [item.replace("tls.crt", "certificate.pem").replace("tls.key", "key.pem") for item in pod["args"]]
    paths = {"/run/secrets/radserve": home.folder / "secrets", "/run/radserve": home.folder / "volume"}
    delay = {item["name"]: item["value"] for item in pod["env"]}
    with (
        home.runs(home.command(arguments, paths), **delay | {"RADSERVE_DRAIN_DELAY": "3"}) as process,
        home.client() as client,
    ):
        home.until(lambda: client.get(pod["startupProbe"]["httpGet"]["path"]).status_code == 200, process)
        assert client.get(pod["livenessProbe"]["httpGet"]["path"]).status_code == 200
        process.send_signal(signal.SIGTERM)
        home.until(lambda: client.get(pod["readinessProbe"]["httpGet"]["path"]).status_code == 503, process)
        require_answer(client)
        assert client.get("/live").status_code == 200
    assert process.returncode == 0


def test_cloud_run_container_accepts_a_key_beside_googles_token(home: Home) -> None:
    service = yaml.safe_load((ROOT / "deploy" / "cloudrun" / "cpu" / "service.yaml").read_text())
    container = service["spec"]["template"]["spec"]["containers"][0]
    paths = {"/run/keys": home.folder / "secrets" / "keys", "/tmp/radserve": home.folder / "runtime"}
    command = [item for item in home.command(container["args"], paths) if not item.startswith("--workers")]
    # Cloud Run sets PORT to containerPort.
    with home.runs(command, PORT=str(home.ports["--port"])) as process, home.client(plain=True) as client:
        home.until(lambda: client.get(container["startupProbe"]["httpGet"]["path"]).status_code == 200, process)
        require_answer(client)
        # With Google's IAM, Authorization has Google's token and X-API-Key the key.
        both = {"Authorization": "Bearer eyJhbGciOi.eyJhdWQiOi.c2ln", "X-API-Key": home.keys["predict"]}
        with httpx.Client(base_url=client.base_url, headers=both, timeout=30) as other:
            require_answer(other)
        del both["X-API-Key"]
        with httpx.Client(base_url=client.base_url, headers=both, timeout=30) as anonymous:
            assert ask(anonymous).status_code == 401
        started = time.monotonic()
    assert process.returncode == 0
    assert time.monotonic() - started < 10
