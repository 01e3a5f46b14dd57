"""The trainer: what it optimises, how it normalises, and when it stops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments

from tad import divergences
from tad.experiment.schema import Shape
from tad.methods import Method
from tad.models.architectures import CLASSES, architecture_config, new_model
from tad.train.mixin import NonFiniteLossError, TrainerError
from tad.train.trainer import DistillationTrainer

from ..conftest import VOCABULARY

CONTEXT = 16
METHODS = [
    Method("clm"),
    Method("vanilla_kd"),
    Method("rkl"),
    Method("dkd"),
    Method.of("tad", k=5, beta=2.0),
]


class Rows(Dataset):
    """Random sequences with 3 to CONTEXT valid positions each."""

    def __init__(self, count: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(0, VOCABULARY, (count, CONTEXT + 1), generator=generator)
        self.valid = torch.randint(3, CONTEXT + 1, (count,), generator=generator)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        labels = self.ids[index, 1:].clone()
        labels[self.valid[index] :] = -100
        return {"input_ids": self.ids[index, :-1], "labels": labels}


def trainer(model, folder, method, *, teacher=None, rows=None, micro=8, accumulate=1, **extra):
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        max_steps=extra.pop("steps", 1),
        learning_rate=extra.pop("learning_rate", 1e-2),
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        max_grad_norm=extra.pop("max_grad_norm", 1e9),
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    rows = rows or Rows(micro * accumulate)
    extra.setdefault("eval_dataset", rows)
    return DistillationTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        method=method,
        teacher=teacher,
        **extra,
    )


def gradients_of_one_step(model, folder, method, **options):
    """The accumulated gradients that the optimizer would see, by parameter name."""
    job = trainer(model, folder, method, **options)
    seen = {}
    original = job.accelerator.clip_grad_norm_

    def spy(parameters, *args, **kwargs):
        seen.update({n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad})
        return original(parameters, *args, **kwargs)

    job.accelerator.clip_grad_norm_ = spy
    job.train()
    assert seen
    return seen


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize(("micro", "accumulate"), [(8, 4), (1, 32)])
def test_accumulation_matches_a_large_batch(tmp_path, tiny_llama, method, micro, accumulate):
    def run(micro, accumulate):
        return gradients_of_one_step(
            tiny_llama(1),
            tmp_path,
            method,
            teacher=tiny_llama(2),
            rows=Rows(32),
            micro=micro,
            accumulate=accumulate,
        )

    whole, parts = run(32, 1), run(micro, accumulate)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_loss_is_the_papers(tmp_path, tiny_llama, method):
    student, teacher, rows = tiny_llama(1), tiny_llama(2), Rows(4)
    ids = torch.stack([row["input_ids"] for row in rows])
    labels = torch.stack([row["labels"] for row in rows])
    mask = labels != -100
    job = trainer(student, tmp_path, method, teacher=teacher, hidden_cosine=True)
    loss = job.compute_loss(student, {"input_ids": ids, "labels": labels}).item()

    with torch.no_grad():
        ours = student(ids, output_hidden_states=True)
        theirs = teacher(ids, output_hidden_states=True)
    logp = torch.log_softmax(ours.logits, -1)
    expected = -logp.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)[mask].mean()
    if method.name != "clm":
        pair = ours.logits, theirs.logits
        values = {
            "vanilla_kd": lambda: divergences.forward_kl(*pair),
            "rkl": lambda: divergences.reverse_kl(*pair),
            "dkd": lambda: divergences.decoupled(*pair, labels, mask=mask),
            "tad": lambda: divergences.tail_aware(*pair, **method.parameters, mask=mask),
        }[method.name]()
        cosine = torch.cosine_similarity(ours.hidden_states[-1], theirs.hidden_states[-1], dim=-1)
        expected = expected + values[mask].mean() + (1 - cosine)[mask].mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("family", CLASSES)
def test_the_loss_is_that_of_whole_logits_in_every_family(tmp_path, family):
    shape = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 4, "head_dim": 20}
    shape = Shape(**shape, intermediate_size=48, vocab_size=VOCABULARY, tied=family == "gemma2")
    config = architecture_config(family, shape, max_positions=2 * CONTEXT)
    student, teacher = (new_model(config, seed=seed).double() for seed in (1, 2))
    torch.manual_seed(0)
    for model in (student, teacher):  # logits of some size, so that a wrong state shows
        torch.nn.init.normal_(model.get_output_embeddings().weight, std=0.5)
    method, rows = Method.of("tad", k=5, beta=2.0), Rows(4)
    batch = {k: torch.stack([row[k] for row in rows]) for k in ("input_ids", "labels")}
    mask = batch["labels"] != -100
    job = trainer(student, tmp_path, method, teacher=teacher, hidden_cosine=True)
    parameters = [p for p in student.parameters() if p.requires_grad]
    ours = torch.autograd.grad(job.compute_loss(student, batch), parameters, allow_unused=True)

    outputs = student(batch["input_ids"], output_hidden_states=True)
    with torch.no_grad():
        other = teacher(batch["input_ids"], output_hidden_states=True)
    pair = outputs.logits, other.logits
    loss = divergences.causal_lm(outputs.logits, batch["labels"])
    loss = loss + divergences.tail_aware(*pair, k=5, beta=2.0, mask=mask)
    loss = loss + divergences.hidden_cosine(
        outputs.hidden_states[-1], other.hidden_states[-1], mask
    )
    expected = torch.autograd.grad(loss.sum() / mask.sum(), parameters, allow_unused=True)
    for got, want in zip(ours, expected, strict=True):
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)


def test_positions_without_a_label_change_nothing(tmp_path, tiny_llama):
    student, teacher = tiny_llama(1), tiny_llama(2)
    job = trainer(student, tmp_path, Method.of("tad", k=5, beta=2.0), teacher=teacher)
    row = Rows(1)[0]
    ids, labels = row["input_ids"].unsqueeze(0), row["labels"].unsqueeze(0)
    valid = int((labels != -100).sum())
    full = job.compute_loss(student, {"input_ids": ids, "labels": labels})
    cut = job.compute_loss(student, {"input_ids": ids[:, :valid], "labels": labels[:, :valid]})
    assert full.item() == pytest.approx(cut.item(), rel=1e-5)


def test_a_step_without_labels_has_loss_zero_and_zero_gradients(tmp_path, tiny_llama):
    student = tiny_llama(1)
    method = Method.of("tad", k=5, beta=2.0)
    job = trainer(student, tmp_path, method, teacher=tiny_llama(2))
    ids = torch.zeros(2, CONTEXT, dtype=torch.long)
    loss = job.compute_loss(student, {"input_ids": ids, "labels": torch.full_like(ids, -100)})
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())


def test_the_teacher_is_frozen_and_in_evaluation_mode(tmp_path, tiny_llama):
    teacher = tiny_llama(2, attention_dropout=0.5).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer(tiny_llama(1), tmp_path, "vanilla_kd", teacher=teacher, steps=1).train()
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_vocabularies_of_different_size_are_compared_on_their_common_ids(tmp_path, tiny_llama):
    teacher = tiny_llama(2, vocabulary=VOCABULARY + 8)
    student = tiny_llama(2, vocabulary=VOCABULARY)
    student.load_state_dict(
        {
            name: value[:VOCABULARY] if value.shape[:1] == (VOCABULARY + 8,) else value
            for name, value in teacher.state_dict().items()
        }
    )
    job = trainer(student, tmp_path, "vanilla_kd", teacher=teacher, vocab_size=VOCABULARY)
    assert job.evaluate()["eval_kl"] == pytest.approx(0, abs=1e-6)


def test_evaluation_is_eq_1_whatever_the_method_and_batch(tmp_path, tiny_llama):
    student, teacher, rows = tiny_llama(1), tiny_llama(2), Rows(10)
    results = [
        trainer(student, tmp_path, method, teacher=teacher, rows=rows).evaluate()
        for method in METHODS
    ]
    ids = torch.stack([row["input_ids"] for row in rows])
    labels = torch.stack([row["labels"] for row in rows])
    mask = labels != -100
    with torch.no_grad():
        kl = divergences.forward_kl(student(ids).logits, teacher(ids).logits)[mask].mean().item()
        nll = torch.nn.functional.cross_entropy(student(ids).logits[mask], labels[mask]).item()
    for result in results:
        assert result["eval_kl"] == pytest.approx(kl, rel=1e-5)
        assert result["eval_nll"] == pytest.approx(nll, rel=1e-5)
        assert result["eval_loss"] == pytest.approx(nll + kl, rel=1e-5)


def test_logged_terms_add_up_to_the_loss(tmp_path, tiny_llama):
    method, teacher = Method.of("tad", k=5, beta=2.0), tiny_llama(2)
    extra = {"teacher": teacher, "hidden_cosine": True, "micro": 4, "accumulate": 2}
    job = trainer(tiny_llama(1), tmp_path, method, **extra)
    job.train()
    entry = next(line for line in job.state.log_history if "clm" in line)
    total = entry["clm"] + entry["divergence"] + entry["cosine"]
    assert entry["loss"] == pytest.approx(total, rel=1e-6)
    assert {"grad_norm", "learning_rate"} <= set(entry)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path, tiny_llama):
    student = tiny_llama(1)
    with torch.no_grad():
        student.lm_head.weight[3] = math.nan
    before = student.model.embed_tokens.weight.clone()
    job = trainer(student, tmp_path, Method("clm"))
    with pytest.raises(NonFiniteLossError, match="step 1.*learning_rate"):
        job.train()
    assert torch.equal(student.model.embed_tokens.weight, before)


def test_impossible_trainers_are_refused(tmp_path, tiny_llama):
    with pytest.raises(TrainerError, match="teacher is None: method rkl needs one"):
        trainer(tiny_llama(1), tmp_path, "rkl")
    with pytest.raises(TrainerError, match="student has 32, the teacher 64"):
        trainer(
            tiny_llama(1), tmp_path, "rkl", teacher=tiny_llama(2, hidden=64), hidden_cosine=True
        )


@pytest.mark.parametrize("method", METHODS[1:], ids=str)
def test_a_teacher_in_bfloat16_teaches_a_student_in_float32(tmp_path, tiny_llama, method):
    half, rows = tiny_llama(2).bfloat16(), Rows(8)
    whole = tiny_llama(2)
    whole.load_state_dict(half.state_dict())
    losses = []
    for teacher in (half, whole):
        job = trainer(tiny_llama(1), tmp_path, method, teacher=teacher, rows=rows,
                      hidden_cosine=True)  # fmt: skip
        job.train()
        assert next(job.teacher.parameters()).dtype == next(teacher.parameters()).dtype
        losses.append([job.state.log_history[0][x] for x in ("clm", "divergence", "cosine")])
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_training_lowers_the_held_out_loss(tmp_path, tiny_llama, method):
    rows, teacher = Rows(64), tiny_llama(2)
    job = trainer(tiny_llama(1), tmp_path, method, teacher=teacher, rows=rows, steps=8)
    before = job.evaluate()["eval_loss"]
    job.train()
    assert job.evaluate()["eval_loss"] < before
