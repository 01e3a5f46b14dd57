"""`tad plan` as a user calls it, and the rules' resources."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from tad.experiment.config import load_suite
from tad.plan.facts import PROJECT, PlanError
from tests.workflow.conftest import REPOSITORY
from workflow.plan.command import main
from workflow.plan.pace import papers_pace
from workflow.plan.targets import asked, plannable


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture(scope="module")
def paper():
    return load_suite(PROJECT / "config" / "paper.yaml")


def test_the_whole_of_the_paper_is_planned(capsys):
    assert main(["--scale", "paper", "--gpus", "8xH100-80GB", "--gpus", "1xRTX4090-24GB"]) == 0
    told = capsys.readouterr().out
    for text in ("GPU hours", "at the paper's pace", "critical path", "disk, GB", "downloads, GB",
                 "google/gemma-2-9b (Gemma terms of use)", "does not fit", "table1",
                 "2 GPUs, batch 1, checkpointing, FSDP",
                 "general (sail/regmix-data-sample)"):  # fmt: skip
        assert text in told, text
    assert max(map(len, told.splitlines()[:60])) < 180
    assert "write into your file" not in told, "it fits as it is configured"
    assert main(["--scale", "paper", "--select", "table1", "--gpus", "4xA100-40GB"]) == 0
    assert "pairs: {qwen1.5-1.8b_0.5b: {micro_batch_size:" in capsys.readouterr().out


def test_a_part_costs_less_and_is_the_same_by_any_of_its_names(capsys, tmp_path):
    totals = []
    for words in (["--select", "table1"], ["table1"], ["table1,table1"], []):
        words = ["--select", words[0]] if words == ["table1,table1"] else words
        assert main([*words, "--json", str(tmp_path / "plan.json")]) == 0
        totals.append(json.loads((tmp_path / "plan.json").read_text())["total"]["gpu_hours"])
    assert totals[0] == totals[1] == totals[2] < totals[3]


def test_the_record_has_every_job_with_its_parts_of_memory(tmp_path, capsys):
    file = tmp_path / "plan.json"
    run = "scratch/phi2_1b/tad-k10-b2/seed0"
    assert main([run, "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    job = next(each for each in found["jobs"] if each["kind"] == "distill")
    parts = job["memory_bytes"]
    assert set(parts) == {"weights", "gradients", "optimizer", "activations", "loss", "evaluation",
                          "peak"}  # fmt: skip
    step = parts["gradients"] + parts["activations"] + parts["loss"]
    assert parts["peak"] == parts["weights"] + parts["optimizer"] + max(step, parts["evaluation"])
    assert found["machine"]["utilisation_source"].startswith("published")
    assert {"heldout", "fewshot"} <= {each["kind"] for each in found["jobs"]}
    capsys.readouterr()
    assert main([f"work/paper/runs/{run}/heldout.json", "--json", str(file)]) == 0
    assert "fewshot" not in {each["kind"] for each in json.loads(file.read_text())["jobs"]}


class Page(HTMLParser):
    """Open elements, those that were closed out of order, and ids of what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.wrong, self.loads = [], [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [v for k, v in attributes if k in ("src", "href") and not v.startswith("#")]
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_whole_and_needs_no_network(tmp_path, capsys):
    file = tmp_path / "plan.html"
    words = ["table8", "--gpus", "8xH100-80GB", "--gpus", "4xA100-40GB", "--html", str(file)]
    assert main(words) == 0
    page = Page()
    page.feed(text := file.read_text())
    assert not page.wrong and not page.loads
    for part in ("What fits", "4xA100-40GB", "Memory of the trainings", "Downloads", "consent"):
        assert part in text, part


@pytest.mark.parametrize("words, told", [
    (["--gpus", "8xH100"], "did you mean 'H100-80GB'"),
    (["tabel1"], "did you mean 'table1'"),
    (["--select", "controls"], "does not select what it needs"),
    (["scratch/phi2_1b/tad-k10-b2/seed7"], "did you mean 'scratch/phi2_1b/tad-k10-b2/seed0'"),
    (["--scale", "papr"], "no such file"),
    (["--utilisation", "3"], "a share of the peak"),
    (["--json", "no/such/folder/plan.json", "figure2"], "a folder that is there"),
    (["-o", "stages.scratch.contxt=4"], "did you mean 'context'"),
])  # fmt: skip
def test_bad_input_is_told_in_one_line(words, told, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_overrides_and_other_scales_are_planned(capsys):
    assert main(["--scale", "smoke"]) == 0
    assert "pretrain" in capsys.readouterr().out
    assert main(["-o", "stages.scratch.micro_batch_size=64", "figure1"]) == 0
    assert "micro_batch_size" in capsys.readouterr().out, "what does not fit is made smaller"


def test_the_papers_pace_is_below_that_of_a_well_kept_loop(paper):
    found = papers_pace(paper)
    assert set(found.pairs) == {"phi3-4b_tinyllama", "phi3-14b_llama2-7b"}
    assert 0.03 < found.share < 0.2
    assert papers_pace(load_suite(PROJECT / "config" / "smoke.yaml")) is None


def test_every_target_that_a_scale_makes_can_be_planned(paper):
    for name in plannable(paper):
        assert asked(paper, [name])
    with pytest.raises(PlanError, match="tad list targets"):
        asked(paper, ["nothing like it"])
