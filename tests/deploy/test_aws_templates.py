"""Form of the CloudFormation templates: cfn-lint, parameters, keys."""

import re
from pathlib import Path

import pytest
from cfnlint import lint_file  # type: ignore[import-untyped]

from radserve.deploy.settings import STACKS, StackName
from radserve.deploy.template import FOLDER, load


@pytest.mark.parametrize("stack", STACKS)
def test_cfn_lint_finds_nothing(stack: StackName) -> None:
    assert [str(item) for item in lint_file(FOLDER / f"{stack}.yaml")] == []


@pytest.mark.parametrize("stack", STACKS)
def test_skipped_checks_have_a_reason(stack: StackName) -> None:
    text = (FOLDER / f"{stack}.yaml").read_text(encoding="utf-8")
    skips = re.findall(r"- id: (CKV\w+)\n\s+comment: (.*)", text)
    assert len(skips) == text.count("CKV")
    assert all(len(reason) > 20 for _, reason in skips)
    assert "cfn-lint" not in text


@pytest.mark.parametrize("stack", STACKS)
def test_template_has_no_yaml_aliases(stack: StackName) -> None:
    text = (FOLDER / f"{stack}.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(: |- )[&*][a-z]", text), "CloudFormation does not support aliases"


@pytest.mark.parametrize("stack", STACKS)
def test_parameters_are_constrained_and_described(stack: StackName) -> None:
    template = load(stack)
    assert template.document["Description"].startswith(f"RadServe, {stack}: ")
    for name, item in template.parameters.items():
        assert item.declaration["Description"], name
        typed = item.declaration["Type"].startswith(("AWS::", "List<AWS::"))
        bounded = {"AllowedPattern", "AllowedValues", "MinValue"} & set(item.declaration)
        assert typed or bounded, f"{stack}.{name} has no constraint"
        assert ("AllowedPattern" in item.declaration) == ("ConstraintDescription" in item.declaration), name
        is_number = item.declaration["Type"] == "Number"
        assert not is_number or "AllowedValues" in bounded or "MaxValue" in item.declaration, name
        if item.default is not None and not item.declaration["Type"].startswith("AWS::SSM"):
            item.check(stack, item.default)
    assert all(item["Description"] for item in template.document.get("Outputs", {}).values())


@pytest.mark.parametrize("stack", STACKS)
def test_template_has_no_duplicate_keys(stack: StackName) -> None:
    # PyYAML accepts duplicate keys and keeps the last one.
    for line, count in _repeated(FOLDER / f"{stack}.yaml").items():
        assert count == 1, line


def _repeated(path: Path) -> dict[str, int]:
    section, counts = "", dict[str, int]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"\w", line):
            section = line.partition(":")[0]
        elif match := re.match(r"  (\w+):", line):
            key = f"{section}.{match[1]}"
            counts[key] = counts.get(key, 0) + 1
    return counts
