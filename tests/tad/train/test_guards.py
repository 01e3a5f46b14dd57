"""What a trainer refuses or keeps: NaN, routers, adapters, compiled and offloaded models."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from transformers import LlamaModel, MixtralConfig, MixtralForCausalLM, Trainer, TrainingArguments

from tad import divergences
from tad.fused import HeadError
from tad.methods import MethodError
from tad.train.mixin import NonFiniteLossError, TADMixin, TrainerError

from .test_mixin import collate, make, reference, sequences, tokenizer

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="PEFT is absent")
BROKEN = {
    "vanilla_kd": {"method": "vanilla_kd"},
    "rkl": {"method": "rkl"},
    "tad": {"method": "tad", "k": 3},
    "dkd": {"method": "dkd"},
    "function": {"method": divergences.forward_kl},
}


def spoiled(model, value: float, row: int = 5):
    """The model with one number of its head replaced."""
    with torch.no_grad():
        model.lm_head.weight[row, 0] = value
    return model


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("options", BROKEN.values(), ids=BROKEN)
def test_a_broken_teacher_stops_training_before_the_weights_change(
    tmp_path, tiny_llama, options, value
):
    student = tiny_llama(1)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    trainer = make(tmp_path, student, tiny_llama(2, hidden=16), **options)
    spoiled(trainer.teacher, value)
    with pytest.raises(NonFiniteLossError, match="step 1"):
        trainer.train()
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, before[name]), name


def mixtral(seed: int, *, router: bool) -> MixtralForCausalLM:
    torch.manual_seed(seed)
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_local_experts=4,
            num_experts_per_tok=2,
            output_router_logits=router,
            router_aux_loss_coef=0.7,
        )
    )


def test_a_mixture_of_experts_keeps_its_router_loss(tmp_path, tiny_llama):
    batch, teacher = collate(sequences()), tiny_llama(2, hidden=16)
    with_router, without = (
        make(tmp_path / str(r), mixtral(1, router=r), teacher) for r in (True, False)
    )
    losses = [t.compute_loss(t.model, dict(batch)) for t in (with_router, without)]
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    extra = 0.7 * with_router.model(**inputs).aux_loss
    assert extra > 0.1
    torch.testing.assert_close(losses[0] - losses[1], extra, rtol=1e-4, atol=1e-5)
    gradient = torch.autograd.grad(losses[0], with_router.model.parameters(), allow_unused=True)
    assert sum(g is not None for g in gradient) == len(gradient)
    with_router.train()
    logged = with_router.state.log_history[0]
    total = logged["clm"] + logged["divergence"] + logged["router"]
    assert logged["loss"] == pytest.approx(total, rel=1e-5)


def test_options_that_this_loss_would_ignore_are_refused(tmp_path, tiny_llama):
    pair = tiny_llama(1), tiny_llama(2, hidden=16)
    with pytest.raises(TrainerError, match="label_smoothing_factor=0.1: has no effect"):
        make(tmp_path, *pair, arguments={"label_smoothing_factor": 0.1})
    with pytest.raises(TrainerError, match="compute_loss_func: has no effect"):
        make(tmp_path, *pair, compute_loss_func=lambda *a, **k: 0)
    trl = pytest.importorskip("trl")

    class SFT(TADMixin, trl.SFTTrainer):
        pass

    from datasets import Dataset

    rows = Dataset.from_list([{"input_ids": [1, 2, 3]}])
    args = trl.SFTConfig(str(tmp_path), loss_type="dft", use_cpu=True, bf16=False, report_to=[])
    given = {"processing_class": tokenizer(), "args": args, "train_dataset": rows}
    with pytest.raises(TrainerError, match="loss_type='dft'"):
        SFT(model=pair[0], teacher=pair[1], **given)


def test_models_that_cannot_be_distilled_are_refused_in_one_line(tmp_path, tiny_llama):
    student, teacher = tiny_llama(1), tiny_llama(2, hidden=16)
    with pytest.raises(TrainerError, match="teacher is LlamaModel, which has no output head"):
        make(tmp_path, student, LlamaModel(teacher.config))
    with pytest.raises(TrainerError, match="teacher is None: method tad"):
        make(tmp_path, student, None)
    with pytest.raises(TrainerError, match="model is compiled"):
        make(tmp_path, torch.compile(student), teacher)
    with pytest.raises(TrainerError, match="a batch has no labels .it has input_ids"):
        trainer = make(tmp_path, student, teacher)
        trainer.compute_loss(student, {"input_ids": torch.ones(1, 4, dtype=torch.long)})

    class Odd(torch.nn.Linear):
        def forward(self, states):
            return super().forward(states).abs()

    odd = tiny_llama(1)
    odd.lm_head = Odd(32, 64, bias=False)
    with pytest.raises(HeadError, match="no plain matrix product"):
        make(tmp_path, odd, teacher)


def test_a_teacher_is_loaded_by_its_folder(tmp_path, tiny_llama):
    tiny_llama(2, hidden=16).save_pretrained(tmp_path / "teacher")
    trainer = make(tmp_path, tiny_llama(1), str(tmp_path / "teacher"))
    same = make(tmp_path, tiny_llama(1), tiny_llama(2, hidden=16))
    losses = [t.compute_loss(t.model, collate(sequences())) for t in (trainer, same)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("kind", ["cpu", "disk"])
def test_an_offloaded_teacher_teaches_the_same(tmp_path, tiny_llama, kind):
    from accelerate import cpu_offload, disk_offload

    expected = make(tmp_path, tiny_llama(1), tiny_llama(2, hidden=16))
    expected = expected.compute_loss(expected.model, collate(sequences()))
    teacher = tiny_llama(2, hidden=16)
    if kind == "cpu":
        cpu_offload(teacher, execution_device=torch.device("cpu"))
    else:
        disk_offload(teacher, str(tmp_path / "offload"), execution_device=torch.device("cpu"))
    assert teacher.lm_head.weight.is_meta
    trainer = make(tmp_path, tiny_llama(1), teacher)
    torch.testing.assert_close(trainer.compute_loss(trainer.model, collate(sequences())), expected)


def test_a_compiled_training_takes_the_same_step(tmp_path, tiny_llama):
    weights = []
    for compiled in (False, True):
        student = tiny_llama(1)
        options = {"torch_compile": compiled, "torch_compile_backend": "eager"}
        make(tmp_path, student, tiny_llama(2, hidden=16), arguments=options).train()
        weights.append(student.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-5, atol=1e-7)


@needs_peft
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
    ],
    ids=["q/v", "all-linear", "modules_to_save", "head"],
)
def test_lora_students_equal_the_reference(tmp_path, tiny_llama, options, dropout):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, task_type="CAUSAL_LM", **options)
    student = get_peft_model(tiny_llama(1), config)
    for name, parameter in student.named_parameters():
        if "lora_B" in name:  # 0 at the start: no adapter would show
            torch.nn.init.normal_(parameter, std=0.2)
    teacher, batch = tiny_llama(2, hidden=16), collate(sequences())
    arguments = {"gradient_checkpointing": True, "max_steps": 2}
    trainer = make(tmp_path, student, teacher, arguments=arguments)
    student.train()
    trained = [p for p in student.parameters() if p.requires_grad]
    torch.manual_seed(1)
    loss = trainer.compute_loss(student, dict(batch))
    actual = torch.autograd.grad(loss, trained)
    torch.manual_seed(1)
    clm, div, count = reference(student, teacher, batch)
    expected = torch.autograd.grad((clm + div) / count, trained)
    torch.testing.assert_close(loss, (clm + div) / count, rtol=1e-5, atol=0)
    for got, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0


@needs_peft
def test_prompt_tuning_is_refused(tmp_path, tiny_llama):
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(HeadError, match=r"\(1, 4\) tokens give \(1, 7\) states"):
        make(tmp_path, get_peft_model(tiny_llama(1), config), tiny_llama(2, hidden=16))


def test_a_function_of_the_users_is_a_method_of_the_trainer(tmp_path, tiny_llama):
    def scaled(student, teacher, *, mask, factor):
        return factor * divergences.forward_kl(student, teacher, mask=mask)

    student, teacher = tiny_llama(1), tiny_llama(2, hidden=16)
    options = {"method": scaled, "parameters": {"factor": 3.0}, "scope": "token"}
    own = make(tmp_path, student, teacher, **options)
    kl = make(tmp_path, student, teacher, method="vanilla_kd", divergence_weight=3.0)
    batch = collate(sequences())
    torch.testing.assert_close(
        own.compute_loss(student, dict(batch)), kl.compute_loss(student, dict(batch))
    )


def test_a_plain_trainer_has_no_say_in_the_loss(tmp_path, tiny_llama):
    """The mixin comes first: the other order would silently train plain CLM."""

    class Wrong(Trainer, TADMixin):
        pass

    with pytest.raises(TypeError):
        Wrong(
            model=tiny_llama(1),
            teacher=tiny_llama(2),
            args=TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]),
        )


@pytest.mark.parametrize(("size", "steps"), [(8, 1), (2, 4)])
def test_a_matched_divergence_has_the_value_of_the_other_and_its_own_shape(
    tmp_path, tiny_llama, size, steps
):
    """KL at the value of TAD over the whole step: the step of KL with that weight."""
    arguments = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
    logs, weights = [], []
    factor = 1.0
    for method in ("tad", "vanilla_kd", "vanilla_kd_matched", "weighted"):
        options = {"method": "vanilla_kd", "divergence_weight": factor}
        if method != "weighted":
            options = {"method": method}
        options |= {} if options["method"] == "vanilla_kd" else {"k": 3}
        student = tiny_llama(1)
        trainer = make(tmp_path, student, tiny_llama(2, hidden=16), arguments=arguments, **options)
        trainer.train()
        logs.append(trainer.state.log_history[0])
        weights.append(student.state_dict())
        factor = (
            logs[0]["divergence"] / logs[-1]["divergence"] if method == "vanilla_kd" else factor
        )
    assert factor > 1.5
    assert logs[2]["divergence"] == pytest.approx(logs[0]["divergence"], rel=1e-5)
    for name, value in weights[3].items():
        torch.testing.assert_close(weights[2][name], value, rtol=1e-4, atol=1e-6)


WEIGHTED = [
    ("vanilla_kd-w3", {}, ("vanilla_kd", 1.0, 3.0)),
    ("vanilla_kd-w3-c0.5", {"clm_weight": 4.0, "divergence_weight": 2.0}, ("vanilla_kd", 2.0, 6.0)),
    ("kd_only", {}, ("vanilla_kd", 0.0, 1.0)),
    ("kd_only-w2", {"clm_weight": 5.0}, ("vanilla_kd", 0.0, 2.0)),
    ("tad_only-k3-b2", {}, ("tad-k3-b2", 0.0, 1.0)),
    ("vanilla_kd_matched-k3-w2", {}, ("vanilla_kd_matched-k3", 1.0, 2.0)),
    ("skl-w4", {}, ("skl", 1.0, 4.0)),
]


@pytest.mark.parametrize(("method", "given", "same"), WEIGHTED)
def test_weights_of_a_method_count_once(tmp_path, tiny_llama, method, given, same):
    logs, steps = [], []
    plain, clm, divergence = same
    for options in (
        {"method": method, **given},
        {"method": plain, "clm_weight": clm, "divergence_weight": divergence},
    ):
        student = tiny_llama(1)
        trainer = make(tmp_path, student, tiny_llama(2, hidden=16), **options)
        trainer.train()
        logs.append(trainer.state.log_history[0])
        steps.append(student.state_dict())
    assert all(torch.equal(value, steps[1][name]) for name, value in steps[0].items())
    assert logs[0]["loss"] == logs[1]["loss"]
    # What is logged are the terms before their weights: CLM also where it is not in the loss.
    total = clm * logs[0]["clm"] + divergence * logs[0]["divergence"]
    assert logs[0]["loss"] == pytest.approx(total, rel=1e-5)
    assert logs[0]["clm"] > 1


def test_a_trainer_has_its_rate_and_budget_from_its_arguments(tmp_path, tiny_llama):
    with pytest.raises(MethodError, match="no learning rate or budget; write vanilla_kd-w5"):
        make(tmp_path, tiny_llama(1), tiny_llama(2, hidden=16), method="vanilla_kd-w5-r2")
