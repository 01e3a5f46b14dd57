"""The reference protocol's quirks, kept on purpose, each against what strict makes of the text."""

import pytest

from eval.math import grade
from eval.math.answers.compat import normalise, prediction


@pytest.mark.parametrize(
    ("dataset", "text", "gold", "compat", "strict"),
    [
        ("gsm8k", "The answer is 18.", "18", True, True),
        ("gsm8k", "The answer is 18 dollars.", "18", False, True),
        ("gsm8k", "The answer is 18 miles.", "18", True, True),
        ("gsm8k", "The answer is 4 + 14 = 18.", "18", False, True),
        ("gsm8k", "The answer is 1800.", "18", True, False),
        ("gsm8k", "The answer is 0.18.", "18", True, False),
        ("gsm8k", "The answer is 70007.", "70000", True, False),
        ("gsm8k", "The answer is 70008.", "70000", False, False),
        ("gsm8k", "The answer is five.", "5", True, True),
        ("gsm8k", "The Answer is 5 and 3 are left.", "5", False, True),
        ("gsm8k", "", "0", False, False),
        ("gsm8k", "error", "0", False, False),
        ("math", "The final answer is 12. I hope it is correct.", "12", False, True),
        ("math", "The final answer is $12$. I hope it is correct.", "12", True, True),
        ("math", "\\boxed{\\text{west}}", "\\text{east}", True, False),
        ("math", "\\boxed{a+b}", "b+a", True, True),
        ("math", "\\boxed{(2,5)}", "[2,5)", True, False),
        ("math", "\\boxed{3\\frac{1}{2}}", "3.5", False, True),
        ("math", "\\boxed{2,1}", "1,2", False, True),
        ("math", "\\boxed{\\sqrt{2}}", "\\sqrt{2},-\\sqrt{2}", True, False),
        ("math", "\\boxed{\\sqrt{12}}", "2\\sqrt{3}", True, True),
        ("math", "\\boxed{3.14159265}", "\\pi", False, False),
        ("tabmwp", "The answer is Finl.", "Finland", True, False),
        ("mathqa", "The answer is closest to 5. The answer is (B).", "C", True, False),
        ("mathqa", "The answer is: (B).", "B", False, True),
        ("mathqa", "The answer is (b)", "B", True, True),
    ],
)
def test_quirks(dataset, text, gold, compat, strict):
    assert grade(dataset, text, gold, "compat").correct is compat
    assert grade(dataset, text, gold).correct is strict


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("10,\\!000", "10,000"), ("\\dfrac12", "\\frac{1}{2}"), ("\\frac1{72}", "\\frac{1}{72}"),
        ("\\frac{72}1", "\\frac{72}1"), ("3/4", "\\frac{3}{4}"), ("3 1/2", "\\frac{31}{2}"),
        ("\\sqrt2", "\\sqrt{2}"), ("3.000", "3"), (".5", "0.5"), ("max=3", "ma3"),
        ("x=3", "3"), ("5\\text{ or }6\\text{ cm}", "5"), ("25\\%", "25"), ("twenty-four", "24"),
        ("(-\\infty,\\infty)", "\\mathbb{R}"), ("infinity", "\\infty"), ("j", "i"),
        ("90^{\\circ}", "90"), ("24 mph", "24"), ("24 cats", "24cats"),
        ("\\begin{bmatrix}1\\end{bmatrix}", "\\begin{pmatrix}1\\end{pmatrix}"),
    ],
)  # fmt: skip
def test_normalisation(text, normal):
    assert normalise(text) == normal


def test_normalisation_is_not_idempotent_and_the_number_of_passes_is_kept():
    assert normalise("x - 3z = 0") == "x-3z=0"
    assert normalise(normalise("x - 3z = 0")) == "x-30"
    assert prediction("math", False, "\\boxed{x - 3z = 0}") == "x-30"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The final answer is $6$. I hope ... final answer is $7$. I hope", "6"),
        ("\\boxed{5} then \\boxed{7}", "7"),
        ("So the answer is 5. The final answer is 7", "5Thefinalansweris7"),
        ("We get 1,234 and 5.", "5"),
        ("No digits.", ""),
        ("   ", None),
    ],
)
def test_extraction_order(text, found):
    assert prediction("math", False, text) == found
