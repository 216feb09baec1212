"""Real Prometheus and node-exporter for tests, with the configuration and rules of docker/prometheus."""

import functools
import http.server
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.server import free_ports
from tests.proxy import await_listening
from tests.server import ROOT

FOLDER = ROOT / "docker" / "prometheus"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **params: str) -> Any:
        response = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=30)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def ask(self, query: str) -> dict[tuple[str, ...], float]:
        """Return the values of a query by their labels, without `job` and `instance`."""
        return {
            tuple(
                value for name, value in sorted(item["metric"].items()) if name not in ("job", "instance", "__name__")
            ): float(item["value"][1])
            for item in self.get("query", query=query)["result"]
        }

    def until(self, query: str, seconds: float = 30) -> dict[tuple[str, ...], float]:
        """Repeat a query until it returns data."""
        deadline = time.monotonic() + seconds
        while not (values := self.ask(query)):
            assert time.monotonic() < deadline, f"no data for {query}; targets: {self.get('targets')}"
            time.sleep(0.2)
        return values


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str], key: Path, certificate: Path) -> Iterator[Prometheus]:
    """Run Prometheus with the project's configuration and one scrape per second.

    Parameters
    ----------
    targets
        HOST:PORT by job. Jobs with targets in files are written to files; those that are not named have no file.
    key, certificate
        Files that compose mounts.
    """
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_bytes())
    configuration["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(folder / "rules" / "*.yml")]
    (port,) = free_ports(1)
    for name in ("rules", "targets"):
        (folder / name).mkdir()
    for job in configuration["scrape_configs"]:
        if "authorization" in job:
            job |= {"authorization": {"credentials_file": str(key)}, "tls_config": {"ca_file": str(certificate)}}
        name = job["job_name"]
        if "file_sd_configs" in job:
            job["file_sd_configs"] = [{"files": [str(folder / "targets" / f"{name}.yml")]}]
            if name in targets:
                (folder / "targets" / f"{name}.yml").write_text(yaml.safe_dump([{"targets": [targets[name]]}]))
        else:
            (targeted,) = job["static_configs"]
            targeted["targets"] = [targets.get(name, f"127.0.0.1:{port}")]
    for file in (FOLDER / "rules").glob("*.yml"):
        (folder / "rules" / file.name).write_text(file.read_text().replace("interval: 1m", "interval: 1s"))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    url = f"http://127.0.0.1:{port}"
    with _process(folder, port, "prometheus", *options):
        while httpx.get(f"{url}/-/ready").status_code != httpx.codes.OK:  # it listens before it has read its data
            time.sleep(0.1)
        yield Prometheus(url)


@contextmanager
def node_exporter(folder: Path) -> Iterator[str]:
    """Run node-exporter and yield its HOST:PORT."""
    (port,) = free_ports(1)
    with _process(folder, port, "prometheus-node-exporter"):
        yield f"127.0.0.1:{port}"


@contextmanager
def recorded(text: str, folder: Path) -> Iterator[str]:
    """Serve recorded metrics at /metrics and yield HOST:PORT."""
    (folder / "metrics").write_text(text)
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class _Silent(http.server.SimpleHTTPRequestHandler):
    """Serves files with the content type of Prometheus, without a log."""

    def guess_type(self, path: Any) -> str:
        return "text/plain; version=0.0.4"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited name
        pass


@contextmanager
def _process(folder: Path, port: int, program: str, *options: str) -> Iterator[None]:
    log = folder / f"{program}.log"
    with ExitStack() as stack:
        file = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [program, f"--web.listen-address=127.0.0.1:{port}", *options], stdout=file, stderr=file
        )
        stack.callback(process.wait, timeout=30)
        stack.callback(process.terminate)
        await_listening(port, process, log)
        yield
