"""The command that fits a table of runs."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.scaling_law.cli import main

from .points import ends, truth


def test_a_table_of_runs_is_fitted_and_foretells(tmp_path, capsys):
    tokens, loss = ends(noise=0.001)
    path = tmp_path / "runs.csv"
    pd.DataFrame({"D": tokens, "eval": loss}).to_csv(path, index=False)
    command = [str(path), "--tokens-column", "D", "--loss-column", "eval"]
    assert main([*command, "--predict", "8e5", "1e9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "10 runs of 2.4e+04 to 3.2e+05 tokens" in lines[0]
    near, far = lines[-2:]
    assert near.split()[0] == "8e+05"
    assert float(near.split()[1]) == pytest.approx(float(truth(8e5)), abs=0.02)
    assert far.endswith("refused: further beyond the largest budget than the budgets span (×13.3)")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("", "No columns"),
        ("tokens,nll\n1e8,4\n", "no column 'loss'"),
        ("tokens,loss\n1e8,4\n1e9,3\n", "there are 2"),
        ("tokens,loss\n1e8,x\n1e9,3\n2e9,3\n3e9,2\n", "could not convert string"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, text, reason):
    path = tmp_path / "runs.csv"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 2
    message = capsys.readouterr().err
    assert reason in message and message.count("\n") == 1
