"""Two ranks with unequal token counts must take the step that one process takes on the union."""

from __future__ import annotations

import pytest
import torch

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
