"""Claims that no run decides: gradients, FLOPs, parameter accounts, and the paper's own teachers.

Each function is a statistic as in ``evidence``, of the claim that ``listed`` gives to it. What it
finds is computed, so it has neither interval nor p-value: it holds or it does not, or that hangs on
a choice of ours, where the paper is silent; then it is tried under each, and the remark says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

import numpy as np
import pandas as pd

from analysis.claims.compare import teacher_metrics
from analysis.claims.evidence import Evidence
from analysis.claims.metrics import NotTestable
from analysis.claims.statistics import ALL, CONTRADICTED, DEPENDS, SUPPORTED, Finding
from analysis.figures.gradients import gradients, teacher_probabilities
from analysis.reported.audit import BF16_PEAK, WEEK_HOURS
from analysis.reported.values import quantities, quantity
from analysis.results import pair_name, paper_pairs, paper_suite
from analysis.tables.table9 import table9_frame
from tad.experiment.flops import EXECUTED, PAPER, Assumptions, pair_account, petaflops
from tad.methods import BASELINE

ROUNDING = 1e-9
"""Differences of gradients in float64 below this are rounding."""

BILLION = 1e9


def _exact(what: str, effect: float, unit: str, holds: bool, *remarks: str) -> list[Finding]:
    shown = {"what": what, "effect": effect, "unit": unit, "remarks": remarks}
    outcome = SUPPORTED if holds else CONTRADICTED
    return [Finding(scope=ALL, outcome=outcome, kind="", **shown)]


def _read(
    what: str, effect: float, unit: str, readings: Mapping[str, bool], *remarks: str
) -> list[Finding]:
    """What holds or does not by how it is read; ``readings`` says under which it does.

    ``effect`` is that of the first, ours.
    """
    sides = {
        word: "; ".join(name for name, holds in readings.items() if holds == met)
        for word, met in (("holds", True), ("does not hold", False))
    }
    told = [f"{word} if read as: {names}" for word, names in sides.items() if names]
    met = set(readings.values())
    outcome = DEPENDS if len(met) == 2 else SUPPORTED if True in met else CONTRADICTED
    shown = {"what": what, "effect": effect, "unit": unit, "remarks": (*remarks, *told)}
    return [Finding(scope=ALL, outcome=outcome, kind="", **shown)]


# --- Section 2 and 2.1, from autograd ------------------------------------------------------------


MASSES = (0.6, 0.7, 0.8, 0.9, 0.99)
"""Top-K masses of students; the teacher's is ``analysis.figures.gradients.TEACHER_MASS``, 0.8."""

K, BETA = 10, 2.0


def _gradients(mass: float) -> dict[str, np.ndarray]:
    """Teacher, student, and the gradients ``kl`` and ``tad`` of its logits, (V,) each."""
    found = gradients([mass], K, BETA)
    return {name: values.reshape(-1) for name, values in found.items()}


def split_is_exact(evidence: Evidence) -> list[Finding]:
    import torch

    from tad.divergences import forward_kl, tail_aware

    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 64, 1, 1, 500, generator=generator, dtype=torch.float64) * 3
    gap = 0.0
    for k in (1, 5, 10, 20):
        top = teacher.softmax(-1).topk(k).values.sum(-1)
        for at in range(len(teacher)):
            # One token a sequence: this beta makes beta(X) 1.
            tad = tail_aware(student[at], teacher[at], k=k, beta=float(1 - top[at]))
            gap = max(gap, float((tad - forward_kl(student[at], teacher[at])).abs().max()))
    # The divergences are returned in float32.
    return _exact("largest gap, 64 random tokens, 4 values of K", gap, "nats", gap < 1e-5)


def modes_keep_their_gradient(evidence: Evidence) -> list[Finding]:
    gap = max(float(np.abs(g["tad"] - g["kl"])[:K].max()) for g in map(_gradients, MASSES))
    return _exact("largest change of a top-K gradient", gap, "nats/logit", gap < ROUNDING)


def equation_six(evidence: Evidence) -> list[Finding]:
    gap = 0.0
    for g in map(_gradients, MASSES):
        student, teacher = g["student"][K:], g["teacher"][K:]
        second = student * (teacher.sum() / student.sum()) - teacher
        printed = student - teacher + (BETA / teacher.sum() - 1) * second
        gap = max(gap, float(np.abs(g["tad"][K:] - printed).max()))
    return _exact("largest gap to autograd", gap, "nats/logit", gap < ROUNDING)


def fixed_point(evidence: Evidence) -> list[Finding]:
    import torch

    from tad.divergences import tail_aware

    target = torch.tensor(np.log(teacher_probabilities(K)))[None, None]
    logits = target.clone().requires_grad_()
    tail_aware(logits, target, k=K, beta=BETA).sum().backward()
    gap = float(logits.grad.abs().max())
    return _exact("largest gradient there", gap, "nats/logit", gap < ROUNDING)


def lower_bound(evidence: Evidence) -> list[Finding]:
    slack = np.inf
    for g in map(_gradients, MASSES[2:]):
        student, teacher = g["student"][K:], g["teacher"][K:]
        bound = BETA / teacher.sum() * (student - teacher)
        slack = min(slack, float((g["tad"][K:] - bound).min()))
    return _exact("smallest margin over the bound", slack, "nats/logit", slack > -ROUNDING)


def stronger_than_kl(evidence: Evidence) -> list[Finding]:
    g = _gradients(MASSES[-1])
    ratio = g["tad"][K:] / g["kl"][K:]
    remark = (
        "the bound is negative, so meeting it does not make a gradient stronger: with the "
        "teacher's shares of the tail the two gradients are equal, with too large a share TAD's "
        "turns round"
    )
    holds = bool((ratio > 1 + ROUNDING).all())
    return _exact("smallest TAD / KL of a tail token", float(ratio.min()), "×", holds, remark)


def tail_mass_rises(evidence: Evidence) -> list[Finding]:
    """The tail mass a changes by p_i (1 - a) with a tail logit and by -p_i a with a top-K one,
    which gives its rate under a step down either gradient on the logits."""
    extra, total = [], 0.0
    for g in map(_gradients, MASSES[3:]):
        student, alpha = g["student"], g["student"][K:].sum()
        slope = student * np.where(np.arange(len(student)) < K, -alpha, 1 - alpha)
        extra.append(float(100 * (slope @ g["tad"] / (slope @ g["kl"]) - 1)))
        total = max(total, abs(float((g["tad"] - g["kl"])[K:].sum())))
    remark = (
        f"over the tail the second term of Eq. 6 sums to zero (here to {total:.0e}), and where the "
        "student shares its tail out as the teacher does it is zero token by token, whatever "
        "their masses: it corrects shares within the tail, and does not lift the tail"
    )
    worst = min(extra)
    return _exact("rise of tail mass, TAD over KL, smallest", worst, "%", worst > 1e-6, remark)


# --- Costs and sizes, of the paper's own models --------------------------------------------------


def _petaflops(pair: str, method: str) -> float:
    return petaflops(paper_suite(), pair, method)


def same_flops(evidence: Evidence) -> list[Finding]:
    gaps = []
    for pair in paper_pairs("figure1"):
        account = pair_account(paper_suite(), pair)
        context = paper_suite().stages["scratch"].context
        costs = [account.cost(method, context=context) for method in ("tad", BASELINE)]
        ours, theirs = (cost.total + cost.loss for cost in costs)
        gaps.append(100 * (ours / theirs - 1))
    worst = max(gaps, key=abs)
    return _exact("TAD over Vanilla KD, FLOPs, largest of 5 pairs", worst, "%", abs(worst) < 1)


def _overheads(
    pairs: Sequence[str], low: Mapping[str, float], high: Mapping[str, float]
) -> list[Finding]:
    """MiniPLM's FLOPs over Vanilla KD's, in percent, between two bounds for each pair.

    The paper says neither what it counts nor how it rounds: both are tried.
    """
    readings, shown = {}, {}
    for name, conventions in (("as in Table 3", PAPER), ("as executed here", EXECUTED)):
        percent = {}
        for pair in pairs:
            ours, base = (
                petaflops(paper_suite(), pair, m, conventions) for m in ("miniplm", BASELINE)
            )
            percent[pair] = 100 * (ours / base - 1)
        shown[name] = percent
        for rounding, slack in (("to the percent", 0.5), ("within 5% of the ratio", None)):
            readings[f"counted {name}, {rounding}"] = all(
                low[p] - (slack or 0.05 * (100 + low[p]))
                <= x
                <= high[p] + (slack or 0.05 * (100 + high[p]))
                for p, x in percent.items()
            )
    remarks = [
        f"{name}: " + ", ".join(f"{pair_name(p).split()[-1]} {x:.0f}%" for p, x in percent.items())
        for name, percent in shown.items()
    ]
    mean = float(np.mean([*shown["as in Table 3"].values()]))
    return _read("MiniPLM over Vanilla KD, mean", mean, "%", readings, *remarks)


def miniplm_overhead(evidence: Evidence) -> list[Finding]:
    pairs = paper_pairs("table1")
    return _overheads(pairs, dict.fromkeys(pairs, 33), dict.fromkeys(pairs, 50))


def miniplm_overhead_large(evidence: Evidence) -> list[Finding]:
    said = quantities("miniplm_overhead")
    return _overheads(paper_pairs("table4"), said, said)


SEQ_KD_BEAMS = (1, 5)
"""One sample for each prompt, or the beam of Kim and Rush (2016)."""

MINILLM_EPOCHS = (4, 1)
"""Passes over what the student writes: those of Gu et al. (2024), or one, as here."""


def generation_is_dearest(evidence: Evidence) -> list[Finding]:
    order = ("tad", "miniplm", "minillm", "seq_kd")
    suite, readings, ratios = paper_suite(), {}, []
    context = suite.stages["scratch"].context
    for beam, epochs in product(SEQ_KD_BEAMS, MINILLM_EPOCHS):
        held = []
        for pair in paper_pairs("table1"):
            told = Assumptions(minillm_epochs=epochs)
            found = [
                pair_account(suite, pair).cost(m, context=context, assumptions=told) for m in order
            ]
            costs = [cost.total for cost in found]
            costs[-1] += (beam - 1) * found[-1].generation
            held.append(costs == sorted(costs))
            ratios.append(costs[-1] / costs[1])
        sample = "one sample" if beam == 1 else f"a beam of {beam}"
        passes = f"{epochs} pass{'es' if epochs > 1 else ''} of MiniLLM over its text"
        readings[f"{sample} of Seq-KD and {passes}"] = all(held)
    remark = (
        "decoding with cached keys and values costs a forward pass a token; the printed figures "
        "would be 12 to 17 teacher passes a token"
    )
    smallest = min(ratios[: len(paper_pairs("table1"))])
    return _read("Seq-KD over MiniPLM, FLOPs, one sample", smallest, "×", readings, remark)


def exceeds_1e19(evidence: Evidence) -> list[Finding]:
    pairs = paper_pairs("table4")
    least = 1e18 * min(_petaflops(pair, m) for pair in pairs for m in (BASELINE, "tad"))
    return _exact("smallest of three pairs", least, "FLOPs / 1B tokens", least > 1e19)


def week_of_one_gpu(evidence: Evidence) -> list[Finding]:
    use = [
        100 * _petaflops(pair, "tad") * 1e9 * paper_suite().pairs[pair].tokens["scratch"]
        / (paper_suite().pairs[pair].printed_gpus * WEEK_HOURS * 3600 * BF16_PEAK)
        for pair in paper_pairs("figure1")
    ]  # fmt: skip
    readings = {
        "a week at 20% of the peak or more": max(use) >= 20,
        "what fits into a week": max(use) <= 100,
    }
    remark = "the paper gives no speed, and none is measured here"
    return _read("largest share of peak", max(use), "% of dense bf16", readings, remark)


@cache
def _all_sizes() -> pd.DataFrame:
    return table9_frame(paper_suite())


def _sizes() -> pd.DataFrame:
    frame = _all_sizes()
    return frame[frame["reading"] == ""].set_index("pair")


def printed_sizes(evidence: Evidence) -> list[Finding]:
    frame = _all_sizes()
    misses = [pair for pair, fits in _sizes()["fits"].items() if not fits]
    readings = {"each student as built here (the teacher's key/value heads)": not misses}
    for pair in misses:
        other = frame[(frame["pair"] == pair) & (frame["reading"] != "")]
        for reading, fits in zip(other["reading"], other["fits"], strict=True):
            readings[f"the same with {reading} in {pair_name(pair)}"] = bool(fits)
    counted = {pair_name(p): fits for p, fits in _sizes()["fits"].items() if fits}
    remarks = [
        "what is counted differs: "
        + ", ".join(f"{p} {c.replace('_', ' ')}" for p, c in counted.items()),
        *(f"no count rounds to the printed size of {pair_name(pair)} as built" for pair in misses),
    ]
    return _read("students without such a count", len(misses), f"of {len(_sizes())}", readings,
                 *remarks)  # fmt: skip


def active_is_non_embedding(evidence: Evidence) -> list[Finding]:
    claimed = dict.fromkeys(_sizes().index, quantity("active_all")) | quantities("active")
    gaps = {p: 100 * (_sizes().loc[p, "non_embedding"] / a - 1) for p, a in claimed.items()}
    worst = max(gaps.values(), key=abs)
    shown = ", ".join(f"{pair} {gap:+.0f}%" for pair, gap in gaps.items())
    return _exact("non-embedding over claimed, largest gap", worst, "%", abs(worst) <= 20,
                  f"{shown}; taken as met within 20%, and not met for any tolerance below "
                  f"{abs(worst):.0f}%")  # fmt: skip


# --- The paper's own teachers --------------------------------------------------------------------


def _own_teachers(evidence: Evidence) -> dict[str, dict[str, float]]:
    if not evidence.suite.is_paper:
        raise NotTestable("a statement about the paper's own teachers")
    return teacher_metrics(evidence)


def mismatch_range(evidence: Evidence) -> list[Finding]:
    percent = [100 * metrics["mismatch"] for metrics in _own_teachers(evidence).values()]
    low, high = quantity("fig2_mismatch_min") - 0.5, quantity("fig2_mismatch_max") + 0.5
    holds = all(low <= value <= high for value in percent)
    remark = f"{min(percent):.1f}% to {max(percent):.1f}% over {len(percent)} teachers"
    return _exact("mean mismatch", float(np.mean(percent)), "%", holds, remark)


def larger_teachers_agree_more(evidence: Evidence) -> list[Finding]:
    metrics = _own_teachers(evidence)
    sizes = {
        evidence.suite.pairs[pair].teacher: pair_account(evidence.suite, pair).teacher.linear
        for pair in paper_pairs("figure1")
        if evidence.suite.pairs[pair].teacher in metrics
    }
    percent = [100 * metrics[teacher]["mismatch"] for teacher in sorted(sizes, key=sizes.get)]
    holds = percent == sorted(percent, reverse=True)
    return _exact("largest minus smallest teacher", percent[-1] - percent[0], "points", holds)
