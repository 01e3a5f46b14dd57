"""Time and memory of the fused losses against what else there is, from hidden states to gradients.

    python benchmarks/losses.py time   --tokens 2048 --vocab 49152 --hidden 576
    python benchmarks/losses.py memory --tokens 2048 --vocab 49152 --hidden 576 --rows kl_div tad
    python benchmarks/losses.py suite > table.md        # everything in benchmarks/README.md: hours

A row does forward and backward of one batch: teacher hidden states and student hidden states
through their heads, the loss, gradients of the student's hidden states and head. The floor is the
four matrix products that nobody can avoid, in float32, written to tensors that are there already.

Times are process CPU seconds over both threads, because the machine may be shared, as the ratio to
the floor of the same round; the median of the rounds. Threads wait without spinning, or waiting
would count as work. Memory is the peak of resident memory in a fresh process, after a warm-up,
beyond inputs and gradients.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tad import divergences
from tad.fused import Head, distillation_loss

THREADS = 2
SEQUENCE = 512
SMALL_SEQUENCE = 128
FUSED = {
    "clm": "clm",
    "kl": "vanilla_kd",
    "rkl": "rkl",
    "tad": "tad",
    "dkd": "dkd",
    "kl_function": divergences.forward_kl,  # without a fused form: chunks of logits, by autograd
}


class Batch:
    """Random hidden states and heads whose logits have the spread of a language model's."""

    def __init__(
        self,
        tokens: int,
        vocab: int,
        hidden: int,
        dtype: torch.dtype,
        sequence: int,
        device: str = "cpu",
    ):
        g = torch.Generator().manual_seed(0)
        sequence = min(sequence, tokens)
        shape = (tokens // sequence, sequence, hidden)
        to = {"device": device, "dtype": dtype}
        self.student, self.teacher = (torch.randn(shape, generator=g).to(**to) for _ in range(2))
        self.student_head, self.teacher_head = (
            (torch.randn(vocab, hidden, generator=g) * 3 / hidden**0.5).to(**to) for _ in range(2)
        )
        self.leaves = [self.student.requires_grad_(), self.student_head.requires_grad_()]
        self.labels = torch.randint(vocab, shape[:2], generator=g).to(device)

    def logits(self):
        return self.student @ self.student_head.t(), self.teacher @ self.teacher_head.t()


def floor(batch: Batch) -> Callable[[], object]:
    """The products alone. On a CPU in float32: a processor may have no others worth the name."""
    dtype = batch.student.dtype if batch.student.is_cuda else torch.float32
    flat = [x.detach().flatten(0, 1).to(dtype) for x in (batch.student, batch.teacher)]
    weight, other = batch.student_head.detach().to(dtype), batch.teacher_head.to(dtype)
    logits = flat[0].new_empty(len(flat[0]), len(weight))
    results = torch.empty_like(flat[0]), torch.empty_like(weight)

    def products():
        torch.mm(flat[1], other.t(), out=logits)
        torch.mm(flat[0], weight.t(), out=logits)
        torch.mm(logits, weight, out=results[0])
        torch.mm(logits.t(), flat[0], out=results[1])

    return products


def kl_div(student, teacher, labels):
    """Forward KL as most trainers write it; no CLM."""
    return F.kl_div(F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="batchmean")


def naive_tad(student, teacher, labels, k=10, beta=2.0):
    """CLM and Eq. 3 as a reader of the paper would write them."""
    clm = F.cross_entropy(student.flatten(0, 1), labels.flatten())
    log_s, log_t = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    head, ids = log_t.topk(k, -1)
    alpha = 1 - head.exp().sum(-1)
    log_ratio = head - log_s.gather(-1, ids)
    alpha_s = 1 - log_s.gather(-1, ids).exp().sum(-1)
    d1 = (head.exp() * log_ratio).sum(-1) + alpha * (alpha / alpha_s).log()
    tail_t, tail_s = (x.scatter(-1, ids, -1e9).log_softmax(-1) for x in (log_t, log_s))
    d2 = (tail_t.exp() * (tail_t - tail_s)).sum(-1)
    weight = beta / alpha.mean(-1, keepdim=True)
    return clm + (d1 + weight * alpha * d2).mean()


def reference_tad(student, teacher, labels):
    """The reference form of this package."""
    return (
        divergences.causal_lm(student, labels).mean()
        + divergences.tail_aware(student, teacher).mean()
    )


def trl(beta: float):
    from trl.experimental.gkd import GKDTrainer

    def jsd(student, teacher, labels):
        return GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta=beta)

    return jsd


def trl_gold(beta: float):
    from trl.experimental.gold import GOLDTrainer

    def jsd(student, teacher, labels):
        return GOLDTrainer.generalized_jsd_loss(student, teacher, labels, beta=beta)

    return jsd


def liger(batch: Batch) -> Tensor:
    """Liger's divergence from hidden states; no CLM."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5)
    states, other = (x.flatten(0, 1) for x in (batch.student, batch.teacher))
    heads = batch.student_head, batch.teacher_head
    return loss(states, heads[0], other, heads[1], batch.labels.flatten(), None, None)


LOGITS = {
    "kl_div": lambda: kl_div,
    "trl_jsd_0": lambda: trl(0),
    "trl_jsd_0.5": lambda: trl(0.5),
    "trl_gold_0": lambda: trl_gold(0),
    "naive_tad": lambda: naive_tad,
    "reference_tad": lambda: reference_tad,
}
TITLES = {
    "floor": "bare matrix products (floor)",
    "kl_div": "plain KL, `F.kl_div`",
    "trl_jsd_0": "TRL `generalized_jsd_loss`, beta 0",
    "trl_jsd_0.5": "TRL `generalized_jsd_loss`, beta 0.5",
    "trl_gold_0": "TRL GOLD `generalized_jsd_loss`, beta 0",
    "liger": "Liger `LigerFusedLinearJSDLoss`, beta 0.5",
    "naive_tad": "naive tail-aware + CLM",
    "reference_tad": "reference tail-aware + CLM (`tad.divergences`)",
    **{name: f"**fused {name.upper()}" + " + CLM**" * (name != "clm") for name in FUSED},
}
TITLES |= {"clm": "**fused CLM**", "kl_function": "**KL as a plain function + CLM**"}


def operation(name: str, batch: Batch, budget: float) -> Callable[[], object]:
    """Forward and backward of a row; `+compile` after the name puts torch.compile around it."""
    name, _, compiled = name.partition("+")
    if name == "floor":
        return floor(batch)
    if name in FUSED:

        def value():
            heads = Head(batch.student_head), Head(batch.teacher_head)
            return distillation_loss(
                batch.student,
                heads[0],
                batch.teacher,
                heads[1],
                batch.labels,
                None,
                method=FUSED[name],
                scope="token",
                memory_budget_mb=budget,
                compiled=bool(compiled),
            ).total

    elif name == "liger":

        def value():
            return liger(batch)

    else:
        loss = LOGITS[name]()

        def value():
            return loss(*batch.logits(), batch.labels)

    if compiled and name in LOGITS:
        value = torch.compile(value, dynamic=False)

    def run():
        for leaf in batch.leaves:
            leaf.grad = None
        found = value()
        found.backward()
        return found.detach()

    return run


def measure_time(batch: Batch, rows: list[str], rounds: int, budget: float) -> dict:
    """Median ratio of CPU time to the floor, and median seconds, of each row that works."""
    operations, failed = {}, {}
    for name in ["floor", *(x for x in rows if x != "floor")]:
        try:
            operations[name] = operation(name, batch, budget)
            operations[name]()
        except Exception as error:  # a peer that cannot run is a result too
            operations.pop(name, None)
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    seconds = {name: [] for name in operations}
    for _ in range(rounds):
        for name, run in operations.items():
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    result = {}
    for name, values in seconds.items():
        ratios = [c / f for (c, _), (f, _) in zip(values, seconds["floor"], strict=True)]
        cpu, wall = (statistics.median(x) for x in zip(*values, strict=True))
        result[name] = {"ratio": statistics.median(ratios), "cpu": cpu, "wall": wall}
    return result | {name: {"failed": why} for name, why in failed.items()}


def status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def measure_memory(batch: Batch, name: str, budget: float) -> dict:
    """Peak of resident memory of this process beyond inputs and gradients, in bytes."""
    warm = Batch(64, 256, 32, batch.student.dtype, 64)
    operation(name.partition("+")[0], warm, budget)()
    run = operation(name, batch, budget)
    if "+" in name:
        run()
        for leaf in batch.leaves:
            leaf.grad = None
    gc.collect()
    before = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    run()
    gradients = sum(leaf.numel() * leaf.element_size() for leaf in batch.leaves)
    return {"bytes": status("VmHWM") - before - gradients}


def fresh_process(command: str, name: str, case: argparse.Namespace) -> dict:
    """The result of one row, measured in a process of its own."""
    options = []
    for key in ("tokens", "vocab", "hidden", "dtype", "sequence", "budget"):
        options += [f"--{key}", str(getattr(case, key))]
    run = subprocess.run(
        [sys.executable, __file__, command, *options, "--rows", name],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        return {"failed": (run.stderr.strip().splitlines() or ["killed"])[-1][:80]}
    return json.loads(run.stdout)


def table(case: argparse.Namespace) -> str:
    """Markdown table of one shape."""
    batch = Batch(case.tokens, case.vocab, case.hidden, getattr(torch, case.dtype), case.sequence)
    times = measure_time(batch, case.rows, case.rounds, case.budget)
    del batch
    item = 4  # a tokens x vocabulary tensor counts as float32 for every type
    unit = case.tokens * case.vocab * item
    lines = [
        f"### {case.tokens:,} tokens x {case.vocab:,}, hidden {case.hidden}, {case.dtype}, "
        f"sequences of {case.sequence}, budget {case.budget:g} MB",
        "",
        "| | CPU time / floor | CPU s | wall s | extra memory, MB | tokens x vocabulary floats |",
        "|---|---|---|---|---|---|",
    ]
    for name in ["floor", *(x for x in case.rows if x != "floor")]:
        row, _, compiled = name.partition("+")
        title = TITLES[row] + ", torch.compile" * bool(compiled)
        if "failed" in times[name]:
            lines.append(f"| {title} | {times[name]['failed']} | | | | |")
            continue
        memory = {"failed": ""}
        if case.memory and name != "floor":
            memory = fresh_process("memory", name, case)
        extra = memory.get("bytes")
        cells = [f"{times[name][key]:.2f}" for key in ("ratio", "cpu", "wall")]
        cells += [memory["failed"], ""] if extra is None else [
            f"{extra / 1e6:.0f}", f"{extra / unit:.2f}"
        ]  # fmt: skip
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


COMPILED = ["kl_div+compile", "trl_jsd_0+compile", "naive_tad+compile", "tad+compile"]
OURS = ["clm", "kl", "rkl", "tad", "dkd"]
SHAPES = [(2048, 49_152), (4096, 32_000), (2048, 151_936)]


def suite(case: argparse.Namespace) -> None:
    """All tables of the README, each in a process of its own."""
    small = ["kl_div", "trl_jsd_0", "naive_tad"]
    peers = [*small, "trl_jsd_0.5"]
    cases = [(*s, 576, "float32", SEQUENCE, 256, peers + COMPILED + OURS) for s in SHAPES[:2]]
    # Here the JSD of TRL alone would take 21 GB.
    cases += [(*SHAPES[2], 576, "float32", SMALL_SEQUENCE, 256, small + COMPILED + OURS)]
    cases += [
        (*SHAPES[2], 576, "float32", SEQUENCE, budget, ["kl", "tad"]) for budget in (256, 800)
    ]
    cases += [(*s, 576, "float32", SMALL_SEQUENCE, 64, ["kl", "tad"]) for s in SHAPES]
    wide = ["kl_div", "naive_tad", "kl", "tad"]
    cases += [(*s, 1536, "float32", SMALL_SEQUENCE, 256, wide) for s in SHAPES]
    # Half precision: peers on few tokens, because this takes them minutes on most processors.
    cases += [(64, s[1], 576, "bfloat16", 64, 256, wide) for s in SHAPES]
    cases += [(*s, 576, "bfloat16", SMALL_SEQUENCE, 256, ["kl", "tad"]) for s in SHAPES]
    cases += [(*s, 1536, "bfloat16", SMALL_SEQUENCE, 256, ["kl", "tad"]) for s in SHAPES]
    for tokens, vocab, hidden, dtype, sequence, budget, rows in cases[case.first :]:
        options = ["--tokens", tokens, "--vocab", vocab, "--hidden", hidden, "--dtype", dtype]
        options += ["--sequence", sequence, "--budget", budget, "--rounds", case.rounds]
        command = [
            sys.executable,
            __file__,
            "time",
            *map(str, options),
            "--memory",
            "--rows",
            *rows,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        print(done.stdout or f"failed: {' '.join(command[2:])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["time", "memory", "suite"])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocab", type=int, default=49_152)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--sequence", type=int, default=SEQUENCE, help="tokens of one sequence")
    parser.add_argument(
        "--budget", type=float, default=256.0, help="MB that the fused rows may use"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="suite: leave out so many tables")
    parser.add_argument("--memory", action="store_true", help="also measure memory, per row")
    parser.add_argument("--rows", nargs="+", default=["kl_div", "naive_tad", "kl", "tad"])
    case = parser.parse_args()
    torch.set_num_threads(THREADS)
    if case.command == "suite":
        suite(case)
    elif case.command == "memory":
        dtype = getattr(torch, case.dtype)
        batch = Batch(case.tokens, case.vocab, case.hidden, dtype, case.sequence)
        print(json.dumps(measure_memory(batch, case.rows[0], case.budget)))
    else:
        print(table(case))


if __name__ == "__main__":
    main()
