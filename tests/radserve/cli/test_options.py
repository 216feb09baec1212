from dataclasses import dataclass

import pytest
import typer
from typer.testing import CliRunner

from radserve.cli.options import argument, option, setting, with_groups


@dataclass(frozen=True)
class Target:
    """Options of the tests' command."""

    name: str = argument("Name.")
    port: int = setting(80, "TEST_PORT", "Port.", min=1)
    force: bool = option(False, "Force.", "--force")


def run(*words: str) -> Target | str:
    received: list[Target] = []

    @with_groups
    def command(target: Target, *, verbose: bool = False) -> None:
        received.append(target)
        assert verbose is ("--verbose" in words)

    app = typer.Typer(add_completion=False)
    app.command()(command)
    result = CliRunner().invoke(app, words)
    return received[0] if received else result.output


def test_the_fields_of_a_group_are_arguments_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("a") == Target("a", 80, force=False)
    assert run("a", "--port", "8080", "--force", "--verbose") == Target("a", 8080, force=True)
    monkeypatch.setenv("TEST_PORT", "81")
    assert run("a") == Target("a", 81, force=False)


def test_the_constraints_of_a_field_apply() -> None:
    assert "--port" in str(run("a", "--port", "0"))
    assert "name" in str(run()).lower()


def test_help_shows_the_text_the_variable_and_the_default() -> None:
    text = str(run("--help"))
    for part in ("Name.", "Port.", "TEST_PORT", "default: 80", "--verbose"):
        assert part in text
