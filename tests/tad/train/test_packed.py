"""Packed rows: several examples in one give the loss and gradients of each on its own."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import TrainingArguments
from transformers.modeling_flash_attention_utils import _is_packed_sequence, _prepare_from_posids

from tad.data import instruct
from tad.data.instruct import Numbered, collate
from tad.experiment.schema import Shape
from tad.experiment.specs import Optimisation, RunSpec
from tad.methods import Method
from tad.models.architectures import CLASSES, architecture_config, new_model
from tad.models.loading import attention_implementation
from tad.records import read_json, read_json_lines, write_json
from tad.train.job import run_job
from tad.train.states import held_in_memory
from tad.train.trainer import DistillationTrainer

VOCABULARY = 61
LENGTHS, PROMPTS = [9, 3, 17, 1, 12, 6, 20, 2], [4, 1, 3, 0, 11, 2, 9, 1]
SHAPE = {
    "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 48, "tied": False,
}  # fmt: skip
METHODS = [Method("clm"), Method("vanilla_kd"), Method("rkl"), Method.of("tad", k=5, beta=2.0)]


def rows(seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Examples as ``InstructionRows`` gives them: labels shifted, those of the prompt -100."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length, prompt in zip(LENGTHS, PROMPTS, strict=True):
        ids = torch.randint(0, VOCABULARY, (length + 1,), generator=generator)
        labels = ids[1:].clone()
        labels[:prompt] = -100
        found.append({"input_ids": ids[:-1], "labels": labels})
    return found


def model(family: str = "llama", seed: int = 0, hidden: int = 40, attention: str | None = None):
    """Windows of 15 and 16 tokens in 32 positions: shorter than the longest example and a row."""
    shape = Shape(hidden_size=hidden, head_dim=hidden // 4, **SHAPE)
    config = architecture_config(family, shape, vocab_size=VOCABULARY, max_positions=32)
    made = new_model(config, seed=seed)
    for weights in made.parameters():  # as initialised, attention hardly matters
        if weights.ndim == 2:
            weights.data.mul_(5)
    made.set_attn_implementation(attention or attention_implementation(config, "cpu", True))
    return made


def trainer(folder, student, teacher, data, method="tad", **options) -> DistillationTrainer:
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=4, gradient_accumulation_steps=2,
        max_steps=options.pop("steps", 1), learning_rate=1e-2, lr_scheduler_type="constant",
        optim="sgd", max_grad_norm=0.0, train_sampling_strategy="sequential", logging_steps=1,
        save_strategy="no", remove_unused_columns=False, report_to=[], disable_tqdm=True,
        use_cpu=True,
    )  # fmt: skip
    return DistillationTrainer(
        model=student, args=arguments, train_dataset=data, eval_dataset=rows(), method=method,
        teacher=teacher, data_collator=collate, **options,
    )  # fmt: skip


def loss_and_gradients(job, batches) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of all batches as one step."""
    items = sum((batch["labels"] != -100).sum() for batch in batches)
    job.model.train()
    loss = sum(job.compute_loss(job.model, batch, num_items_in_batch=items) for batch in batches)
    weights = [weight for weight in job.model.parameters() if weight.requires_grad]
    return loss.detach(), list(torch.autograd.grad(loss, weights))


def assert_same(one, other) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=1e-6, atol=0)
    for got, want in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_rows_end_to_end_in_one():
    batch = collate([Numbered(rows())[index] for index in (1, 3, 7)])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert batch["labels"].shape == batch["input_ids"].shape == (1, 6)
    assert batch["labels"][0, 0] == -100, "the prompt of the first"
    assert "position_ids" not in collate(rows())


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_row_has_the_loss_and_gradients_of_its_examples(tmp_path, family, attention):
    student, teacher = model(family, 1), model(family, 2)
    if student.config._attn_implementation == "eager" and attention == "sdpa":
        pytest.skip("soft-capped scores, which SDPA cannot do")
    student.set_attn_implementation(attention)
    teacher.set_attn_implementation(attention)
    job = trainer(tmp_path, student, teacher, rows(), per_document=True)
    packed = loss_and_gradients(job, [collate(list(Numbered(rows())))])
    singles = trainer(tmp_path, student, teacher, rows())
    assert_same(packed, loss_and_gradients(singles, [collate([row]) for row in rows()]))
    assert_same(packed, loss_and_gradients(singles, [collate(rows())]))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method_has_the_same_loss_packed(tmp_path, method):
    student, teacher = model(seed=1), model(seed=2, hidden=48)
    job = trainer(tmp_path, student, teacher, rows(), method, per_document=True)
    packed = loss_and_gradients(job, [collate(list(Numbered(rows())))])
    singles = trainer(tmp_path, student, teacher, rows(), method)
    assert_same(packed, loss_and_gradients(singles, [collate([row]) for row in rows()]))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_example_does_not_see_the_one_before(attention):
    made = model(attention=attention)
    one, other = rows(), rows()
    other[0] = rows(seed=1)[0]

    def states(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        batch.pop("labels", None)  # and without a cache, with which nothing is taken as packed
        return made.model(**batch, use_cache=False).last_hidden_state[0]

    found = [states(collate(list(Numbered(x)))) for x in (one, other)]
    assert torch.equal(*(each[LENGTHS[0] :] for each in found))
    assert not torch.equal(*(each[: LENGTHS[0]] for each in found))
    # The test can tell: without the positions, it does.
    flat = [{"input_ids": torch.cat([row["input_ids"] for row in x])[None]} for x in (one, other)]
    assert not torch.equal(*(states(batch)[-2:] for batch in flat))


def test_flash_attention_takes_the_row_for_its_examples():
    """It needs a GPU; what transformers gives to it does not."""
    positions = collate(list(Numbered(rows())))["position_ids"]
    assert _is_packed_sequence(positions, batch_size=len(positions))
    states = torch.zeros(1, sum(LENGTHS), 4, 8)
    *_, (ends, _), (longest, _) = _prepare_from_posids(states, states, states, positions)
    assert ends.diff().tolist() == LENGTHS and int(longest) == max(LENGTHS)


def test_training_ends_where_unpacked_training_ends(tmp_path):
    """Two accumulated micro-batches, several steps, with the teacher run or its states read."""
    found = []
    for packed, stored in ((False, False), (True, False), (True, True)):
        student, teacher = model(seed=1), model(seed=2)
        data = rows() * 3
        if stored:
            data = held_in_memory(teacher, teacher, data, 4, 1e9)
        job = trainer(
            tmp_path, student, teacher, Numbered(data) if packed else data, steps=3,
            per_document=packed,
        )  # fmt: skip
        job.train()
        found.append(([job.state.log_history[-2]], dict(student.named_parameters())))
        found[-1][0].append(job.evaluate())
    for log, weights in found[1:]:
        for got, want in zip(log, found[0][0], strict=True):
            for name, value in want.items():
                if name in ("loss", "clm", "divergence", "eval_nll", "eval_kl"):
                    assert got[name] == pytest.approx(value, rel=1e-5), name
        for name, weight in found[0][1].items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6)


class NoTokenizer:
    def save_pretrained(self, folder) -> None:
        pass


def instruction_data(folder) -> str:
    """Instruction data of ``rows``, as ``tad instruct`` leaves it."""
    examples = [
        (torch.cat([row["input_ids"], row["labels"][-1:]]).tolist(), prompt + 1)
        for row, prompt in zip(rows(), PROMPTS, strict=True)
    ]
    manifest = {"kind": instruct.KIND, "context": 24, "fingerprint": "made up"}
    manifest["tokenizer"] = {"vocab_size": VOCABULARY, "eos_id": 0}
    for split in ("train", "validation"):
        manifest[split] = instruct._write(folder / f"{split}.parquet", examples)
    write_json(folder / "manifest.json", manifest)
    return str(folder)


def test_a_run_of_a_packed_stage_ends_where_an_unpacked_one_ends(tmp_path):
    data, found = instruction_data(tmp_path / "data"), {}
    for packed in (False, True):
        optimisation = Optimisation(
            steps=2, batch_size=8, micro_batch_size=4, context=24, learning_rate=1e-3,
            weight_decay=0.1, schedule="constant", warmup_fraction=0.0, max_grad_norm=1.0,
            memory_budget_mb=64.0, compiled=False, evaluations=2, evaluation_sequences=4,
            checkpoint_every_steps=2, seed=0, packed=packed,
        )  # fmt: skip
        spec = RunSpec(
            run="x", data=data, tokenizer="x", teacher="x", shape=None, start="x", temperature=1.0,
            hidden_cosine=False, optimisation=optimisation,
        )  # fmt: skip
        student, out = model(seed=1), tmp_path / str(packed)
        run_job(
            spec, out=out, checkpoints=tmp_path / "checkpoints", force=False,
            tokenizer=NoTokenizer(), trainer_class=partial(DistillationTrainer, method="tad"),
            build=lambda one=student: (one, {"teacher": model(seed=2), "vocab_size": VOCABULARY}),
        )  # fmt: skip
        weights = torch.cat([weight.detach().flatten() for weight in student.parameters()])
        found[packed] = read_json_lines(out / "train.jsonl"), weights
        said = read_json(out / "manifest.json")["spec"]["optimisation"]
        assert said.get("packed", False) == packed
    start = torch.cat([weight.detach().flatten() for weight in model(seed=1).parameters()])
    # AdamW makes whole steps of a gradient that is rounding alone, so not weight by weight.
    moved, apart = found[False][1] - start, found[True][1] - found[False][1]
    assert apart.norm() < 1e-2 * moved.norm() and moved.abs().max() > 1e-3
    for got, want in zip(found[True][0], found[False][0], strict=True):
        for name in want.keys() & {"loss", "divergence", "eval_nll", "eval_kl", "tokens"}:
            assert got[name] == pytest.approx(want[name], rel=1e-5), name
