"""Tests of radserve.host.ports."""

import socket

import pytest

from radserve.errors import ServeError
from radserve.host.ports import listen, parse_address, require_free


@pytest.mark.parametrize(
    ("host", "address"),
    [("localhost", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0.0.0.0", "0.0.0.0")],
)
def test_addresses_are_parsed(host: str, address: str) -> None:
    assert str(parse_address(host)) == address


@pytest.mark.parametrize("host", ["", "example.org", "127.0.0.1:8080", "256.0.0.1"])
def test_other_host_names_are_rejected(host: str) -> None:
    with pytest.raises(ServeError, match=r"--management-host has value .*; write an IP address"):
        parse_address(host, "--management-host")


def test_a_port_in_use_is_rejected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServeError, match=rf"127\.0\.0\.1: port {port} is taken .*; choose another --port\."):
            require_free({"--port": ("127.0.0.1", port)})
    require_free({"--port": ("127.0.0.1", port)})


def test_every_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = one.getsockname()[1], two.getsockname()[1]
        with pytest.raises(
            ServeError, match=rf"port {first} is taken .* --port\.\n.*port {second} is taken .* --other\."
        ):
            require_free({"--port": ("127.0.0.1", first), "--other": ("127.0.0.1", second)})


def test_an_address_of_another_machine_is_named_and_not_the_port() -> None:
    with pytest.raises(
        ServeError, match=r"192\.0\.2\.1: cannot listen on port 8080 \(Cannot assign requested address\)"
    ):
        listen("--port", "192.0.2.1", 8080)


def test_ipv6_without_a_kernel_that_has_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with pytest.raises(ServeError, match=r"::: cannot listen on port 8080"):
        listen("--port", "::", 8080)


def test_a_port_chosen_twice_is_rejected() -> None:
    with pytest.raises(ServeError, match="--health-port and --port have the same value 8080"):
        require_free({"--port": ("127.0.0.1", 8080), "--health-port": ("127.0.0.1", 8080)})


@pytest.mark.parametrize(("host", "accepts"), [("::", True), ("::1", False)])
def test_the_unspecified_address_of_ipv6_includes_ipv4(host: str, *, accepts: bool) -> None:
    with listen("--port", host, 0) as listener, socket.socket() as client:
        assert (client.connect_ex(("127.0.0.1", listener.getsockname()[1])) == 0) is accepts
