"""Two ranks take the step of one process on the union, and evaluate to the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from tad.divergences import causal_lm, forward_kl

from ..ranks import run_ranks

WORKER = """
import sys, torch
from safetensors.torch import save_file
from transformers import TrainingArguments, LlamaConfig, LlamaForCausalLM
from tad.train.trainer import DistillationTrainer

def llama(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32,
        num_hidden_layers=1, num_attention_heads=2, initializer_range=0.2))

torch.set_num_threads(1)
world, out = int(sys.argv[1]), sys.argv[2]
generator = torch.Generator().manual_seed(0)
ids = torch.randint(0, 32, (4, 51), generator=generator)
rows = []
for index, valid in enumerate([1, 50, 2, 40]):  # ranks get sequences 0, 2 and 1, 3, or in turn
    labels = ids[index, 1:].clone()
    labels[valid:] = -100
    rows.append({"input_ids": ids[index, :-1], "labels": labels})
model = llama(1)
trainer = DistillationTrainer(
    model=model, teacher=llama(2), method=sys.argv[3],
    train_dataset=rows, eval_dataset=rows,
    args=TrainingArguments(output_dir=out, per_device_train_batch_size=4 // (2 * world),
        gradient_accumulation_steps=2, max_steps=2, learning_rate=0.1, optim="sgd",
        lr_scheduler_type="constant", train_sampling_strategy="sequential", max_grad_norm=0,
        save_strategy="no", logging_steps=1, remove_unused_columns=False, report_to=[],
        per_device_eval_batch_size=2, disable_tqdm=True, use_cpu=True,
        ddp_backend="gloo" if world > 1 else None))
metrics = trainer.evaluate()
trainer.train()
loss = [line["loss"] for line in trainer.state.log_history if "loss" in line]
state = {name: value.detach().clone().contiguous() for name, value in model.named_parameters()}
state["loss"] = torch.tensor(loss)
state["eval_kl"] = torch.tensor(metrics["eval_kl"])
save_file(state, f"{out}/rank{trainer.args.process_index}.safetensors")
"""


@pytest.mark.parametrize("method", ["tad-k3-b2"])
def test_two_ranks_take_the_step_of_one_process(tmp_path, method):
    (alone,) = run_ranks(tmp_path, WORKER, 1, method)
    ranks = run_ranks(tmp_path, WORKER, 2, method)
    for name, value in alone.items():
        for rank in ranks:
            torch.testing.assert_close(rank[name], value, rtol=1e-4, atol=1e-6, msg=name)


EVALUATION = """
import sys, torch
sys.path.insert(0, sys.argv[3])
from safetensors.torch import save_file
from tad.train.trainer import DistillationTrainer
from tests.tad.train.test_mixin import TADTrainer, make
from tests.tad.train.test_ranks import fixed_rows, llama, shift

torch.set_num_threads(1)
world, out = int(sys.argv[1]), sys.argv[2]
found = {}
for cls in (TADTrainer, DistillationTrainer):
    rows = fixed_rows() if cls is TADTrainer else shift(fixed_rows())
    for size in (1, 2, 5):
        trainer = make(out, llama(1), llama(2), cls, rows, collator=None, arguments={
            "per_device_eval_batch_size": size, "ddp_backend": "gloo" if world > 1 else None})
        for name, value in trainer.evaluate().items():
            if name in ("eval_nll", "eval_kl", "eval_loss"):
                found[f"{cls.__name__} {size} {name}"] = torch.tensor(value, dtype=torch.float64)
save_file(found, f"{out}/rank{trainer.args.process_index}.safetensors")
"""


def llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=0.2,
        )
    )


def fixed_rows() -> list[dict[str, torch.Tensor]]:
    """Five sequences of one length, with very different numbers of tokens to learn."""
    ids = torch.randint(64, (5, 24), generator=torch.Generator().manual_seed(4))
    starts = torch.tensor([22, 1, 15, 8, 20]).unsqueeze(1)
    labels = ids.masked_fill(torch.arange(24) < starts, -100)
    return [{"input_ids": x, "labels": y} for x, y in zip(ids, labels, strict=True)]


def shift(rows: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """The rows with the labels that the project's own trainer takes."""
    return [row | {"labels": F.pad(row["labels"][1:], (0, 1), value=-100)} for row in rows]


def test_evaluation_is_the_same_over_ranks_and_batch_sizes(tmp_path):
    """Rows that fill up a rank's last batch count once, and no mean of means is taken."""
    root = str(Path(__file__).parents[3])
    results = [x for world in (1, 2) for x in run_ranks(tmp_path, EVALUATION, world, root)]
    batch = {
        k: torch.stack([row[k] for row in shift(fixed_rows())]) for k in ("input_ids", "labels")
    }
    with torch.no_grad():
        student, teacher = (llama(seed)(batch["input_ids"]).logits.double() for seed in (1, 2))
    mask = batch["labels"] != -100
    nll = causal_lm(student, batch["labels"], mask=mask).sum() / mask.sum()
    kl = forward_kl(student, teacher, mask=mask).sum() / mask.sum()
    expected = {"eval_nll": nll, "eval_kl": kl, "eval_loss": nll + kl}
    for result in results:
        assert len(result) == 2 * 3 * 3
        for name, value in result.items():
            want = expected[name.split()[-1]]
            assert abs(value - want) <= 1e-6 * want, (name, value, want)
