"""The teacher's states computed ahead: the same bits as a teacher that runs beside the student."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset, Subset
from transformers import LlamaConfig, LlamaForCausalLM

from tad.data.instruct import collate
from tad.data.packing import PackedTokens, training_rows
from tad.data.prepare import load_encoder
from tad.methods import Method
from tad.train import states

from ..offline_jobs import make_tokenizer, pack_nonsense, save_model
from .test_trainer import trainer

CONTEXT, MICRO = 16, 2
METHODS = [
    Method("clm"),
    Method("vanilla_kd"),
    Method("vanilla_kd_matched"),
    Method.of("tad", k=5, beta=2.0),
]


def llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, initializer_range=0.2, max_position_embeddings=64,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders of a corpus, a teacher, and its states on the first 12 rows in training order."""
    root = tmp_path_factory.mktemp("states")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(root / "tokenizer")
    data = pack_nonsense(load_encoder("bpe", root / "tokenizer"), root / "data")
    teacher = save_model(llama(1), tokenizer, root / "teacher")
    options = {"context": CONTEXT, "sequences": 12, "batch_size": MICRO, "seed": 3}
    states.write(teacher, str(data), root / "out", **options)
    return SimpleNamespace(data=str(data), teacher=teacher, out=root / "out")


def training(places, count: int) -> Dataset:
    data = PackedTokens(places.data, "train", CONTEXT)
    return Subset(data, training_rows(len(data), count, 3).tolist())


def identity(places, **other) -> str:
    given = {"context": CONTEXT, "batch_size": MICRO, "seed": 3} | other
    data = PackedTokens(places.data, "train", CONTEXT).fingerprint
    return states.identity(places.teacher, data, **given)


def trained(folder, rows: Dataset, method: Method, teacher) -> tuple[list, list[torch.Tensor]]:
    """Losses of every step, and the weights."""
    student = llama(2)
    job = trainer(
        student, folder, method, teacher=teacher, rows=rows, micro=MICRO, accumulate=2,
        steps=len(rows) // (2 * MICRO), data_collator=collate, hidden_cosine=method.row.cosine,
    )  # fmt: skip
    job.train()
    kept = ("loss", "clm", "divergence", "cosine")
    losses = [{k: v for k, v in entry.items() if k in kept} for entry in job.state.log_history]
    return losses, [p.detach().clone() for p in student.parameters()]


def same(one, other) -> bool:
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_training_from_stored_states_gives_the_same_bits(places, tmp_path, method):
    rows = training(places, 12)
    read, _ = states.stored(places.out, rows, identity(places))
    teacher = llama(1)
    with_teacher = trained(tmp_path, rows, method, teacher)
    assert len(with_teacher[0]) == 4  # three steps and what the Trainer adds
    teacher.model.forward = None  # it cannot run any more
    assert same(trained(tmp_path, read, method, teacher), with_teacher)


class Uneven(Dataset):
    """Rows of different lengths, of which only a part is to be learnt."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError(index)
        length = 4 + index * 5 % 13
        ids = torch.arange(length + 1) * (7 + index) % 320
        labels = ids[1:].clone()
        labels[: index % 3 + 1] = -100
        return {"input_ids": ids[:-1], "labels": labels}


def test_rows_of_different_lengths_keep_their_padding(tmp_path):
    teacher, rows = llama(1), Uneven()
    found = states.held_in_memory(teacher, teacher, rows, MICRO, limit=1e6)
    assert [len(row[states.KEY]) for row in found] == [len(row["labels"]) for row in rows]
    for method in (Method("vanilla_kd"), Method.of("tad", k=5)):
        expected = trained(tmp_path, rows, method, llama(1))
        assert same(trained(tmp_path, found, method, teacher), expected)
    assert states.held_in_memory(teacher, teacher, rows, MICRO, limit=1000) is rows


def test_evaluations_with_states_held_in_memory_give_the_same_numbers(tmp_path):
    teacher, rows = llama(1), Uneven()
    job = trainer(llama(2), tmp_path, "tad", teacher=teacher, rows=rows, data_collator=collate)
    expected = job.evaluate()
    size = job.args.per_device_eval_batch_size
    job.eval_dataset = states.held_in_memory(teacher, teacher, rows, size, limit=1e6)
    teacher.model.forward = None
    found = job.evaluate()
    assert found["eval_kl"] > 0
    assert {k: found[k] for k in ("eval_kl", "eval_nll")} == {
        k: expected[k] for k in ("eval_kl", "eval_nll")
    }


def test_a_shorter_run_reads_a_prefix(places):
    whole, seconds = states.stored(places.out, training(places, 12), identity(places))
    part, share = states.stored(places.out, training(places, 4), identity(places))
    assert len(part) == 4 and share == pytest.approx(seconds / 3)
    for index in range(4):
        assert torch.equal(part[index][states.KEY], whole[index][states.KEY])
        assert torch.equal(part[index]["input_ids"], whole[index]["input_ids"])


def test_other_states_are_not_read(places, tmp_path):
    rows = training(places, 12)
    for changed in ({"context": 8}, {"batch_size": 4}, {"seed": 4}):
        assert states.stored(places.out, rows, identity(places, **changed)) is None
    other = SimpleNamespace(
        data=places.data, teacher=save_model(llama(5), make_tokenizer(), tmp_path)
    )
    assert states.stored(places.out, rows, identity(other)) is None
    assert states.stored(places.out, training(places, 13), identity(places)) is None
    assert states.stored(tmp_path / "none", rows, identity(places)) is None
    wanted = identity(places)
    torch.set_num_threads(2)
    assert identity(places) != wanted
    cut = shutil.copytree(places.out, tmp_path / "cut")
    assert states.stored(cut, rows, wanted) is not None
    (cut / "states.bin").write_bytes((cut / "states.bin").read_bytes()[:-4])
    assert states.stored(cut, rows, wanted) is None
    (cut / "states.bin").unlink()
    assert states.stored(cut, rows, wanted) is None


def test_the_command_refuses_bad_input_in_one_line(places, tmp_path, capsys):
    given = ["--teacher", places.teacher, "--data", places.data, "--out", str(tmp_path / "out")]
    given += ["--context", "16", "--batch-size", "2", "--sequences"]
    assert states.main([*given, "0"]) == 2
    assert "--sequences 0: must be at least 1" in capsys.readouterr().err
    assert states.main([*given, "4"]) == 0
    assert (tmp_path / "out" / "states.bin").stat().st_size == 4 * 16 * 32 * 4
