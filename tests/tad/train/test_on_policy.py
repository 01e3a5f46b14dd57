"""tad.train.on_policy: reverse KL of what the student itself writes, and of nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainingArguments

from tad import divergences
from tad.experiment.schema import Shape
from tad.models.architectures import CLASSES, architecture_config, new_model
from tad.train.on_policy import OnPolicy, OnPolicyError, OnPolicyTrainer

from ..conftest import VOCABULARY
from ..offline_jobs import sharpen
from ..ranks import run_ranks
from .test_guards import mixtral

CONTEXT, PROMPT = 12, 4


class Rows(Dataset):
    """Random packed sequences; every label counts."""

    def __init__(self, count: int, vocabulary: int = VOCABULARY):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(0, vocabulary, (count, CONTEXT + 1), generator=generator)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index, :-1], "labels": self.ids[index, 1:]}


def trainer(student, teacher, folder, *, micro=4, accumulate=1, steps=1, seed=42, **options):
    rows = options.pop("rows", None) or Rows(micro * accumulate * steps)
    callbacks = options.pop("callbacks", None)
    shared, weights = options.pop("vocab_size", None), options.pop("weights", {})
    arguments = {"learning_rate": 1e-2, "save_strategy": "no"} | options.pop("arguments", {})
    return OnPolicyTrainer(
        model=student,
        teacher=teacher,
        on_policy=OnPolicy(**({"prompt_tokens": PROMPT, "corpus_loss": False} | options)),
        vocab_size=shared,
        **weights,
        callbacks=callbacks,
        train_dataset=rows,
        eval_dataset=rows,
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulate,
            max_steps=steps,
            seed=seed,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            max_grad_norm=1e9,
            logging_steps=1,
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            **arguments,
        ),
    )


def batch(rows):
    return {key: torch.stack([row[key] for row in rows]) for key in ("input_ids", "labels")}


def spy(job):
    """The texts that the student writes, as a growing list of (B, N + 1)."""
    texts, write = [], job._write

    def watched(*arguments):
        texts.append(write(*arguments))
        return texts[-1]

    job._write = watched
    return texts


def log_softmax(model, ids):
    return torch.log_softmax(model(ids).logits.double(), -1)


@pytest.mark.parametrize("corpus_loss", [True, False])
def test_the_loss_is_reverse_kl_on_written_positions(tmp_path, tiny_llama, corpus_loss):
    student, teacher, rows = sharpen(tiny_llama(1)), sharpen(tiny_llama(2)), Rows(4)
    job = trainer(student, teacher, tmp_path, corpus_loss=corpus_loss, rows=rows)
    texts, inputs = spy(job), batch(rows)
    loss = job.compute_loss(student, inputs).item()
    text = texts[0]
    assert text.shape == (4, CONTEXT + 1)
    assert text[:, :PROMPT].tolist() == inputs["input_ids"][:, :PROMPT].tolist()
    assert text[:, PROMPT:].tolist() != rows.ids[:, PROMPT:].tolist()
    with torch.no_grad():
        ours, theirs = (log_softmax(model, text[:, :-1]) for model in (student, teacher))
        corpus = log_softmax(student, inputs["input_ids"])
    # Written tokens 4 to 12 are predicted by positions 3 to 11.
    expected = (ours.exp() * (ours - theirs)).sum(-1)[:, PROMPT - 1 :].mean().item()
    if corpus_loss:
        expected -= corpus.gather(-1, inputs["labels"][..., None]).mean().item()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_both_terms_have_their_weights(tmp_path, tiny_llama):
    student, teacher, inputs = sharpen(tiny_llama(1)), sharpen(tiny_llama(2)), batch(Rows(4))

    def loss(**weights):
        job = trainer(student, teacher, tmp_path, corpus_loss=True, weights=weights)
        return job.compute_loss(student, inputs).item()

    clm = loss(clm_weight=1.0, divergence_weight=0.0)
    reverse = loss(clm_weight=0.0, divergence_weight=1.0)
    assert loss(clm_weight=0.5, divergence_weight=3.0) == pytest.approx(0.5 * clm + 3 * reverse)


def test_prompt_positions_give_no_gradient(tmp_path, tiny_llama, monkeypatch):
    """NaN in the teacher's logits at prompt positions changes neither loss nor gradient."""

    def run(poison):
        student, teacher = sharpen(tiny_llama(1)), sharpen(tiny_llama(2))
        if poison:
            teacher.model.norm.register_forward_hook(
                lambda module, args, out: out.index_fill(1, torch.arange(PROMPT - 1), torch.nan)
            )
        job = trainer(student, teacher, tmp_path)
        loss = job.compute_loss(student, batch(Rows(4)))
        loss.backward()
        return [loss.detach(), *(parameter.grad for parameter in student.parameters())]

    for clean, poisoned in zip(run(False), run(True), strict=True):
        torch.testing.assert_close(poisoned, clean, rtol=0, atol=0)


def test_a_mixture_of_experts_keeps_its_router_loss(tmp_path, tiny_llama):
    rows, inputs = Rows(4), batch(Rows(4))
    items = torch.tensor(inputs["labels"].numel())
    found = []
    for router in (True, False):
        job = trainer(mixtral(1, router=router), tiny_llama(2), tmp_path, rows=rows)
        found.append(job.loss_terms(job.model, inputs, inputs["labels"], items))
    assert found[0].pop("router") > 0.1
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("family", CLASSES)
def test_the_gradient_is_that_of_whole_logits_in_every_family(tmp_path, family):
    shape = {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 4, "head_dim": 20}
    shape = Shape(**shape, intermediate_size=48, vocab_size=VOCABULARY, tied=family == "gemma2")
    config = architecture_config(family, shape, max_positions=2 * CONTEXT)
    student, teacher = (sharpen(new_model(config, seed=seed).double()) for seed in (1, 2))
    parameters = [p for p in student.parameters() if p.requires_grad]
    job = trainer(student, teacher, tmp_path, corpus_loss=True)
    texts, inputs = spy(job), batch(Rows(4))
    ours = torch.autograd.grad(job.compute_loss(student, inputs), parameters)
    written = texts[0][:, :-1]
    with torch.no_grad():
        other = teacher(written).logits
    kl = divergences.reverse_kl(student(written).logits, other)[:, PROMPT - 1 :].mean()
    clm = divergences.causal_lm(student(inputs["input_ids"]).logits, inputs["labels"]).mean()
    expected = torch.autograd.grad(kl + clm, parameters)
    for got, want in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)


def test_the_students_mass_moves_to_the_teachers_mode(tmp_path, tiny_llama):
    """Training moves the student's mass to the teacher's modes and lowers the reverse KL."""
    vocabulary = 8
    student, teacher = tiny_llama(1, vocabulary=vocabulary), tiny_llama(2, vocabulary=vocabulary)
    teacher = sharpen(teacher, 3.0)
    rows = Rows(16, vocabulary)
    ids = batch(rows)["input_ids"]

    def measure():
        with torch.no_grad():
            ours, theirs = log_softmax(student, ids), log_softmax(teacher, ids)
        mode = theirs.argmax(-1, keepdim=True)
        mass = ours.exp().gather(-1, mode)[:, PROMPT - 1 :].mean().item()
        reverse = (ours.exp() * (ours - theirs)).sum(-1)[:, PROMPT - 1 :].mean().item()
        return mass, reverse

    before = measure()
    job = trainer(
        student, teacher, tmp_path, rows=rows, micro=16, steps=60,
        arguments={"learning_rate": 3e-3},
    )  # fmt: skip
    job.train()
    after = measure()
    assert after[0] > before[0] + 0.1
    assert after[1] < 0.5 * before[1]
    losses = [entry["divergence"] for entry in job.state.log_history if "divergence" in entry]
    assert losses[-1] < 0.5 * losses[0]


def test_the_gradient_of_a_logit_is_that_of_reverse_kl(tmp_path, tiny_llama):
    """d KL(S||T) / d z_v = p_v (log p_v/q_v - KL): mass moves to where q is the larger."""
    student, teacher = sharpen(tiny_llama(1)), sharpen(tiny_llama(2))
    head = student.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(VOCABULARY))
    job = trainer(student, teacher, tmp_path)
    texts = spy(job)
    job.compute_loss(student, batch(Rows(4))).backward()
    with torch.no_grad():
        ours, theirs = (log_softmax(model, texts[0][:, :-1]) for model in (student, teacher))
    ratio = ours - theirs
    divergence = (ours.exp() * ratio).sum(-1, keepdim=True)
    expected = (ours.exp() * (ratio - divergence))[:, PROMPT - 1 :].mean((0, 1))
    torch.testing.assert_close(head.bias.grad.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("corpus_loss", [True, False])
def test_accumulation_matches_a_large_batch(tmp_path, tiny_llama, corpus_loss):
    """The same texts, and the same step, however the sequences are accumulated."""
    found = {}
    for micro in (8, 2):
        student = sharpen(tiny_llama(1))
        job = trainer(
            student, sharpen(tiny_llama(2)), tmp_path, corpus_loss=corpus_loss,
            micro=micro, accumulate=8 // micro, rows=Rows(8),
            arguments={"optim": "sgd", "learning_rate": 0.1},
        )  # fmt: skip
        texts = spy(job)
        job.train()
        found[micro] = torch.cat(texts), student.state_dict(), job.state.log_history[0]
    assert found[8][0].tolist() == found[2][0].tolist()
    for name, weight in found[8][1].items():
        torch.testing.assert_close(found[2][1][name], weight, rtol=1e-5, atol=1e-6, msg=name)
    assert found[8][2]["divergence"] == pytest.approx(found[2][2]["divergence"], rel=1e-5)
    assert ("clm" in found[8][2]) == corpus_loss
    assert len({tuple(text) for text in found[8][0].tolist()}) == 8


def test_texts_change_with_step_sequence_and_seed(tmp_path, tiny_llama):
    def texts_of(seed):
        rows = Rows(12)
        rows.ids[:] = rows.ids[0]  # one prompt
        frozen = {"learning_rate": 0.0}
        job = trainer(
            tiny_llama(1), tiny_llama(2), tmp_path, rows=rows, micro=2, accumulate=2, steps=3,
            seed=seed, arguments=frozen,
        )  # fmt: skip
        texts = spy(job)
        job.train()
        return [tuple(text) for text in torch.cat(texts).tolist()]

    first = texts_of(42)
    assert len(set(first)) == 12
    assert texts_of(42) == first
    assert not set(texts_of(43)) & set(first)


class _Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def test_a_resumed_run_ends_in_the_same_bits(tmp_path, tiny_llama):
    def run(folder, callbacks=None, resume=None):
        student = sharpen(tiny_llama(1, attention_dropout=0.2))
        job = trainer(
            student, sharpen(tiny_llama(2)), tmp_path / folder, steps=8, micro=2, accumulate=2,
            corpus_loss=True, callbacks=callbacks,
            arguments={"save_strategy": "steps", "save_steps": 3},
        )  # fmt: skip
        texts = spy(job)
        job.train(resume_from_checkpoint=resume)
        return student.state_dict(), torch.cat(texts)

    whole, texts = run("whole")
    run("parts", callbacks=[_Stop(5)])  # two steps after its checkpoint
    resumed, rest = run("parts", resume=str(tmp_path / "parts/checkpoint-3"))
    assert rest.tolist() == texts[3 * 4 :].tolist()
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_only_the_shared_vocabulary_is_written_and_compared(tmp_path, tiny_llama):
    student, teacher = tiny_llama(1, vocabulary=20), tiny_llama(2, vocabulary=16)
    job = trainer(
        student, teacher, tmp_path, rows=Rows(4, 10), vocab_size=10,
        corpus_loss=True,
    )  # fmt: skip
    texts = spy(job)
    loss = job.compute_loss(student, batch(Rows(4, 10)))
    loss.backward()
    assert texts[0].max() < 10
    gradient = student.get_output_embeddings().weight.grad
    assert gradient[:10].abs().min() > 0 and not gradient[10:].any()


def test_writing_has_no_dropout_and_leaves_the_mode_alone(tmp_path, tiny_llama):
    student = tiny_llama(1, attention_dropout=0.5)
    job = trainer(student, tiny_llama(2), tmp_path)
    texts = spy(job)
    student.train()
    job.compute_loss(student, batch(Rows(4)))
    assert student.training
    job._micro_batch = 0
    student.eval()
    job.compute_loss(student, batch(Rows(4)))
    assert not student.training
    assert texts[0].tolist() == texts[1].tolist()


def test_evaluation_is_that_of_every_method(tmp_path, tiny_llama):
    student, teacher = tiny_llama(1), tiny_llama(2)
    metrics = trainer(student, teacher, tmp_path).evaluate()
    inputs = batch(Rows(4))
    with torch.no_grad():
        ours, theirs = (log_softmax(model, inputs["input_ids"]) for model in (student, teacher))
    assert metrics["eval_nll"] == pytest.approx(
        -ours.gather(-1, inputs["labels"][..., None]).mean().item(), rel=1e-5
    )
    forward = (theirs.exp() * (theirs - ours)).sum(-1).mean().item()
    assert metrics["eval_kl"] == pytest.approx(forward, rel=1e-5)


def test_prompts_may_be_one_token_or_the_whole_context(tmp_path, tiny_llama):
    for prompt in (1, CONTEXT):
        job = trainer(tiny_llama(1), tiny_llama(2), tmp_path, prompt_tokens=prompt)
        assert job.compute_loss(job.model, batch(Rows(4))).item() > 0
    job = trainer(tiny_llama(1), tiny_llama(2), tmp_path, prompt_tokens=CONTEXT + 1)
    with pytest.raises(OnPolicyError, match="prompt_tokens 13"):
        job.compute_loss(job.model, batch(Rows(4)))
    with pytest.raises(OnPolicyError, match="prompt_tokens 0"):
        OnPolicy(prompt_tokens=0)


WORKER = """
import sys, torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments
from tad.train.on_policy import OnPolicy, OnPolicyTrainer

def llama(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32,
        num_hidden_layers=1, num_attention_heads=2, initializer_range=0.3))

torch.set_num_threads(1)
world, out = int(sys.argv[1]), sys.argv[2]
ids = torch.randint(0, 32, (16, 21), generator=torch.Generator().manual_seed(0))
model = llama(1)
trainer = OnPolicyTrainer(
    model=model, teacher=llama(2), on_policy=OnPolicy(prompt_tokens=5),
    train_dataset=[{"input_ids": row[:-1], "labels": row[1:]} for row in ids],
    args=TrainingArguments(output_dir=out, per_device_train_batch_size=2,
        gradient_accumulation_steps=4 // world, max_steps=2, learning_rate=0.1, optim="sgd",
        lr_scheduler_type="constant", train_sampling_strategy="sequential", max_grad_norm=0,
        save_strategy="no", logging_steps=1, remove_unused_columns=False, report_to=[],
        disable_tqdm=True, use_cpu=True, ddp_backend="gloo" if world > 1 else None))
trainer.train()
state = {name: value.detach().clone() for name, value in model.named_parameters()}
logs = trainer.state.log_history[:2]
state["logs"] = torch.tensor([[entry[k] for k in ("clm", "divergence")] for entry in logs])
save_file(state, f"{out}/rank{trainer.args.process_index}.safetensors")
"""


def test_two_ranks_write_the_texts_and_take_the_steps_of_one_process(tmp_path):
    (alone,), ranks = (run_ranks(tmp_path, WORKER, world) for world in (1, 2))
    for name, value in alone.items():
        for rank in ranks:
            torch.testing.assert_close(rank[name], value, rtol=1e-4, atol=1e-6, msg=name)
