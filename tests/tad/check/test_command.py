"""``tad check`` as a user types it: lines, exit status, the JSON file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from tad.check import command, machine, slurm
from tad.cli import main
from tad.command import PROJECT
from tests.tad.check.made import tokenizer
from tests.tad.check.stand_in import StandIn
from tests.tad.check.test_machine import H100

LAB = {
    "extends": "paper",
    "select": {"items": ["table4"], "pairs": ["phi2_1b"], "methods": ["vanilla_kd", "miniplm"]},
    "evaluation": {"fewshot": None, "math": None},
    "corpora": {"general": {"tokens": 2_100_000_000}},
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A scale file that loads three things from the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "graphics", lambda: H100)
    monkeypatch.setattr(slurm, "here", lambda: False)
    monkeypatch.setattr(command.disk, "_enough", lambda folder, *_: command.Finding("ok", "x", "y"))
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(LAB))
    return path


def stock(hub: StandIn, tmp_path) -> None:
    """All that the scale asks for."""
    for name, more in (("microsoft/phi-2", "one"), ("facebook/opt-125m", "another")):
        tokenizer(more).save_pretrained(tmp_path / "made")
        files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
        weights = {"config.json": b'{"model_type": "phi"}', "model.safetensors": b"w"}
        hub.model(name, files=files | weights)
    hub.dataset("sail/regmix-data-sample", sizes={"train.jsonl": 20 * 10**9})


def checked(*arguments: str) -> int:
    return main(["check", "--timeout", "20", *arguments])


def test_a_scale_that_can_run(hub: StandIn, lab, tmp_path, capsys):
    stock(hub, tmp_path)
    assert checked("--scale", str(lab), "--json", "out/found.json") == 0
    out = capsys.readouterr().out
    assert (
        "ok       models.phi-2.checkpoints.final (and 1 more): microsoft/phi-2: on the hub" in out
    )
    assert "corpora.general.tokens: 2.11B asked for, about 4.76B there by size" in out
    assert "ok       pairs.phi2_1b: tokenizers of the data (microsoft/phi-2) and the teacher" in out
    assert "MiniPLM's reference, with a tokenizer of its own" in out
    assert out.endswith("0 warnings, 0 failures\n")
    record = json.loads((tmp_path / "out/found.json").read_text())
    assert record["scale"] == "lab" and {f["level"] for f in record["findings"]} == {"ok"}
    assert len(record["findings"]) == len(out.splitlines()) - 1
    weights = [line for line in hub.asked if line.startswith("GET") and "safetensors" in line]
    assert not weights, "weights are not downloaded by a check"


def test_a_check_that_fails_is_status_1(hub: StandIn, lab, tmp_path, capsys):
    stock(hub, tmp_path)
    hub.repositories["models/microsoft/phi-2"].mode = "gated403"
    assert checked("--scale", str(lab), "-o", "corpora.general.tokens=9_000_000_000") == 1
    out = capsys.readouterr().out
    assert "accept its licence at https://huggingface.co/microsoft/phi-2" in out
    assert "failure  corpora.general.tokens: 9.01B asked for, at most 8B there" in out
    assert "warning  pairs: tokenizers of data and models not compared" in out
    assert "Traceback" not in out


def test_offline_nothing_is_asked(hub: StandIn, lab, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert checked("--scale", str(lab)) == 1
    out = capsys.readouterr().out
    assert out.count("not in the local cache (HF_HUB_OFFLINE is set)") == 3
    assert hub.asked == []


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_small_scales_need_little(scale, monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(machine, "graphics", lambda: pytest.fail("no GPU is asked for"))
    assert checked("--scale", scale) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 12 and all(line.startswith("ok") for line in lines[:-1])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scale", "papre"], "did you mean 'paper'?"),
        (["--scale", "none.yaml"], "none.yaml"),
        (["--scale", "smoke", "-o", "seedz=[1]"], "did you mean 'seeds'?"),
        ([], "give --scale NAME"),
        (["--scale", "smoke", "--config", "x.yaml"], "give --scale NAME"),
        (["--scale", "smoke", "--timeout", "0"], "must be more than 0"),
    ],
)
def test_bad_usage_is_status_2(arguments, told, capsys):
    try:
        status = main(["check", *arguments])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    captured = capsys.readouterr()
    assert told in captured.err and captured.out == ""


def test_as_a_process_with_the_hubs_own_variables(hub: StandIn, cache, tmp_path):
    """HF_ENDPOINT and HF_HOME are read when huggingface_hub is imported."""
    stock(hub, tmp_path)
    hub.repositories["models/facebook/opt-125m"].mode = "gated401"
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(LAB))
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache)}
    environment |= {"PYTHONPATH": str(PROJECT), "HF_ENDPOINT": hub.address}
    done = subprocess.run(
        [sys.executable, "-m", "tad", "check", "--scale", "lab.yaml", "--timeout", "20"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert "(and 1 more): microsoft/phi-2: on the hub" in done.stdout, done.stdout + done.stderr
    assert "facebook/opt-125m: gated, and you are not logged in (401)" in done.stdout
    assert "pairs.phi2_1b: tokenizers of the data (microsoft/phi-2)" in done.stdout
    assert done.returncode == 1
    assert (cache / "hub" / "models--microsoft--phi-2" / "refs" / "main").is_file()
