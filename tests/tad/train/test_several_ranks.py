"""Jobs on two and four ranks, whole or sharded, end where one process does, killed or not.

The same holds for how each of them runs: activations computed again, or weights in parts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from tad.data.prepare import load_encoder
from tad.experiment.specs import Optimisation, RunSpec
from tad.methods import Method
from tad.records import read_json, read_json_lines
from tad.train import ranks
from tad.train.checkpoints import CheckpointFolder, ShardingError
from tad.train.job import run_job
from tad.train.on_policy import OnPolicy, OnPolicyTrainer
from tad.train.trainer import DistillationTrainer

from ..offline_jobs import make_tokenizer, pack_nonsense
from ..ranks import fork_ranks

CONTEXT, BATCH, STEPS, SAVED = 12, 8, 6, 3
SLOW = pytest.mark.slow
VALID = [1, 12, 2, 9, 3, 12, 5, 1]
"""Tokens to learn of the sequences of a step, so that no two ranks have equally many."""


class Rows(Dataset):
    """Random sequences for all steps, of which few positions or all count."""

    def __init__(self, vocabulary: int):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(vocabulary, (STEPS * BATCH, CONTEXT + 1), generator=generator)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        labels = self.ids[index, 1:].clone()
        labels[VALID[(index + index // BATCH) % BATCH] :] = -100
        return {"input_ids": self.ids[index, :-1], "labels": labels}


class Dying(DistillationTrainer):
    """A trainer whose last rank is gone in the step after ``dies_after``."""

    dies_after: int

    def training_step(self, *args, **kwargs):
        last = self.args.process_index == self.args.world_size - 1
        if last and self.state.global_step == self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(*args, **kwargs)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A tokenizer, and a packed corpus for what is held out."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def make_corpus(folder: Path):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    encoder = load_encoder("bpe", folder / "tokenizer")
    return tokenizer, pack_nonsense(encoder, folder / "data")


def llama(seed: int, vocabulary: int, layers: int, **extra) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        initializer_range=0.2,
        **extra,
    )
    return LlamaForCausalLM(config)


def job(
    corpus,
    folder: Path,
    *,
    method="tad-k5-b2",
    cls=DistillationTrainer,
    trainer=None,
    tied=True,
    **values,
) -> Callable[[], None]:
    """What trains a student of two layers to ``folder``; a function of nothing."""
    tokenizer, data = corpus
    vocabulary = len(tokenizer)
    optimisation = Optimisation(
        **{
            "steps": STEPS, "batch_size": BATCH, "micro_batch_size": 1, "context": CONTEXT,
            "learning_rate": 2e-3, "weight_decay": 0.1, "schedule": "cosine",
            "warmup_fraction": 0.0, "max_grad_norm": 0.5, "memory_budget_mb": 8.0,
            "compiled": None, "evaluations": 2, "evaluation_sequences": 5,
            "checkpoint_every_steps": SAVED, "seed": 0,
        }
        | values
    )  # fmt: skip
    spec = RunSpec(
        run="made-up", data=data, tokenizer="made-up", teacher="made-up", shape=None, start=None,
        temperature=1.0, hidden_cosine=True, optimisation=optimisation,
    )  # fmt: skip

    def build():
        student = llama(1, vocabulary, 2, tie_word_embeddings=tied)
        # As a student that keeps its teacher's embeddings; with the head where it is tied.
        student.get_input_embeddings().weight.requires_grad_(tied)
        return student, {"teacher": llama(2, vocabulary, 3)}

    return lambda: run_job(
        spec,
        out=folder / "out",
        checkpoints=folder / "checkpoints",
        force=False,
        tokenizer=tokenizer,
        build=build,
        trainer_class=trainer or partial(cls, method=Method.parse(method).loss, hidden_cosine=True),
        train_rows=lambda: (Rows(vocabulary), "made-up"),
    )


def result(folder: Path) -> dict[str, torch.Tensor]:
    """Final weights and every number of the history that no clock decides."""
    found = dict(load_file(folder / "out" / "model.safetensors"))
    for entry in read_json_lines(folder / "out" / "train.jsonl"):
        for name, value in entry.items():
            if name not in ("step", "tokens_per_second"):
                key = f"{name} at {entry['step']}"
                found[key] = torch.tensor(value, dtype=torch.float64)
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            other[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """What one process ends in, by the options of ``job``; each once."""
    known = {}

    def get(**options) -> dict[str, torch.Tensor]:
        key = repr(sorted(options.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("alone")
            fork_ranks(job(corpus, folder, **options), 0)
            known[key] = result(folder)
        return known[key]

    return get


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
@pytest.mark.parametrize("world", [2, pytest.param(4, marks=SLOW)])
def test_ranks_end_where_one_process_does(corpus, alone, tmp_path, world, sharding):
    """Losses, gradient norms, evaluations and weights of a student with a tied head."""
    fork_ranks(job(corpus, tmp_path, sharding=sharding), world)
    same(alone(), result(tmp_path), 1e-5)
    manifest = read_json(tmp_path / "out" / "manifest.json")
    assert (manifest["ranks"], manifest["sharding"]) == (world, sharding)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"method": "vanilla_kd_matched", "tied": False},  # its weight is a sum over the whole step
        {"method": "rkl", "tied": False, "micro_batch_size": 4, "gradient_checkpointing": True},
        {"trainer": partial(OnPolicyTrainer, on_policy=OnPolicy(prompt_tokens=4))},
    ],
    ids=["matched", "checkpointed", "on-policy"],
)
def test_what_a_sharded_model_has_to_do_besides(corpus, alone, tmp_path, options):
    """Frozen embeddings, a coefficient from the whole step, layers that run again, writing."""
    fork_ranks(job(corpus, tmp_path, sharding="fsdp", **options), 2)
    same(alone(**options | {"gradient_checkpointing": False}), result(tmp_path), 1e-5)


@pytest.mark.parametrize(
    ("sharding", "before", "after"),
    [
        ("none", 2, 0),
        ("fsdp", 2, 2),
        pytest.param("none", 2, 2, marks=SLOW),
        pytest.param("fsdp", 2, 4, marks=SLOW),
        pytest.param("fsdp", 4, 1, marks=SLOW),
    ],
)
def test_killed_it_resumes_on_any_number_of_ranks(corpus, alone, tmp_path, sharding, before, after):
    killed = type("Killed", (Dying,), {"dies_after": STEPS - 1})
    fork_ranks(job(corpus, tmp_path, sharding=sharding, cls=killed), before, dies=True)
    assert not (tmp_path / "out" / "manifest.json").exists()
    fork_ranks(job(corpus, tmp_path, sharding=sharding), after)
    assert read_json(tmp_path / "out" / "manifest.json")["resumed_from_step"] == SAVED
    resumed = result(tmp_path)
    same(alone(), resumed, 1e-5)
    if before == after:
        other = tmp_path / "whole"
        fork_ranks(job(corpus, other, sharding=sharding), after)
        same(result(other), resumed, 0.0)


def test_a_checkpoint_of_the_other_sharding_is_refused(corpus, tmp_path):
    killed = type("Killed", (Dying,), {"dies_after": STEPS - 1})
    fork_ranks(job(corpus, tmp_path, cls=killed), 0, dies=True)

    def refused():
        with pytest.raises(ShardingError, match="sharding: none.*sharding: fsdp.*--force"):
            job(corpus, tmp_path, sharding="fsdp")()

    fork_ranks(refused, 0)


def test_a_second_job_on_several_ranks_is_refused(corpus, tmp_path):
    def refused():
        job(corpus, tmp_path)()

    with CheckpointFolder(tmp_path / "checkpoints", "other"):
        fork_ranks(refused, 2, dies=True)


def test_ranks_that_a_batch_cannot_be_dealt_out_to(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "6")
    with pytest.raises(ranks.RanksError, match=r"batch_size=128 .*6 ranks .*\(1, 2, 4, 8\)"):
        ranks.shares(128, 8)
    with pytest.raises(ranks.RanksError, match=r"batch_size=4 .*\(1, 2, 4\)"):
        ranks.shares(4, 4)
    for world, found in (("1", (8, 16)), ("8", (8, 2)), ("32", (4, 1))):
        monkeypatch.setenv("WORLD_SIZE", world)
        assert ranks.shares(128, 8) == found


def test_one_process_has_nothing_to_shard_over(corpus, tmp_path):
    with pytest.raises(ranks.RanksError, match="torchrun"):
        job(corpus, tmp_path, sharding="fsdp")()


def test_mixed_precision_keeps_the_loss_and_sums_of_gradients_in_float32():
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
    plugin = SimpleNamespace(mixed_precision_policy=policy)
    ranks.keep_float32(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)))
    kept = plugin.mixed_precision_policy
    assert (kept.param_dtype, kept.reduce_dtype) == (torch.bfloat16, torch.float32)
    assert kept.output_dtype is None
