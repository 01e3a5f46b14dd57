"""Table 9: accounts of the paper's own models, and what does not fit the print."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.results import paper_suite
from analysis.tables import table9
from analysis.tables.table9 import discrepancies, rounds_to, table9_frame


@pytest.fixture(scope="module")
def frame():
    return table9_frame(paper_suite())


@pytest.mark.parametrize(
    ("pair", "reading", "counts"),
    [
        # Billions, counted independently in the audit of the paper (non-embedding, +1, +2).
        ("qwen1.5-1.8b_1.2b", "", (0.694, 0.927, 1.160)),
        ("qwen1.5-1.8b_0.5b", "", (0.308, 0.464, 0.619)),
        ("phi2_1b", "", (0.839, 0.970, 1.101)),
        ("phi2_1b", "gated MLP", (1.049, 1.180, 1.311)),
        ("qwen2.5-3b_1b", "", (1.019, 1.330, 1.641)),
        ("qwen2.5-3b_1b", "16 key/value heads", (1.151, 1.463, 1.774)),
        ("gemma2-9b_2b", "", (1.156, 2.074, 2.991)),
        ("gemma2-9b_2b", "the teacher's d_H = 256", (1.233, 2.151, 3.068)),
    ],
)
def test_counts_of_every_reading(frame, pair, reading, counts):
    row = frame[(frame["pair"] == pair) & (frame["reading"] == reading)].iloc[0]
    found = [row[name] / 1e9 for name in table9.COUNTS]
    assert found == pytest.approx(counts, abs=0.0015)


def test_a_count_by_hand(frame):
    """Qwen1.5 1.2B: attention with biases on q, k, v; gated MLP; two norms a layer and a last."""
    row = frame.iloc[0]
    hidden, layers, mlp = 1536, 24, 4224
    attention = 4 * hidden**2 + 3 * hidden
    body = layers * (attention + 3 * hidden * mlp + 2 * hidden) + hidden
    assert row["non_embedding"] == body
    assert row["stored"] == body + 2 * 151_936 * hidden


@pytest.mark.parametrize(
    "finding",
    [
        "fit the count with the output matrix, not the non-embedding one",
        "printed 0.475B, non-embedding 0.308B, with the output matrix 0.464B",
        "Qwen1.5 1.2B: the printed 1.2B needs untied embeddings",
        "Qwen1.5 0.5B: the printed 0.5B needs tied embeddings",
        "Qwen2.5: the printed 1.2B fits no count with 2 key/value heads",
        "Qwen2.5, read with 16 key/value heads: the printed size is met by the count non-embedding",
        "Phi2, read with gated MLP: the printed size is met by no count",
        "Phi2: vocabulary printed as 52,000, the teacher has 51,200",
        "Gemma2: d_H is 224, the teacher's is 256",
        "Qwen1.5 1.2B 128 to 96, Qwen1.5 0.5B 128 to 64, Gemma2 256 to 224",
        "d_H × n_H = d_S holds in every printed row",
    ],
)
def test_every_discrepancy_of_the_audit_is_told(frame, finding):
    assert finding in " ".join(discrepancies(frame))


def test_discrepancies_follow_the_numbers(frame):
    """A print that agrees is not complained of."""
    frame = frame.assign(printed_vocab=frame["vocab_size"])
    assert not any("vocabulary printed" in note for note in discrepancies(frame))


def test_rounding_as_printed():
    assert rounds_to(1_249_999_999, "1.2B") and not rounds_to(1_250_100_000, "1.2B")
    assert rounds_to(2_400_000_000, "2B") and not rounds_to(2_600_000_000, "2B")


def test_table9_is_written_whatever_the_root(tmp_path):
    table9.write("table9", paper_suite(), tmp_path)
    text = (tmp_path / "tables" / "table9.md").read_text()
    assert "51200 (printed 52000)" in text and "256 (printed 224)" in text
    assert (tmp_path / "tables" / "table9.tex").is_file()
    assert (tmp_path / "tables" / "table9.html").is_file()
    assert len(pd.read_csv(tmp_path / "tables" / "table9.csv")) == 8
