"""The paper's claims, judged by the records below a root.

    tad claims --root work/mini

Writes ``{root}/tables/claims.{csv,md,html,tex}``, one row a claim, ``claims_by_pair.*``, the same
for each pair on its own, and ``{root}/figures/forest_*``. config/claims.yaml states the primary
claims, ``listed`` the others and how they are measured, ``statistics`` how a verdict is reached. A
record that this scale does not make leaves a claim "not testable at this scale"; one that it makes
and that is missing is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.claims import forest, words
from analysis.claims.design import design_hash, load_design, primary_claims
from analysis.claims.evidence import Evidence
from analysis.claims.listed import CLAIMS, OURS, PAPER, PRIMARY, Claim, own_claims
from analysis.claims.metrics import NotTestable
from analysis.claims.statistics import (
    ALL,
    CONTRADICTED,
    DEPENDS,
    HERE,
    LEVEL,
    MIN_SEEDS,
    NOT_TESTABLE,
    ONE_RUN,
    SAME,
    SUPPORTED,
    UNDECIDED,
    Finding,
    benjamini_hochberg,
    holm,
    verdict,
)
from analysis.provenance import alert
from analysis.resampled import DRAWS
from analysis.results import draw_command
from analysis.writing.render import Table, blocks
from tad.experiment.config import Suite

VERDICTS = (SUPPORTED, CONTRADICTED, SAME, *HERE.values(), UNDECIDED, DEPENDS, NOT_TESTABLE)
ASIDE = (
    "Family",
    "Where",
    "In words",
    "Pair by pair",
    "Statistic",
    "Margin",
    "p, same",
    "Interval over",
)
"""Columns that a printed page has no room for."""

ON_ONE_RUN = (
    "On these items, one run: there is one seed, so the interval and p are of a bootstrap over the "
    "items of the benchmark, the documents of the held-out text, or (Full-ECE) its sequences, the "
    f"same for both methods ({DRAWS:,} resamples, percentile and basic interval together), "
    "corrected apart. They say whether these two students differ on text like this. What another "
    "seed would give they do not say: a method may be ahead here by the luck of its run, and a "
    f"claim about methods takes {MIN_SEEDS} seeds. Where a record holds one number a run, there is "
    "nothing to resample."
)

FAMILIES = {PRIMARY: holm, PAPER: benjamini_hochberg, OURS: benjamini_hochberg}
"""How each family of claims is corrected for their number."""


class Judged(NamedTuple):
    """A claim in one scope with its verdict.

    ``adjusted`` and ``adjusted_same`` are p-values after correction for the ``tested`` claims of
    its family, NaN for none; the second is of "no difference beyond the margin".
    """

    claim: Claim
    finding: Finding
    adjusted: float
    adjusted_same: float
    tested: int
    verdict: str


def judge(
    suite: Suite, root: Path, claims: Sequence[Claim] | None = None
) -> tuple[list[Judged], list[Judged]]:
    """All claims over the mean of the pairs, and those of several pairs pair by pair.

    Each family of claims is corrected for by itself, and so is its breakdown by pairs, which is
    exploratory whatever the family; what rests on one run is corrected apart from what rests on
    seeds. Raises UserError for a record that is missing or broken.
    """
    evidence = Evidence(suite, Path(root))
    if claims is None:
        claims = (*primary_claims(load_design(), suite), *CLAIMS, *own_claims(suite))
    found = [(claim, finding) for claim in claims for finding in _findings(claim, evidence)]
    whole, parts = [], []
    for family, correct in FAMILIES.items():
        members = [entry for entry in found if entry[0].family == family]
        whole += _family([entry for entry in members if entry[1].scope == ALL], correct)
        by_pair = [entry for entry in members if entry[1].scope != ALL]
        parts += _family(by_pair, benjamini_hochberg)
    return whole, parts


def _findings(claim: Claim, evidence: Evidence) -> list[Finding]:
    try:
        return claim.statistic(evidence)
    except NotTestable as reason:
        return [Finding(scope=ALL, reason=str(reason))]


def _family(
    found: Sequence[tuple[Claim, Finding]], correct: Callable[[list[float]], list[float]]
) -> list[Judged]:
    adjusted, same, tested = ({} for _ in range(3))
    for one_run in (False, True):
        group = [at for at, (_, each) in enumerate(found) if each.one_run == one_run]
        corrected = correct([found[at][1].p for at in group])
        adjusted |= zip(group, corrected, strict=True)
        same |= zip(group, correct([found[at][1].p_same for at in group]), strict=True)
        tested |= dict.fromkeys(group, sum(not math.isnan(p) for p in corrected))
    return [
        Judged(*each, adjusted[at], same[at], tested[at], verdict(each[1], adjusted[at], same[at]))
        for at, each in enumerate(found)
    ]


def frame(judged: Sequence[Judged], by_pair: Sequence[Judged] = ()) -> pd.DataFrame:
    """One row a claim and scope; ``by_pair`` are verdicts to stand beside those of the mean.

    Columns: family, id, section, claim, needs, scope, statistic, effect, unit, low, high (95%),
    margin, p (two sides), p_adjusted, p_same (of no difference beyond the margin),
    p_same_adjusted, tested (claims that the correction is for), replicates, of (what the interval
    is over), verdict, pairs, remarks, design (sha256 of config/claims.yaml, of primary claims).
    """
    pairs: dict[str, list[Judged]] = {}
    for entry in by_pair:
        pairs.setdefault(entry.claim.id, []).append(entry)
    return pd.DataFrame([_row(entry, pairs.get(entry.claim.id, [])) for entry in judged])


def _row(entry: Judged, pairs: Sequence[Judged]) -> dict[str, object]:
    claim, found = entry.claim, entry.finding
    remarks = [*filter(None, [found.reason]), *found.remarks]
    remarks += words.against_margin(found, entry.verdict, entry.adjusted, entry.tested)
    remarks += words.correction(found, entry.adjusted, entry.verdict, entry.tested)
    remarks += words.disagreement(found, entry.verdict, [(p.finding, p.verdict) for p in pairs])
    beside = [" ".join([p.finding.scope, *words.shown(p.finding), p.verdict]) for p in pairs]
    primary = claim.family == PRIMARY
    return (
        {"family": claim.family, "id": claim.id, "section": claim.section}
        | {"claim": claim.statement, "needs": claim.needs}
        | {"scope": found.scope, "statistic": found.what}
        | {key: getattr(found, key) for key in ("effect", "unit", "low", "high", "margin", "p")}
        | {"p_adjusted": entry.adjusted, "p_same": found.p_same}
        | {"p_same_adjusted": entry.adjusted_same, "tested": entry.tested}
        | {"replicates": found.replicates, "of": "exact" if found.outcome else found.kind}
        | {"verdict": entry.verdict, "pairs": "; ".join(beside), "remarks": "; ".join(remarks)}
        | {"design": design_hash() if primary else ""}
        | {"_effect": words.shown(found)[0], "_interval": words.shown(found)[1]}
    )


def claims_table(suite: Suite, numbers: pd.DataFrame, *, by_pair: bool = False) -> Table:
    """The verdicts to read, one row a claim, or one a claim and pair."""
    shown = ["scope"] if by_pair else ["section", "claim"]
    rows = []
    previous = {"id": None, "family": None}
    for row in numbers.to_dict("records"):
        named = [row[key] if row[key] != previous[key] else "" for key in ("family", "id")]
        beside = [] if by_pair else [row["pairs"]]
        cells = [*named, *(row[key] for key in shown), row["verdict"], row["remarks"], *beside]
        rows.append([*cells, *_numbers(row)])
        previous = row
    counts, column = Counter(numbers["verdict"]), 2 + len(shown)
    title = f"Claims of the paper, judged at scale {suite.scale}"
    first = [f"{len(numbers)} claims: {_count(counts)}."]
    if by_pair:
        title = f"Claims pair by pair, scale {suite.scale}"
        first = ["Exploratory, whatever the family: corrected as one (Benjamini-Hochberg) in each."]
    decided = [at for at, row in enumerate(rows) if row[column] in (SUPPORTED, CONTRADICTED, SAME)]
    header = ["Family", "Claim", *(["Pair"] if by_pair else ["Where", "Statement"]), "Verdict"]
    header += ["In words", *([] if by_pair else ["Pair by pair"]), "Statistic"]
    header += ["Effect", "95% interval", "Margin", "p", "p, same", "Interval over"]
    key = "id" if by_pair else "family"
    return Table(
        title=title,
        header=header,
        rows=rows,
        notes=[*first, *_notes(suite, numbers)],
        left=len(header) - 6,
        bold=frozenset((at, column) for at in decided),
        blocks=blocks(numbers[key].tolist()),
        aside=ASIDE,
    )


def _count(counts: Counter) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])


def _numbers(row: dict) -> list[str]:
    """Statistic, effect, interval, margin, both p-values, what the interval is over."""
    margin = "" if math.isnan(row["margin"]) else f"{row['margin']:g}"
    over = f"{row['replicates']:,} {row['of']}" if row["replicates"] else ""
    if over and math.isnan(row["low"]):
        over = f"none ({over.removesuffix('s') if row['replicates'] == 1 else over})"
    return [
        row["statistic"],
        row["_effect"],
        row["_interval"],
        margin,
        words.p_value(row["p_adjusted"]),
        words.p_value(row["p_same_adjusted"]),
        row["of"] if row["of"] == "exact" else over,
    ]


def _notes(suite: Suite, numbers: pd.DataFrame) -> list[str]:
    one_run = numbers["of"].str.endswith(ONE_RUN)
    parts = []
    for told, rows in (("", numbers[~one_run]), (" on one run", numbers[one_run])):
        of = rows.groupby("family")["tested"].max()
        parts += [f"{name}{told} {of[name]}" for name in FAMILIES if name in of]
    tested = ", ".join(parts)
    notes = [
        f"Scale {suite.scale}. Verdicts are about the runs of this scale; where it is not the "
        "paper's, models, data and benchmarks are analogues, and a verdict speaks for the "
        'direction alone. "After" a section: a claim of ours that the paper does not make there.',
        f"Primary: the claims of config/claims.yaml (sha256 {design_hash()}), written down with "
        'their margins before the runs. p is two-sided and "p, same" that of two one-sided tests '
        "of no difference beyond the margin; each of the two is corrected by Holm over the primary "
        "claims alone. Where both are significant, the difference is there and smaller than the "
        'margin: the verdict is then "no difference beyond the margin". All other claims are '
        "exploratory, corrected by Benjamini and Hochberg within their family: of what is marked "
        f"supported or contradicted there, at most {100 * LEVEL:.0f}% is expected to be false. "
        f"Claims tested: {tested}.",
        "Differences are paired over seeds (same teacher, data and initialisation), and over items "
        "in benchmarks; the effect is the mean over pairs (log ratios for percent), with t "
        "intervals from the variance between seeds (Welch and Satterthwaite), pairs and the seeds "
        "of one teacher taken as independent, and, in benchmarks, between items. Held-out metrics "
        "of a seed are on the same text, whose sampling error the intervals do not hold.",
        "A claim of several parts is shown by its weakest: supported only if all parts are, "
        "contradicted if one is. Intervals are at 95% each, not corrected; a verdict takes a "
        f"corrected p below {LEVEL} and at least {MIN_SEEDS} seeds. Exact: computed, not sampled. "
        "Depends on our reading: the paper leaves open what decides, and it holds under one choice "
        "and not under another.",
    ]
    return [*notes, ON_ONE_RUN] if one_run.any() else notes


def write(suite: Suite, root: Path) -> None:
    """Write tables and forest plots of a root. Raises UserError for a bad record."""
    whole, parts = judge(suite, root)
    told = alert(suite, root)
    for name, numbers in (
        ("claims", frame(whole, parts)),
        ("claims_by_pair", frame(parts) if parts else frame(whole).iloc[:0]),
    ):
        table = replace(claims_table(suite, numbers, by_pair=name != "claims"), alert=told)
        csv = numbers[[column for column in numbers if not column.startswith("_")]]
        table.write(root / "tables", name, csv)
    forest.draw(frame(whole), root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when the tables are written, 2 for bad input."""
    return draw_command("claims", __doc__, arguments, write)
