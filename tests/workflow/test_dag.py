"""The DAG as users run it: one command, nothing left to do, clear faults, committed records."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from .conftest import REPOSITORY, RUN, Project, make_project


@pytest.fixture(scope="module")
def reproduced(taught, tmp_path_factory) -> Project:
    project = taught.copy(tmp_path_factory.mktemp("reproduced") / "project")
    more = "warm_jobs: true\nteacher_states_gb: 1\n"
    project.config.write_text(more + project.config.read_text())
    project.run(
        project.snakemake("--touch", "--", "work/tiny/models/qwen1.5-1.8b/final/manifest.json")
    )
    project.run(project.snakemake())
    return project


def test_one_command_makes_every_figure_and_table(reproduced):
    for name in ("figure1.pdf", "figure1.png", "figure2.pdf", "figure2.png"):
        assert (reproduced.work / "figures" / name).stat().st_size > 1000
    rows = list(csv.DictReader((reproduced.work / "tables" / "heldout.csv").open()))
    assert [row["method"] for row in rows] == ["vanilla_kd", "tad-k10-b2"]
    for row in rows:
        assert 0 < float(row["kl"]) < 10
    for suffix in ("csv", "md", "html", "tex"):
        assert (reproduced.work / "tables" / f"table2.{suffix}").stat().st_size > 100
    assert "Analogue" in (reproduced.work / "tables" / "table2.md").read_text()
    points = list(csv.DictReader((reproduced.work / "figures" / "figure1.csv").open()))
    assert {int(float(point["tokens"])) for point in points} >= {0, 7_680}


def test_a_second_call_runs_no_job(reproduced):
    done = reproduced.run(reproduced.snakemake())
    assert "Nothing to be done" in done.stdout + done.stderr


def test_states_of_the_teacher_are_read_by_both_runs_and_gone(reproduced):
    logs = list((reproduced.work / "logs" / "runs").glob("**/distill.log"))
    assert len(logs) == 2
    assert all("the teacher's states are read" in log.read_text() for log in logs)
    assert len(list((reproduced.work / "states").glob("**/states.json"))) == 1
    assert not list((reproduced.work / "states").glob("**/states.bin"))


def test_a_run_that_comes_later_is_planned_alone(reproduced, tmp_path):
    project = reproduced.copy(tmp_path / "project")
    text = project.config.read_text()
    project.config.write_text(text.replace("- vanilla_kd\n", "- vanilla_kd\n  - rkl\n"))
    assert "- rkl" in project.config.read_text()
    plan = project.run(project.snakemake("-n", "--", "all")).stdout
    counts = dict(line.split() for line in plan.splitlines() if len(line.split()) == 2)
    assert "states" not in counts
    assert (counts["distill"], counts["heldout_run"]) == ("1", "1")


def test_a_changed_value_reruns_what_depends_on_it(reproduced, tmp_path):
    project = reproduced.copy(tmp_path / "project")
    text = project.config.read_text()
    assert "7680" in text
    project.config.write_text(text.replace("7680", "6400"))
    plan = project.run(project.snakemake("-n", "--", "all")).stdout
    counts = dict(line.split() for line in plan.splitlines() if len(line.split()) == 2)
    assert counts["distill"] == "2"
    assert "pretrain" not in counts
    assert "pack" not in counts


def test_one_record_can_be_asked_for_alone(tmp_path):
    project = make_project(tmp_path / "project")
    plan = project.run(project.snakemake("-n", "--", f"work/tiny/runs/{RUN}/heldout.json")).stdout
    counts = dict(line.split() for line in plan.splitlines() if len(line.split()) == 2)
    assert counts["distill"] == counts["pretrain"] == counts["heldout_run"] == "1"


def test_a_model_of_others_is_evaluated_from_where_it_is(tmp_path):
    project = make_project(
        tmp_path / "project",
        evaluation={"fewshot": {"suite": "smoke"}, "math": {"suite": "smoke", "problems": 50}},
        references={"llemma-7b": {"hub": None, "path": "models/llemma"}},
    )
    target = "work/tiny/references/{}/math.json"
    for name, source in (("llemma-7b", "models/llemma"), ("orca2-7b", "microsoft/Orca-2-7b")):
        plan = project.run(project.snakemake("-n", "-p", "--", target.format(name))).stdout
        assert f"tad eval math --model {source} --out {target.format(name)}" in plan
    other = "work/tiny/references/orca2-7b/fewshot.json"
    plan = project.run(project.snakemake("-n", "-p", "--", other)).stdout
    assert "tad eval fewshot --model hub:microsoft/Orca-2-7b" in plan


def test_a_target_that_the_scale_does_not_select_is_named(tmp_path):
    project = make_project(tmp_path / "project")
    done = project.run(project.snakemake("-n", "--", "table4"), ok=False)
    assert done.returncode != 0
    assert "table4 is not in select.items" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("runs/scratch/phi9/rkl/seed0/heldout.json", "pair 'phi9'.*allowed: "),
        ("runs/scratch/phi2_1b/kld/seed0/heldout.json", "method 'kld' is unknown"),
        ("runs/continued/phi2_1b/rkl/seed0/heldout.json", "phi2_1b has no stage"),
        ("references/orca3/fewshot.json", "references.orca3: not in experiments.yaml .allowed: "),
        ("models/phi-3/final/fewshot.json", "phi-3/final: no such checkpoint .allowed: "),
        ("models/phi-2/first/fewshot.json", "phi-2/first: no such checkpoint .allowed: "),
    ],
)
def test_a_wrong_name_is_told_before_any_job_starts(tmp_path, target, message):
    project = make_project(tmp_path / "project")
    command = project.snakemake("-n", "--", f"work/tiny/{target}")
    done = project.run(command, ok=False)
    assert done.returncode != 0
    output = " ".join((done.stdout + done.stderr).split())
    import re

    assert re.search(message, output), output


# --- Committed records ---------------------------------------------------------------------------

PROFILE = ("--workflow-profile", str(REPOSITORY / "profiles" / "figures"))


def redraw(project: Project, *options: str) -> list[str]:
    command = project.snakemake(*options, "--", "tables", "figures", "findings")
    command[command.index("--config") + 1 : command.index("--config") + 1] = ["root=results/tiny"]
    return [*command[:3], *PROFILE, *command[3:]]


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in ("tables", "figures")
        for path in (root / folder).iterdir()
    }


@pytest.fixture(scope="module")
def published(reproduced, tmp_path_factory) -> Project:
    project = reproduced.copy(tmp_path_factory.mktemp("published") / "project")
    # These records are of the tree as it is, with the changes that are being tested.
    publish = ("tad", "publish", "--scale", "tiny", "--config", "tiny.yaml", "--allow-dirty")
    publish = project.python(*publish)
    assert "results/tiny: published" in project.run(publish).stdout
    return project


def test_publishing_copies_records_and_no_weights(published):
    root = published.folder / "results" / "tiny"
    manifest = json.loads((root / "manifest.json").read_text())
    names = set(manifest["files"])
    found = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert names == found - {"manifest.json"}
    assert not any(name.endswith(".safetensors") for name in names)
    assert {"figures/figure1.pdf", "findings.html"} <= names
    page = (root / "findings.html").read_text()
    assert 'href="manifest.json"' in page and "report.html" not in page
    assert any(name.endswith("fewshot.items.jsonl.gz") for name in names)
    assert contents(root) == contents(published.work)


def test_a_clone_redraws_the_same_bytes_and_trains_nothing(published, tmp_path):
    project = published.copy(tmp_path / "project")
    shutil.rmtree(project.folder / "work")
    shutil.rmtree(project.folder / ".snakemake")
    rng = random.Random(0)
    for path in project.folder.rglob("*"):
        if path.is_file():
            os.utime(path, (rng.uniform(1e9, 1.7e9),) * 2)
    plan = project.run(redraw(project, "-n")).stdout
    rules = {line.split()[0] for line in plan.splitlines() if len(line.split()) == 2}
    assert "draw_tables_table2" in rules and "draw_claims" in rules
    assert not rules & {"distill", "pretrain", "pack", "tokenizer", "fewshot", "heldout_run"}
    before = contents(project.folder / "results" / "tiny")
    project.run(redraw(project))
    assert contents(project.folder / "results" / "tiny") == before
    assert not (project.folder / "work").exists()


def test_what_was_redrawn_is_taken_up_and_a_changed_record_is_not(published, tmp_path):
    project = published.copy(tmp_path / "project")
    root = project.folder / "results" / "tiny"
    before = json.loads((root / "manifest.json").read_text())
    record = next((root / "runs").rglob("heldout.json"))
    for path in (root / "figures" / "figure1.csv", record):
        path.write_text(path.read_text() + " ")
    project.run(project.python("tad", "publish", "--scale", "tiny", "--redrawn"))
    after = json.loads((root / "manifest.json").read_text())
    changed = {name for name, of_file in after["files"].items() if before["files"][name] != of_file}
    assert changed == {"figures/figure1.csv"} and set(after["files"]) == set(before["files"])
    assert all(after[key] == before[key] for key in before if key != "files")
    done = project.run(project.python("tad", "publish", "--scale", "mini", "--redrawn"), ok=False)
    assert done.returncode == 2 and "run make publish SCALE=mini first" in done.stderr


def test_a_missing_record_is_named(published, tmp_path):
    project = published.copy(tmp_path / "project")
    lost = next((project.folder / "results" / "tiny" / "runs").rglob("heldout.json"))
    lost.unlink()
    done = project.run(redraw(project), ok=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert f"{lost.relative_to(project.folder)}: missing" in output


def test_an_unfinished_scale_is_not_published(published, tmp_path):
    project = published.copy(tmp_path / "project")
    lost = next((project.work / "runs").rglob("fewshot.json"))
    lost.unlink()
    before = contents(project.folder / "results" / "tiny")
    # These records are of the tree as it is, with the changes that are being tested.
    publish = ("tad", "publish", "--scale", "tiny", "--config", "tiny.yaml", "--allow-dirty")
    publish = project.python(*publish)
    done = project.run(publish, ok=False)
    assert done.returncode == 2
    assert f"{lost.relative_to(project.folder)}: missing" in done.stderr
    assert contents(project.folder / "results" / "tiny") == before
