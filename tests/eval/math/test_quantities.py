"""Numbers out of text, exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.math.answers.quantities import (
    numbers_in,
    parse_quantity,
    plain_text,
    same_quantity,
    words_to_number,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,250.50", Fraction(2501, 2)),
        ("$7.", 7),
        ("-$6", -6),
        ("$-6", -6),
        ("−4", -4),
        ("3 1/2", Fraction(7, 2)),
        ("2½", Fraction(5, 2)),
        ("5/13", Fraction(5, 13)),
        ("1.5 x 10^3", 1500),
        ("2e4", 20000),
        (".25", Fraction(1, 4)),
        ("3 million", 3_000_000),
        ("twenty-one", 21),
        ("two hundred and five", 205),
        ("a dozen", 12),
        ("７", 7),
        ("٤٢", 42),
    ],
)
def test_number_is_read_exactly(text, value):
    assert parse_quantity(text).value == value


@pytest.mark.parametrize(
    "text",
    ["", "-", ",,,", "nan", "inf", "5**2", "9^9^9^9", "1/0", "1.2.3", "12,34", "2:35", "1e999",
     "0x12", "10-15", "open(1)", "9" * 5000],
)  # fmt: skip
def test_what_is_no_number_is_none(text):
    assert parse_quantity(text) is None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("16 - 3 - 4 = 9 eggs", [16, 3, 4, 9]),
        ("from -5 to 10", [-5, 10]),
        ("between 10-15 of them", []),
        ("at 2:30 he had 4", [4]),
        ("x_2 and 3", [3]),
        ("80,000 * 1.5", [80000, Fraction(3, 2)]),
    ],
)
def test_numbers_in_running_text(text, values):
    assert [number.value for _, _, number in numbers_in(text)] == values


@given(st.integers(min_value=0, max_value=10**12))
def test_thousands_separators_do_not_change_a_number(number):
    assert parse_quantity(f"{number:,}").value == number


@given(st.decimals(min_value=-(10**6), max_value=10**6, places=3))
def test_a_decimal_equals_itself_and_no_neighbour(number):
    one = parse_quantity(f"{number:f}")
    assert one.value == Fraction(number)
    assert same_quantity(one, one)
    assert not same_quantity(parse_quantity(f"{number + 1:f}"), one)


@given(st.text(max_size=60))
def test_no_text_raises(text):
    numbers_in(plain_text(text))
    parse_quantity(text)


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("7.00", "7", True),
        ("25%", "25", True),
        ("25%", "0.25", True),
        ("0.25", "25", False),
        ("25", "0.25", False),
        ("700", "7", False),
        ("70007", "70000", False),
        ("9999", "10000", False),
        ("1e-5", "0", False),
        ("5/13", "0.38461538461538464", True),
        ("0.3846", "0.38461538461538464", True),
        ("0.3846", "0.3847", False),
        ("0.38", "0.38461538461538464", False),
        ("3.4401", "3.44", False),
        ("9" * 300 + "1", "9" * 300 + "2", False),
    ],
)
def test_equality_is_exact_but_for_rounded_quotients(answer, gold, equal):
    assert same_quantity(parse_quantity(answer), parse_quantity(gold)) is equal


def test_number_words():
    assert words_to_number("three thousand two hundred") == 3200
    assert words_to_number("and") is None
    assert words_to_number("apples") is None
