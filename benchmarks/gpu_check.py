"""All that a GPU needs to be sure of, in one command: `make gpu-check`.

    python -m benchmarks.gpu_check                       # on the GPU, or a CPU where there is none
    python -m benchmarks.gpu_check --only losses attention --device cpu

Checks the fused losses against float64 in both types, torch.compile on against off, attention
kernels against one another, that a distillation repeats to the bit, and that two ranks take the
steps of one; measures time and memory of the losses beside F.kl_div, TRL and Liger. Prints one
Markdown table and writes it to --out. What this machine cannot do stands in it with the reason.
Exit code 1 when a check is wrong.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.checks import attention, distillation, losses, several
from benchmarks.checks.row import HEADER, OK, SAID, WRONG, Row
from tad.command import UserError, command_line, exit_code
from tad.records import write_text

PACKAGES = ("torch", "transformers", "triton", "flash-attn", "trl", "liger-kernel")
SUBJECTS = ("losses", "compile", "costs", "attention", "distillation", "ranks")


class GpuCheckError(UserError, ValueError):
    """An option that this machine cannot meet."""


def rows(options: argparse.Namespace, shape: losses.Shape) -> Iterator[Row]:
    """The rows of the subjects asked for, one after the other; ``shape`` is of the costs."""
    device = options.device
    compiler = device == "cuda" or shutil.which(os.environ.get("CXX", "g++")) is not None
    of: dict[str, Callable[[], Iterator[Row]]] = {
        "losses": partial(losses.correctness, device),
        "compile": partial(losses.compiled, device),
        "costs": partial(
            losses.costs, device, compile=device == "cuda", shape=shape, rounds=options.rounds
        ),
        "attention": partial(attention.kernels, device),
        "distillation": partial(distillation.repeatable, device),
        "ranks": partial(several.ranks, device),
    }
    for name in options.only:
        if name == "compile" and not compiler:
            yield Row(check=losses.COMPILED, case="tad", outcome="no C++ compiler")
        else:
            yield from of[name]()


def report(found: Sequence[Row], device: str, costs: str) -> str:
    """The table as Markdown, under a line that says what it is of; ``costs`` are measured so."""
    counts = Counter(_kind(row) for row in found)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = [f"# GPU check on {machine(device)}", "", f"{versions()}. {told}.", ""]
    lines += [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}"]
    lines += [f"| {' | '.join(row.cells())} |" for row in found]
    note = (
        "Errors are relative: of the losses to `tad.divergences` in float64, of a kernel to eager "
        "attention in float32, of ranks to one process. Memory is beyond inputs and gradients. "
        f"Costs are of {costs}, forward and backward."
    )
    return "\n".join([*lines, "", note]) + "\n"


def _kind(row: Row) -> str:
    known = (OK, WRONG, SAID)
    return next((kind for kind in known if row.outcome.startswith(kind)), row.outcome.split(":")[0])


def machine(device: str) -> str:
    """The kind of machine, never its name."""
    if device == "cpu":
        return f"a CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
    return ", ".join(f"{count} x {name}" for name, count in Counter(names).items())


def versions() -> str:
    """Of what the rows depend on."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when no check is wrong, 1 when one is, 2 for a wrong option."""
    parser = command_line("gpu-check", __doc__)
    parser.prog = "python -m benchmarks.gpu_check"
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS, metavar="SUBJECT",
                        help=f"some of: {', '.join(SUBJECTS)}")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("work/gpu_check.md"))
    for name, what in (("tokens", "tokens"), ("vocab", "vocabulary"), ("hidden", "hidden size")):
        parser.add_argument(f"--{name}", type=int, help=f"{what} of the costs")
    parser.add_argument("--rounds", type=int, default=5, help="of which a time is the median")
    options = parser.parse_args(arguments)
    found: list[Row] = []

    def job() -> None:
        if options.device == "cuda" and not cuda:
            raise GpuCheckError("--device cuda: torch finds no GPU")
        given = (options.tokens, options.vocab, options.hidden)
        default = losses.LARGE[options.device]
        shape = tuple(own or known for own, known in zip(given, default, strict=True))
        found.extend(tqdm(rows(options, shape), unit="row", disable=not sys.stderr.isatty()))
        costs = f"{shape[0]:,} tokens x {shape[1]:,} at hidden size {shape[2]:,}"
        text = report(found, options.device, f"{costs}, medians of {options.rounds} rounds")
        write_text(options.out, text)
        print(text)

    code = exit_code("gpu-check", job)
    return code or int(any(row.wrong for row in found))


if __name__ == "__main__":
    sys.exit(main())
