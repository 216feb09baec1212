"""Tests of radserve.proxy.configuration: the template; see test_options for the rendered text."""

import pytest

from radserve.errors import ServeError
from radserve.proxy import configuration


def test_only_upper_case_placeholders_are_replaced() -> None:
    text = 'listen ${PORT}; set $args ""; map $a ${b} $C; ${A_1}'
    assert configuration.fill(text, {"PORT": 80, "A_1": "x"}, "here") == 'listen 80; set $args ""; map $a ${b} $C; x'


def test_an_unknown_placeholder_is_an_error() -> None:
    with pytest.raises(ServeError, match=r"^here: unknown placeholder \$\{PROT\}\. Available: PORT"):
        configuration.fill("listen ${PROT};", {"PORT": 80}, "here")


@pytest.mark.parametrize("value", ['a";', "a\\b", "$uri", "a\nb", "it's", "a\x00"])
def test_a_value_with_unsafe_characters_is_an_error(value: str) -> None:
    with pytest.raises(ServeError, match="PATH"):
        configuration.fill('open "${PATH}";', {"PATH": value}, "here")


def test_when_comments_a_line_out() -> None:
    assert configuration.when(True) + "ssl on;" == "ssl on;"
    assert (configuration.when(False) + "ssl on;").startswith("#")
