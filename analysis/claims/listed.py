"""The claims that are judged, the paper's in its order and some of ours, and how they are measured.

``TAD`` is the paper's K = 10, beta = 2 unless a claim says otherwise. A metric of a benchmark
(few-shot Avg) is compared within 0.4 points where the paper calls values alike: the width of its
own highlighting (caption of Table 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.claims import exact
from analysis.claims.compare import (
    LATEST,
    Statistic,
    beyond,
    chain,
    compare,
    compare_couples,
    of_one,
    over_teachers,
    throughout,
)
from analysis.claims.metrics import (
    FEWSHOT,
    FULL_ECE,
    KL,
    LOSS,
    MATH,
    MEMORY,
    RISE,
    SPEED,
    task_accuracy,
)
from analysis.tables.scores import ALIKE
from tad.experiment.config import Suite
from tad.methods import BASELINE, Method
from workflow.items import RECORDS

KD, RKL, CLM, MATCHED, MINIPLM, SFT = BASELINE, "rkl", "clm", "clm_matched", "miniplm", "sft"
TAD = "tad-k10-b2"
EVERY_K = ("tad-k1-b2", "tad-k5-b2", TAD, "tad-k20-b2")
OTHER_BETAS = ("tad-k10-b0.5", "tad-k10-b1", "tad-k10-b5", "tad-k10-b10")

NOT_NORMALISED, NO_COSINE = "tad_nonorm-k10-b2", "tad_nocosine-k10-b2"
HARD, EASY = ("openbookqa", "arc_challenge"), ("arc_easy", "storycloze")

HELDOUT = ("heldout", "table1", "table4")
FROM_SCRATCH = ("table1", "table4")
CONTROLS = ("controls", "primary", "ablations")
LOWER, HIGHER = -1, 1

PRIMARY, PAPER, OURS = "primary", "exploratory", "exploratory, ours"
"""Families of claims, each corrected for by itself: those of config/claims.yaml, the paper's, and
those of this project that the paper does not make."""


@dataclass(frozen=True)
class Claim:
    """A claim: ``section`` of the paper, the testable ``statement`` and how it is measured.

    ``needs`` names in words the runs and records that decide it.
    """

    id: str
    section: str
    statement: str
    needs: str
    statistic: Statistic
    family: str = PAPER


def _steepening(metrics: dict[str, float]) -> float:
    """Tail mass lost per doubling of K, from 10 to 20 less from 1 to 5 (shares of it)."""

    def slope(first: int, last: int) -> float:
        ratio = metrics[f"alpha_{first}"] / metrics[f"alpha_{last}"]
        return math.log(ratio) / math.log(last / first)

    return slope(10, 20) - slope(1, 5)


SECTION_2 = (
    Claim("split", "2, Eq. 2", "the split into top K and tail is exact: beta(X) = 1 gives KL",
          "none (computed)", exact.split_is_exact),
    Claim("kl-below-kd", "2, Figure 1", "TAD ends with lower held-out KL than KL itself gives",
          "heldout.json of TAD and Vanilla KD", compare(KL, HELDOUT, [TAD], [KD], LOWER)),
    Claim("kl-below-kd-throughout", "after 2, Figure 1",
          "TAD's held-out KL is lower at every evaluation of the second half of training",
          "train.jsonl of TAD and Vanilla KD", throughout(("figure1",), TAD, KD, LOWER), OURS),
    Claim("no-convergence", "2", "without normalisation over the sequence, training does not "
          "converge: held-out CLM + KL does not fall", "train.jsonl of TAD without normalisation",
          of_one(RISE, CONTROLS, NOT_NORMALISED, HIGHER)),
    Claim("normalisation-helps", "after 2", "and it ends with higher held-out KL than TAD",
          "heldout.json of both", compare(KL, CONTROLS, [NOT_NORMALISED], [TAD], HIGHER), OURS),
    Claim("mismatch-range", "2, Figure 2", "the next token is not the teacher's mode in 39% to 46%",
          "heldout.json of the paper's teachers", exact.mismatch_range),
    Claim("mismatch-size", "2, Figure 2", "larger teachers have lower mismatch rates",
          "heldout.json of the paper's teachers", exact.larger_teachers_agree_more),
    Claim("tail-decay", "3.2.4, Figure 2",
          "tail mass falls faster with K beyond 10 than below 5 (slopes in log-log)",
          "heldout.json of teachers",
          over_teachers("−d log α/d log K, 10 to 20 less 1 to 5", "", _steepening, HIGHER)),
    Claim("modes-unchanged", "2.1, App. C", "TAD leaves the gradient of top-K logits as KL has it",
          "none (autograd)", exact.modes_keep_their_gradient),
    Claim("equation-6", "2.1, Eq. 6", "Eq. 6 is the gradient of TAD for tail logits",
          "none (autograd)", exact.equation_six),
    Claim("gradient-bound", "2.1", "while the student's top-K mass is above the teacher's, tail "
          "gradients are at least beta(X) (pS − pT)", "none (autograd)", exact.lower_bound),
    Claim("gradient-stronger", "2.1", "above that mass, every tail gradient is stronger than KL's",
          "none (autograd)", exact.stronger_than_kl),
    Claim("tail-mass-rises", "2.1", "above that mass, the second term of Eq. 6 makes the "
          "student's tail mass rise",
          "none (autograd)", exact.tail_mass_rises),
    Claim("fixed-point", "2.1", "the gradient vanishes at pS = pT, as KL's does",
          "none (autograd)", exact.fixed_point),
)  # fmt: skip

FEW_SHOT = (
    Claim("avg-tad-kd", "3.2, Tables 1, 4", "TAD has a higher few-shot Avg than Vanilla KD",
          "fewshot.json of TAD and Vanilla KD",
          compare(FEWSHOT, FROM_SCRATCH, [TAD], [KD], HIGHER)),
    Claim("avg-every-k", "3.2, Tables 1, 4", "TAD has a higher Avg than Vanilla KD for every K",
          "fewshot.json of TAD over K and Vanilla KD",
          compare(FEWSHOT, FROM_SCRATCH, EVERY_K, [KD], HIGHER)),
    Claim("avg-tad-rkl", "3.2.2, Table 4", "TAD has a higher few-shot Avg than RKL",
          "fewshot.json of TAD and RKL", compare(FEWSHOT, ["table4"], [TAD], [RKL], HIGHER)),
    Claim("avg-rkl-kd", "3.2.2, Table 4", "RKL has a slightly higher few-shot Avg than Vanilla KD",
          "fewshot.json of RKL and Vanilla KD", compare(FEWSHOT, ["table4"], [RKL], [KD], HIGHER)),
    Claim("avg-kd-clm", "3.2, Tables 1, 4", "Vanilla KD has a higher few-shot Avg than CLM",
          "fewshot.json of Vanilla KD and CLM",
          compare(FEWSHOT, FROM_SCRATCH, [KD], [CLM], HIGHER)),
    Claim("avg-matched", "3.2.2, Table 4", "CLM at TAD's FLOPs stays below Vanilla KD and TAD",
          "fewshot.json of CLM (Mat.), Vanilla KD, TAD",
          compare(FEWSHOT, ["table4"], [MATCHED], [KD, TAD], LOWER)),
    Claim("avg-miniplm", "3.2.1, Table 1", "TAD has a higher few-shot Avg than MiniPLM for every K",
          "fewshot.json of TAD and MiniPLM",
          compare(FEWSHOT, ["table1"], EVERY_K, [MINIPLM], HIGHER)),
    Claim("avg-miniplm-large", "3.2.2, Table 4", "TAD has a higher few-shot Avg than MiniPLM",
          "fewshot.json of TAD and MiniPLM",
          compare(FEWSHOT, ["table4"], [TAD], [MINIPLM], HIGHER)),
    Claim("hard-tasks", "3.2.1, Table 1", "TAD is better than MiniPLM in the harder tasks "
          "(OpenBookQA, ARC-Challenge)", "fewshot.json of TAD and MiniPLM",
          compare([task_accuracy(t) for t in HARD], ["table1"], [TAD], [MINIPLM], HIGHER)),
    Claim("easy-tasks", "3.2.1, Table 1", "MiniPLM is better than TAD in the easier tasks "
          "(ARC-Easy, StoryCloze)", "fewshot.json of TAD and MiniPLM",
          compare([task_accuracy(t) for t in EASY], ["table1"], [MINIPLM], [TAD], HIGHER)),
    Claim("miniplm-kd", "3.2.2, Table 4", "MiniPLM does not outperform Vanilla KD",
          "fewshot.json of MiniPLM and Vanilla KD",
          compare(FEWSHOT, ["table4"], [MINIPLM], [KD], LOWER, margin=ALIKE)),
    Claim("k10-best", "3.2.4, Tables 1, 4", "K = 10 is within 0.4 points of the best K, or is it",
          "fewshot.json of TAD over K",
          compare(FEWSHOT, FROM_SCRATCH, [TAD], EVERY_K, HIGHER, margin=ALIKE)),
    Claim("beta2-best", "3.2.1, Table 2", "few-shot Avg peaks at beta = 2",
          "fewshot.json of TAD over beta",
          compare(FEWSHOT, ["table2"], [TAD], OTHER_BETAS, HIGHER)),
    Claim("beta-robust", "3.2.1, Table 2", "beta from 1 to 10 moves few-shot Avg by less than 0.4",
          "fewshot.json of TAD over beta",
          compare(FEWSHOT, ["table2"], OTHER_BETAS[1:], [TAD], HIGHER, within=ALIKE)),
    Claim("beta-below-1", "3.2.1, Table 2", "beta = 0.5 is worse than beta = 2",
          "fewshot.json of TAD over beta",
          compare(FEWSHOT, ["table2"], OTHER_BETAS[:1], [TAD], LOWER)),
)  # fmt: skip

HELD_OUT = (
    Claim("kl-every-k", "after 2, Figure 1", "every K ends with lower held-out KL than Vanilla KD",
          "heldout.json of TAD over K and Vanilla KD",
          compare(KL, HELDOUT, EVERY_K, [KD], LOWER), OURS),
    Claim("kl-tad-rkl", "after 3.2.2", "TAD ends with lower held-out KL than RKL",
          "heldout.json of TAD and RKL", compare(KL, HELDOUT, [TAD], [RKL], LOWER), OURS),
    Claim("kl-kd-clm", "after 3.2", "Vanilla KD ends with lower held-out KL than CLM",
          "heldout.json of Vanilla KD and CLM", compare(KL, HELDOUT, [KD], [CLM], LOWER), OURS),
    Claim("cosine-both", "3.2.2", "the cosine term lowers the held-out KL of Vanilla KD and of TAD "
          "(the paper: improves both)", "heldout.json with the term and without",
          compare_couples(KL, CONTROLS, [(KD, "vanilla_kd_nocosine"), (TAD, NO_COSINE)], LOWER)),
    Claim("cosine-rkl", "after 3.2.2", "and that of RKL", "heldout.json with the term and without",
          compare(KL, CONTROLS, [RKL], ["rkl_nocosine"], LOWER), OURS),
    Claim("loss-tad", "after 3.2.2, Table 5", "TAD has a lower CLM + KL than Vanilla KD and "
          "RKL at the largest budget", "train.jsonl of the three",
          compare(LOSS, ("table4", "heldout"), [TAD], [KD, RKL], LOWER), OURS),
    Claim("scaling-x5", "3.2.2, Table 5", "TAD's loss is below Vanilla KD's at ×5 the tokens",
          "heldout.json of the runs of Table 5", beyond(TAD, KD, 5)),
    Claim("scaling-x500", "3.2.2, Table 5", "and so it is at ×500 (1T tokens in the paper)",
          "heldout.json of the runs of Table 5", beyond(TAD, KD, 500)),
    Claim("scaling-rkl-x500", "3.2.2, Table 5", "TAD's extrapolated loss is below RKL's at ×500",
          "heldout.json of the runs of Table 5", beyond(TAD, RKL, 500)),
)  # fmt: skip

CALIBRATION = (
    Claim("ece-tad-kd", "3.2.3, Table 4", "TAD has a lower Full-ECE than Vanilla KD",
          "calibration.json of TAD and Vanilla KD",
          compare(FULL_ECE, ["table4"], EVERY_K, [KD], LOWER)),
    Claim("ece-k", "3.2.3, Table 4", "Full-ECE grows with K",
          "calibration.json of TAD over K", chain(FULL_ECE, ["table4"], EVERY_K, HIGHER)),
    Claim("ece-rkl", "3.2.3, Table 4", "RKL has the highest Full-ECE of all",
          "calibration.json of all methods",
          compare(FULL_ECE, ["table4"], [RKL], [CLM, MATCHED, KD, *EVERY_K], HIGHER)),
)  # fmt: skip

CHECKPOINTS = (
    Claim("continued-tad-2t", "3.3, Table 6", "TAD from the 1T checkpoint beats the 2T checkpoint",
          "fewshot.json of TAD (continued) and of the 2T checkpoint",
          compare(FEWSHOT, ["table6"], EVERY_K, [LATEST], HIGHER)),
    Claim("continued-tad-kd", "3.3, Table 6", "TAD beats Vanilla KD in continued training",
          "fewshot.json of TAD and Vanilla KD (continued)",
          compare(FEWSHOT, ["table6"], EVERY_K, [KD], HIGHER)),
    Claim("math-tad-kd", "3.3.1, Table 7", "TAD beats Vanilla KD on mathematics",
          "math.json of TAD and Vanilla KD", compare(MATH, ["table7"], EVERY_K, [KD], HIGHER)),
    Claim("math-miniplm", "3.3.1, Table 7", "MiniPLM is worse than CLM on mathematics",
          "math.json of MiniPLM and CLM", compare(MATH, ["table7"], [MINIPLM], [CLM], LOWER)),
    Claim("math-supervised", "3.4, Table 8", "TAD beats Vanilla KD after supervised distillation",
          "math.json of TAD and Vanilla KD (supervised)",
          compare(MATH, ["table8"], EVERY_K, [KD], HIGHER)),
    Claim("math-sft", "3.4, Table 8", "distillation beats CLM + SFT alone",
          "math.json of Vanilla KD, TAD and CLM + SFT (supervised)",
          compare(MATH, ["table8"], [KD, *EVERY_K], [SFT], HIGHER)),
)  # fmt: skip

COSTS = (
    Claim("flops-same", "Abstract, 3.2.1, Table 3", "TAD has the FLOPs of Vanilla KD, within 1%",
          "none (counted, the paper's models)", exact.same_flops),
    Claim("speed-same", "Abstract", "TAD trains as fast as Vanilla KD, within 10%",
          "train.jsonl of TAD and Vanilla KD (wall clock: as steady as the machine was)",
          compare(SPEED, ("heldout", "figure1"), [TAD], [KD], HIGHER, within=10)),
    Claim("memory-same", "Abstract", "a step of TAD allocates the memory of one of Vanilla KD, "
          "within 10%", "manifest.json of TAD and Vanilla KD",
          compare(MEMORY, ("heldout", "figure1"), [TAD], [KD], HIGHER, within=10)),
    Claim("flops-miniplm", "3.2.1, Table 3", "MiniPLM needs 33% to 50% more FLOPs than Vanilla KD",
          "none (counted, the paper's models)", exact.miniplm_overhead),
    Claim("flops-miniplm-large", "3.2.2", "and 50% to 67% more with the larger teachers",
          "none (counted, the paper's models)", exact.miniplm_overhead_large),
    Claim("flops-order", "3.2.1, Table 3", "TAD < MiniPLM < MiniLLM < Seq-KD in FLOPs",
          "none (counted, the paper's models)", exact.generation_is_dearest),
    Claim("flops-1e19", "3.2.2", "TAD and Vanilla KD exceed 1e19 FLOPs a billion tokens "
          "(3B teachers and up)", "none (counted, the paper's models)", exact.exceeds_1e19),
    Claim("one-week", "1, App. A", "the token budgets are what a week of the GPUs computes",
          "none (counted, the paper's models)", exact.week_of_one_gpu),
    Claim("sizes", "App. A, Table 9", "each printed size is a count of the printed shape",
          "none (counted, the paper's models)", exact.printed_sizes),
    Claim("active", "3.2.1, App. A", "students have about 1B active (non-embedding) parameters, "
          "the 0.5B one 475M", "none (counted, the paper's models)", exact.active_is_non_embedding),
)  # fmt: skip

CLAIMS: tuple[Claim, ...] = (
    *SECTION_2, *FEW_SHOT, *HELD_OUT, *CALIBRATION, *CHECKPOINTS, *COSTS,
)  # fmt: skip


def own_claims(suite: Suite) -> tuple[Claim, ...]:
    """For each method that a configuration adds, whether it ends with lower held-out KL than KL
    itself gives: not of the paper."""
    methods = dict.fromkeys(m for item in suite.items.values() for m in item.methods)
    items = [name for name, kinds in RECORDS.items() if KL.record in kinds]
    return tuple(
        Claim(f"own-{method}", "not of the paper",
              f"{Method.parse(method).label} ends with lower held-out KL than Vanilla KD",
              f"heldout.json of {method} and {KD}", compare(KL, items, [method], [KD], LOWER),
              OURS)
        for method in methods
        if Method.parse(method).row.custom and method in suite.select.methods
    )  # fmt: skip
