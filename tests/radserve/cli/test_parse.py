"""Option values are parsed as documented, or rejected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radserve.cli import parse, terminal
from radserve.errors import InvalidCallError


@pytest.mark.parametrize(
    ("text", "shares"),
    [("5%,25%,100%", (5, 25, 100)), ("100%", (100,)), (" 0.5% , 100 %", (0.5, 100)), ("33.3%,100%", (33.3, 100))],
)
def test_shares_are_parsed(text: str, shares: tuple[float, ...]) -> None:
    assert parse.steps("--canary", text) == shares


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5,25,100", "use a percentage above 0, such as 5%"),
        ("", "use a percentage"),
        ("5%,,100%", "use a percentage"),
        ("0%,100%", "above 0"),
        ("-5%,100%", "above 0"),
        ("101%", "use a percentage"),
        ("nan%", "use a percentage"),
        ("5%,25%", "the last share must be 100%"),
        ("25%,5%,100%", "each share must be larger"),
        ("5%,5%,100%", "each share must be larger"),
        ("0.05%,100%", "multiples of 0.1%"),
    ],
)
def test_invalid_shares_are_rejected(text: str, message: str) -> None:
    with pytest.raises(InvalidCallError) as raised:
        parse.steps("--canary", text)
    assert str(raised.value).startswith("--canary has value '")
    assert message in str(raised.value)


@pytest.mark.parametrize(("text", "seconds"), [("300ms", 0.3), ("30s", 30), ("5m", 300), ("2h", 7200), ("1.5 h", 5400)])
def test_durations_are_parsed(text: str, seconds: float) -> None:
    assert parse.duration("--step", text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5", "", "m", "0s", "-5m", "5 min", "1e3s", "5d", "1.2.3s", "infs"])
def test_durations_need_a_unit(text: str) -> None:
    with pytest.raises(
        InvalidCallError, match=r"--step has value '.*'; use a duration above 0 with its unit, such as 300ms"
    ):
        parse.duration("--step", text)


@pytest.mark.parametrize(
    ("text", "fraction"), [("1%", 0.01), ("0.01", 0.01), ("0%", 0), ("0", 0), ("100%", 1), ("0.5 %", 0.005)]
)
def test_error_rates_are_parsed(text: str, fraction: float) -> None:
    assert parse.rate("--max-error", text) == pytest.approx(fraction)


@pytest.mark.parametrize("text", ["1", "5", "101%", "", "%", "-1%", "one"])
def test_ambiguous_error_rates_are_rejected(text: str) -> None:
    with pytest.raises(
        InvalidCallError, match=r"--max-error has value '.*'; use a part of the requests, such as 1% or 0"
    ):
        parse.rate("--max-error", text)


@pytest.mark.parametrize(("text", "factor"), [("2", 2), ("1.5", 1.5), ("1", 1), ("off", None)])
def test_factors_are_parsed(text: str, factor: float | None) -> None:
    assert parse.factor("--max-slowdown", text) == factor


@pytest.mark.parametrize("text", ["0.5", "two", "", "-2"])
def test_factors_below_one_are_rejected(text: str) -> None:
    with pytest.raises(InvalidCallError, match="factor of 1 or more, such as 2, or 'off'"):
        parse.factor("--max-slowdown", text)


@pytest.mark.parametrize("text", ["../x", "Chest", "", "a/b", "chest?x"])
def test_names_cannot_leave_their_path(text: str) -> None:
    with pytest.raises(InvalidCallError, match="NAME has value"):
        parse.name(text)
    with pytest.raises(InvalidCallError, match="VERSION has value"):
        parse.version(text)


@settings(max_examples=50)
@given(text=st.text(max_size=12))
def test_random_text_is_a_number_or_an_error(text: str) -> None:
    for read in (parse.percentage, parse.duration, parse.rate):
        try:
            number = read("--x", text)
        except InvalidCallError:
            continue
        assert 0 <= number < float("inf")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (3e5, "3 d")]
)
def test_an_age_has_one_unit(seconds: float, shown: str) -> None:
    assert terminal.age(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "-"), (0.0042, "4.2 ms"), (0.312, "312 ms"), (2.5, "2500 ms"), (12.34, "12.3 s")]
)
def test_latency_is_in_milliseconds(seconds: float | None, shown: str) -> None:
    assert terminal.latency(seconds) == shown


@pytest.mark.parametrize(
    ("count", "whole", "shown"),
    [(0, 0, "0"), (0, 9, "0"), (9, 9, "9"), (1, 100_000, "1 (0.1%)"), (99_999, 100_000, "99999 (99.9%)")],
)
def test_rounding_never_gives_none_or_all(count: int, whole: int, shown: str) -> None:
    assert terminal.part(count, whole) == shown
