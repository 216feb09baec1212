"""Tests of the fork server, its client and `worker_start`, with real processes."""

import ast
import asyncio
import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import fork_client, fork_server, worker_start
from tests.conftest import ROOT
from tests.fake_supervisor import await_true

_PR_SET_CHILD_SUBREAPER = 36
REPORT = """
import gc, json, os, resource, signal, sys
import numpy
streams = [os.readlink(f"/proc/self/fd/{number}").partition(":")[0] for number in range(3)]
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "path": sys.path, "name": __name__, "file": __file__,
    "environment": dict(os.environ), "input": sys.stdin.read(), "streams": streams, "collects": gc.isenabled(),
    "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
    "files": resource.getrlimit(resource.RLIMIT_NOFILE), "nice": os.nice(0), "cores": sorted(os.sched_getaffinity(0)),
    "umask": os.umask(0), "oom": open("/proc/self/oom_score_adj").read(), "buffered": not sys.stdout.line_buffering,
    "descriptors": [fd for fd in range(64) if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)],
}))
print(json.dumps({
    "forked": "torch" in sys.modules, "leader": os.getsid(0) == os.getpid(), "random": numpy.random.random(),
    "parent": os.getppid(), "onnx": "onnxruntime" in sys.modules,
    "modules": [name for name in sys.modules if name.partition(".")[0] in ("handlers", "ts")],
}))
"""


class Forks:
    """A fork server in a run directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = worker_start.environment(folder, 1)
        self.launcher = worker_start.write_launcher(RunDirectory(folder))

    def start(self, program: str, *arguments: str, **settings: Any) -> subprocess.Popen[str]:
        """Start a program as TorchServe starts a worker."""
        (self.folder / "program.py").write_text(program)
        return self.command(self.launcher, *arguments, **settings)

    def command(self, python: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, str(self.folder / "program.py"), *arguments],
            env=self.environment | variables,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self._restrict,  # noqa: PLW1509 - the thread only waits
        )

    @staticmethod
    def _restrict() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.nice(1)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.umask(0o027)
        Path("/proc/self/oom_score_adj").write_text("321")


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Run one fork server for all tests, which takes the time of an import of torch."""
    result, others = Forks(tmp_path_factory.mktemp("run")), psutil.Process().children()
    loop = asyncio.new_event_loop()
    server = loop.create_task(worker_start.run_fork_server(RunDirectory(result.folder), result.folder, 1))
    thread = threading.Thread(target=loop.run_until_complete, args=[asyncio.wait({server})])
    thread.start()
    await_true(RunDirectory(result.folder).forks.exists)
    yield result
    loop.call_soon_threadsafe(server.cancel)
    thread.join()
    loop.close()
    assert set(psutil.Process().children()) <= set(others)


def output(process: subprocess.Popen[str], text: str = "") -> tuple[str, str]:
    return process.communicate(text, timeout=100)


def test_a_fork_sees_what_a_fresh_process_sees(forks: Forks) -> None:
    search = forks.folder / "code"
    search.mkdir(exist_ok=True)
    variables = {"PYTHONPATH": f"{search}:other", "FURTHER": "\udcff=é\n"}
    forked, error = output(forks.start(REPORT, "--a", "b c", "", **variables), "some input")
    assert error == ""
    fresh, _ = output(forks.command(sys.executable, "--a", "b c", "", **variables), "some input")
    alike, own = map(json.loads, forked.splitlines())
    alike["environment"].pop("PWD", None)  # added by the launcher's shell
    assert alike == json.loads(fresh.splitlines()[0])
    assert alike["nice"] == os.nice(0) + 1
    assert (alike["umask"], len(alike["cores"]), alike["oom"].strip()) == (0o027, 1, "321")
    # Forked, so everything is imported and there is one thread: with another one, the client would start fresh.
    assert (own["forked"], own["onnx"], own["leader"]) == (True, True, True)
    assert "ts.model_service_worker" in own["modules"]
    assert "handlers" not in own["modules"]
    again = json.loads(output(forks.start(REPORT))[0].splitlines()[1])
    assert again["random"] != own["random"]
    assert again["parent"] == own["parent"]


@pytest.mark.parametrize(
    ("program", "code"),
    [("", 0), ("raise SystemExit(7)", 7), ("1 / 0", 1), ("import os; os.kill(os.getpid(), 11)", -11)],
)
def test_the_client_exits_like_the_fork(forks: Forks, program: str, code: int) -> None:
    process = forks.start(program)
    _, error = output(process)
    assert process.returncode == code
    assert ("ZeroDivisionError" in error) == (code == 1)


def test_a_fork_dies_with_its_client_even_while_it_holds_the_interpreter(forks: Forks) -> None:
    process = forks.start("import os; print(os.getpid(), flush=True); sum(range(10**12))")
    assert process.stdout is not None
    worker = psutil.Process(int(process.stdout.readline()))
    assert worker.name() == fork_server.NAME
    process.kill()
    output(process)
    await_true(lambda: not worker.is_running())


@pytest.mark.parametrize(
    ("variables", "reason"),
    [({"OMP_NUM_THREADS": "3"}, "OMP_NUM_THREADS differs"), ({"PYTHONPATH": "shadow"}, "has a module yaml")],
)
def test_what_a_fork_could_not_do_alike_starts_fresh_with_a_reason(
    forks: Forks, variables: dict[str, str], reason: str
) -> None:
    (forks.folder / "shadow").mkdir(exist_ok=True)
    (forks.folder / "shadow" / "yaml.py").touch()
    process = forks.start("import sys, yaml; print('torch' in sys.modules, yaml.__file__)", **variables)
    text, error = output(process)
    assert text.startswith("False")
    assert ("shadow" in text) == ("PYTHONPATH" in variables)
    assert error.startswith("Starting a fresh worker process without the fork server: ")
    assert reason in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("request_bytes", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff"])
def test_a_malformed_request_is_rejected_and_the_next_one_served(forks: Forks, request_bytes: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(100)
        connection.connect(str(RunDirectory(forks.folder).forks))
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        assert b"the request" in connection.recv(100)
    assert output(forks.start("print('served')")) == ("served\n", "")


def test_a_request_that_is_too_large_starts_fresh_with_a_reason(forks: Forks) -> None:
    text, error = output(
        forks.start("print('served')", **{f"VARIABLE_{number}": "x" * 120_000 for number in range(10)})
    )
    assert text == "served\n"
    assert "bytes, more than 1,048,576" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("response", "code", "text"),
    [
        (b"+0\n", 0, ""),
        (b"+-11\n", -11, ""),
        (b"+", 1, ""),  # it died, and the program may have run
        (b"+no memory.\n", 1, "no memory.\n"),
        (b"", 0, f"{fork_client.FALLBACK}it closed the connection.\n"),
    ],
)
def test_a_program_starts_again_only_if_it_cannot_have_started(
    tmp_path: Path, response: bytes, code: int, text: str
) -> None:
    forks = Forks(tmp_path)
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(RunDirectory(tmp_path).forks))
        listener.listen()
        process = forks.start("print('ran')")
        connection, _ = listener.accept()
        with connection:
            _, descriptors, *_ = socket.recv_fds(connection, 1 << 20, 4)
            for descriptor in descriptors:
                os.close(descriptor)
            connection.sendall(response)
            connection.shutdown(socket.SHUT_WR)
            written, error = output(process)
    assert (process.returncode, error) == (code, text)
    assert written == ("ran\n" if response == b"" else "")


def test_a_client_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_client, "_TIMEOUT", 0.2)
    with closing(socket.socket(socket.AF_UNIX)) as listener, socket.socket(socket.AF_UNIX) as connection:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        assert fork_client._start(connection, str(tmp_path / "socket"), ("program.py",), 0) == "timed out"


def test_all_of_a_request_must_arrive_within_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "_TIMEOUT", 0.3)
    server, client = socket.socketpair()

    def drip() -> None:
        socket.send_fds(client, [fork_client.LENGTH.pack(1000)], [0, 1, 2, 0])
        with suppress(BrokenPipeError):
            for _ in range(20):
                client.send(b"x")
                time.sleep(0.05)

    descriptors: list[int] = []
    thread = threading.Thread(target=drip)
    thread.start()
    with server, pytest.raises(TimeoutError):
        fork_server._receive(server, descriptors)
    thread.join()
    client.close()
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_connection_that_cannot_be_accepted_does_not_end_the_server() -> None:
    with socket.socket(socket.AF_UNIX) as listener:  # accept(2) fails, as it does without a free descriptor
        assert fork_server._accept(listener, {}) is None


def test_a_dead_fork_server_leaves_its_forks_to_their_clients_and_new_workers_start_fresh(tmp_path: Path) -> None:
    forks = Forks(tmp_path)

    async def run() -> None:
        server = asyncio.create_task(worker_start.run_fork_server(RunDirectory(tmp_path), tmp_path, 1))
        await asyncio.to_thread(await_true, RunDirectory(tmp_path).forks.exists)
        program = "import os, sys, time; print(os.getpid(), 'torch' in sys.modules, flush=True); time.sleep(600)"
        process = await asyncio.to_thread(forks.start, program)
        assert process.stdout is not None
        pid, forked = (await asyncio.to_thread(process.stdout.readline)).split()
        worker = psutil.Process(int(pid))
        assert forked == "True"
        worker.parent().kill()  # type: ignore[union-attr]
        with pytest.raises(ServeError, match=r"The fork server exited with code -9\."):
            await server
        assert process.poll() is None
        assert worker.is_running()
        text, error = await asyncio.to_thread(output, forks.start("import sys; print('torch' in sys.modules)"))
        assert text == "False\n"
        assert len(error.splitlines()) == 1
        process.kill()
        await asyncio.to_thread(output, process)
        await asyncio.to_thread(await_true, lambda: worker.status() == psutil.STATUS_ZOMBIE)
        assert worker.ppid() == os.getpid()
        reaping = asyncio.create_task(worker_start.reap_workers(0.05))
        await asyncio.to_thread(await_true, lambda: not psutil.pid_exists(worker.pid))
        reaping.cancel()

    # As process 1 in a container, this process becomes the parent of the fork.
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        asyncio.run(run())
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)


def test_a_fork_server_that_cannot_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("RADSERVE_PASS_ENVIRONMENT", "PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ServeError, match=r"exited with code 1: ImportError: no torch here"):
        asyncio.run(worker_start.run_fork_server(RunDirectory(tmp_path), tmp_path, 1))


def imported(path: Path) -> set[str]:
    """Return the packages that the top level of a module imports."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {item.name.partition(".")[0] for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names


def test_the_fork_server_has_imported_every_package_that_handlers_import() -> None:
    packages = set().union(*map(imported, (ROOT / "handlers").rglob("*.py")))
    preloaded = {name.partition(".")[0] for name in fork_server.PRELOADED}
    assert packages - sys.stdlib_module_names - {"handlers"} <= preloaded
