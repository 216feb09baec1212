"""Checks of a machine before a server is started: what was found, and what to do about it."""

import importlib.metadata
import importlib.util
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import psutil

from radserve.errors import ServeError
from radserve.host.ports import require_free

_WORKER: Final = 500_000_000  # bytes of a worker, torch included; see docs/images.md
_SERVER: Final = 600_000_000  # bytes of Java, nginx and the supervisor
_BODIES: Final = 2_000_000_000  # bytes of free disk for requests above 1 MB; see docs/serving.md
_JAVA: Final = 17  # oldest version that TorchServe runs with
_PATIENCE: Final = 60.0  # seconds for a program to print its version
_RENEWAL: Final = timedelta(days=30)
_DRIVER: Final = Path("/proc/driver/nvidia/version")
_TORCH: Final = "import torch; print(torch.version.cuda, torch.cuda.is_available())"


@dataclass(frozen=True)
class Finding:
    """Result of one check, and what to do about it."""

    subject: str
    status: Literal["ok", "warning", "PROBLEM"]
    text: str
    advice: str = ""


def python() -> Finding:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - a wheel can be installed in spite of its metadata
        return Finding("Python", "PROBLEM", version, "Install Python 3.11 or newer.")  # type: ignore[unreachable]
    return Finding("Python", "ok", version)


def packages(*names: str) -> Finding:
    """Check that packages are installed."""
    versions, missing = [], []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("Packages", "PROBLEM", f"missing: {', '.join(missing)}", "pip install 'radserve[serve]'")
    return Finding("Packages", "ok", ", ".join(versions))


def program(name: str, find: Callable[[], str], option: str) -> Finding:
    """Check that a program is installed; `option` prints its version."""
    try:
        path = find()
    except ServeError as error:
        return Finding(name, "PROBLEM", str(error))
    code, output = _output(path, option)
    if code:
        return Finding(name, "PROBLEM", f"{path} {option} failed: {output}", f"Install {name} again.")
    return Finding(name, "ok", f"{output.partition(chr(10))[0]} ({path})")


def java(find: Callable[[], str]) -> Finding:
    """Check that Java is installed and new enough."""
    finding = program("Java", find, "-version")
    match = re.search(r'version "(\d+)', finding.text)
    if finding.status == "ok" and (match is None or int(match[1]) < _JAVA):
        return Finding("Java", "PROBLEM", finding.text, f"Set JAVA_HOME to Java {_JAVA} or newer, or unset it.")
    return finding


def gpu(smi: str = "nvidia-smi", driver: Path = _DRIVER, torch: str = _TORCH) -> Iterator[Finding]:
    """Check that torch can use the GPU, if there is one.

    `smi` is the driver's program, `driver` the file of its kernel module, and `torch` the statement that prints the
    version of CUDA and whether torch can use it.
    """
    if shutil.which(smi) is None:
        if driver.exists():
            yield Finding(
                "GPU", "warning", "a driver is loaded, but nvidia-smi is missing", "Install the driver again."
            )
        else:
            yield Finding("GPU", "ok", "none; models run on the CPU")
        return
    code, output = _output(smi, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    if code or not output:
        advice = "Install the driver again, or restart the machine. In a container, add --gpus all."
        yield Finding("GPU", "PROBLEM", f"nvidia-smi failed: {output or 'no GPU'}", advice)
        return
    for line in output.splitlines():
        name, version, memory = (part.strip() for part in line.split(","))
        yield Finding("GPU", "ok", f"{name}, {memory}, driver {version}")
    code, output = _output(sys.executable, "-c", torch)
    cuda, _, usable = output.rpartition("\n")[2].partition(" ")
    if code:
        yield Finding("CUDA", "PROBLEM", f"torch cannot be imported: {output}", "Install the packages again.")
    elif cuda == "None":
        yield Finding(
            "CUDA", "warning", "torch is built for the CPU only, so the GPU is not used", "Install torch for CUDA."
        )
    elif usable != "True":
        yield Finding("CUDA", "PROBLEM", f"torch for CUDA {cuda} cannot use this GPU", "Update the driver of the GPU.")
    else:
        yield Finding("CUDA", "ok", f"torch for CUDA {cuda} can use the GPU")


def ports(listens: Mapping[str, tuple[str, int]]) -> Iterator[Finding]:
    """Check that ports, by the option that chooses them, are free."""
    for option, (host, port) in listens.items():
        subject = f"Port {port}"
        try:
            require_free({option: (host, port)})
        except ServeError as error:
            yield Finding(subject, "PROBLEM", str(error), _owner(port))
        else:
            yield Finding(subject, "ok", f"free ({option})")


def memory(workers: int, limit: int) -> Finding:
    """Check that workers, Java and the supervisor fit into a limit, and into the memory that is free now."""
    needed, free = workers * _WORKER + _SERVER, psutil.virtual_memory().available
    text = f"{workers} workers need about {needed / 1e9:.1f} GB; {limit / 1e9:.1f} GB in all, {free / 1e9:.1f} GB free"
    advice = "Serve fewer models (--models), or fewer workers for each (--workers 1)."
    if limit < needed:
        return Finding("Memory", "PROBLEM", text, advice)
    return Finding("Memory", "warning", text, advice) if free < needed else Finding("Memory", "ok", text)


def disk(run_directory: Path | None, archives: int) -> Finding:
    """Check the free space of the run directory, which gets the extracted archives and large requests."""
    folder = Path(tempfile.gettempdir()) if run_directory is None else run_directory
    free, needed = shutil.disk_usage(folder).free, archives * 2
    text = f"{free / 1e9:.1f} GB free in {folder}"
    advice = "Free some space, or choose another --runtime."
    if free < needed:
        return Finding("Disk", "PROBLEM", f"{text}; the archives need {needed / 1e9:.1f} GB", advice)
    if free < needed + _BODIES:
        return Finding("Disk", "warning", f"{text}, little for large requests", advice)
    return Finding("Disk", "ok", text)


def certificate(path: Path, key: Path) -> Finding:
    """Check that a certificate belongs to its key and is valid for another 30 days."""
    from cryptography import x509

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key)
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:  # includes ssl.SSLError
        advice = "Check --certificate (leaf first, then the chain) and --certificate-key."
        return Finding("Certificate", "PROBLEM", f"{path} and {key} cannot be used ({error})", advice)
    names = leaf.subject.rfc4514_string()
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    text = f"{names}, valid until {leaf.not_valid_after_utc:%Y-%m-%d}"
    if left <= timedelta(0):
        return Finding("Certificate", "PROBLEM", text, "Renew it; SIGHUP reloads it.")
    if left < _RENEWAL:
        return Finding("Certificate", "warning", text, "Renew it soon; SIGHUP reloads it.")
    return Finding("Certificate", "ok", text)


def _output(*command: str) -> tuple[int, str]:
    """Run a program; return its exit code and what it prints."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout.strip()


def _owner(port: int) -> str:
    """Return the program that listens on a port, if this user may know it."""
    for connection in psutil.net_connections("tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
        if listens and connection.pid:
            return f"It is used by {psutil.Process(connection.pid).name()} (process {connection.pid})."
    return ""
