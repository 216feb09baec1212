"""What a real nginx forwards of the query of a prediction."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from radserve.host.run_directory import RunDirectory
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.capacity import Capacity
from tests.radserve.proxy.test_limits import running
from tests.radserve.scripted import Reply, scripted
from tests.server import free_ports

Forward = Callable[[str, dict[str, str]], dict[str, str]]


@pytest.fixture(scope="module")
def forwarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forward]:
    """Return a function that sends a query and headers, and returns the headers that TorchServe receives."""
    folder = tmp_path_factory.mktemp("query")
    run_directory = RunDirectory(folder / "run")
    run_directory.folder.mkdir(mode=0o700)
    run_directory.ready.touch()
    port, management_port, metrics_port = free_ports(3)
    options = ProxyOptions(
        "127.0.0.1", port, "127.0.0.1", management_port, metrics_port, access_log=folder / "log", keyless=True
    )
    upstreams = Upstreams(1, run_directory, 1000, 60, Capacity(heap=1 << 30, requests=20, large=4))
    with scripted(run_directory.inference) as torchserve, running(Nginx(options, upstreams)):
        torchserve.script = lambda _: Reply(200, b"{}")

        def forward(query: str, headers: dict[str, str]) -> dict[str, str]:
            url = f"http://127.0.0.1:{port}/predictions/chest{query}"
            assert httpx.post(url, content=b"film", headers=headers).status_code == 200
            return {name.lower(): value for name, value in torchserve.requests[-1].headers.items()}

        yield forward


@pytest.mark.parametrize(
    ("query", "header", "sent"),
    [
        ("", None, None),
        ("", "age=5, view=PA", "age=5, view=PA"),
        ("?prevalence=0.02", None, "prevalence=0.02"),
        ("?repair=invert&prevalence=0.02", "age=5", "age=5, prevalence=0.02"),
        ("?prevalence=0.02&repair=invert", "age=5,", "age=5,, prevalence=0.02"),
        ("?noprevalence=1", None, None),
        ("?note=a?prevalence=0.1", None, None),
        ("?prevalence=1e-3", None, "prevalence=invalid"),
        (f"?prevalence=0.1{62 * '0'}", None, "prevalence=invalid"),
        ("?prevalence=2%25", None, "prevalence=invalid"),
        ("?prevalence=0.1,age=5", None, "prevalence=invalid"),
        ("?prevalence=", None, "prevalence=invalid"),
        ("?prevalence", "age=5", "age=5, prevalence=invalid"),
        ("?prevalence=0.1&prevalence=0.1", None, "prevalence=several"),
        ("?prevalence&repair=invert&prevalence=0.1", None, "prevalence=several"),
        ("?prevalence=0.1", "prevalence=0.1", "prevalence=0.1, prevalence=0.1"),
    ],
)
def test_a_prevalence_of_the_query_is_added_to_the_assurances(
    forwarded: Forward, query: str, header: str | None, sent: str | None
) -> None:
    headers = forwarded(query, {} if header is None else {"X-Assurances": header})
    assert headers.get("x-assurances") == sent
    assert headers.get("x-repair") == ("invert" if "repair" in query else None)


@pytest.mark.parametrize(
    ("query", "header", "sent"),
    [
        ("", None, None),
        ("", "invert", "invert"),
        ("?repair=rotate-90", None, "rotate-90"),
        ("?prevalence=0.1&repair=invert", None, "invert"),
        ("?note=a?repair=invert", None, None),
        ("?norepair=invert", None, None),
        ("?repair=invert,rotate-90", None, "invert,rotate-90"),
        ("?repair=", None, "empty"),
        ("?repair", None, "empty"),
        ("?repair=invert&repair=invert", None, "several"),
        ("?repair=invert", "invert", "several"),
        ("?repair=", "invert", "several"),
    ],
)
def test_a_repair_of_the_query_becomes_the_header(
    forwarded: Forward, query: str, header: str | None, sent: str | None
) -> None:
    """The handler rejects the words that stand for a contradiction."""
    headers = forwarded(query, {} if header is None else {"X-Repair": header})
    assert headers.get("x-repair") == sent
