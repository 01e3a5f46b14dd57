"""Tail-aware distillation in a training loop of your own.

    python examples/plain_loop.py

Works with any two causal language models that share a vocabulary: `last_states` gives the states
that a model puts into its output head, and the head. The loss never holds a (tokens, vocabulary)
tensor.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tad.fused import distillation_loss, last_states

VOCABULARY, CONTEXT, BATCH, STEPS = 512, 32, 8, 20


def model(layers: int, hidden: int, seed: int) -> LlamaForCausalLM:
    """A tiny stand-in. Yours: AutoModelForCausalLM.from_pretrained(...)."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config)


def main(steps: int = STEPS) -> list[float]:
    """Train the student and return the loss of each step, in nats a token."""
    teacher, student = model(4, 64, seed=0), model(2, 32, seed=1)
    teacher.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)
    history = []
    for step in range(steps):
        start = torch.randint(VOCABULARY - CONTEXT, (BATCH, 1), generator=generator)
        tokens = start + torch.arange(CONTEXT + 1)  # the "text" counts upwards
        inputs, labels = tokens[:, :-1], tokens[:, 1:]  # labels[b, t] is what position t predicts
        mask = torch.ones_like(labels)  # 0 for prompts and padding
        with torch.no_grad():
            teacher_states = last_states(teacher, input_ids=inputs)
        terms = distillation_loss(
            *last_states(student, input_ids=inputs),
            *teacher_states,
            labels,
            mask,
            method="tad",  # or vanilla_kd, rkl, dkd, clm
            k=10,
            beta=2.0,
        )
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        history.append(terms.total.item())
        print(
            f"step {step:3d}  clm {terms.clm.item():.3f}  divergence {terms.divergence.item():.3f}"
        )
    return history


if __name__ == "__main__":
    main()
