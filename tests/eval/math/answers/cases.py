"""Answers as models write them, composed from the grammar (seeded): labels, wrappers, value forms,
units, clauses; right ones and near misses. Nothing here knows how the grader reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    dataset: str
    generation: str
    gold: str
    right: bool
    kind: str


LABELS = [
    "The answer is {}.", "So the answer is {}.", "Therefore, the final answer is {}.", "Answer: {}",
    "#### {}", "**Answer:** {}", "**Final Answer:** {}", "Final Answer\n\n{}", "## Answer\n\n{}",
    "Hence, the correct answer is {}.", "The answer should be {}.", "The final answer is: {}",
    "ANSWER: {}", "My final answer is {}.", "Thus the answer must be {}.", "Answer = {}",
    "The answer to the problem is {}.", "Ans: {}", "The answer comes out to be {}.",
    "Final answer: {}", "The required answer is {}.", "The answer turns out to be {}.",
    "**The answer is {}.**", "### Final Answer: {}", "The answer is therefore {}.", "Answer - {}",
    "> **Answer:** {}", "The answer, in the end, is {}.", "<answer>{}</answer>",
    "The answer equals {}.",
]  # fmt: skip
LEADS = [
    "", "", "", "Let us see. ", "First we add 3 and 4 to get 7. Then we go on.\n", "2 + 2 = 4.\n\n",
    "Step 1: there are 12 months.\nStep 2: multiply.\n",
    "**Step 1.** Take half of 50, i.e. 25.\n\n",
    "She had 5 at first, so we take 5 away. ",
]  # fmt: skip
WRAPPERS = ["{}"] * 8 + ["**{}**", "*{}*", "`{}`", '"{}"', "_{}_", "__{}__", "({})", "[{}]", "“{}”"]
MATH_WRAPPERS = ["${}$", "\\({}\\)", "\\[{}\\]", "$${}$$", "\\boxed{{{}}}", "$\\boxed{{{}}}$"]
NOUNS = ["marbles", "students", "muffins", "miles", "kg", "cm", "days", "dollars",
    "liters of paint",
         "more tickets", "books left", "points in total", "km per hour", "square feet",
         "°F"]  # fmt: skip
AFTER = [
    ", not {o}", ", because {o} would be too many", " since {o} is too small", " rather than {o}",
    " (not {o})", ", as {o} does not divide evenly", " instead of {o}",
    ", which is {d} more than {o}",
    " if we leave out the {o} broken ones", " because {d} + {o} is what we need",
    ". I checked it {o} times",
    ", whereas {o} is the number of boxes", ", given that {o} were sold", ", so that {o} remain",
    " (see step {d})", ", and {o} is wrong", ". That took {o} steps",
    ", although {o} looks tempting",
    " when there are {o} of them", ", but not {o}", " after {o} weeks", " for {o} people",
    "; {o} is too low",
]  # fmt: skip
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
ONES = _ONES.split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
TENS = _TENS.split()


def in_words(number: int) -> str:
    """An English cardinal below ten million."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            joint = " and " if size == 100 else " "
            return f"{in_words(number // size)} {name}" + (joint + in_words(rest) if rest else "")
    raise AssertionError


def grouped(number: int, mark: str) -> str:
    return f"{number:,}".replace(",", mark)


def integer_form(rng: random.Random) -> tuple[str, str]:
    """(written, gold) of a whole number."""
    number = rng.choice([rng.randint(2, 99), rng.randint(100, 999), rng.randint(1000, 9_999_999)])
    forms = [str(number), str(number), f"{number}.0", f"{number}.00", f"+{number}", f"${number}",
             f"\\${number}", f"€{number}", f"£{number}", f"USD {number}", f"Rs. {number}",
             f"= {number}",
             f"≈ {number}", f"about {number}", f"exactly {number}", f"a total of {number}",
             f"x = {number}",
             f"approximately {number}", f"just {number}", f"\u200b{number}", f"{number}!",
             f"~{number}",
             in_words(number), in_words(number).capitalize(), f"{in_words(number)} ({number})",
             f"{number} ({in_words(number)})", f"3 + {number - 3} = {number}", f"{number}/1",
             "".join(chr(0xFF10 + int(digit)) for digit in str(number))]  # fmt: skip
    if number >= 1000:
        marks = [
            ",",
            ",",
            " ",
            "\u2009",
            "\u202f",
            "\xa0",
            "'",
            "_",
            "{,}",
            "\\,",
            "~",
            "’",
            "\u2008",
        ]
        forms += [grouped(number, mark) for mark in marks]
        forms += [
            f"${number:,}",
            f"${number:,}.00",
            f"{number / 1000}k",
            f"{number / 1000} thousand",
        ]
        forms += [f"{number / 10**6} million", f"{number}e0"]
    if number % 12 == 0:
        forms += [f"{number // 12} dozen"]
    if number >= 100_000:
        text = str(number)
        head, tail = text[:-3], text[-3:]
        twos = [head[max(0, i - 2) : i] for i in range(len(head), 0, -2)][::-1]
        forms += [",".join([*twos, tail])]
    return rng.choice(forms), str(number)


def fraction_form(rng: random.Random) -> tuple[str, str]:
    """(written, gold) of a decimal or fraction."""
    whole, (top, bottom, name) = rng.randint(1, 20), rng.choice(
        [(1, 2, "a half"), (1, 4, "a quarter"), (3, 4, "three quarters"), (2, 5, "two fifths"),
         (7, 10, "seven tenths"), (3, 8, "three eighths")])  # fmt: skip
    if rng.random() < 0.5:
        value = whole + top / bottom
        forms = [f"{value}", f"{value:.3f}", f"{whole} {top}/{bottom}",
            f"{whole}\\frac{{{top}}}{{{bottom}}}",
                 f"{in_words(whole)} and {name}", f"{whole} and {name}",
                 f"{whole * bottom + top}/{bottom}",
                 f"\\frac{{{whole * bottom + top}}}{{{bottom}}}", f"${value}",
                 f"{value * 100:g}%"]  # fmt: skip
        if (top, bottom) == (1, 2):
            forms += [f"{whole}½", f"{whole}.5"]
        if bottom in (2, 4):
            forms += [
                f"{whole} hours and {60 * top // bottom} minutes",
                f"{whole} dollars and {100 * top // bottom} cents",
            ]
    else:
        value = top / bottom
        forms = [f"{value}", f"{value:g}"[1:], f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}",
                 f"\\dfrac{top}{bottom}" if bottom < 10 else f"\\dfrac{{{top}}}{{{bottom}}}", name,
                 f"{value * 100:g}%", f"{value * 100:g} percent",
                 f"{round(value * 1000)} thousandths"]  # fmt: skip
    return rng.choice(forms), f"{value}"


def signed_form(rng: random.Random) -> tuple[str, str]:
    number = rng.randint(2, 500)
    forms = [f"-{number}", f"−{number}", f"–{number}", f"negative {number}", f"minus {number}",
             f"negative {in_words(number)}", f"-${number}", f"$-{number}", f"-{number}.0",
             f"({-number})"]  # fmt: skip
    return rng.choice(forms), f"-{number}"


NOT_ONE = [
    "{v} or possibly {o}", "{v}, alternatively {o}", "{v}, or it could be {o}", "{v} less {o}",
    "a multiple of {v}", "{v} at most", "{v} or higher", "up to {v}", "x + {v}", "{v} in binary",
    "{v} for Tom and {o} for Ann", "{v} if it rains and {o} otherwise", "{v} - no wait, {o}",
    "unknown; {v} is only a part", "{v}, I mean {o}", "{v} doubled", "anything but {v}",
    "{v} or {o}", "either {v} or {o}", "{v} and {o}", "between {v} and {o}", "from {v} to {o}",
    "{v} to {o}",
    "{v}, {o}", "{v} times {o}", "{v} more than {o}", "{v} less than {o}", "{v} fewer than {o}",
    "{v} squared",
    "{v} dozen", "{v} thousand", "{v} million", "{v} hundredths", "{v} tenths", "{v}k",
    "more than {v}",
    "less than {v}", "{v} plus {o}", "{v} minus {o}", "{v} divided by {o}", "twice {v}",
    "double {v}",
    "{v} and a half", "{v}:{o}", "{v}/{o}", "{v} {o}/9999", "{v}{o}", "{o}{v}", "{v}.{o}",
    "negative {v}",
    "minus {v}", "-{v}", "{v} factorial", "not {v}", "{v}^2", "{v} cubed", "{v} hundred",
    "at least {v}",
    "{v} apples or {o} apples", "{v} apples and {o} pears", "the square root of {v}",
    "\\sqrt{{{v}}}", "{v}({o})",
    "{o}, not {v}", "{o}, because {v} is too large", "{o} rather than {v}",
    "{o} since {v} is too small",
    "{o} (not {v})", "{o} instead of {v}", "{v} is too large", "{v}% of {o}",
    "{v} hours and {o} minutes",
]  # fmt: skip


def numbers(rng: random.Random) -> Case:
    """One right or wrong case of a number data set."""
    if rng.random() < 0.35:
        value, other = rng.sample(range(11, 59), 2)
        shape = rng.choice(NOT_ONE)
        text = rng.choice(LEADS) + rng.choice(LABELS).format(shape.format(v=value, o=other))
        return Case("gsm8k", text, str(value), False, shape)
    form = rng.choice([integer_form, integer_form, integer_form, fraction_form, signed_form])
    written, gold = form(rng)
    if rng.random() < 0.25:
        wrong = str(float(gold) + rng.choice([1, -1, 10, 0.5])).removesuffix(".0")
        return Case("gsm8k", rng.choice(LABELS).format(written), wrong, False, form.__name__)
    clean = written[-1].isdigit() or written[-1].isalpha()
    unit = (
        f" {rng.choice(NOUNS)}" if clean and rng.random() < 0.3 and "hours" not in written else ""
    )
    after = ""
    if rng.random() < 0.35 and not written.endswith("!"):
        low, high = rng.sample(range(3, 99), 2)
        after = rng.choice(AFTER).format(o=low, d=high)
    wrapper = rng.choice(WRAPPERS) if "\\" not in written and "$" not in written else "{}"
    if after and any(char in wrapper for char in "*_`"):
        wrapper = "{}"
    if "\\frac" in written or "\\," in written:
        wrapper = rng.choice(["{}", *MATH_WRAPPERS])
    said = wrapper.format(written) + unit + after
    label = rng.choice(LABELS)
    if label in ("**The answer is {}.**", "<answer>{}</answer>") and (after or wrapper != "{}"):
        label = LABELS[0]
    return Case("gsm8k", rng.choice(LEADS) + label.format(said), gold, True, form.__name__)


CHOICE_WRAPPERS = ["{}", "({})", "**{}**", "**({})**", "[{}]", "{})", "'{}'", '"{}"', "option {}",
    "option ({})",
                   "${}$", "$\\boxed{{{}}}$", "\\boxed{{({})}}", "\\boxed{{\\text{{{}}}}}",
                   "choice {}",
                   "({}) 14", "{}) 14 km", "{}. 14", "14, which is option {}", "14 ({})", "{}: 14",
                   "{} (14)"]  # fmt: skip
CHOICE_AFTER = [
    "", "", "", " because ({o}) is too large", ", not {o}", ", since {o} ignores the tax",
    " rather than {o}",
    " (and not {o})", ". Option {o} is wrong", ". Note that {o} is a distractor",
    ", while {o} is too small",
    ", and {o} is incorrect", " as option ({o}) does not fit", ", so {o} cannot be right",
    " instead of {o}",
]  # fmt: skip
WEAK = ["So, ({}).", "Option {} is correct.", "I choose {}.", "I would pick option {}.",
    "Hence option ({}).",
        "({}) is the correct one.", "Therefore {} is the right choice.", "Thus, {} is correct.",
        "({})", "{}",
        "{}.", "{}) 14", "({}) 14 km", "It must be ({}).", "The correct option is {}.",
        "The right choice is ({}).",
        "{} is the answer.", "That leaves {}.", "So it is ({}).", "The best choice is {}.",
        "We select ({}).",
        "Correct option: {}", "Only option {} works."]  # fmt: skip
NO_CHOICE = ["({v}) 5 ({o}) 6 fail both.", "My friend chose {v}, not me.", "I doubt it is {v}.",
    "The answer is {v} if x > 0 and {o} if x < 0.", "If x were 3, the answer would be {v}.",
    "So {v} is eliminated.", "Someone who forgets a term will choose {v}.",
    "The answer is anything but {v}.", "The answer is {v} or {o}.",
    "The answer is either ({v}) or ({o}).",
    "The answer is not {v}.",
             "The answer is ({o}), not ({v}).", "Option {v} is wrong, so the answer is {o}.",
             "({v}) is too large.",
             "The answer is {o} because {v} is too small.", "The answer cannot be {v}.",
             "Not {v}, so {o}.",
             "We reject {v}. The answer is {o}.",
             "The answer is {v}. Wait, that is wrong. The answer is {o}.",
             "I first chose {v}, but the answer is {o}.", "{v} is incorrect.",
             "The answer is {o} rather than {v}.",
             "The answer is {v} and {o}.", "Is the answer {v}? No, it is {o}."]  # fmt: skip


def choices(rng: random.Random) -> Case:
    letter, other = rng.sample("ABCDE", 2)
    draw = rng.random()
    dataset = rng.choice(["mathqa", "sat_math"])
    if draw < 0.3:
        shape = rng.choice(NO_CHOICE)
        return Case(
            dataset, rng.choice(LEADS) + shape.format(v=letter, o=other), letter, False, shape
        )
    if draw < 0.55:
        shape = rng.choice(WEAK)
        lead = "" if len(shape) < 9 else rng.choice(LEADS)
        return Case(dataset, lead + shape.format(letter), letter, True, shape)
    wrapper = rng.choice(CHOICE_WRAPPERS)
    after = rng.choice(CHOICE_AFTER).format(o=other)
    label = rng.choice(LABELS) if not after and "*" not in wrapper else LABELS[0]
    right = rng.random() < 0.8
    said = label.format(wrapper.format(letter) + after)
    return Case(dataset, rng.choice(LEADS) + said, letter if right else other, right, wrapper)


def _math_pair(rng: random.Random) -> tuple[str, str, str]:
    """(written, equal gold, unequal gold) of a MATH answer."""
    a, b, c = rng.sample(range(2, 19), 3)
    return rng.choice([
        (f"{a}({b})", f"{a * b}", f"{a + b}"), (f"({a})({b})+{c}", f"{a * b + c}", f"{a + b + c}"),
        (f"\\frac{{{a}}}{{{b}}}", f"{a}/{b}", f"{b}/{a}"), (f"{a}/{b}", f"\\frac{{{a}}}{{{b}}}",
        f"\\frac{{{b}}}{{{a}}}"),
        (f"{{{a} \\over {b}}}", f"\\dfrac{{{a}}}{{{b}}}", f"{a}"), (f".{a}", f"0.{a}", f"{a}"),
        (f"x = {a}", f"{a}", f"{b}"), (f"x = y = {a}", f"{a}", f"{b}"),
        (f"m+n = {a}+{b} = {a + b}", f"{a + b}", f"{a}"),
        (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"{a}"),
        (f"({a}, {b})", f"\\left({a},{b}\\right)", f"({b},{a})"),
        (f"[{a}, {b + a})", f"{a} \\le x < {b + a}", f"({a},{b + a})"),
        (f"{a}, {b}", f"{b},{a}", f"{a}"),
        (f"\\{{{a}, {b}\\}}", f"{a},{b}", f"\\{{{a},{c}\\}}"),
        (f"{a} \\text{{ or }} {b}", f"{a},{b}", f"{b}"),
        (f"\\pm {a}", f"-{a},{a}", f"{a}"), (f"\\text{{{ONES[a]}}}", f"{a}", f"{b}"),
        (f"\\mathrm{{{a}}}", f"{a}", f"{b}"),
        (f"\\boldsymbol{{{a}}}", f"{a}", f"{b}"), (f"\\bf {a}", f"{a}", f"{b}"),
        (f"\\color{{blue}}{{{a}}}", f"{a}", f"{b}"),
        (f"\\textcolor{{red}}{{{a}}}", f"{a}", f"{b}"), (f"\\underline{{{a}}}", f"{a}", f"{b}"),
        (f"{a}^\\circ", f"{a}", f"{b}"),
        (f"{a}\\text{{ cm}}^2", f"{a}", f"{b}"), (f"{a}\\,\\mathrm{{km/h}}", f"{a}", f"{b}"),
        (f"\\${a}.50", f"{a}.5", f"{a}"),
        (f"{a}\\%", f"{a}", f"{b}"), (f"{a * 10}\\%", f"\\frac{{{a}}}{{10}}", f"{b}"),
        (f"{{{a} \\choose 2}}", f"\\binom{{{a}}}{{2}}", f"{a * a}"),
        (f"{a}{{,}}{b + 100}", f"{a}{b + 100}", f"{a}"), (f"{a}\\,{b + 100}", f"{a},{b + 100}",
        f"{a}"),
        (f"{a}x + {b}", f"{b} + {a}x", f"{b}x+{a}"), (f"y = {a}x - {b}", f"{a}x - y = {b}",
        f"y={b}x-{a}"),
        (f"(x+{a})^2", f"x^2+{2 * a}x+{a * a}", f"x^2+{a * a}"),
        (f"{a}\\pi", f"\\pi \\cdot {a}", f"{a}"),
        (f"{a}_{{{b + 9}}}", f"{a}_{b + 9}", f"{a}_{b + 10}"),
        (f"2^{{{a}}}", f"{2**a}", f"{2 * a}" if a > 2 else "5"),
        (f"{a}+{b}i", f"{b}i+{a}", f"{b}+{a}i"), (f"-\\frac{{{a}}}{{{b}}}",
        f"\\frac{{-{a}}}{{{b}}}", f"\\frac{{{a}}}{{{b}}}"),
        (f"{c}\\frac{{1}}{{{a}}}", f"\\frac{{{c * a + 1}}}{{{a}}}", f"\\frac{{{c}}}{{{a}}}"),
        (f"|x-{a}|", f"|{a}-x|", f"x-{a}"),
        (f"\\begin{{bmatrix}} {a} \\\\ {b} \\end{{bmatrix}}",
        f"\\begin{{pmatrix}}{a}\\\\{b}\\end{{pmatrix}}",
         f"\\begin{{pmatrix}}{b}\\\\{a}\\end{{pmatrix}}"),
        (f"\\left[\\begin{{array}}{{cc}} {a} & {b} \\\\ {c} & 0 \\end{{array}}\\right]",
         f"\\begin{{pmatrix}}{a}&{b}\\\\{c}&0\\end{{pmatrix}}",
         f"\\begin{{pmatrix}}{a}&{c}\\\\{b}&0\\end{{pmatrix}}"),
        (f"\\displaystyle \\frac{{{a}}}{{{b}}}", f"\\frac{a}{b}" if a < 10 > b else f"{a}/{b}",
        f"{b}"),
        (f"x > {a}", f"({a},\\infty)", f"x \\ge {a}"), (f"(-\\infty, {a}]", f"x \\le {a}",
        f"x<{a}"),
    ])  # fmt: skip


BOXES = ["\\boxed{{{}}}", "So $\\boxed{{{}}}$.", "Thus \\[\\boxed{{{}}}\\]", "\\fbox{{{}}}",
    "$$\\boxed{{{}}}$$",
         "**Final Answer:** $\\boxed{{{}}}$", "The answer is \\boxed{{{}}}.", "\\framebox{{{}}}",
         "The answer is ${}$.", "Final Answer: The final answer is ${}$. I hope it is correct.",
         "**Answer:** ${}$", "Answer: \\({}\\)", "### Final Answer\n\n\\[ {} \\]",
         "**The answer is** ${}$.",
         "\\boxed{{{}}}, which completes the proof.",
         "Hence the answer is ${}$, as claimed."]  # fmt: skip


def formulas(rng: random.Random) -> Case:
    written, equal, unequal = _math_pair(rng)
    right = rng.random() < 0.65
    text = rng.choice(["", "We compute $3+4=7$. ", "By symmetry $x>0$.\n"]) + rng.choice(
        BOXES
    ).format(written)
    return Case("math", text, equal if right else unequal, right, written)


def generated(count: int, seed: int) -> Iterator[Case]:
    """Cases of all kinds: half numbers, the rest choices and MATH answers."""
    rng = random.Random(seed)
    makers: list[Callable[[random.Random], Case]] = [numbers, numbers, choices, formulas]
    for index in range(count):
        yield makers[index % len(makers)](rng)
