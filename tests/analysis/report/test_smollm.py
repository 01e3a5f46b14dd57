"""All that the scale with a real teacher draws, of invented records."""

from __future__ import annotations

import html
import json

import pytest

from analysis.claims import judge
from analysis.figures import draw as figures
from analysis.figures.style import paper_style
from analysis.figures.teachers import figure2
from analysis.report.findings import write
from analysis.results import teacher_frame
from analysis.tables import draw as tables
from analysis.tables.samples import samples_frame
from tad.experiment.config import load_suite
from tad.records import RecordError
from workflow.items import all_records, drawn

from ..conftest import CONFIG
from ..whole import fill

SUITE = load_suite(CONFIG / "smollm.yaml")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Everything drawn."""
    root = fill(tmp_path_factory.mktemp("work") / "smollm", SUITE)
    commands = {"tables": tables.write, "figures": figures.draw, "claims": judge.write}
    for _, each in drawn(SUITE):
        kind, *name = each.command.split()
        {**commands, "report": write}[kind](*name, SUITE, root)
    return root


def test_every_declared_file_is_drawn(root):
    declared = {file for _, each in drawn(SUITE) for file in each.outputs(SUITE)}
    found = {f"{f}/{p.name}" for f in ("tables", "figures") for p in (root / f).iterdir()}
    assert declared == {*found, "findings.html"}


def test_the_page_shows_what_teacher_and_students_wrote(root):
    page = (root / "findings.html").read_text()
    for text in ("A beginning 1", "written by None <b>", "written by tad-k10-b2 <b>"):
        assert html.escape(text) in page
    frame = samples_frame(SUITE, root)
    pruned = frame[(frame["pair"] == "smollm2-135m_pruned") & (frame["prompt"] == 1)]
    assert pruned["writer"].tolist() == [
        "The text itself", "Teacher, smollm2-135m", "CLM (no KD), seed 0", "Vanilla KD, seed 0",
        "TAD (K = 10), seed 0", "Vanilla KD, matched, seed 0",
    ]  # fmt: skip


def test_records_say_which_weights_taught():
    assert "models/smollm2-135m/final/manifest.json" in all_records(SUITE)
    assert not any(name.startswith("models/phi-2") for name in all_records(SUITE))


def test_a_scale_without_samples_has_no_record_of_them():
    smoke = load_suite(CONFIG / "smoke.yaml")
    assert not any(name.endswith("samples.json") for name in all_records(smoke))
    assert "samples" not in [name for name, _ in drawn(smoke)]


def test_other_prompts_than_the_teachers_are_refused(root, tmp_path):
    fill(tmp_path, SUITE)
    path = tmp_path / "runs" / "scratch" / "smollm2-135m_pruned" / "clm" / "seed0" / "samples.json"
    record = json.loads(path.read_text())
    record["texts"][0]["prompt"] = "another"
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="clm/seed0/samples.json: has other prompts"):
        samples_frame(SUITE, tmp_path)


def test_claims_are_called_descriptive(root):
    told = "what it shows with 3 seeds or fewer is descriptive"
    assert told in (root / "tables" / "claims.md").read_text()
    assert judge._not_designed(load_suite(CONFIG / "mini.yaml")) == []


def test_figure_2_has_the_papers_range_beside_a_teacher_that_is_no_tiny_one(root):
    data = teacher_frame(root, SUITE, ["smollm2-135m"])
    with paper_style():
        _, right = figure2(data, {"smollm2-135m": "smollm2-135m"}, (39.0, 46.0)).axes
        assert right.get_legend().get_texts()[0].get_text() == "paper's teachers: 39 to 46%"
        _, plain = figure2(data, {"smollm2-135m": "smollm2-135m"}).axes
    assert plain.get_legend() is None
