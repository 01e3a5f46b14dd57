"""Rows are in the model's own tokens, or refused; BOS tokens are counted."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from eval import heldout
from eval.calibration import measure
from eval.rows import RowsError, batches, bos_token, check_tokenizer
from tad.data.instruct import open_rows
from tad.data.packing import pack
from tad.data.prepare import load_encoder, train_tokenizer
from tad.experiment.schema import Corpus
from tests.tad.made_up_text import prose

SIZE = 400
PACKED = "data/general/own"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Text packed by tokenizer ``own``; a model with it, and one of the same size with another."""
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("rows")
    texts = prose(200)
    other = [" ".join(reversed(text.split())).upper() for text in texts]
    shape = {
        "vocab_size": SIZE, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "initializer_range": 0.5,
    }  # fmt: skip
    for name, source in (("own", texts), ("other", other)):
        tokenizer = train_tokenizer(source, SIZE)
        tokenizer.save_pretrained(root / name)
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(root / name)
    corpus = Corpus(
        source="local", path="x", tokens=3000, validation_tokens=3000, validation_fraction=0.4
    )
    shutil.copytree(root / "own", root / "tokenizers" / "own")
    encoder = load_encoder("own", root / "own")
    pack(texts, encoder, "general", corpus, root / PACKED, sources={})
    return root


def rows(tree):
    return open_rows(tree / PACKED, "validation", 32)


def test_another_tokenizer_is_refused(tree):
    check_tokenizer(str(tree / "own"), tree / PACKED)
    with pytest.raises(
        RowsError, match="packed by the tokenizer own, which is not that of .*other"
    ):
        check_tokenizer(str(tree / "other"), tree / PACKED)


def test_the_same_tokenizer_in_another_file_is_not(tree, tmp_path):
    """Saved anew the bytes differ; a padding token more changes no token of the text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tree / "own")
    tokenizer.add_special_tokens({"pad_token": "<a new one>"})
    tokenizer.save_pretrained(tmp_path)
    saved = (tmp_path / "tokenizer.json").read_bytes()
    assert saved != (tree / "own" / "tokenizer.json").read_bytes()
    check_tokenizer(str(tmp_path), tree / PACKED)
    shutil.copytree(tree / PACKED, tmp_path / "a" / "b" / "c")  # what packed it is not to be found
    with pytest.raises(RowsError, match="pack the text with the model's own"):
        check_tokenizer(str(tmp_path), tmp_path / "a" / "b" / "c")


@pytest.mark.parametrize("command", [heldout.main, measure.main])
def test_commands_refuse_it_in_one_line(tree, tmp_path, capsys, command):
    out = tmp_path / "record.json"
    options = ["--data", str(tree / PACKED), "--context", "32", "--out", str(out)]
    assert command(["--model", str(tree / "own"), *options]) == 0
    capsys.readouterr()
    record = json.loads(out.read_text())
    assert record["device"] in ("cpu", "cuda") and record["bos_expected"] is False
    out.unlink()
    assert command(["--model", str(tree / "other"), *options]) == 2
    error = capsys.readouterr().err
    assert "pack the text with the model's own" in error and error.count("\n") == 1
    assert not out.exists()


def test_bos_is_what_the_template_puts_first(tree):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tree / "own")
    assert bos_token(tokenizer) is None
    first = tokenizer.convert_ids_to_tokens(0)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, 0)]
    )
    assert bos_token(tokenizer) == 0


def test_bos_tokens_of_the_rows_are_counted(tree):
    from tad.models.loading import load_model

    model, data = load_model(str(tree / "own"), training=False), rows(tree)
    found = int(torch.cat([data[i]["input_ids"] for i in range(10)]).eq(0).sum())
    record = heldout.held_out(model, data, sequences=10, bos=0)
    assert (record["bos_expected"], record["bos_found"]) == (True, found) and found > 0
    assert record["dtype"] == "float32"
    _, how = measure.measure(tree / "own", data, positions=320, bos=0)
    assert (how["bos_expected"], how["bos_found"]) == (True, found)


def test_batches_cover_the_rows_in_order(tree):
    data = rows(tree)
    seen = [(list(numbers), batch) for numbers, batch in batches(data, 4, 10, "test")]
    assert [numbers for numbers, _ in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    joined = torch.cat([batch["input_ids"] for _, batch in seen])
    assert torch.equal(joined, torch.stack([data[i]["input_ids"] for i in range(10)]))


def test_heldout_tells_wrong_numbers_in_one_line(tree, tmp_path, capsys):
    base = ["--model", str(tree / "own"), "--data", str(tree / PACKED), "--context", "32"]
    for arguments, message in (
        (["--sequences", "0"], "--sequences 0: must be at least 1"),
        (["--sequences", "9000"], "--sequences 9000: the validation split has"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--out", str(tmp_path)], "is a folder"),
    ):
        out = str(tmp_path / "x.json")
        assert heldout.main([*base, "--out", out, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
