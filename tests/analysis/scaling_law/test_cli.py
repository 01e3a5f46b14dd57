"""The command that fits a table of points."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.scaling_law.cli import main

from .curve import SHARED, curve, needs_data


@needs_data
def test_command_line_fits_both_laws(capsys):
    path = str(SHARED / "chinchilla_points.csv")
    columns = ["--params-column", "n_params", "--tokens-column", "d_tokens"]
    command = [path, *columns, "--where", "in_240=1", "--bootstrap", "10"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "2143.4" in shown and "log 7.67" in shown and "5 left out" in shown
    assert main([*command, "--predict", "1e10"]) == 2


def test_command_line_prints_a_table(tmp_path, capsys):
    tokens, loss = curve(20, noise=0.002)
    path = tmp_path / "curve.csv"
    pd.DataFrame({"D": tokens, "eval": loss, "seed": 0}).to_csv(path, index=False)
    command = [str(path), "--tokens-column", "D", "--loss-column", "eval"]
    options = ["--predict", "1e10", "1e12", "--sensitivity", "--after", "6e7"]
    assert main([*command, *options]) == 0
    shown = capsys.readouterr().out
    assert "19 points" in shown and "identified: yes" in shown and "without the first 25%" in shown
    row = next(line for line in shown.splitlines() if line.strip().startswith("1e+12"))
    assert "x500" in row and "[" in row and "extrapolation-unsupported" in row


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (None, [], "no such file"),
        ("tokens,loss\n1e8,4\n1e9,3\n", [], "at least 4"),
        ("tokens,nll\n1e8,4\n", [], "no column 'loss'; there are tokens, nll"),
        ("tokens,loss\n1e8,x\n1e9,3\n2e9,3\n3e9,2\n", [], "not all values are numbers"),
        ("", [], "not a CSV table"),
        ("tokens,loss,s\n1e8,4,0\n", ["--where", "s=1"], "no row has s=1"),
        ("tokens,loss\n1e8,4\n2e8,3\n3e8,2.5\n4e8,2.2\n", ["--predict", "-1"], "--predict"),
    ],
)
def test_command_line_errors_are_one_line(tmp_path, capsys, text, options, reason):
    path = tmp_path / "curve.csv"
    if text is not None:
        path.write_text(text)
    assert main([str(path), *options]) == 2
    message = capsys.readouterr().err
    assert reason in message and message.count("\n") == 1
