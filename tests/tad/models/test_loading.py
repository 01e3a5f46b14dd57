"""What cannot be loaded is told in one line, and pickled weights are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from eval import heldout
from tad.experiment.config import load_suite
from tad.experiment.run_id import RunId
from tad.experiment.specs import run_spec
from tad.models.architectures import ArchitectureError, architecture_config
from tad.models.loading import ModelError, load_model, load_tokenizer
from tad.train import run as distill

CONFIG = Path(__file__).parents[3] / "config" / "smoke.yaml"


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


@pytest.fixture
def folder(tmp_path, tiny_llama) -> Path:
    """A saved model of 64 tokens."""
    tiny_llama(0).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_tensors(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path, {"format": "pt"})


def test_an_end_of_text_token_that_config_json_alone_names(folder):
    backend = Tokenizer(WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 1}))
    assert load_tokenizer(str(folder)).eos_token == "</s>"
    path.unlink()
    assert load_tokenizer(str(folder)).eos_token is None


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_a_missing_tensor_is_refused(folder, name):
    change_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelError, match=f"{folder}: its weights lack {name}, with 0 more"):
        load_model(str(folder), training=False)


def test_a_layer_that_the_configuration_leaves_out_is_refused(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('_layers": 2', '_layers": 1'))
    with pytest.raises(ModelError, match=r"no place for model\.layers\.1\..*, with 8 more"):
        load_model(str(folder), training=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    def spoil(tensors):
        tensors["model.layers.0.self_attn.v_proj.weight"][3, 5] = value

    change_tensors(folder, spoil)
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(ModelError, match=r"NaN or infinity in model\.layers\.0\.self_attn\.v"):
            load_model(str(folder), training=False, dtype=dtype)


def test_a_tied_head_lacks_nothing(tmp_path, tiny_llama):
    tiny_llama(0, tie_word_embeddings=True).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert load_model(str(tmp_path), training=False).config.tie_word_embeddings


def test_weights_of_another_shape_are_refused(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}))
    with pytest.raises(ModelError, match=r"model\.norm\.weight of shape \(31,\).* for \(32,\)"):
        load_model(str(folder), training=False)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: b"\xff" * 200,
        lambda content: (9).to_bytes(8, "little") + b'{"a": tru' + content,
    ],
    ids=["half", "a byte short", "empty", "no header", "bad header"],
)
def test_damaged_weights_are_told_in_one_line(folder, damage, capfd):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=f"{folder}: cannot be loaded") as error:
        load_model(str(folder), training=False)
    assert "\n" not in str(error.value) and "LOAD REPORT" not in capfd.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "llama", "hidden_size": "wide"}'])
def test_a_damaged_configuration_is_told_in_one_line(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=str(folder)) as error:
        load_model(str(folder), training=False)
    assert "\n" not in str(error.value)


def test_fewer_embeddings_than_tokens_are_refused(folder):
    load_model(str(folder), training=True, vocab_size=64)
    with pytest.raises(ModelError, match="has 64 token embeddings, and the tokenizer .* 65 tokens"):
        load_model(str(folder), training=True, vocab_size=65)


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
    monkeypatch.chdir(tmp_path)
    assert distill.main(["--config", str(CONFIG), run]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_distill_compares_the_teacher_with_its_entry_before_it_loads_one(monkeypatch):
    suite = load_suite(CONFIG)
    run = RunId.parse("scratch/phi2_1b/rkl/seed0")
    shape = suite.models["phi-2"].shape.model_copy(update={"intermediate_size": 72})
    config = architecture_config("phi", shape, vocab_size=64, max_positions=32)
    monkeypatch.setattr(distill, "load_config", lambda source: config)
    with pytest.raises(ArchitectureError, match=r"models\.phi-2\.shape\.intermediate_size: .* 72"):
        distill._models(suite, run, run_spec(suite, run), None)


def test_heldout_tells_bad_input_in_one_line(tmp_path, capsys):
    options = ["--model", "m", "--data", str(tmp_path), "--context", "8", "--out", "x.json"]
    assert heldout.main(options) == 2
    error = capsys.readouterr().err.strip()
    assert str(tmp_path) in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody/nothing", "no such folder, not downloaded, and the hub is not asked"),
        ("no/such/folder", "no such folder (relative to "),
    ],
)
def test_what_is_not_here_is_told_with_its_cure(source, message):
    with pytest.raises(ModelError) as error:
        load_model(source, training=False)
    assert f"{source}: {message}" in str(error.value)
    assert "://" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (errors.GatedRepoError, "asks for a consent: accept its terms"),
        (errors.RepositoryNotFoundError, "no model of that name on the hub"),
        (errors.LocalEntryNotFoundError, "and the hub "),
    ],
)
def test_what_the_hub_answers_is_told_apart(monkeypatch, kind, message):
    def asked(*_, **__):
        try:
            raise kind.__new__(kind)
        except kind as error:
            raise OSError("You should look at https://somewhere") from error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", asked)
    with pytest.raises(ModelError) as error:
        load_model("owner/name", training=False)
    assert message in str(error.value) and "somewhere" not in str(error.value)
