"""docs/compose.md, kubernetes.md and cloudrun.md: named files and commands exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from radserve.cli.main import COMMANDS
from tests.server import ROOT

DOCUMENTS = [ROOT / "docs" / f"{name}.md" for name in ("compose", "kubernetes", "cloudrun")]
PATH = re.compile(r"(?<![\w./-])(?:docker|deploy|scripts|docs|archives)/[\w./-]*\w")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_named_files_exist_or_are_ignored_by_git(document: Path) -> None:
    names = set(PATH.findall(document.read_text()))
    assert names
    missing = {name for name in names if not (ROOT / name).exists()}
    ignored = {
        name
        for name in missing
        if subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode == 0
    }
    assert missing == ignored


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_radserve_commands_are_valid(document: Path) -> None:
    lines = re.findall(r"^\s*radserve (.+?)(?:   #.*)?$", document.read_text(), flags=re.MULTILINE)
    assert lines
    for line in lines:
        name, *arguments = shlex.split(line)
        group = COMMANDS[name].load(name)
        while hasattr(group, "commands"):
            group = group.commands[arguments.pop(0)]
        group.make_context("radserve", arguments).close()
