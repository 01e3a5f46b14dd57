"""TADMixin over the stock Trainer and TRL's SFTTrainer: normalisation, masks, logs."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from transformers import Trainer, TrainingArguments

from tad import divergences
from tad.fused import distillation_loss
from tad.fused.states import instead_of_logits
from tad.train.mixin import TADMixin

needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is absent")
PROMPTS = [3, 1, 5, 2, 0, 4, 2, 1]
LENGTHS = [4, 30, 9, 12, 40, 6, 21, 2]
PAD = 0


class TADTrainer(TADMixin, Trainer):
    pass


def sequences(vocabulary: int = 64) -> list[dict[str, torch.Tensor]]:
    """Eight sequences with prompts, with very different numbers of tokens to learn."""
    g = torch.Generator().manual_seed(0)
    rows = []
    for prompt, length in zip(PROMPTS, LENGTHS, strict=True):
        ids = torch.randint(1, vocabulary, (length,), generator=g)
        ids[-1] = PAD  # the end-of-text token is also what pads
        labels = ids.clone()
        labels[:prompt] = -100
        rows.append({"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)})
    return rows


def collate(rows, side="right"):
    width = max(len(row["input_ids"]) for row in rows)
    fills = {"input_ids": PAD, "labels": -100, "attention_mask": 0}
    batch = {}
    for name, fill in fills.items():
        padded = torch.full((len(rows), width), fill)
        for into, row in zip(padded, rows, strict=True):
            values = row[name]
            into[slice(len(values)) if side == "right" else slice(-len(values), None)] = values
        batch[name] = padded
    return batch


def make(tmp_path, student, teacher, cls=TADTrainer, data=None, collator=collate, **options):
    arguments = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 3,
        "max_steps": 1,
        "learning_rate": 0.5,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    arguments |= options.pop("arguments", {})
    data = sequences() if data is None else data
    return cls(
        model=student,
        args=TrainingArguments(**arguments),
        train_dataset=data,
        eval_dataset=data,
        data_collator=collator,
        teacher=teacher,
        **({} if "method" in options else {"k": 3}) | options,
    )


def reference(student, teacher, batch, **options) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Sums of CLM and tail-aware divergence from full logits, and the tokens to learn."""
    targets = torch.full_like(batch["labels"], -100)
    targets[:, :-1] = batch["labels"][:, 1:]
    targets[batch["attention_mask"] == 0] = -100
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    mask = targets != -100
    with torch.no_grad():
        teacher_logits = teacher(**inputs).logits
    logits = student(**inputs).logits
    div = divergences.tail_aware(logits, teacher_logits, k=3, mask=mask, **options)
    return divergences.causal_lm(logits, targets).sum(), div.sum(), int(mask.sum())


@pytest.fixture
def pair(tiny_llama):
    return tiny_llama(1), tiny_llama(2, hidden=16)


def test_loss_is_that_of_full_logits_over_the_tokens_to_learn(tmp_path, pair):
    student, teacher = pair
    batch = collate(sequences())
    clm, div, count = reference(student, teacher, batch)
    # A sequence of n tokens with a prompt of p has n - max(p, 1) tokens that are predicted.
    assert count == sum(n - max(p, 1) for n, p in zip(LENGTHS, PROMPTS, strict=True))
    trainer = make(tmp_path, student, teacher)
    loss = trainer.compute_loss(student, batch)
    torch.testing.assert_close(loss, (clm + div) / count, rtol=1e-5, atol=0)
    expected = torch.autograd.grad((clm + div) / count, list(student.parameters()))
    actual = torch.autograd.grad(loss, list(student.parameters()))
    for got, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(tmp_path, pair, side):
    student, teacher = pair
    trainer = make(tmp_path, student, teacher)
    rows = sequences()[:3]
    alone = torch.tensor(0.0)
    for row in rows:
        batch = collate([row])
        count = (batch["labels"][:, 1:] != -100).sum()
        alone = alone + trainer.compute_loss(student, batch) * count
    batch = collate(rows, side)
    clm, div, count = reference(student, teacher, batch)
    together = trainer.compute_loss(student, batch) * count
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


def test_prompt_and_padding_states_are_not_read(tmp_path, pair):
    student, teacher = pair
    trainer = make(tmp_path, student, teacher)
    batch = collate(sequences())
    batch["labels"][1] = -100
    seen = []

    def poisoned(*args, **kwargs):
        mask = args[4] != -100
        for states in (args[0], args[2]):
            states.data[~mask] = float("nan")
        seen.append(mask.sum())
        return distillation_loss(*args, **kwargs)

    expected = trainer.compute_loss(student, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tad.train.mixin.distillation_loss", poisoned)
        actual = trainer.compute_loss(student, batch)
    assert seen[0] > 0
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(("size", "steps"), [(8, 1), (4, 2), (1, 8)])
def test_accumulation_takes_the_step_of_the_whole_batch(tmp_path, tiny_llama, size, steps):
    student, teacher = tiny_llama(1), tiny_llama(2, hidden=16)
    clm, div, count = reference(student, teacher, collate(sequences()))
    loss = (clm + div) / count
    expected = {
        name: value.detach() - 0.5 * gradient
        for (name, value), gradient in zip(
            student.named_parameters(),
            torch.autograd.grad(loss, list(student.parameters())),
            strict=True,
        )
    }
    arguments = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
    trainer = make(tmp_path, student, teacher, arguments=arguments)
    trainer.train()
    for name, value in student.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name], rtol=1e-4, atol=2e-6)
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert first["clm"] == pytest.approx(clm.item() / count, rel=1e-4)
    assert first["divergence"] == pytest.approx(div.item() / count, rel=1e-4)


def test_a_micro_batch_without_labels_adds_nothing(tmp_path, tiny_llama):
    rows = sequences()[:2]
    results = []
    for data in (rows, [*rows, {**rows[0], "labels": torch.full_like(rows[0]["labels"], -100)}]):
        student = tiny_llama(1)
        arguments = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": len(data)}
        make(tmp_path, student, tiny_llama(2), data=data, arguments=arguments).train()
        results.append(student.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_evaluation_is_per_token_whatever_the_batch(tmp_path, pair, size):
    student, teacher = pair
    trainer = make(tmp_path, student, teacher, arguments={"per_device_eval_batch_size": size})
    metrics = trainer.evaluate()
    clm, _, count = reference(student.eval(), teacher, batch := collate(sequences()))
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    mask = trainer.targets(batch) != -100
    with torch.no_grad():
        logits = student(**inputs).logits, teacher(**inputs).logits
    kl = divergences.forward_kl(*logits, mask=mask).sum().item() / count
    assert metrics["eval_nll"] == pytest.approx(clm.item() / count, rel=1e-5)
    assert metrics["eval_kl"] == pytest.approx(kl, rel=1e-5)
    assert metrics["eval_loss"] == pytest.approx(clm.item() / count + kl, rel=1e-5)
    assert trainer.state.log_history[-1]["eval_loss"] == metrics["eval_loss"]


def test_logits_are_there_for_compute_metrics(tmp_path, pair):
    student, teacher = pair
    trainer = make(tmp_path, student.eval(), teacher)
    batch = collate(sequences())
    loss, logits, labels = trainer.prediction_step(student, dict(batch), False)
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    with torch.no_grad():
        torch.testing.assert_close(logits, student(**inputs).logits)
    assert torch.equal(labels, batch["labels"]) and not loss.requires_grad
    only = trainer.prediction_step(student, dict(batch), True)
    assert torch.equal(only[0], loss) and only[1] is None


def test_teacher_is_frozen_and_repeatable_while_the_student_has_dropout(tmp_path, tiny_llama):
    student = tiny_llama(1, attention_dropout=0.5)
    teacher = tiny_llama(2, attention_dropout=0.5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    states = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tad.train.mixin.distillation_loss",
            lambda *args, **kwargs: states.append(args[:4:2]) or distillation_loss(*args, **kwargs),
        )
        trainer = make(tmp_path, student.train(), teacher)
        losses = [trainer.compute_loss(student, collate(sequences())) for _ in range(2)]
        trainer.train()
    assert losses[0] != losses[1]
    assert not torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1]) and torch.equal(states[0][1], states[2][1])
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not teacher.training and student.training


def test_frozen_tied_head_stays_and_trainable_tied_head_moves(tmp_path, tiny_llama):
    for frozen in (True, False):
        student = tiny_llama(1, tie_word_embeddings=True)
        student.get_input_embeddings().weight.requires_grad_(not frozen)
        before = student.lm_head.weight.detach().clone()
        make(tmp_path, student, tiny_llama(2)).train()
        assert student.lm_head.weight is student.get_input_embeddings().weight
        assert torch.equal(student.lm_head.weight, before) == frozen


def test_soft_capped_and_wrapped_models_are_seen_as_they_are(tmp_path, tiny_llama):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.3,
        attn_implementation="eager",
    )
    student, teacher = Gemma2ForCausalLM(config), Gemma2ForCausalLM(config)
    batch = collate(sequences())
    clm, div, count = reference(student, teacher, batch)
    trainer = make(tmp_path, student, teacher, arguments={"bf16": False})
    loss = trainer.compute_loss(student, batch)
    torch.testing.assert_close(loss, (clm + div) / count, rtol=1e-5, atol=0)


def test_bf16_autocast_trains(tmp_path, pair):
    student, teacher = pair
    trainer = make(tmp_path, student, teacher, arguments={"bf16": True, "max_steps": 2})
    trainer.train()
    clm, div, count = reference(*pair, collate(sequences()))
    assert trainer.state.log_history[0]["loss"] > trainer.state.log_history[1]["loss"]
    assert {p.dtype for p in student.parameters()} == {torch.float32}


def test_models_are_left_as_they_were(pair):
    student, _ = pair
    inputs = {"input_ids": torch.arange(1, 9).view(1, 8)}
    before = student(**inputs).logits
    captured = instead_of_logits(student, student, inputs, lambda s, head: (s, head)).value
    torch.testing.assert_close(captured[0] @ captured[1].weight.t(), before)
    assert "forward" not in vars(student) and "forward" not in vars(student.lm_head)
    with pytest.raises(ZeroDivisionError):
        instead_of_logits(student, student, inputs, lambda states, head: 1 / 0)
    assert "forward" not in vars(student) and "forward" not in vars(student.lm_head)
    assert torch.equal(student(**inputs).logits, before)


def packed(rows) -> dict[str, torch.Tensor]:
    """One row of documents, as DataCollatorWithFlattening and TRL's padding_free give it."""
    labels = [torch.cat([torch.tensor([-100]), row["labels"][1:]]) for row in rows]
    return {
        "input_ids": torch.cat([row["input_ids"] for row in rows]).unsqueeze(0),
        "labels": torch.cat(labels).unsqueeze(0),
        "position_ids": torch.cat([torch.arange(len(row["labels"])) for row in rows]).unsqueeze(0),
    }


def test_packed_documents_count_like_separate_sequences(tmp_path, pair):
    student, teacher = (model.double() for model in pair)
    rows = sequences()[:3]
    clm, div, count = reference(student, teacher, collate(rows))
    trainer = make(tmp_path, student, teacher, per_document=True)
    loss = trainer.compute_loss(student, packed(rows))
    torch.testing.assert_close(loss, (clm + div) / count, rtol=1e-9, atol=0)
    by_row = make(tmp_path, student, teacher).compute_loss(student, packed(rows))
    assert not torch.isclose(by_row, loss, rtol=1e-6)
    with pytest.raises(ValueError, match="per_document needs position_ids"):
        trainer.compute_loss(student, collate(rows))


def test_errors_name_the_value_and_the_cure(tmp_path, pair, tiny_llama):
    student, teacher = pair
    with pytest.raises(ValueError, match="teacher shares parameters with the student"):
        make(tmp_path, student, student)
    with pytest.raises(TypeError, match="teacher"):
        TADTrainer(model=student, args=TrainingArguments(str(tmp_path), use_cpu=True))
    other = tiny_llama(3, vocabulary=70)
    with pytest.raises(ValueError, match="64 rows and teacher head 70: pass vocab_size="):
        make(tmp_path, student, other).compute_loss(student, collate(sequences()))


def tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(64)}
    inner = Tokenizer(models.WordLevel(words, unk_token="w1"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0", eos_token="w0")


@needs_trl
def test_sft_trainer_takes_the_same_step(tmp_path, tiny_llama):
    from trl import SFTConfig, SFTTrainer

    class TADSFTTrainer(TADMixin, SFTTrainer):
        pass

    from datasets import Dataset

    rows = [{k: row[k].tolist() for k in ("input_ids", "labels")} for row in sequences()]
    weights = []
    for kind in ("sft", "plain"):
        student, teacher = tiny_llama(1), tiny_llama(2, hidden=16)
        if kind == "plain":
            make(tmp_path, student, teacher).train()
        else:
            args = SFTConfig(
                output_dir=str(tmp_path),
                per_device_train_batch_size=4,
                gradient_accumulation_steps=2,
                max_steps=1,
                learning_rate=0.5,
                optim="sgd",
                lr_scheduler_type="constant",
                max_grad_norm=0.0,
                train_sampling_strategy="sequential",
                shuffle_dataset=False,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                max_length=None,
            )
            trainer = TADSFTTrainer(
                model=student,
                args=args,
                train_dataset=Dataset.from_list(rows),
                eval_dataset=Dataset.from_list(rows),
                processing_class=tokenizer(),
                teacher=teacher,
                k=3,
            )
            trainer.train()
            first = trainer.state.log_history[0]
            assert first["loss"] == pytest.approx(first["clm"] + first["divergence"], rel=1e-4)
            assert trainer.evaluate()["eval_loss"] < first["loss"]
        weights.append(student.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=2e-6)
