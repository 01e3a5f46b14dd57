"""TabMWP: questions about a table. The protocol's draw of 1,000 is not public; ours is the 1,000
that the data set's authors drew."""

from __future__ import annotations

import random

from eval.math.sets import Dataset, Item, Problem
from eval.math.sets.gsm8k import EXEMPLARS
from eval.math.stories import THINGS, closed, draw_sum, key, small


def _question(item: Item) -> str:
    title = f'regarding "{item["table_title"]}" ' if item.get("table_title") else ""
    choices = item.get("choices")
    options = f" Please select from the following options: {list(choices)}" if choices else ""
    return (
        f"Read the following table {title}and answer a question:\n"
        f"{item['table']}\n{item['question']}{options}"
    )


def _gold(item: Item) -> str:
    """Numbers as the protocol converts them: quotients and percentages become decimals."""
    answer = str(item["answer"])
    if item["ans_type"] not in ("integer_number", "decimal_number"):
        return answer
    if "/" in answer:
        top, bottom = answer.split("/")
        return str(int(top) / int(bottom))
    if answer.endswith("%"):
        return str(float(answer[:-1].replace(",", "")) / 100)
    return str(float(answer.replace(",", "")))


def shelf(rng: random.Random, largest: int) -> Problem:
    """A table of three rows: a number to look up, the larger of two, or two to add up."""
    things = rng.sample(THINGS, 3)
    number = draw_sum(rng, small(largest))
    counts = [number.start, number.change, rng.randint(2, small(largest))]
    rows = list(zip(things, counts, strict=True))
    rng.shuffle(rows)
    (first, second), (one, other) = things[:2], counts[:2]
    choices, kind = None, rng.choice(("look", "larger", "sum"))
    seen = f"{first} | {one}, {second} | {other}"
    if kind == "larger" and one != other:
        question, choices = f"Are there more {first} or {second}?", [first, second]
        step, answer = seen, first if one > other else second
    elif kind == "sum":
        question, answer = f"How many {first} and {second} are there?", str(one + other)
        step = f"{seen}. {one} + {other} = {answer}"
    else:
        question, answer = f"How many {first} are there?", str(one)
        step = f"{first} | {one}"
    item = {
        "table": "\n".join(f"| {thing} | {count} |" for thing, count in rows),
        "table_title": None, "question": question, "choices": choices, "answer": answer,
        "ans_type": "extractive_text" if choices else "integer_number", "unit": None,
    }  # fmt: skip
    return Problem(item, closed(step, answer), key("tabmwp", item["table"], question))


DATASET = Dataset(
    name="tabmwp", column="TAB", place=6, answer="number_or_text", layout="question",
    exemplars=EXEMPLARS, shots=8, fields=("question", "table", "answer", "ans_type"),
    question=_question, gold=_gold, options=lambda item: len(item.get("choices") or ()),
    analogue=shelf,
)  # fmt: skip
