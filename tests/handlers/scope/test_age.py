import pytest

from handlers.scope import age
from handlers.scope.age import Age


@pytest.mark.parametrize(
    ("text", "at_least", "below"),
    [
        ("003Y", 3, 4),
        ("3Y", 3, 4),
        ("003y", 3, 4),
        (" 003Y\0", 3, 4),
        ("018M", 1.5, 19 / 12),
        ("004W", 0.0767, 0.0958),
        ("021D", 0.0575, 0.0602),
        ("000D", 0, 0.0027),
        ("0061Y", 61, 62),
        ("62", 62, 63),  # without a unit, as some archives export it
        ("5 years", 5, 6),
        ("5YR", 5, 6),
        ("130Y", 130, 131),
        ("062J", 62, 63),
        ("45 ANS", 45, 46),
        ("3 Jahre", 3, 4),
        ("3 años", 3, 4),
        ("045A", 45, 46),
        ("18 Monate", 1.5, 19 / 12),
        ("18 mois", 1.5, 19 / 12),
        ("4 Wochen", 0.0767, 0.0958),
        ("4 semaines", 0.0767, 0.0958),
        ("21 jours", 0.0575, 0.0602),
        ("21 Tage", 0.0575, 0.0602),
    ],
)
def test_age_strings(text: str, at_least: float, below: float) -> None:
    parsed = age.parse(text)
    assert parsed is not None
    assert (parsed.at_least, parsed.below) == pytest.approx((at_least, below), abs=1e-3)


@pytest.mark.parametrize(
    "text", ["", "Y", "Y003", "-3Y", "3.5Y", "999Y", "131Y", "003X", "DOE JOHN", "00003Y", "3Y 4M"]
)
def test_other_texts_are_no_age(text: str) -> None:
    assert age.parse(text) is None


@pytest.mark.parametrize(
    ("birth", "reference", "years"),
    [
        ("20140422", "20200125", 5),
        ("20140422", "20200421", 5),
        ("20140422", "20200422", 6),
        ("2014.04.22", "2020.04.22", 6),
        ("2014-04-22", "2020/04/22", 6),
        (" 20140422 ", "20200422103000.123456+0100", 6),
        ("20160229", "20170228", 0),
        ("20160229", "20170301", 1),
        ("20200125", "20200125", 0),
    ],
)
def test_age_at_a_date(birth: str, reference: str, years: int) -> None:
    assert age.between(birth, reference) == Age(years, years + 1)


@pytest.mark.parametrize(
    ("birth", "reference"),
    [
        ("", "20200101"),
        ("20200101", ""),
        ("20200102", "20200101"),  # born after the study
        ("18000101", "20080504"),
        ("19000101", "20080504"),
        ("19010101", "20080504"),
        ("11111111", "20051130"),
        ("20201301", "20210101"),
        ("2014", "20200101"),
        ("ANONYMOUS", "20200101"),
    ],
)
def test_impossible_dates_are_no_age(birth: str, reference: str) -> None:
    assert age.between(birth, reference) is None


@pytest.mark.parametrize(
    ("years", "expected"), [(5, Age(5, 6)), (1.5, Age(1.5, 1.5 + 1 / 12)), (-1, None), (131, None), (1e30, None)]
)
def test_years(years: float, expected: Age | None) -> None:
    assert age.from_years(years) == expected
