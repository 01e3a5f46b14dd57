"""The fused loss as training uses it: accumulation, graphs, heads, memory, compilation, errors."""

import shutil

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from tad import divergences
from tad.fused import Head, distillation_loss
from tad.fused import loss as fused

from .case import METHODS, Case, assert_equal_to_reference


@pytest.mark.parametrize("method", METHODS)
def test_accumulated_micro_batches_equal_the_batch(method):
    case = Case(6, batch=4, tokens=9)
    whole = case.fused(method)
    expected = torch.autograd.grad(whole.total, case.leaves)
    for size in (1, 2):
        sums = [torch.zeros_like(x) for x in case.leaves]
        total = 0.0
        for start in range(0, 4, size):
            rows = slice(start, start + size)
            part = distillation_loss(
                case.hidden[0][rows],
                case.heads[0],
                case.hidden[1][rows],
                case.heads[1],
                case.labels[rows],
                case.mask[rows],
                method=method,
                **{"tad": {"k": 3}, "dkd": {"beta": 2.0}}.get(method, {}),
                clm_items=whole.clm_count,
                divergence_items=int(whole.divergence_count),
            )
            total += part.total.item()
            for into, gradient in zip(
                sums, torch.autograd.grad(part.total, case.leaves), strict=True
            ):
                into += gradient
        assert total == pytest.approx(whole.total.item(), rel=1e-12)
        for got, want in zip(sums, expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-14)


def test_packed_documents_equal_separate_sequences():
    case = Case(7, batch=1, tokens=12, masked=False)
    case.segments = torch.tensor([[0] * 5 + [1] * 3 + [0] * 4])  # a document in two pieces
    packed = {chunk: case.fused("tad", chunk_tokens=chunk) for chunk in (2, 4, 100)}
    total = 0.0
    for positions in ([0, 1, 2, 3, 4, 8, 9, 10, 11], [5, 6, 7]):
        student, teacher = (x[:, positions] for x in (case.logits(0), case.logits(1)))
        total += divergences.tail_aware(student, teacher, k=3).sum()
    for terms in packed.values():
        torch.testing.assert_close(terms.divergence_sum, total, rtol=1e-12, atol=0)
    rows = divergences.tail_aware(case.logits(0), case.logits(1), k=3).sum()
    assert not torch.isclose(rows, total)


def test_another_proportion_than_that_of_the_total_is_right_too():
    case = Case(8)
    clm, clm_count, div, div_count = case.reference("tad")
    assert clm_count != div_count
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.3, 2.0)):
        loss = weights[0] * clm / clm_count + weights[1] * div / div_count
        expected = torch.autograd.grad(loss, case.leaves, retain_graph=True)
        late = case.fused("tad")
        early = case.fused("tad", clm_weight=weights[0], divergence_weight=weights[1])
        for value in (weights[0] * late.clm + weights[1] * late.divergence, early.total):
            torch.testing.assert_close(value, loss)
            actual = torch.autograd.grad(value, case.leaves)
            for got, want in zip(actual, expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-13)


def test_the_gradient_is_computed_once_in_the_proportion_of_the_total(monkeypatch):
    case, calls = Case(8), []
    walk = fused.walk
    monkeypatch.setattr(fused, "walk", lambda *a: calls.append(a) or walk(*a))
    terms = case.fused("tad", clm_items=7, divergence_items=9)
    (terms.total * 1024 / 3).backward()
    terms = case.fused("tad", clm_items=5, divergence_items=5)
    ((terms.clm_sum + terms.divergence_sum) / 5).backward()
    assert len(calls) == 2
    terms = case.fused("tad")
    terms.clm.backward()
    assert len(calls) == 4


def test_two_uses_in_one_graph_and_two_backwards():
    case = Case(9)
    expected = torch.autograd.grad(
        sum(case.reference(method)[2] for method in ("tad", "vanilla_kd")), case.leaves
    )
    value = case.fused("tad").divergence_sum + case.fused("vanilla_kd").divergence_sum
    first = torch.autograd.grad(value, case.leaves, retain_graph=True)
    second = torch.autograd.grad(value, case.leaves)
    for a, b, want in zip(first, second, expected, strict=True):
        torch.testing.assert_close(a, want, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(b, want, rtol=1e-10, atol=1e-13)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, case.leaves)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant):
    case = Case(9)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def block(hidden, weight, scale):
        terms = distillation_loss(
            hidden * scale,
            Head(weight),
            case.hidden[1],
            case.heads[1],
            case.labels,
            case.mask,
            method="tad",
        )
        return terms.total

    leaves = [*case.leaves[:2], scale]
    expected = torch.autograd.grad(block(*leaves), leaves)
    checkpoint(block, *leaves, use_reentrant=reentrant).backward()
    for leaf, want in zip(leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad, want)


@pytest.mark.parametrize("method", METHODS)
def test_autocast_changes_nothing_that_is_computed_here(method):
    case = Case(10, dtype=torch.float32, vocab=90)
    expected = torch.autograd.grad(case.fused(method).total, case.leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = case.fused(method)
        assert terms.total.dtype == torch.float32
        loss = terms.total
    for got, want in zip(torch.autograd.grad(loss, case.leaves), expected, strict=True):
        assert torch.equal(got, want)
    # What a model under autocast gives: bfloat16 states, float32 head.
    case.hidden = [x.detach().bfloat16() for x in case.hidden]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = case.fused(method).total.item()
    assert mixed == pytest.approx(terms.total.item(), rel=2e-2)


def test_inputs_that_are_not_contiguous():
    case = Case(11)
    expected = case.fused("tad")
    gradients = torch.autograd.grad(expected.total, case.leaves)
    leaves = [
        case.hidden[0].detach().mT.contiguous(),
        case.heads[0].weight.detach().t().contiguous(),
    ]
    for leaf in leaves:
        leaf.requires_grad_()
    terms = distillation_loss(
        leaves[0].mT,
        Head(leaves[1].t()),
        case.hidden[1].mT.contiguous().mT,
        case.heads[1],
        case.labels.t().contiguous().t(),
        case.mask.t().contiguous().t(),
        method="tad",
        k=3,
    )
    torch.testing.assert_close(terms.total, expected.total, rtol=1e-12, atol=0)
    for got, want in zip(torch.autograd.grad(terms.total, leaves), gradients, strict=True):
        torch.testing.assert_close(got.mT, want, rtol=1e-10, atol=1e-14)


def test_a_frozen_head_gets_no_gradient_and_no_product(monkeypatch):
    case, products = Case(11), []
    add = fused.Side.pull_back
    monkeypatch.setattr(
        fused.Side, "pull_back", lambda *a: products.append(a[-1].weight is not None) or add(*a)
    )
    expected = torch.autograd.grad(case.fused("tad").total, case.leaves[:1])
    case.heads[0].weight.requires_grad_(False)
    case.fused("tad").total.backward()
    assert products == [True, False] and case.heads[0].weight.grad is None
    torch.testing.assert_close(case.hidden[0].grad, expected[0])


def test_tied_embedding_gets_both_gradients():
    case = Case(11, vocab=40)
    ids = torch.randint(40, (3, 6), generator=torch.Generator().manual_seed(0))
    weight = case.leaves[1]

    def loss(hidden, head):
        return distillation_loss(
            hidden, head, case.hidden[1], case.heads[1], case.labels, case.mask, method="tad"
        ).total

    both = torch.autograd.grad(loss(weight[ids], Head(weight)), weight)[0]
    parts = torch.autograd.grad(loss(weight[ids], Head(weight.detach())), weight)[0]
    parts = parts + torch.autograd.grad(loss(weight[ids].detach(), Head(weight)), weight)[0]
    torch.testing.assert_close(both, parts)


@pytest.mark.parametrize("method", METHODS)
def test_without_gradients_the_value_is_the_same_and_nothing_is_kept(method, monkeypatch):
    case = Case(12)
    expected = case.fused(method)
    monkeypatch.setattr(fused.Side, "pull_back", None)  # would fail if called
    with torch.no_grad():
        actual = case.fused(method)
    assert torch.equal(actual.total, expected.total) and not actual.total.requires_grad


class LargestTensor(TorchDispatchMode):
    """Number of elements of the largest tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [x.untyped_storage().nbytes() // x.element_size() for x in tree_leaves(result)
                 if isinstance(x, torch.Tensor)]  # fmt: skip
        self.size = max(self.size, *sizes) if sizes else self.size
        return result


@pytest.mark.parametrize("method", METHODS)
def test_no_tensor_grows_with_tokens_times_vocabulary(method):
    largest = []
    for tokens in (40, 160):
        case = Case(13, batch=2, tokens=tokens, vocab=5000, widths=(4, 4), dtype=torch.float32)
        with LargestTensor() as seen:
            case.fused(method, chunk_tokens=16).total.backward()
        largest.append(seen.size)
    assert largest[0] == largest[1] <= 2 * 16 * 5000  # the logits of both models of one chunk


def test_the_chunk_follows_from_the_budget():
    case = Case(13, batch=1, tokens=600, vocab=20_000, widths=(4, 4), dtype=torch.float32)
    for budget in (16.0, 64.0):
        with LargestTensor() as seen:
            case.fused("vanilla_kd", memory_budget_mb=budget).total.backward()
        assert 0.6 * budget * 1e6 <= 4 * seen.size <= budget * 1e6


@pytest.mark.parametrize("method", METHODS)
def test_deterministic(method):
    case = Case(14, vocab=300, dtype=torch.float32, kind="ties")
    runs = []
    for _ in range(2):
        terms = case.fused(method, chunk_tokens=7)
        runs.append([terms.total, *torch.autograd.grad(terms.total, case.leaves)])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


def test_zero_at_equality_and_exact_next_to_it_at_a_real_vocabulary():
    vocab, g = 151_936, torch.Generator().manual_seed(0)
    hidden = torch.ones(1, 2, 1, dtype=torch.bfloat16)
    teacher = (2 * torch.randn(vocab, 1, generator=g)).bfloat16()
    student = (teacher.float() + 1e-2 * torch.randn(vocab, 1, generator=g)).bfloat16()
    labels = torch.zeros(1, 2, dtype=torch.long)
    for method in ("vanilla_kd", "rkl", "tad"):
        for head in (teacher, student):
            head = head.clone().requires_grad_()
            terms = distillation_loss(
                hidden, Head(head), hidden, Head(teacher), labels, None, method=method
            )
            exact = Case.__new__(Case)
            exact.hidden, exact.labels = [hidden.double()] * 2, labels
            exact.heads = [Head(head.detach().double()), Head(teacher.double())]
            exact.mask, exact.segments = torch.ones_like(labels, dtype=torch.bool), None
            truth = exact.reference(method, k=10)[2]
            assert terms.divergence_sum.item() == pytest.approx(truth.item(), rel=1e-2, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tail_mass_of_1e_30_and_a_certain_sequence(dtype):
    g = torch.Generator().manual_seed(4)
    hidden = torch.ones(1, 3, 1, dtype=dtype)
    tail = torch.randn(90, 1, generator=g).to(dtype)
    for height in (70.0, 200.0, 1e4):  # log alpha_K of about -height; beyond the floor, 0 counts
        teacher = torch.cat([tail.new_full((1, 1), height), tail])
        student = torch.randn(91, 1, generator=g).to(dtype).requires_grad_()
        labels = torch.zeros(1, 3, dtype=torch.long)
        terms = distillation_loss(
            hidden, Head(student), hidden, Head(teacher), labels, None, method="tad", k=1
        )
        expected = divergences.tail_aware(hidden @ student.t(), hidden @ teacher.t(), k=1).sum()
        torch.testing.assert_close(terms.divergence_sum, expected, rtol=1e-4, atol=1e-6)
        want = torch.autograd.grad(expected, student)[0]
        got = torch.autograd.grad(terms.divergence_sum, student)[0]
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_huge_logits_equal_the_reference(method, temperature):
    case = Case(15, vocab=100, scales=(1e4, 1e4), dtype=torch.float64)
    assert_equal_to_reference(case, method, 1e-9, 5, temperature=temperature)
    single = Case(15, vocab=100, scales=(1e4, 1e4), dtype=torch.float32)
    terms = single.fused(method, temperature=temperature)
    assert terms.total.isfinite()
    for gradient in torch.autograd.grad(terms.total, single.leaves):
        assert gradient.isfinite().all()


needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize(
    ("method", "softcap"),
    [
        ("tad", None),
        pytest.param("rkl", None, marks=pytest.mark.slow),
        pytest.param("tad", 3.0, marks=pytest.mark.slow),
    ],
)
def test_compiled_passes_give_the_same(method, softcap):
    case = Case(16, vocab=130, softcaps=(softcap, None))
    plain, fast = case.fused(method), case.fused(method, compiled=True)
    torch.testing.assert_close(fast.total, plain.total, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(x.total, case.leaves) for x in (fast, plain)]
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-14)


def test_heads_of_different_size():
    case = Case(17, vocab=40)
    teacher = case.heads[1]
    larger = Head(torch.cat([teacher.weight, torch.full((8, 7), 9.0, dtype=torch.float64)]))
    case.heads[1] = larger
    with pytest.raises(
        ValueError, match="student head has 40 rows and teacher head 48.*vocab_size"
    ):
        case.fused("tad")
    cut = case.fused("tad", vocab=40)
    case.heads[1] = teacher
    assert torch.equal(cut.total, case.fused("tad").total)
    # Agreement on the shared rows is a divergence of exactly 0, whatever the other rows hold.
    case.hidden[1] = case.hidden[0].detach()
    case.heads[1] = Head(torch.cat([case.heads[0].weight.detach(), torch.ones(8, 5).double()]))
    assert case.fused("vanilla_kd", vocab=40).divergence == 0


def test_a_head_cut_to_the_common_prefix_has_zero_gradient_beyond_it():
    case = Case(17, vocab=40)
    case.labels = torch.where(case.labels == -100, -100, case.labels % 30)
    assert_equal_to_reference(case, "tad", 1e-10, 5, vocab=30)
    gradient = torch.autograd.grad(case.fused("tad", vocab=30).total, case.leaves[1])[0]
    assert gradient.shape == (40, 5) and (gradient[30:] == 0).all()


def families():
    from transformers import AutoConfig

    small = {
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    gemma = small | {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 0.05}
    return {
        "llama": AutoConfig.for_model("llama", **small),
        "gemma2": AutoConfig.for_model("gemma2", **gemma),
        "phi": AutoConfig.for_model("phi", **small),
        "granite": AutoConfig.for_model("granite", **small, logits_scaling=8.0),
        "cohere": AutoConfig.for_model("cohere", **small, logit_scale=0.25),
    }


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi", "granite", "cohere"])
def test_a_head_read_from_a_model_gives_the_logits_of_the_model(family):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(families()[family]).eval()
    if family == "phi":
        torch.nn.init.normal_(model.get_output_embeddings().bias)
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        out = model(ids, output_hidden_states=True)
        labels = ids.roll(-1)
        terms = distillation_loss(
            out.hidden_states[-1], Head.of(model), None, None, labels, None, method="clm"
        )
    expected = torch.nn.functional.cross_entropy(out.logits[0], labels[0])
    assert terms.clm.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "kd"}, "method 'kd' is unknown"),
        ({"k": 0}, "k is 0: method tad needs k >= 1"),
        ({"k": 150}, "k is 150: choose 1 <= k <= 149"),
        ({"beta": -1.0}, "beta is -1: method tad needs beta > 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0"),
        ({"vocab_size": 151}, "vocab_size is 151: choose 2 <= vocab_size <= 150"),
        ({"teacher_head": None}, "teacher_head is NoneType: give an nn.Linear or a Head"),
        ({"teacher_hidden": None}, "teacher_hidden is None"),
        ({"student_hidden": torch.zeros(3, 6, 4)}, "student_hidden is 4 wide: its head needs 5"),
        ({"student_hidden": torch.zeros(3, 5, 5)}, r"student_hidden is \(3, 5, 5\)"),
        ({"mask": torch.ones(3, 5)}, r"mask has shape \(3, 5\)"),
        ({"segment_ids": torch.ones(6)}, r"segment_ids has shape \(6,\)"),
        ({"labels": torch.full((3, 6), 150)}, "label 150 is outside the common vocabulary of 150"),
    ],
)
def test_errors_name_the_value_and_the_cure(change, message):
    case = Case(0)
    case.mask = torch.ones_like(case.mask)
    arguments = {
        "student_hidden": case.hidden[0],
        "student_head": case.heads[0],
        "teacher_hidden": case.hidden[1],
        "teacher_head": case.heads[1],
        "labels": case.labels,
        "mask": case.mask,
        "method": "tad",
    }
    with pytest.raises(ValueError, match=message):
        distillation_loss(**arguments | change)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [-50.0, -34.0, 0.0, 34.0, 50.0])
@pytest.mark.parametrize("gap", [0.0, 34.0, 36.0])
def test_logits_of_any_level_are_exponentiated_safely(method, level, gap):
    """A constant added to all logits changes nothing, nor do some tokens that stand out."""
    case = Case(18, vocab=300, bias=True, dtype=torch.float32)
    with torch.no_grad():
        for head in case.heads:
            head.bias[[3, 64, 65]] += gap
    exact = case.double()
    with torch.no_grad():
        for head in case.heads:
            head.bias.add_(level)
    clm, clm_count, div, div_count = exact.reference(method)
    expected = torch.autograd.grad(clm / clm_count + div / max(div_count, 1), exact.leaves)
    terms = case.fused(method)
    assert terms.clm_sum.item() == pytest.approx(clm.item(), rel=1e-5)
    assert terms.divergence_sum.item() == pytest.approx(div.item(), rel=1e-5, abs=1e-4)
    for got, want in zip(torch.autograd.grad(terms.total, case.leaves), expected, strict=True):
        assert (got - want).abs().max() <= 1e-5 * want.abs().max() + 1e-7
