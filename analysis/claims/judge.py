"""The paper's claims, judged by the records below a root.

    tad claims --root work/mini

Writes ``{root}/tables/claims.{csv,md,html,tex}``, one row a claim, and ``claims_by_pair.*``, the
same for each pair on its own. ``listed`` says what is claimed and how it is measured,
``statistics`` how a verdict is reached. A record that this scale does not make leaves a claim "not
testable at this scale"; one that it makes and that is missing is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.claims.evidence import Evidence, NotTestable
from analysis.claims.listed import CLAIMS, Claim, own_claims
from analysis.claims.statistics import (
    ALL,
    CONTRADICTED,
    INCONCLUSIVE,
    LEVEL,
    MIN_SEEDS,
    NOT_TESTABLE,
    SUPPORTED,
    Finding,
    holm,
    verdict,
)
from analysis.results import draw_command
from analysis.tables.render import Table, blocks
from tad.experiment.config import Suite

VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_TESTABLE)


class Judged(NamedTuple):
    """A claim in one scope with its verdict; ``adjusted`` is Holm's p-value, NaN for none."""

    claim: Claim
    finding: Finding
    adjusted: float
    verdict: str


def judge(
    suite: Suite, root: Path, claims: Sequence[Claim] | None = None
) -> tuple[list[Judged], list[Judged]]:
    """All claims over the mean of the pairs, and pair by pair.

    The claims of the paper are one family of tests, those of ours another, and so are their
    breakdowns by pairs. Raises UserError for a record that is missing or broken.
    """
    evidence = Evidence(suite, Path(root))
    claims = (*CLAIMS, *own_claims(suite)) if claims is None else claims
    found = [(claim, finding) for claim in claims for finding in _findings(claim, evidence)]

    def family(whole: bool, ours: bool) -> list[Judged]:
        return _family([f for f in found if f[0].ours == ours and (f[1].scope == ALL) == whole])

    whole, parts = ([*family(w, False), *family(w, True)] for w in (True, False))
    return whole, parts


def _findings(claim: Claim, evidence: Evidence) -> list[Finding]:
    try:
        return claim.statistic(evidence)
    except NotTestable as reason:
        return [Finding(scope=ALL, reason=str(reason))]


def _family(found: Sequence[tuple[Claim, Finding]]) -> list[Judged]:
    adjusted = holm([finding.p for _, finding in found])
    return [
        Judged(claim, finding, p, verdict(finding, p))
        for (claim, finding), p in zip(found, adjusted, strict=True)
    ]


def frame(judged: Sequence[Judged]) -> pd.DataFrame:
    """One row a claim and scope.

    Columns: id, section, claim, needs, scope, statistic, effect, unit, low, high (95%), p (two
    sides), p_holm, replicates, of, verdict, remarks.
    """
    rows = []
    for claim, found, adjusted, judgement in judged:
        rows.append(
            {"id": claim.id, "section": claim.section, "claim": claim.statement}
            | {"needs": claim.needs, "scope": found.scope, "statistic": found.what}
            | {key: getattr(found, key) for key in ("effect", "unit", "low", "high", "p")}
            | {"p_holm": adjusted, "replicates": found.replicates}
            | {"of": found.kind if found.holds is None else "exact", "verdict": judgement}
            | {"remarks": "; ".join([*filter(None, [found.reason]), *found.remarks])}
        )
    return pd.DataFrame(rows)


def claims_table(suite: Suite, numbers: pd.DataFrame, *, by_pair: bool = False) -> Table:
    """The verdicts to read, one row a claim, or one a claim and pair."""
    shown, rows, last = ["scope"] if by_pair else ["section", "claim"], [], None
    for row in numbers.to_dict("records"):
        name = "" if by_pair and row["id"] == last else row["id"]
        rows.append([name, *(row[key] for key in shown), row["verdict"], *_cells(row)])
        last = row["id"]
    counts, column = Counter(numbers["verdict"]), 1 + len(shown)
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS)
    first = f"{len(numbers)} claims: {summary}."
    title = f"Claims of the paper, judged at scale {suite.scale}"
    if by_pair:
        first = "A family of tests of its own for Holm's correction."
        title = f"Claims pair by pair, scale {suite.scale}"
    decided = [at for at, row in enumerate(rows) if row[column] in (SUPPORTED, CONTRADICTED)]
    header = ["Claim", *(["Pair"] if by_pair else ["Where", "Statement"]), "Verdict"]
    header += ["Statistic", "Why, remarks", "Effect", "95% interval", "p (Holm)", "n"]
    return Table(
        title=title,
        header=header,
        rows=rows,
        notes=[first, *_notes(suite)],
        left=column + 3,
        bold=frozenset((at, column) for at in decided),
        blocks=blocks(numbers["id"].tolist()) if by_pair else frozenset(),
    )


def _cells(row: dict) -> list[str]:
    """Statistic, remarks, effect, interval, p-value, replicates."""
    unit = f" {row['unit']}".replace(" %", "%") if row["unit"] else ""
    exact = row["of"] == "exact"
    value = f"{row['effect']:.3g}" if exact else _signed(row["effect"])
    effect = "" if math.isnan(row["effect"]) else f"{value}{unit}"
    interval = ""
    if not math.isnan(row["low"]):
        interval = f"[{_signed(row['low'])}, {_signed(row['high'])}]"
    p = "" if math.isnan(row["p_holm"]) else f"{row['p_holm']:.3f}"
    if row["p_holm"] < 0.001:
        p = "< 0.001"
    replicates = f"{row['replicates']} {row['of']}" if row["replicates"] else ""
    return [row["statistic"], row["remarks"], effect, interval, p, "exact" if exact else replicates]


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.3g}"


def _notes(suite: Suite) -> list[str]:
    seeds = len(suite.seeds)
    return [
        f"Scale {suite.scale}, {seeds} seed{'s' if seeds > 1 else ''}. Verdicts are about the runs "
        "of this scale; where it is not the paper's, models, data and benchmarks are analogues, "
        "and a verdict speaks for the direction alone.",
        "Differences are paired over seeds, and over items in benchmarks; the effect is the mean "
        "over pairs (log ratios for percent), with t intervals from the variance between seeds "
        "(Welch and Satterthwaite), pairs taken as independent, and, in benchmarks, between items. "
        "Held-out metrics of a seed "
        "are on the same text, whose sampling error the intervals do not hold.",
        "A claim of several parts is shown by its weakest: supported only if all parts are, "
        f"contradicted if one is. Intervals are at 95% each; p-values are two-sided, corrected by "
        f"Holm over the claims tested here; a verdict takes a corrected p below {LEVEL} and at "
        f"least {MIN_SEEDS} seeds. Exact: computed, not sampled.",
    ]


def write(suite: Suite, root: Path) -> None:
    """Write both tables of a root. Raises UserError for a record that is missing or broken."""
    whole, parts = (frame(judged) for judged in judge(suite, root))
    claims_table(suite, whole).write(root / "tables", "claims", whole)
    if parts.empty:
        parts = whole.iloc[:0]
    claims_table(suite, parts, by_pair=True).write(root / "tables", "claims_by_pair", parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when the tables are written, 2 for bad input."""
    return draw_command("claims", __doc__, arguments, write)
