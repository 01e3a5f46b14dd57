"""How fast answers are graded: ``python -m benchmarks.grading``.

A thousand generations in the shape of GSM8K answers (a chain of sums, then the answer; every third
one wrong, every seventh without "The answer is", every tenth running on into the next question) are
graded in both modes by one process and its symbolic worker. Times are wall clock and CPU seconds,
start-up of the worker left out and given apart.
"""

from __future__ import annotations

import argparse
import random
import time

from eval.math.answers.verdict import MODES, grade
from eval.math.datasets import DATASETS
from eval.math.problems import problems


def generations(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(generation, gold) pairs; golds are right for two of three."""
    rng = random.Random(seed)
    found = []
    for number, problem in enumerate(problems("gsm8k", "train", count, largest=100)):
        gold = DATASETS["gsm8k"].gold(problem.item)
        filler = " ".join(f"Step {i}: we keep {rng.randint(2, 99)} in mind." for i in range(8))
        text = f"{filler} {problem.solution}"
        if number % 7 == 0:
            text = text.replace("The answer is", "So we get")
        if number % 10 == 0:
            text += "\n\nQuestion: Ann has 3 hats. How many hats?\nAnswer: The answer is 3."
        found.append((text, str(int(gold) + 1) if number % 3 == 0 else gold))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pairs = generations(options.count)
    began = time.perf_counter()
    for mode in MODES:
        grade("math", "The answer is $\\frac{1}{2}$.", "0.5", mode)  # starts the worker
    print(f"start of the symbolic worker: {time.perf_counter() - began:.1f} s\n")
    print("| mode | items | right | s, best of rounds | CPU s of this process | items a second |")
    print("|---|---|---|---|---|---|")
    for mode in MODES:
        times = []
        for _ in range(options.rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            right = sum(grade("gsm8k", text, gold, mode).correct for text, gold in pairs)
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = min(times)
        rate = options.count / wall
        print(f"| {mode} | {options.count} | {right} | {wall:.2f} | {cpu:.2f} | {rate:,.0f} |")


if __name__ == "__main__":
    main()
