"""Options of `radserve import`."""

import pytest
from typer.testing import CliRunner

from radserve.cli.main import app

NETWORK = ("torchvision:resnet18", "mine", "--labels", "a,b")
SIZE = ("--color", "gray", "--height", "32", "--width", "32")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("monai-bundle", "folder", "mine", "--mean", "0.3"), "--mean"),
        (("monai-bundle", "folder", "mine", "--weights", "w.pth"), "--weights"),
        (("monai-bundle", "folder", "mine", "--height", "9"), "--height"),
        (("monai-bundle", "folder", "mine", "--task", "classification"), "--task"),
        (("monai-bundle", "folder", "mine", "--install"), "--install"),
        ((*NETWORK, *SIZE, "--approximate"), "--approximate"),
        ((*NETWORK, *SIZE, "--precision", "fp32"), "--precision"),
        ((*NETWORK, *SIZE, "--out", "w.safetensors"), "--out"),
        (("chest-xray-cnn", "w.pth", "--install", "--labels", "a,b"), "--labels"),
        (("chest-xray-cnn", "w.pth", "--install", "--weights", "w.pth"), "--weights"),
    ],
)
def test_an_option_that_would_be_ignored_is_rejected(arguments: tuple[str, ...], option: str) -> None:
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == 2
    assert f"{option}: not used with" in " ".join(result.output.replace("│", " ").split())


def test_the_input_of_a_network_is_not_guessed() -> None:
    result = CliRunner().invoke(app, ["import", *NETWORK, "--width", "32"])
    assert result.exit_code == 2
    assert "--color, --height: missing" in " ".join(result.output.replace("│", " ").split())
