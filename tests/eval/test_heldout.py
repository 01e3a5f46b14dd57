"""Held-out metrics against plain float64 arithmetic over the whole split at once."""

from __future__ import annotations

import math

import pytest
import torch

from eval.heldout import TOP_K, SequenceMeans, tail_masses, token_metrics

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
