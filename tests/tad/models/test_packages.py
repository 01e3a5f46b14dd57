"""Weights that an installed distribution brings as GGUF, kept as safetensors."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml

from tad.experiment.config import ConfigError, load_suite
from tad.models.fingerprint import ModelError
from tad.models.loading import load_model, load_tokenizer
from tad.models.packages import convert, from_gguf, gguf_of, main, packaged_tokenizer
from tad.records import read_json

from .tiny_gguf import PACKAGE, SHAPE, install

REASON = "gguf is not installed (pip install gguf, or make test-slow)"


@pytest.fixture
def gguf(tmp_path, monkeypatch):
    """The distribution installed; the path of its file."""
    pytest.importorskip("gguf", reason=REASON)
    path = install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return path


@pytest.fixture
def scale(tmp_path, monkeypatch):
    """A scale whose teacher is in the distribution, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    source = {"package": PACKAGE, "hub": None}
    values = {
        "extends": "smollm",
        "tokenizers": {"smollm2": source},
        "models": {"smollm2-135m": {"shape": SHAPE, "checkpoints": {"final": source}}},
        "pairs": {
            "smollm2-135m_pruned": {"student": {"layers_of_teacher": 2}},
            "smollm2-135m_recipe": {"student": {"shape": {**SHAPE, "layers": 2}}},
        },
    }
    path = tmp_path / "cut.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_converted_model_has_the_logits_of_its_file(gguf, scale, capsys):
    convert(str(scale), "smollm2-135m", "final")
    folder = scale.parent / "work" / "cut" / "models" / "smollm2-135m" / "final"
    plain = load_model(str(folder), training=False, dtype=torch.float32)
    ids = torch.arange(64).view(2, 32)
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, from_gguf(gguf)(input_ids=ids).logits)
    assert plain.get_input_embeddings().weight is plain.get_output_embeddings().weight
    assert not hasattr(plain.config, "quantization_config")
    manifest = read_json(folder / "manifest.json")
    assert (manifest["source"]["package"], manifest["source"]["version"]) == (PACKAGE, "0.1")
    text = "Whatever 12 it says."
    both = load_tokenizer(str(folder)), packaged_tokenizer(PACKAGE, None)
    assert both[0](text).input_ids == both[1](text).input_ids
    assert both[0].decode(both[0](text).input_ids) == text

    capsys.readouterr()
    convert(str(scale), "smollm2-135m", "final")
    assert "already there" in capsys.readouterr().out
    (folder / "tokenizer.json").unlink()
    convert(str(scale), "smollm2-135m", "final")
    assert (folder / "tokenizer.json").is_file()


def test_the_hub_is_named_where_the_package_is_not_installed(scale, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = ["--config", str(scale), "--model", "smollm2-135m", "--checkpoint", "final"]
    assert main(command) == 2
    assert f"package {PACKAGE}: is not installed, and there is no hub id" in capsys.readouterr().err
    words = ["-o", "models.smollm2-135m.checkpoints.final.hub=nobody/nothing"]
    assert main([*command, *words]) == 2
    assert "nobody/nothing" in capsys.readouterr().err


def test_a_distribution_without_weights_is_refused():
    with pytest.raises(ModelError, match="package pytest: has 0 GGUF files"):
        gguf_of("pytest")
    assert gguf_of("there-is-no-such-distribution") is None


def test_what_reads_gguf_is_named(tmp_path, monkeypatch):
    site = tmp_path / "site"
    info = site / "tiny_teacher-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1\n")
    (info / "RECORD").write_text("tiny_teacher/tiny.gguf,,\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match="pip install gguf"):
        gguf_of(PACKAGE)


def test_only_checkpoints_of_packages_are_converted(scale):
    with pytest.raises(ConfigError, match="names no package"):
        convert(str(scale), "phi-2", "final")


def test_its_folder_is_a_teacher_like_one_that_is_trained_here(scale):
    from tad.experiment.specs import hub_ids, run_spec, weights

    suite = load_suite(scale)
    folder = "work/cut/models/smollm2-135m/final"
    assert weights(suite, "smollm2-135m", "final") == folder
    assert run_spec(suite, suite.runs()[0]).teacher == folder
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" not in hub_ids(suite)
