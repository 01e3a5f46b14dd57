"""Tail-aware distillation in a training loop of your own.

    python examples/plain_loop.py

Works with any two causal language models that share a vocabulary: you need their last hidden
states, their output heads, and one call. The loss never holds a (tokens, vocabulary) tensor.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tad.fused import Head, distillation_loss

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
            teacher_hidden = teacher.model(inputs).last_hidden_state
        terms = distillation_loss(
            student.model(inputs).last_hidden_state,
            Head.of(student),  # reads bias, soft-capping and scaling of the model's head
            teacher_hidden,
            Head.of(teacher),
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
