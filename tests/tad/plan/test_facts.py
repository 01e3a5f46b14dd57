"""GPUs by name, and what is told of one that is not known."""

from __future__ import annotations

import pytest

from tad.experiment.config import load_suite
from tad.experiment.yaml_file import ConfigError
from tad.plan import facts
from tad.plan.facts import GIB, PlanError, hub_entry, machine


def test_a_machine_is_a_number_of_gpus():
    found = machine("8xH100-80GB")
    assert (found.count, str(found)) == (8, "8xH100-80GB")
    assert found.speed == pytest.approx(0.4 * 989e12)
    assert found.room == pytest.approx(0.9 * 80 * GIB)
    assert machine("rtx4090-24gb").name == "RTX4090-24GB"
    assert machine("A100-40GB", 0.2).speed == pytest.approx(0.2 * 312e12)


def test_writing_is_bound_by_the_memory_and_never_faster_than_training():
    found = machine("H100-80GB")
    assert found.decoding_speed(16) == pytest.approx(0.2 * 16 * 3350e9)
    assert found.decoding_speed(1_000_000) == found.speed


@pytest.mark.parametrize("text, told", [
    ("8xH100", "did you mean 'H100-80GB'"),
    ("0xH100-80GB", "COUNTxNAME"),
    ("TPU", "config/facts/gpus.yaml"),
])  # fmt: skip
def test_an_unknown_gpu_is_told_in_one_line(text, told):
    with pytest.raises(PlanError, match=told) as error:
        machine(text)
    assert "\n" not in str(error.value)


def test_a_utilisation_is_a_share():
    with pytest.raises(PlanError, match="--utilisation 40"):
        machine("H100-80GB", 40.0)


def test_a_wrong_file_is_told_with_its_key(tmp_path):
    (tmp_path / "gpus.yaml").write_text("gpus: {X: {memory_gb: -1}}\n")
    with pytest.raises(ConfigError, match=r"gpus.yaml: gpus.X.memory_gb"):
        facts._read(tmp_path / "gpus.yaml", facts._Gpus)


def test_everything_of_the_hub_in_the_configuration_is_known():
    suite = load_suite(facts.PROJECT / "config" / "paper.yaml")
    points = [point for model in suite.models.values() for point in model.checkpoints.values()]
    models = {each.hub for each in (*points, *suite.references.values()) if each.hub}
    assert {name for name in models if hub_entry("models", name) is None} == set()
    data = {each.id for each in suite.corpora.values() if each.source == "hub"}
    data |= {each.hub for found in suite.instructions.values() for each in found.sources}
    assert {name for name in data if hub_entry("datasets", name) is None} == set()
