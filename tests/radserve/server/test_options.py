"""Tests of radserve.server.options."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ServeError
from radserve.proxy.options import ProxyOptions
from radserve.server.options import ServerOptions
from tests.server import free_ports

PUBLIC = ProxyOptions("0.0.0.0", 8443, "0.0.0.0", 8444, 9180, plain_http=True)


def test_a_local_server_and_one_without_proxy_need_no_keys(options: ServerOptions) -> None:
    options.require_safe()
    replace(options, proxy=None).require_safe()


def test_only_loopback_is_served_without_keys(options: ServerOptions) -> None:
    with pytest.raises(ServeError, match="a server without keys listens on loopback only"):
        replace(options, proxy=replace(PUBLIC, keyless=True)).require_safe()


def test_a_published_server_needs_keys(options: ServerOptions) -> None:
    with pytest.raises(ServeError, match=r"--keys is missing: .* on 0\.0\.0\.0\. Create a key with 'radserve keys"):
        replace(options, proxy=PUBLIC).require_safe()
    replace(options, proxy=PUBLIC, keys="keys.json").require_safe()


def test_sagemaker_needs_no_keys(options: ServerOptions) -> None:
    replace(options, proxy=replace(PUBLIC, sagemaker="brightness")).require_safe()


def test_a_run_directory_that_others_can_enter_is_rejected(options: ServerOptions, tmp_path: Path) -> None:
    replace(options, run_directory=tmp_path / "own").require_safe()
    tmp_path.chmod(0o755)
    with pytest.raises(ServeError, match="other users can enter it"):
        replace(options, run_directory=tmp_path).require_safe()


def test_the_proxy_is_checked_too(options: ServerOptions) -> None:
    with pytest.raises(ServeError, match="--plain-http"):
        replace(options, proxy=replace(PUBLIC, plain_http=False), keys="keys.json").require_safe()


@pytest.mark.parametrize("require", ["height", "all:age", "brightness/1.0.0:age", "*:age"])
def test_requirements_that_would_require_nothing_are_rejected(options: ServerOptions, require: str) -> None:
    replace(options, require="age").require_known_models()
    with pytest.raises(ServeError, match=r"--require: (Unknown|Invalid) "):
        replace(options, require=require).require_known_models()


def test_the_state_is_in_the_model_store_by_default(options: ServerOptions) -> None:
    assert options.state_folder == options.store / "state"
    assert replace(options, state=Path("/var/lib/radserve")).state_folder == Path("/var/lib/radserve")


def test_free_ports_are_accepted(options: ServerOptions) -> None:
    options.require_ports()
    port, management_port, metrics_port = free_ports(3)
    proxy = ProxyOptions("127.0.0.1", port, "127.0.0.1", management_port, metrics_port)
    replace(options, proxy=proxy).require_ports()


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_a_port_in_use_is_named_by_its_option(options: ServerOptions, option: str) -> None:
    assert options.proxy is not None
    address = options.proxy.listens[option]
    with (
        socket.create_server(address),
        pytest.raises(ServeError, match=rf"port {address[1]} is taken .*; choose another {option}\."),
    ):
        options.require_ports()


def test_a_port_chosen_twice_is_rejected(options: ServerOptions) -> None:
    assert options.proxy is not None
    with pytest.raises(ServeError, match="--port and --health-port have the same value"):
        replace(options, health_port=options.proxy.port).require_ports()
