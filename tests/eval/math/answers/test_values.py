"""Numbers out of text, exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.math.answers.quantities import Quantity, same_quantity
from eval.math.answers.reading.clauses import statement
from eval.math.answers.reading.values import parse_quantity


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
    ["", "-", ",,,", "nan", "inf", "9^9^9^9", "1/0", "1.2.3", "12,34", "2:35", "1e999",
     "0x12", "10-15", "open(1)", "9" * 5000],
)  # fmt: skip
def test_what_is_no_number_is_none(text):
    assert parse_quantity(text) is None


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
    statement(text)
    parse_quantity(text)
    parse_quantity(text, formula=True)


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


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("three thousand two hundred", "3200"), ("nine hundred ninety-nine", "999"),
        ("one million two hundred thousand and six", "1200006"), ("a hundred and ten", "110"),
        ("seven eighths", "7/8"), ("eleven twelfths of it", "11/12"),
        ("three point one four", "3.14"),
        ("four and three quarters", "19/4"), ("half a million", "500000"), ("a third", "1/3"),
        ("minus forty", "-40"), ("3 tenths", "3/10"), ("6 hundred", "600"), ("2 lakh", "200000"),
        ("7 thousand 250", "7250"), ("4.5k", "4500"), ("6M people", "6000000"), ("3rd", "3"),
        ("1 hour 45 minutes", "7/4"), ("3 feet, 3 inches", "13/4"),
        ("5 dollars and 5 cents", "101/20"),
        ("8 - 3 = 5 left", "5"), ("2 * 3 + 4 = 10", "10"), ("a = b = 7", "7"), ("4(5)", "20"),
        ("(2)(8)-1 = 15", "15"), ("7^2", "49"), ("\\frac{7}{8}", "7/8"), ("6\\frac15", "31/5"),
        ("2\\times10^{3}", "2000"), ("thrice 4", "12"), ("6 cubed", "216"), ("40% of 50", "20"),
        ("31 days or so", "31"), ("31, or rather a month", "31"), ("31 (not 30)", "31"),
        ("31 and 2 remain", "31"), ("that we have 31", "31"), ("31 since 30 is too few", "31"),
    ],
)  # fmt: skip
def test_the_value_of_a_statement(words, value):
    found = statement(words)
    assert isinstance(found, Quantity)
    assert Fraction(str(found)) == Fraction(value)


@pytest.mark.parametrize(
    "words",
    ["4 or 5", "4 and 5", "4, 5 and 6", "4 to 5", "4-5 days", "between 4 and 5", "more than 4",
     "at least 4", "fewer than 4", "4 more than 5", "4 fewer than 5", "4:30", "4 by 5",
     "4 apples and 5 pears", "4 factorial", "the square root of 4", "\\sqrt{4}", "4.4.4", "4/0",
     "4x", "4 is too many", "4 does not work", "either 4 or 5", "not 4", "10^(10^10)", "4 +",
     "none of them", "4 or possibly 5", "a multiple of 4", "100 less 4", "4 at most", "x + 4",
     "9 for Tom and 10 for Ann", "4 if it rains and 5 otherwise", "4 in binary", "up to 4"],
)  # fmt: skip
def test_what_is_no_single_value_is_refused(words):
    assert statement(words) == "refused"


@pytest.mark.parametrize("words", ["", "apples", "I cannot tell."])
def test_words_without_a_value_have_none(words):
    assert statement(words) == "none"
