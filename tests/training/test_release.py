"""The correction of the last bias, and the networks of callers."""

import pytest
from torch import nn
from typer.testing import CliRunner

from radserve.cli.main import app
from training.release import _head_bias


def test_only_a_last_layer_with_a_bias_is_corrected() -> None:
    first, last = nn.Linear(2, 2), nn.Linear(2, 2)
    assert _head_bias(nn.Sequential(first, last)) is last.bias
    assert _head_bias(nn.Sequential(first, nn.Linear(2, 2, bias=False))) is None
    assert _head_bias(nn.Sequential(nn.Conv2d(1, 1, 1))) is None


@pytest.mark.parametrize("command", ["calibrate", "fit-detector"])
def test_the_network_of_a_caller_can_be_permitted(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert "--module" in result.output
