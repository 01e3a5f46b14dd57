"""Claims of the paper's text against the cells that it prints."""

from __future__ import annotations

from analysis.reported.text_claims import CHECKS, HOLDS, NOT, PARTLY, statements


def test_claims_against_the_tables():
    found = {claim.claim: claim for claim in statements()}
    assert len(found) == len(CHECKS) >= 20
    verdicts = {
        "Rel of TAD K=10 is 50% to 120% above MiniPLM's": NOT,
        "MiniPLM is slightly better on ARC-E and Story": NOT,
        "0.5B: TAD keeps an edge over MiniPLM": PARTLY,
        "RKL is slightly better than Vanilla KD": PARTLY,
        "best at K = 5 or 10 (Table 8)": PARTLY,
        "TAD has the lowest projected loss": HOLDS,
        "TAD beats Llama3.2-1B on mathematics, Vanilla KD does not": "holds through SAT alone",
    }
    assert {name: found[name].verdict for name in verdicts} == verdicts
    best = found["Rel of TAD K=10 is 50% to 120% above MiniPLM's"].finding
    assert "+106%" in best and "+43%" in best
    assert "20.9" in found["TAD beats Llama3.2-1B on mathematics, Vanilla KD does not"].finding
    assert "+66.0%" in found["MiniPLM needs 50% more (Phi2, Qwen2.5), 67% more (Gemma2)"].finding
