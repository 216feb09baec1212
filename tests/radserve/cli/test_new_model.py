"""Questions of `radserve init`."""

from typing import Any

import pytest

from radserve.cli.new_model import Answers, Preprocessing, draft, with_defaults
from radserve.errors import InvalidCallError


def test_a_terminal_is_asked_only_for_what_is_not_given() -> None:
    asked = []

    def ask(question: str, default: str, **_: Any) -> str:
        asked.append(question)
        return "a,b" if question.startswith("Labels") else default

    answers = with_defaults(Answers(title="Lesions", task="classification", height=32, licence="MIT"), ask)
    assert (answers.title, answers.labels, answers.height, answers.width) == ("Lesions", "a,b", 32, 224)
    assert answers.modality is None
    assert not any(question.startswith(("What", "Task", "Height", "Licence")) for question in asked)
    assert len(asked) == 7


@pytest.mark.parametrize("answer", ["abc", "0", "-1", "1.5"])
def test_an_answer_that_is_no_number_of_pixels_is_reported(answer: str) -> None:
    with pytest.raises(InvalidCallError, match=f"--height has value '{answer}'"):
        with_defaults(Answers(labels="a,b"), lambda *_, default, **__: answer if default == "224" else default)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mean": "0.5,x"}, "--mean"), ({"network_args": "{"}, "JSON object"), ({"network_args": "[]"}, "JSON object")],
)
def test_an_invalid_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCallError, match=message):
        draft("mine", "torchvision:resnet18", Answers(labels="a,b"), Preprocessing(**options))
