"""Tests of the systemd units."""

import configparser
import shlex
from pathlib import Path

import pytest

from radserve.cli.main import COMMANDS

UNITS = sorted((Path(__file__).resolve().parent.parent / "deploy" / "systemd").glob("*.service"))


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_restarts_a_service_whose_options_exist(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["Restart"] == "always"
    assert unit(path)["Unit"]["StartLimitIntervalSec"] == "0"
    program, name, *arguments = shlex.split(service["ExecStart"])
    assert program == "/opt/radserve/bin/radserve"
    command = COMMANDS[name].load(name)
    assert command.make_context(name, arguments) is not None


def test_both_services_share_a_run_directory_and_only_the_main_process_gets_the_stop_signal() -> None:
    services = [unit(path)["Service"] for path in UNITS]
    assert len(services) == 2
    assert {service["KillMode"] for service in services} == {"mixed"}
    assert {service["User"] for service in services} == {"radserve"}
    folders = [words[words.index("--runtime") + 1] for words in (shlex.split(item["ExecStart"]) for item in services)]
    assert set(folders) == {"/run/radserve/server"}
