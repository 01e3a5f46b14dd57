"""TADMixin and the fused loss under DDP and FSDP: gradients averaged, sharded weights gathered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tad.fused import distillation_loss
from tad.fused.states import instead_of_logits

from ..ranks import run_ranks
from .test_mixin import collate, make, sequences

WORKER = """
import sys, torch
sys.path.insert(0, sys.argv[3])
from safetensors.torch import save_file
from tests.tad.train.test_mixin import collate, make, sequences
from transformers import LlamaConfig, LlamaForCausalLM

def llama(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=16,
        num_hidden_layers=1, num_attention_heads=2, initializer_range=0.2))

torch.set_num_threads(1)
world, out = int(sys.argv[1]), sys.argv[2]
student = llama(1)
arguments = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4 // world,
             "max_steps": 2, "ddp_backend": "gloo" if world > 1 else None}
trainer = make(out, student, llama(2), arguments=arguments)
trainer.train()
weights = {k: v.detach().contiguous() for k, v in student.named_parameters()}
logs = trainer.state.log_history[:2]
weights["logs"] = torch.tensor([[x[k] for k in ("loss", "clm", "divergence")] for x in logs])
save_file(weights, f"{out}/rank{trainer.args.process_index}.safetensors")
"""


def test_two_ranks_take_the_step_of_one_process(tmp_path):
    root = str(Path(__file__).parents[3])
    results = [run_ranks(tmp_path, WORKER, world, root) for world in (1, 2)]
    (one,), (first, second) = results
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture
def process_group(tmp_path):
    """One gloo process that is a group of its own."""
    import torch.distributed as dist

    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, world_size=1, rank=0)
    yield dist
    dist.destroy_process_group()


def test_the_loss_runs_inside_the_forward_of_the_wrapper(tiny_llama, process_group):
    """DDP reduces the gradients of all parameters, the head's included."""
    student = tiny_llama(1)
    wrapped = DistributedDataParallel(student)
    reduced = []

    def hook(state, bucket):
        reduced.extend(bucket.parameters())
        future = process_group.all_reduce(bucket.buffer(), async_op=True).get_future()
        return future.then(lambda done: done.value()[0])

    wrapped.register_comm_hook(None, hook)
    inputs = {"input_ids": torch.arange(1, 9).view(1, 8)}
    value = instead_of_logits(
        wrapped, student, inputs, lambda states, head: (states @ head.weight.t()).square().sum()
    ).value
    value.backward()
    assert {id(p) for p in reduced} == {id(p) for p in student.parameters()}


def test_sharded_models_give_the_same_gradients(tmp_path, tiny_llama, process_group):
    """FSDP2 on one rank: weights are gathered where the loss needs them, the teacher's too."""
    from torch.distributed.fsdp import fully_shard

    results = []
    for shard in (False, True):
        student, teacher = tiny_llama(1), tiny_llama(2, hidden=16)
        trainer = make(tmp_path, student, teacher)
        for model in (student, teacher) if shard else ():
            for layer in model.model.layers:
                fully_shard(layer)
            fully_shard(model)
        loss = trainer.compute_loss(student, collate(sequences()))
        loss.backward()
        whole = [p.grad.full_tensor() if shard else p.grad for p in student.parameters()]
        results.append([loss.detach(), *whole])
    for sharded, plain in zip(*results, strict=True):
        torch.testing.assert_close(sharded, plain)


def test_a_sharded_head_is_gathered_by_the_plain_function(tiny_llama, process_group):
    from torch.distributed.fsdp import fully_shard

    g = torch.Generator().manual_seed(0)
    hidden, other = torch.randn(2, 2, 5, 16, generator=g)
    labels = torch.randint(64, (2, 5), generator=g)
    gradients = []
    for shard in (True, False):
        student, teacher = tiny_llama(1, hidden=16), tiny_llama(2, hidden=16)
        if shard:
            fully_shard(student)
        heads = student.lm_head, teacher.lm_head
        terms = distillation_loss(hidden, heads[0], other, heads[1], labels, None, method="tad")
        terms.total.backward()
        gradient = heads[0].weight.grad
        gradients.append(gradient.full_tensor() if shard else gradient)
    torch.testing.assert_close(*gradients)
