"""On-policy reverse-KL distillation: this project's stand-in for MiniLLM (Gu et al. 2024).

A step takes the beginnings of packed sequences as prompts, lets the *student* write on from them,
and minimises the reverse KL, KL(student || teacher), of every token that it wrote, beside the
cross entropy of the corpus sequences themselves.

What differs from Gu et al. (2024), whose method is the gradient of the *sequence's* reverse KL:

- No policy gradient. They differentiate through the choice of tokens as well: REINFORCE on the
  log ratio of the rest of the sequence, with PPO clipping and several epochs on each batch of
  samples. Here the samples are constants and each is used once, which keeps the term that they
  call the single-step one and compute exactly, as here (their Section 2.2).
- No teacher-mixed sampling (0.2 of the teacher in theirs) and so no importance weights: all is
  sampled from the student, at ``temperature`` and ``top_p``.
- No length normalisation: it corrects the long-horizon term, which is not here.
- No fine-tuning of the student on the task first, and continuations of one length, which no
  end-of-text token ends: the corpus is packed text, not instructions.
- Kept: their language-modelling term on a pre-training corpus (``corpus_loss``), weighted 1.

Why not the ``DistillationTrainer`` of TRL 1.16, the nearest that is maintained: it takes prompts as
text only (a packed sequence cut anywhere does not survive decoding and encoding), refuses models
with different numbers of rows (Phi-3 and Llama; Qwen), ends rows at end-of-text tokens, draws
from one global generator, and has no language-modelling term. It has no policy gradient either.

B sequences, N tokens, P prompt tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tad.command import UserError
from tad.divergences import IGNORE
from tad.fused import Head, distillation_loss
from tad.fused.states import instead_of_both_logits
from tad.models.sampling import check_sampling, continuations, uniforms
from tad.train.trainer import DistillationTrainer


class OnPolicyError(UserError, ValueError):
    """Values that on-policy distillation cannot use; the message names them."""


@dataclass(frozen=True, kw_only=True)
class OnPolicy:
    """How the student writes.

    ``prompt_tokens`` P of each sequence are given and the rest is written, at ``temperature`` and
    ``top_p`` (of sampling only: the loss is at temperature 1). ``corpus_loss`` adds the cross
    entropy of the corpus sequences. Raises OnPolicyError and SamplingError for values out of range.
    """

    prompt_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    corpus_loss: bool = True

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p)
        if self.prompt_tokens < 1:
            raise OnPolicyError(f"prompt_tokens {self.prompt_tokens}: must be at least 1")


class OnPolicyTrainer(DistillationTrainer):
    """A DistillationTrainer on continuations that the student writes at each step.

    Batches are those of DistillationTrainer. The divergence is a mean over the N + 1 - P written
    tokens of each sequence of the optimizer step, the corpus term (``clm``) over its valid labels.
    What sequence i of step s gets written depends on the weights, ``args.seed``, s and i: not on
    how the step is accumulated, nor (but for rounding) on ranks, nor on whether the run was
    resumed. Raises ValueError without a teacher and OnPolicyError for prompts that fill a sequence.
    """

    def __init__(self, *args: Any, teacher: PreTrainedModel, on_policy: OnPolicy, **kwargs: Any):
        super().__init__(*args, teacher=teacher, method="rkl", **kwargs)
        self.on_policy = on_policy
        self._micro_batch = 0
        self._step_sequences: int | None = None

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The micro-batches of one step and its valid corpus labels; counts sequences besides."""
        batches, valid = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(len(batch["labels"]) for batch in batches), device=device)
        self._step_sequences = int(self.accelerator.reduce(count, reduction="sum"))
        self._micro_batch = 0
        return batches, valid

    def loss_terms(
        self, model: nn.Module, inputs: dict[str, Any], targets: Tensor, items: Tensor
    ) -> dict[str, Tensor]:
        """Reverse KL of what the student writes now, and CLM of the corpus sequences."""
        corpus, written, valid = self._texts(model, inputs["input_ids"])
        unlabelled = torch.full_like(valid, IGNORE, dtype=torch.long)
        options = {"vocab_size": self._vocabulary()}
        options |= {k: self.loss_options[k] for k in ("memory_budget_mb", "compiled")}

        def losses(
            states: Tensor, head: Head, teacher_states: Tensor, teacher_head: Head
        ) -> dict[str, Tensor]:
            own = states[len(corpus) :], head, teacher_states, teacher_head, unlabelled, valid
            count = self._written_count(valid)
            found = distillation_loss(*own, method="rkl", divergence_items=count, **options)
            terms = {"divergence": found.divergence}
            if len(corpus):
                plain = states[: len(corpus)], head, None, None, targets, targets != IGNORE
                found = distillation_loss(*plain, method="clm", clm_items=items, **options)
                terms["clm"] = found.clm
            return terms

        # One forward of both texts: DDP and FSDP expect one forward for each backward.
        found = instead_of_both_logits(
            self._with_inner(model),
            self._with_inner(self.teacher),
            {"input_ids": torch.cat([corpus, written[:, :-1]]), "use_cache": False},
            losses,
            teacher_inputs={"input_ids": written[:, :-1], "use_cache": False},
        )
        return self.with_router(found, targets != IGNORE, items)

    def _texts(self, model: nn.Module, corpus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Corpus inputs to learn (B or 0, N), the written text (B, N+1), what counts of it (B, N).

        Position t of the written text counts if the token that it predicts, t + 1, was written.
        """
        prompt = self.on_policy.prompt_tokens
        if prompt > corpus.shape[1]:
            raise OnPolicyError(
                f"prompt_tokens {prompt}: sequences have {corpus.shape[1]} tokens; choose at most "
                "that many"
            )
        written = self._write(model, corpus[:, :prompt], corpus.shape[1] + 1 - prompt)
        valid = torch.ones_like(corpus, dtype=torch.bool)
        valid[:, : prompt - 1] = False
        return corpus if self.on_policy.corpus_loss else corpus[:0], written, valid

    def _write(self, model: nn.Module, prompts: Tensor, length: int) -> Tensor:
        """Prompts (B, P) with ``length`` tokens of the student after them, without dropout."""
        place = self._micro_batch * self.accelerator.num_processes + self.accelerator.process_index
        self._micro_batch += 1
        first = place * self.args.per_device_train_batch_size  # of this micro-batch in the step
        stream = self.args.seed, self.state.global_step
        draws = [uniforms(length, *stream, first + row) for row in range(len(prompts))]
        training = model.training
        model.eval()
        written = continuations(
            model,
            prompts,
            torch.from_numpy(np.stack(draws)).to(prompts.device),
            temperature=self.on_policy.temperature,
            top_p=self.on_policy.top_p,
            vocabulary=self._vocabulary(),
        )
        model.train(training)
        return torch.cat([prompts, written], 1)

    def _vocabulary(self) -> int:
        """Leading ids that both models know."""
        models = self.model, self.accelerator.unwrap_model(self.teacher)
        rows = [model.get_output_embeddings().out_features for model in models]
        return self.vocab_size or min(rows)

    def _written_count(self, valid: Tensor) -> int:
        """Written tokens of the optimizer step over all ranks (of this batch, outside a step)."""
        sequences = len(valid) if self._step_sequences is None else self._step_sequences
        return sequences * int(valid[0].sum())
