"""Where a text commits to an answer: the traps of base models, in our own sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.math import grade
from eval.math.answers.reading.choices import choice
from eval.math.answers.reading.extraction import formula, number, words
from eval.math.answers.reading.text import own_part


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("There were 4 rows of 6. 4 * 6 = 24. The answer is 24.", "24"),
        ("The answer is $24.50.", "24.5"),
        ("The answer is 24 stickers.", "24"),
        ("The answer is 10 + 14 = 24 stickers.", "24"),
        ("The answer is about 24 km.", "24"),
        ("#### 24", "24"),
        ("So the final answer would be 24, given 6 days.", "24"),
        (r"So she pays \boxed{24} dollars.", "24"),
        (r"\boxed{24} at first. The answer is 30.", "30"),
        ("The answer is 7. Wait, no: 4 * 6 = 24. The answer is 24.", "24"),
        ("The answer is 24. The answer is 24. The answer is", "24"),
        ("The answer is not 7. It must be 24", "24"),
        ("Is the answer is 7? No. It comes to 24.", "24"),
        (r"We found \boxed{24}. By contrast \boxed{7} does not work.", "24"),
        ("4 * 6 = 24 stickers in the end", "24"),
        ("The answer is that he has two boxes more than her, so 24", "24"),
        ("The answer is <<4*6=24>>24.", "24"),
        ("The answer is **24**.", "24"),
        ("THE ANSWER IS 24", "24"),
        ("The answer is twenty-four.", "24"),
        ("The answer to the question is 24.", "24"),
        ("24 is the answer. I looked at it 3 times.", "24"),
        ("The answer isn't 7. It's 24.", "24"),
        ("The answer cannot be 7, so it is 24.", "24"),
        ("The answer is 7. Sorry, that is wrong: we get 24.", "24"),
        ("The answer is 24, isn't it?", "24"),
        ("Die Antwort ist 24.", "24"),
        ("**Answer**\n\n- 24 stickers", "24"),
        ("| Answer | 24 |", "24"),
        ("She needs 24 days to paint all 3 rooms.", "24"),
        ("It takes 24 days for 5 painters.", "24"),
        ("It was 24, because 7 of them would be too few.", "24"),
    ],
)
def test_the_number_a_text_commits_to(text, value):
    assert str(number(own_part(text))[0]) == value


@pytest.mark.parametrize(
    "text",
    ["", "I cannot tell.", "The answer is 9^9^9.", "It is 10-15",
     "The answer is 5 or 6.", "The answer is 1/0."],
)  # fmt: skip
def test_a_text_without_a_number_commits_to_none(text):
    assert number(text)[0] is None


@pytest.mark.parametrize(
    "tail",
    ["\n\nQuestion: Ann has 5.\nAnswer: The answer is 5.", "\nQuestion: more? The answer is 5.",
     " Question: more? The answer is 5.", "</s>The answer is 5.", "<|im_end|>\nThe answer is 5.",
     "\n\n## Question 2\nThe answer is 5.", "\nProblem 3. The answer is 5.",
     "\n\n\nProblem:\nThe answer is 5.", "\nUser: thanks\nAssistant: The answer is 5."],
)  # fmt: skip
def test_what_follows_a_new_question_does_not_count(tail):
    assert own_part("The answer is 24." + tail) == "The answer is 24."


def test_a_chat_template_in_front_is_skipped():
    assert own_part("<|im_end|>\n<|im_start|>assistant\nThe answer is 24.<|im_end|>x") == (
        "The answer is 24."
    )


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("The answer is: B", "B"),
        ("Final Answer: The final answer is (b).", "B"),
        ("The answer is $B$.", "B"),
        (r"The answer is $\boxed{\text{B}}$.", "B"),
        ("The answer is\n(B)", "B"),
        ("The answer is option B, because C is odd.", "B"),
        ("The answer is B, not C.", "B"),
        ("The answer is 12 meters (B).", "B"),
        ("First the answer is (C). That is wrong. The answer is (B).", "B"),
        ("The answer is closest to 7. The final answer is (B).", "B"),
        ("So (B) is correct.", "B"),
        ("B", "B"),
        ("(B)", "B"),
        ("The answer isn't (A). It's (B).", "B"),
        ("Option B works.", "B"),
        ("We go with (B).", "B"),
        ("A and C are too large, leaving B.", "B"),
        ("B, since A is odd.", "B"),
        ("The second option.", "B"),
        ("A is tempting but B is correct.", "B"),
        ("The answer is (A) or (B).", None),
        ("Not B.", None),
        ("(B) is too large.", None),
        ("The answer is a number.", None),
        ("The answer is best left open.", None),
        ("We denote the speed by v.", None),
        ("", None),
    ],
)
def test_the_letter_a_text_commits_to(text, letter):
    assert choice(own_part(text))[0] == letter


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("Final Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.", "\\frac{1}{2}"),
        ("Final Answer: The final answer is 12. I hope it is correct.", "12"),
        ("The answer is $x=3$ and $x=-3$.", "x=3, x=-3"),
        ("The answer is $\\boxed{[2,5)}$.", "[2,5)"),
        ("So \\boxed{\\frac{1}{2", "\\frac{1}{2"),
        ("Thus \\[ \\boxed{7} \\]", "7"),
        ("The answer is \\[ 7 \\]", "7"),
        ("The answer is $\\$3.50$.", "\\$3.50"),
        ("Therefore $x = \\frac{3}{4}$.", "\\frac{3}{4}"),
        ("The final answer is $$. I hope it is correct.", None),
        ("So \\boxed", None),
        ("and then $x = 4", None),
        ("", None),
    ],
)
def test_the_formula_a_text_commits_to(text, latex):
    assert formula(own_part(text))[0] == latex


def test_words():
    assert words("Ann is older. The answer is Ann.") == "Ann"
    assert words("The line is linear.") == "linear"
    assert words("") is None


@pytest.mark.parametrize(
    ("dataset", "text", "gold", "equal"),
    [
        ("tabmwp", "The answer is 'shortage'.", "shortage", True),
        ("tabmwp", "The answer is (A) the red hat.", "red hat", True),
        ("tabmwp", "The answer is 75 minutes.", "1 hour and 15 minutes", True),
        ("tabmwp", "The answer is 4:45 p.m.", "4:45 P.M.", True),
        ("tabmwp", "The answer is 5:45 p.m.", "4:45 P.M.", False),
        ("tabmwp", "The answer is more.", "less", False),
        ("asdiv", "The answer is 6:4.", "3:2", True),
        ("asdiv", "The answer is 4:6.", "3:2", False),
        ("asdiv", "The answer is yes.", "Yes", True),
    ],
)
def test_answers_in_words(dataset, text, gold, equal):
    assert grade(dataset, text, gold).correct is equal


@given(st.text(max_size=200))
def test_no_text_raises(text):
    for prefix in ("", "The answer is ", "\\boxed{", "The final answer is $"):
        for read in (number, words, choice, formula):
            read(own_part(prefix + text))
