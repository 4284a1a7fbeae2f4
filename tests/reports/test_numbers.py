"""Numbers and times as a person and a program read them."""

from ltvr.reports.numbers import duration, number, signed


def test_durations():
    said = [duration(s) for s in (0.2, 59, 60, 3725, 90061, 86400 * 400)]
    assert said == ["less than a second", "59 s", "1 min", "1 h 2 min", "1 d 1 h", "400 d"]


def test_numbers():
    assert (number(1 / 3), number(None)) == ("0.3333", "")
    assert (signed(-1 / 3), signed(2), signed(None)) == ("\N{MINUS SIGN}0.33", "+2.00", "")
