"""TabMWP: questions about a table. The protocol's draw of 1,000 is not public; ours is the 1,000
that the data set's authors drew."""

from __future__ import annotations

import random

from eval.math.sets import Dataset, Item, Problem
from eval.math.sets.gsm8k import EXEMPLARS
from eval.math.stories import THINGS, closed, draw_sum, key


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


def prices(rng: random.Random, largest: int) -> Problem:
    """Prices in a table of three rows: a cost to add up, or a dearer thing."""
    things = rng.sample([thing.rstrip("s") for thing in THINGS], 3)
    number = draw_sum(rng, largest)
    costs = [number.start, number.change, rng.randint(2, largest)]
    rows = list(zip(things, costs, strict=True))
    rng.shuffle(rows)
    first, second = things[0], things[1]
    item = {
        "table": "\n".join(f"{thing} | ${cost}" for thing, cost in rows),
        "table_title": None,
    }
    if rng.random() < 0.5 and costs[0] != costs[1]:
        answer = first if costs[0] > costs[1] else second
        item |= {
            "question": f"Which costs more, the {first} or the {second}?",
            "choices": [first, second], "answer": answer, "ans_type": "extractive_text",
            "unit": None,
        }  # fmt: skip
        step = f"{first} ${costs[0]}, {second} ${costs[1]}"
    else:
        item |= {
            "question": f"How much do the {first} and the {second} cost?",
            "choices": None, "answer": str(costs[0] + costs[1]), "ans_type": "integer_number",
            "unit": "$",
        }  # fmt: skip
        answer = f"${costs[0] + costs[1]}"
        step = f"${costs[0]} + ${costs[1]} = {answer}"
    return Problem(item, closed(step, answer), key("tabmwp", item["question"][:5], step))


DATASET = Dataset(
    name="tabmwp", column="TAB", place=6, answer="number_or_text", layout="question",
    exemplars=EXEMPLARS, shots=8, fields=("question", "table", "answer", "ans_type"),
    question=_question, gold=_gold, analogue=prices,
)  # fmt: skip
