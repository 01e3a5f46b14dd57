"""One training step of families with odd heads, against the reference on their whole logits."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tad import divergences
from tad.fused import Head, HeadError, last_states
from tad.train.trainer import DistillationTrainer

from ..train.test_mixin import TADTrainer, make, sequences
from .every_class import build

RATE = 0.5
FAMILIES = [
    "cohere",
    "granite",
    "gemma2",
    "minicpm3",
    "recurrent_gemma",
    "modernbert-decoder",
    "falcon_h1",
    "xlstm",
    "mixtral",
]


def tiny(family: str, seed: int = 0) -> torch.nn.Module:
    return build(CONFIG_MAPPING[family], seed, output_router_logits=True, router_aux_loss_coef=0.7)


def unshifted(rows):
    """A batch padded on the right; no attention mask, which not every family takes."""
    fills = {"input_ids": 0, "labels": -100}
    return {
        name: pad_sequence([row[name] for row in rows], batch_first=True, padding_value=fill)
        for name, fill in fills.items()
    }


def shifted(rows):
    """A batch whose labels are those of the project's own trainer."""
    batch = unshifted(rows)
    return batch | {"labels": F.pad(batch["labels"][:, 1:], (0, 1), value=-100)}


def reference_loss(student, teacher, batch) -> torch.Tensor:
    """CLM, tail-aware divergence and router loss, from whole logits and shifted labels."""
    outputs = student(input_ids=batch["input_ids"], use_cache=False)
    with torch.no_grad():
        taught = teacher(input_ids=batch["input_ids"], use_cache=False).logits
    labels, mask = batch["labels"], batch["labels"] != -100
    loss = divergences.causal_lm(outputs.logits, labels, mask=mask)
    loss = loss + divergences.tail_aware(outputs.logits, taught, k=3, mask=mask)
    aux = getattr(outputs, "aux_loss", None)
    return loss.sum() / mask.sum() + (0.0 if aux is None else 0.7 * aux)


@pytest.mark.parametrize(
    ("trainer", "collator"), [(TADTrainer, unshifted), (DistillationTrainer, shifted)]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_equals_the_reference_on_whole_logits(tmp_path, family, trainer, collator):
    student, teacher = tiny(family), tiny(family, seed=1)
    expected = copy.deepcopy(student).train()
    rows = sequences()
    loss = reference_loss(expected, copy.deepcopy(teacher), shifted(rows))
    loss.backward()
    arguments = {"learning_rate": RATE}
    trainer = make(
        tmp_path, student, teacher, trainer, rows, collator=collator, arguments=arguments
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert ("router" in logged) == (family == "mixtral")
    for (name, got), want in zip(student.named_parameters(), expected.parameters(), strict=True):
        gradient = 0.0 if want.grad is None else want.grad
        allowed = 1e-6 if want.grad is None else 1e-3 * RATE * want.grad.abs().max() + 1e-6
        error = (got - (want - RATE * gradient)).detach().abs().max()
        assert error <= allowed, (name, error, allowed)


class Changed(LlamaForCausalLM):
    """A model that does more to its logits than a head, a scale and a soft-cap."""

    change = staticmethod(lambda model, outputs: outputs)

    def forward(self, *args, **kwargs):
        return type(self).change(self, super().forward(*args, **kwargs))


def offset(model, outputs):
    outputs.logits = outputs.logits + torch.arange(outputs.logits.shape[-1])
    return outputs


def masked(model, outputs):
    outputs.logits = torch.cat([outputs.logits[..., :-4], outputs.logits[..., -4:] - 1e9], -1)
    return outputs


def shortened(model, outputs):
    outputs.logits = outputs.logits[..., :-4]
    return outputs


def twice(model, outputs):
    outputs.logits = outputs.logits + model.lm_head(torch.ones(1, 1, 16))
    return outputs


def bent(model, outputs):
    outputs.logits = outputs.logits.relu()
    return outputs


REFUSED = {
    "offset": (offset, "no scaled, soft-capped product"),
    "masked": (masked, "no scaled, soft-capped product"),
    "shortened": (shortened, "no scaled, soft-capped product"),
    "twice": (twice, "calls its output head 2 times"),
    "bent": (bent, "no scaled, soft-capped product"),
    "tuple": (lambda model, outputs: outputs.to_tuple(), "cannot be probed"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_logits_of_another_kind_are_refused_at_construction(tmp_path, tiny_llama, kind):
    change, message = REFUSED[kind]
    model = type("Other", (Changed,), {"change": staticmethod(change)})
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    for ask in (Head.of, lambda x: last_states(x, input_ids=torch.ones(1, 3, dtype=torch.long))):
        with pytest.raises(HeadError, match=message):
            ask(model(config))
    with pytest.raises(HeadError, match=message):
        make(tmp_path, model(config), tiny_llama(2))
    with pytest.raises(HeadError, match=message):
        make(tmp_path, tiny_llama(2), model(config))


def test_a_model_with_several_heads_is_refused():
    model = AutoModelForCausalLM.from_config(tiny("granite").config)
    model.lm_head = torch.nn.ModuleList([model.lm_head, model.lm_head])
    with pytest.raises(HeadError, match="its output head is ModuleList"):
        Head.of(model)
