"""Values in text that has dollars of its own."""

from __future__ import annotations

import pytest

from radserve.errors import ServeError
from radserve.proxy import template


def test_only_upper_case_places_are_filled() -> None:
    text = 'listen ${PORT}; set $args ""; map $a ${b} $C; ${A_1}'
    assert template.render(text, {"PORT": 80, "A_1": "x"}, "here") == 'listen 80; set $args ""; map $a ${b} $C; x'


def test_a_place_without_a_value_is_an_error() -> None:
    with pytest.raises(ServeError, match=r"^here: \$\{PROT\} is not known; there are PORT"):
        template.render("listen ${PROT};", {"PORT": 80}, "here")


@pytest.mark.parametrize("value", ['a";', "a\\b", "$uri", "a\nb", "it's", "a\x00"])
def test_a_value_that_could_end_its_word_is_an_error(value: str) -> None:
    with pytest.raises(ServeError, match="PATH"):
        template.render('open "${PATH}";', {"PATH": value}, "here")


def test_a_line_can_be_left_out() -> None:
    assert template.when(True) + "ssl on;" == "ssl on;"
    assert (template.when(False) + "ssl on;").startswith("#")
