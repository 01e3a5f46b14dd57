"""What cannot be loaded is told in one line, and pickled weights are refused."""

from __future__ import annotations

import pytest
import torch

from eval import heldout
from tad.models.loading import ModelError, load_model, load_tokenizer
from tad.train import run as distill


def test_a_missing_folder_is_named(tmp_path):
    for load in (lambda x: load_model(x, training=False), load_tokenizer):
        with pytest.raises(ModelError, match="nowhere") as error:
            load(str(tmp_path / "nowhere"))
        assert "\n" not in str(error.value)


def test_pickled_weights_are_refused(tmp_path, tiny_llama):
    model = tiny_llama(0)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(str(tmp_path), training=False)


def test_saved_weights_come_back(tmp_path, tiny_llama):
    model = tiny_llama(0)
    model.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), training=True)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("scratch/phi2_1b/minilm/seed0", "method 'minilm' is unknown"),
        ("scratch/phi9/rkl/seed0", "pair 'phi9'"),
        ("scratch/phi2_1b/rkl", "4 parts"),
        ("scratch/phi2_1b/rkl/seed0", "tokenizer"),  # nothing made yet in this folder
    ],
)
def test_distill_tells_bad_input_in_one_line(tmp_path, monkeypatch, capsys, run, message):
    from pathlib import Path

    config = Path(__file__).parents[2] / "config" / "smoke.yaml"
    monkeypatch.chdir(tmp_path)
    assert distill.main(["--config", str(config), "--run", run]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_heldout_tells_bad_input_in_one_line(tmp_path, capsys):
    options = ["--model", "m", "--data", str(tmp_path), "--context", "8", "--out", "x.json"]
    assert heldout.main(options) == 2
    error = capsys.readouterr().err.strip()
    assert str(tmp_path) in error
    assert "\n" not in error
