"""The DAG as users run it: one command, nothing left to do, clear faults."""

from __future__ import annotations

import csv

import pytest

from .conftest import RUN, Project, make_project


@pytest.fixture(scope="module")
def reproduced(taught, tmp_path_factory) -> Project:
    project = taught.copy(tmp_path_factory.mktemp("reproduced") / "project")
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


def test_a_target_that_the_scale_does_not_select_is_named(tmp_path):
    project = make_project(tmp_path / "project")
    done = project.run(project.snakemake("-n", "--", "table4"), ok=False)
    assert done.returncode != 0
    assert "table4 is not in select.items" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("scratch/phi9/rkl/seed0", "pair 'phi9'.*allowed: "),
        ("scratch/phi2_1b/kld/seed0", "method 'kld' is unknown"),
        ("continued/phi2_1b/rkl/seed0", "phi2_1b has no stage"),
    ],
)
def test_a_wrong_run_is_named_before_any_job_starts(tmp_path, target, message):
    project = make_project(tmp_path / "project")
    command = project.snakemake("-n", "--", f"work/tiny/runs/{target}/heldout.json")
    done = project.run(command, ok=False)
    assert done.returncode != 0
    output = " ".join((done.stdout + done.stderr).split())
    import re

    assert re.search(message, output), output
