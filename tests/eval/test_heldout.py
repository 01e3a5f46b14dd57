"""Held-out metrics against plain float64 arithmetic over the whole split at once."""

from __future__ import annotations

import math

import pytest
import torch

from eval import heldout
from eval.calibration.measure import FullECE
from eval.heldout import TOP_K, DocumentMeans, SequenceMeans, held_out, tail_masses, token_metrics
from eval.rows import RowsError, pieces

B, N, V = 6, 9, 80


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(B, N, V, generator=generator) * 3
    teacher = torch.randn(B, N, V, generator=generator) * 3
    labels = torch.randint(0, V, (B, N), generator=generator)
    labels[1, 4:] = -100
    return student, teacher, labels


def brute_force(student, teacher, labels):
    """Lists of per-token values over the valid positions, in float64."""
    values = {name: [] for name in ("nll", "kl", "reverse_kl", "mismatch")}
    values |= {f"alpha_{k}": [] for k in TOP_K}
    for b in range(B):
        for t in range(N):
            if labels[b, t] == -100:
                continue
            p = torch.softmax(teacher[b, t].double(), 0)
            q = torch.softmax(student[b, t].double(), 0)
            values["nll"].append(-q[labels[b, t]].log().item())
            values["kl"].append((p * (p / q).log()).sum().item())
            values["reverse_kl"].append((q * (q / p).log()).sum().item())
            values["mismatch"].append(float(p.argmax() != labels[b, t]))
            for k in TOP_K:
                values[f"alpha_{k}"].append(p.sort().values[: V - k].sum().item())
    return values


def test_streamed_means_equal_brute_force(batch):
    student, teacher, labels = batch
    means = SequenceMeans()
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        values = token_metrics(student[rows], labels[rows], teacher[rows])
        means.update(values, labels[rows] != -100)
    result = means.compute()
    expected = brute_force(student, teacher, labels)
    assert set(result) == set(expected)
    for name, values in expected.items():
        assert result[name]["mean"] == pytest.approx(sum(values) / len(values), rel=1e-5), name


def test_quartiles_are_over_valid_tokens(batch):
    student, teacher, labels = batch
    means = SequenceMeans()
    means.update(token_metrics(student, labels, teacher), labels != -100)
    row = means.compute()["alpha_5"]
    expected = sorted(brute_force(student, teacher, labels)["alpha_5"])
    for q in (25, 50, 75):
        assert row[f"q{q}"] == pytest.approx(expected[(len(expected) - 1) * q // 100], rel=1e-4)


def test_standard_error_is_that_of_sequence_means_for_equal_lengths():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(40, N, generator=generator)
    means = SequenceMeans()
    means.update({"nll": values}, torch.ones(40, N, dtype=torch.bool))
    expected = values.double().mean(1).std(unbiased=True) / math.sqrt(40)
    assert means.compute()["nll"]["se"] == pytest.approx(expected.item(), rel=1e-6)


def test_padding_a_sequence_changes_nothing(batch):
    student, teacher, labels = batch
    one, other = SequenceMeans(), SequenceMeans()
    one.update(token_metrics(student, labels, teacher), labels != -100)
    pad = torch.nn.functional.pad
    labels = pad(labels, (0, 3), value=-100)
    logits = [pad(x, (0, 0, 0, 3), value=math.nan) for x in (student, teacher)]
    other.update(token_metrics(logits[0], labels, logits[1]), labels != -100)
    for name, row in one.compute().items():
        assert other.compute()[name] == pytest.approx(row, rel=1e-6), name


def test_tiny_tails_keep_their_digits():
    logits = torch.full((1, 1, V), -40.0)
    logits[..., :3] = torch.tensor([30.0, 5.0, 1.0])
    masses = tail_masses(logits, torch.ones(1, 1, dtype=torch.bool))
    exact = torch.softmax(logits.double(), -1).sort(descending=True).values[0, 0]
    for k in TOP_K:
        expected = exact.flip(0)[: V - k].sum().item()
        assert masses[f"alpha_{k}"].item() == pytest.approx(expected, rel=1e-4), k


def test_a_model_against_itself_has_no_divergence(batch):
    _, teacher, labels = batch
    values = token_metrics(teacher, labels, teacher)
    assert values["kl"].abs().max() < 1e-6
    assert values["reverse_kl"].abs().max() < 1e-6


def test_without_a_teacher_the_model_itself_is_measured(batch):
    _, teacher, labels = batch
    alone, both = token_metrics(teacher, labels), token_metrics(teacher, labels, teacher)
    assert set(alone) == set(both) - {"kl", "reverse_kl"}
    for name, values in alone.items():
        assert torch.equal(values, both[name]), name


# --- Document by document ---


def numbers(record, name):
    return [float(value) for value in record[name].split()]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_a_document_goes_on_over_rows_and_batches(size):
    """Of one stream of tokens cut into rows, whatever the batches: what follows an end-of-text
    token is of the next document."""
    generator = torch.Generator().manual_seed(0)
    eos, text = 7, torch.randint(0, 8, (B * N + 1,), generator=generator)
    values = torch.rand(B * N, generator=generator)
    expected, document = {}, 0
    for token, value in zip(text[:-1].tolist(), values.tolist(), strict=True):
        document += token == eos
        expected.setdefault(document, []).append(value)
    assert len(expected) > 4 and max(map(len, expected.values())) > N
    means = DocumentMeans(eos)
    rows, of_rows = text[:-1].view(B, N), values.view(B, N)
    for start in range(0, B, size):
        part = slice(start, start + size)
        mask = torch.ones_like(rows[part], dtype=torch.bool)
        means.update({"nll": of_rows[part], "alpha_1": of_rows[part]}, rows[part], mask)
    found = means.compute()
    assert list(found) == ["tokens", "nll"]
    assert numbers(found, "tokens") == [len(each) for each in expected.values()]
    truth = [sum(each) / len(each) for each in expected.values()]
    assert numbers(found, "nll") == pytest.approx(truth, rel=1e-6)


def test_documents_make_up_the_mean_of_the_record(models):
    """Rows without an end-of-text token are documents; their tokens and means are those of all."""
    student, teacher, rows = models
    record = held_out(student, rows, teacher=teacher, shared=V, batch_size=4)
    tokens = numbers(record["documents"], "tokens")
    assert tokens == [N, N, N - 3, N, N, N]
    for name in ("nll", "kl", "reverse_kl"):
        sums = [n * x for n, x in zip(tokens, numbers(record["documents"], name), strict=True)]
        assert sum(sums) / sum(tokens) == pytest.approx(record["metrics"][name]["mean"], rel=1e-6)
    assert "kl" not in held_out(student, rows)["documents"]


# --- From hidden states ---------------------------------------------------------------------------


class Rows(list):
    context = N


@pytest.fixture
def models():
    """A student whose logits are soft-capped and have two more rows than the teacher's, a teacher,
    and rows of a text of their shared tokens."""
    from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    torch.manual_seed(0)
    student = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=V + 2, final_logit_softcapping=2.0, **small)
    )
    torch.nn.init.normal_(student.lm_head.weight, std=2.0)
    teacher = LlamaForCausalLM(LlamaConfig(vocab_size=V, initializer_range=0.5, **small))
    ids = torch.randint(0, V, (B, N + 1), generator=torch.Generator().manual_seed(1))
    rows = Rows({"input_ids": row[:-1], "labels": row[1:].clone()} for row in ids)
    rows[2]["labels"][:3] = -100
    return student.eval(), teacher.eval(), rows


@pytest.mark.parametrize("at_once", [5, N, 2 * N + 1, 1000])
@pytest.mark.parametrize("alone", [False, True])
def test_no_whole_logits_are_needed_for_the_same_numbers(models, monkeypatch, at_once, alone):
    student, teacher, rows = models
    inputs, labels = (torch.stack([r[key] for r in rows]) for key in ("input_ids", "labels"))
    with torch.no_grad():
        whole = student(inputs).logits[..., : None if alone else V]
        other = None if alone else teacher(inputs).logits
    means, calibration = SequenceMeans(), FullECE(tail=True)
    means.update(token_metrics(whole, labels, other), labels != -100)
    with torch.no_grad():
        calibration.update(student(inputs[:3]).logits, labels[:3], sequences=range(3))

    monkeypatch.setattr(heldout, "positions_at_once", lambda vocabulary, device: at_once)
    seen = []
    measured = heldout.token_metrics
    monkeypatch.setattr(
        heldout, "token_metrics", lambda *x: seen.append(x[1].numel()) or measured(*x)
    )
    streamed = FullECE(tail=True)
    record = held_out(
        student, rows, teacher=None if alone else teacher, shared=None if alone else V,
        batch_size=4, calibration=streamed, calibrated=3,
    )  # fmt: skip
    assert max(seen) <= at_once and sum(seen) == labels.numel()
    assert record["tokens"] == B * N - 3
    for name, values in means.compute().items():
        assert record["metrics"][name] == pytest.approx(values, rel=1e-5), name
    found, expected = streamed.compute(), calibration.compute()
    assert (found.positions, found.sequences) == (3 * N - 3, 3)
    for name in ("full_ece", "full_ece_interval", "ece", "tail_gap", "noise_floor"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-5), name


def test_fewer_sequences_than_a_calibration_needs_are_refused(models):
    student, _, rows = models
    with pytest.raises(RowsError, match="calibration needs 3"):
        held_out(student, rows, sequences=2, calibration=FullECE(), calibrated=3)
    with pytest.raises(RowsError, match="has 6"):
        held_out(student, rows, sequences=7)


@pytest.mark.parametrize("limit", [1, 4, 9, 20, 100])
def test_pieces_cover_every_position_once(limit):
    count = torch.zeros(5, 9, dtype=torch.int64)
    for part in pieces(5, 9, limit):
        count[part] += 1
        assert count[part].numel() <= limit
    assert bool((count == 1).all())
