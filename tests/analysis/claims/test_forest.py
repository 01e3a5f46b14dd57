"""Forest plots of claims."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis.claims.forest import draw, drawn, figure, limits, names, over
from analysis.claims.statistics import HERE, SUPPORTED
from analysis.figures import style


def rows(*values, family="primary", margin=2.0, unit="%"):
    """Of (effect, low, high, verdict)."""
    return pd.DataFrame([
        {"family": family, "id": f"primary-{at}", "statistic": "TAD − Vanilla KD: held-out KL",
         "effect": effect, "low": low, "high": high, "margin": margin, "unit": unit,
         "of": "seeds", "verdict": verdict, "p_adjusted": 0.01, "_effect": f"{effect:+.3g}{unit}",
         "_interval": ""}
        for at, (effect, low, high, verdict) in enumerate(values)
    ])  # fmt: skip


NUMBERS = rows((-4.0, -6.0, -2.0, "supported"), (0.5, -90.0, 91.0, "undecided"),
               (1.0, -1.0, 3.0, "contradicted"))  # fmt: skip


def test_primary_claims_are_drawn_in_multiples_of_their_margin():
    found = drawn(NUMBERS, primary=True)
    assert found["at"].tolist() == [-2.0, 0.25, 0.5] and found["from"][0] == -3.0
    assert drawn(NUMBERS, primary=False).empty


def test_what_is_exact_or_has_no_effect_is_left_out():
    exact = NUMBERS.assign(of=["exact", "seeds", "seeds"], effect=[1.0, math.nan, 1.0])
    assert drawn(exact, primary=True).index.tolist() == [2]


def test_an_interval_that_goes_on_ends_in_arrows():
    low, high = limits(drawn(NUMBERS, primary=True), primary=True)
    assert low > -45 and high < 45
    with style.paper_style():
        page = figure(NUMBERS, primary=True)
    [axis] = page.axes
    marks = [line.get_marker() for line in axis.get_lines()]
    assert marks.count("<") == marks.count(">") == 1
    assert axis.get_xlim() == pytest.approx((low, high))
    ends = [
        x for part in axis.collections for path in part.get_paths() for x in path.vertices[:, 0]
    ]
    assert min(ends) >= low and max(ends) <= high


def test_claims_that_compare_the_same_are_told_apart():
    both = rows((1.0, 0.5, 1.5, "supported"), (2.0, 0.5, 1.5, "undecided"), family="exploratory")
    both["section"] = ["3.3.1, Table 7", "3.4, Table 8"]
    told = "TAD − Vanilla KD: held-out KL"
    assert names(both) == [f"Table 7:  {told}", f"Table 8:  {told}"]
    assert names(both[:1]) == [told]


def test_exploratory_claims_stand_in_a_block_for_each_family_and_unit():
    other = pd.concat([
        rows((1.0, 0.5, 1.5, "supported"), family="exploratory", unit="points"),
        rows((1.0, 0.5, 1.5, "undecided"), family="exploratory", unit="%"),
        rows((1.0, math.nan, math.nan, "not testable at this scale"), family="exploratory, ours"),
    ])  # fmt: skip
    page = figure(pd.concat([NUMBERS, other]), primary=False)
    titles = [axis.get_title(loc="left") for axis in page.axes]
    assert titles == ["exploratory, in points", "exploratory, in %", "exploratory, ours, in %"]
    [legend] = page.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "supported (1)", "undecided (1)", "not testable at this scale (1)"
    ]  # fmt: skip


def test_the_legend_says_what_intervals_are_over():
    one = NUMBERS.assign(of="items of one run")
    assert (
        over(NUMBERS) == "" and over(one) == " over items or documents of one run, not over seeds"
    )
    assert over(pd.concat([NUMBERS, one])).startswith(", some over items")
    assert over(one.assign(low=math.nan)) == ""
    [legend] = figure(one.assign(verdict=HERE[SUPPORTED]), primary=True).legends
    assert "not over seeds" in legend.get_title().get_text()
    assert [text.get_text() for text in legend.get_texts()] == [f"{HERE[SUPPORTED]} (3)"]


def test_where_nothing_can_be_drawn_the_picture_says_why(tmp_path):
    none = NUMBERS.assign(effect=math.nan, verdict="not testable at this scale")
    [text] = figure(none, primary=True).texts
    assert "3 not testable at this scale" in text.get_text()
    draw(none, tmp_path)
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    kinds = ("csv", "pdf", "png")
    assert names == [f"forest_{n}.{k}" for n in ("exploratory", "primary") for k in kinds]
