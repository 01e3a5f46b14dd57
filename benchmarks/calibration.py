"""What Full-ECE costs beside the softmax it needs: ``python -m benchmarks.calibration``.

CPU time of one thread, per row of logits, best of several alternating rounds in one process, so
that a busy machine slows both sides alike. The softmax writes into memory that is already there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from eval.calibration.measure import FullECE

TARGET = 1.3


def zipf_logits(rows: int, vocabulary: int, seed: int) -> Tensor:
    """Logits (rows, vocabulary) with the shape of text: a power law, shuffled, some rows sure."""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.arange(1, vocabulary + 1).log()[torch.randperm(vocabulary, generator=generator)]
    noise = torch.randn((rows, vocabulary), generator=generator)
    logits = noise.mul_(1.5).sub_(ranks.mul(1.1))
    sure = torch.randint(vocabulary, (rows,), generator=generator)
    logits[torch.arange(rows), sure] += 4 + 6 * torch.rand(rows, generator=generator)
    return logits


def best_times(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """CPU seconds of each function, the best of ``rounds``, taken in turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            best[name] = min(best[name], time.process_time() - start)
    return best


def main() -> None:
    """Print a table: microseconds a row and ratio to the softmax."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logits = zipf_logits(options.rows, options.vocabulary, seed=0)
    labels = torch.randint(options.vocabulary, (options.rows,))
    buffer = torch.empty_like(logits)

    def run(**settings) -> Callable[[], None]:
        return lambda: FullECE(**settings).update(logits, labels)

    functions = {
        "softmax": lambda: torch.softmax(logits, -1, out=buffer),
        "Full-ECE, M = 10 and 15": run(noise_draws=0),
        "with noise floor": run(),
        "with noise floor and tail": run(tail=True),
    }
    times = best_times(functions, options.rounds)
    base = times["softmax"]
    print(f"{options.rows} rows of {options.vocabulary} logits, float32, one thread")
    for name, seconds in times.items():
        micro = seconds / options.rows * 1e6
        print(f"{name:28s} {micro:9.1f} us/row   {seconds / base:6.2f} x softmax")
    ratio = times["Full-ECE, M = 10 and 15"] / base
    print(f"target {TARGET} x softmax: {'met' if ratio <= TARGET else 'missed'} ({ratio:.2f})")


if __name__ == "__main__":
    main()
