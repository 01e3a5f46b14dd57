"""tad new: a folder that plans and says what it runs, and never overwrites."""

from __future__ import annotations

import pytest

from tad.experiment.config import load_suite
from tad.experiment.new import NewError, main, new
from workflow.items import check_evaluations


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_folder_is_a_suite_of_its_own(here):
    suite = load_suite(new("mylab_a"))
    check_evaluations(suite)
    assert suite.scale == "mine" and suite.corpora["mine"].path == "mylab_a/text"
    runs = {str(run) for run in suite.runs()}
    assert "scratch/my_pair/scaled_kl-alpha0.1/seed0" in runs and len(runs) == 5
    words = ("FOLDER", "NAME", "MODULE", "SCHEMA")
    text = (here / "mylab_a/mine.yaml").read_text()
    assert not any(word in text for word in words)


def test_another_name(here):
    assert load_suite(new("labs/b", "wide")).scale == "wide"
    assert "labs.b.losses:scaled_kl" in (here / "labs/b/wide.yaml").read_text()


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("there", "mine", "there: is there already"),
        ("lab", "taken", "work/taken: is there already"),
        ("lab", "smoke", "smoke.yaml: is there already"),
        ("lab", "My", "use lower-case"),
        ("my-lab", "mine", "Python can import"),
        ("/lab", "mine", "below this one"),
    ],
)
def test_what_is_there_is_left_alone(here, folder, name, message):
    (here / "there").mkdir()
    (here / "work/taken").mkdir(parents=True)
    before = sorted(here.rglob("*"))
    with pytest.raises(NewError, match=message):
        new(folder, name)
    assert sorted(here.rglob("*")) == before


def test_the_command_says_what_to_do_next(capsys):
    assert main(["mylab_c"]) == 0
    assert "make reproduce SCALE=mylab_c/mine.yaml" in capsys.readouterr().out
    assert main(["mylab_c"]) == 2
