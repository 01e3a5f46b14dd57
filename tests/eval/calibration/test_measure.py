"""Full-ECE against its definition, exact worked cases, torchmetrics, and its own properties."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.calibration.bins import TAIL_BINS, bin_rows, equal_bins
from eval.calibration.measure import CalibrationError, FullECE, main, measure, result
from eval.calibration.sums import SequenceSums
from tests.eval.calibration.text import dense_full_ece, dense_tables, full_ece, text_like

CASES = Path(__file__).parents[3] / "../shared/data/calibration/cases.json"


def log_of(probabilities, dtype=torch.float64) -> torch.Tensor:
    return torch.log(torch.tensor(probabilities, dtype=dtype))


# --- Values known beforehand ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "labels", "n_bins", "full", "top"),
    [
        (
            [[0.7, 0.2, 0.1], [0.55, 0.35, 0.1], [0.15, 0.24, 0.61]],
            [0, 1, 2],
            4,
            1.58 / 3,
            0.14 / 3,
        ),
        ([[0.9, 0.05, 0.03, 0.02], [0.85, 0.1, 0.03, 0.02]], [0, 3], 5, 0.75, 0.375),
        ([[1.0, 0.0, 0.0]] * 3, [1, 2, 1], 7, 2.0, 1.0),
        ([[1.0, 0.0, 0.0]] * 3, [0, 0, 0], 7, 0.0, 0.0),
    ],
)
def test_worked_by_hand(p, labels, n_bins, full, top):
    metric = FullECE(n_bins)
    metric.update(log_of(p), torch.tensor(labels))
    found = metric.compute()
    assert found.full_ece == pytest.approx(full, abs=1e-12)
    assert found.ece == pytest.approx(top, abs=1e-12)


@pytest.mark.skipif(not CASES.is_file(), reason="the worked cases are not beside this checkout")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-7)])
def test_exact_cases(dtype, tolerance):
    file = json.loads(CASES.read_text(encoding="utf-8"))
    assert len(file["cases"]) >= 13
    for case in file["cases"] + file["extra_cases"]:
        if case.get("edge_sensitive") and not case.get("edges_dyadic"):
            continue
        metric = FullECE(case["n_bins"])
        metric.update(log_of(case["probabilities"], dtype), torch.tensor(case["labels"]))
        found = metric.compute()
        assert found.full_ece == pytest.approx(case["full_ece"], abs=tolerance), case["name"]
        labels = torch.tensor(case["labels"])
        logits = log_of(case["probabilities"], dtype)[labels >= 0]
        oracle = dense_full_ece(logits, labels[labels >= 0], case["n_bins"])
        assert oracle == pytest.approx(case["full_ece"], abs=tolerance), case["name"]
        assert found.ece == pytest.approx(case["ece"], abs=tolerance), case["name"]


def test_edges_are_left_closed_and_one_is_in_the_last_bin():
    p = torch.tensor([0.0, 0.24, 0.25, 0.5, 0.74999, 0.75, 1.0], dtype=torch.float64)
    assert equal_bins(p, 4).tolist() == [0, 0, 1, 2, 2, 3, 3]
    rounded = torch.exp(torch.log(p[1:]) - 7 + 7)
    assert equal_bins(rounded, 4).tolist() == [0, 1, 2, 2, 3, 3]


# --- The shortcut is the definition --------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [2, 3, 63, 64, 65, 200, 1000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_shortcut_equals_dense_definition(vocabulary, dtype):
    logits, labels = text_like(300, vocabulary, seed=vocabulary, dtype=dtype)
    sizes = (1, 2, 10, 15, 100)
    quick = bin_rows(logits, labels, sizes, tail=True)
    dense = dense_tables(logits, labels, sizes, tail=True)
    for key, table in dense.items():
        mean_error = (quick[key].mass - table.mass).sum(0).abs().max().item() / len(labels)
        assert mean_error < (1e-6 if key == "tail" else 1e-9), key
        if key != "tail":
            assert torch.equal(quick[key].entries, table.entries)
        assert torch.equal(quick[key].label_bin, table.label_bin)
        assert torch.equal(quick[key].top_bin, table.top_bin)
        assert torch.equal(quick[key].correct, table.correct)


def test_values_equal_the_oracle_to_1e_9_on_a_large_vocabulary():
    logits, labels = text_like(64, 20_000, dtype=torch.float32)
    for n_bins in (10, 15):
        oracle = dense_full_ece(logits, labels, n_bins)
        assert full_ece(logits, labels, n_bins) == pytest.approx(oracle, abs=1e-9)


@pytest.mark.parametrize("offset", [-3000.0, -100.0, 50.0, 96.0, 3000.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_adding_a_constant_to_the_logits_changes_nothing(offset, dtype):
    logits, labels = text_like(100, 300)
    logits = (logits * 64).round() / 64  # exact in float32 with the offset too
    moved = (logits + offset).to(dtype)
    assert full_ece(moved, labels) == pytest.approx(full_ece(logits, labels), abs=1e-9)


def test_flat_rows_have_no_large_entry():
    logits = torch.zeros((3, 5000), dtype=torch.float32)
    logits[2, 4000] = 1e-3
    table = bin_rows(logits, torch.tensor([0, 1, 4000]), (10,))["10"]
    assert table.correct.tolist() == [True, False, True]
    assert table.top_p.tolist() == pytest.approx([1 / 5000] * 3, rel=2e-3)
    assert table.mass[:, 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("vocabulary", [5, 130])
def test_ties_go_to_the_first_entry(vocabulary):
    logits = torch.zeros((2, vocabulary))
    logits[:, [2, vocabulary - 1]] = 9
    table = bin_rows(logits, torch.tensor([2, vocabulary - 1]), (10,))["10"]
    assert table.correct.tolist() == [True, False]


def test_full_ece_is_classes_times_binary_ece_by_torchmetrics():
    from torchmetrics.functional.classification import (
        binary_calibration_error,
        multiclass_calibration_error,
    )

    logits, labels = text_like(400, 30, seed=3)
    logits = logits * 1.3
    p = torch.softmax(logits, -1)
    hot = torch.nn.functional.one_hot(labels, 30)
    for n_bins in (10, 15):
        metric = FullECE(n_bins)
        metric.update(logits, labels)
        found = metric.compute()
        binary = binary_calibration_error(p.flatten(), hot.flatten(), n_bins=n_bins, norm="l1")
        assert found.full_ece == pytest.approx(30 * binary.item(), abs=1e-9)
        top = multiclass_calibration_error(p, labels, num_classes=30, n_bins=n_bins, norm="l1")
        assert found.ece == pytest.approx(top.item(), abs=1e-6)  # theirs is summed in float32


def test_bounds_and_one_bin():
    for seed in range(20):
        logits, _ = text_like(30, 40, seed=seed)
        labels = torch.randint(40, (30,), generator=torch.Generator().manual_seed(seed))
        assert 0 <= full_ece(logits * 3, labels) <= 2
        assert full_ece(logits, labels, 1) == pytest.approx(0, abs=1e-12)


# --- Streaming -----------------------------------------------------------------------------------


def same(a, b) -> None:
    assert a.full_ece == pytest.approx(b.full_ece, abs=1e-12)
    assert a.ece == pytest.approx(b.ece, abs=1e-12)
    assert a.noise_floor == pytest.approx(b.noise_floor, abs=1e-12)
    assert a.full_ece_interval == pytest.approx(b.full_ece_interval, abs=1e-12)
    assert (a.positions, a.sequences) == (b.positions, b.sequences)


def test_chunks_order_and_ranks_do_not_matter(monkeypatch):
    logits, labels = text_like(12 * 20, 90)
    logits, labels = logits.view(12, 20, 90), labels.view(12, 20)
    whole = FullECE(tail=True)
    whole.update(logits, labels, sequences=range(12))

    shuffled = FullECE(tail=True)
    for index in torch.randperm(12, generator=torch.Generator().manual_seed(1)).tolist():
        for part in (slice(0, 7), slice(7, 20)):
            shuffled.update(logits[index, None, part], labels[index, None, part], sequences=[index])
    same(shuffled.compute(), whole.compute())

    ranks = [FullECE(tail=True) for _ in range(3)]
    for rank, metric in enumerate(ranks):
        metric.update(logits[rank::3], labels[rank::3], sequences=range(rank, 12, 3))
    merged = SequenceSums.merged([metric.sums() for metric in ranks])
    same(result(merged, (10, 15)), whole.compute())

    monkeypatch.setattr("eval.calibration.measure.ROW_ELEMENTS", {"cpu": 90 * 13})
    small = FullECE(tail=True)
    small.update(logits, labels, sequences=range(12))
    same(small.compute(), whole.compute())


def test_unnamed_sequences_are_new_ones_each_time():
    logits, labels = text_like(40, 50)
    metric = FullECE()
    for rows in (slice(0, 15), slice(15, 40)):
        metric.update(logits[rows], labels[rows])
    assert metric.compute().sequences == 2
    assert metric.compute().full_ece == pytest.approx(full_ece(logits, labels), abs=1e-12)
    with pytest.raises(CalibrationError, match="every update or in none"):
        metric.update(logits[None], labels[None], sequences=[5])


def test_sums_are_exact_where_float32_would_stall():
    """2^24 + 1 is not a float32: counts and masses must go on growing past it."""
    metric = FullECE(noise_draws=0)
    metric.update(log_of([[0.75, 0.25]]), torch.tensor([0]))
    table = metric.sums().tables["10"]
    assert {table[name].dtype for name in ("mass", "confidence")} == {np.dtype(np.float64)}
    assert {table[n].dtype for n in ("labels", "entries", "correct")} == {np.dtype(np.int64)}
    big = metric.sums()
    for name in table:
        big.tables["10"][name] = big.tables["10"][name] * 2**24
    big.positions = big.positions * 2**24
    both = SequenceSums.merged([big, metric.sums()])
    assert both.tables["10"]["labels"].sum() == 2**24 + 1
    assert both.tables["10"]["mass"].sum() == pytest.approx(2**24 + 1, abs=1e-6)


# --- What does and does not count ----------------------------------------------------------------


def test_masked_positions_change_nothing_even_if_nan():
    logits, labels = text_like(60, 70)
    expected = full_ece(logits, labels)
    noisy = torch.cat([logits, torch.full((9, 70), math.nan, dtype=torch.float64)]).view(3, 23, 70)
    ignored = torch.cat([labels, torch.full((9,), -100)]).view(3, 23)
    assert full_ece(noisy, ignored) == pytest.approx(expected, abs=1e-12)
    mask = ignored != -100
    metric = FullECE()
    metric.update(noisy, ignored.clamp(min=0), mask)
    assert metric.compute().full_ece == pytest.approx(expected, abs=1e-12)
    assert metric.compute().positions == 60


def test_padded_vocabulary_rows_of_no_mass_change_nothing():
    logits, labels = text_like(50, 100, dtype=torch.float32)
    padding = torch.full((50, 28), -math.inf)
    padded = torch.cat([logits, padding], 1)
    assert full_ece(padded, labels) == pytest.approx(full_ece(logits, labels), abs=1e-9)
    alive = torch.cat([logits, padding.clamp(min=2.0)], 1)
    assert abs(full_ece(alive, labels) - full_ece(logits, labels)) > 1e-3


def test_bf16_logits_are_taken_through_a_float32_softmax():
    logits, labels = text_like(200, 500, dtype=torch.bfloat16)
    exact = dense_full_ece(logits, labels)
    assert full_ece(logits, labels) == pytest.approx(exact, abs=1e-9)
    naive = torch.softmax(logits, -1).double().log()
    assert abs(full_ece(naive, labels) - exact) > 1e-6


def test_label_without_probability_is_in_the_lowest_bin():
    logits = torch.tensor([[0.0, -math.inf, -1e4]], dtype=torch.float64)
    for label in (1, 2):
        table = bin_rows(logits, torch.tensor([label]), (10,), tail=True)
        assert table["10"].label_bin.item() == table["tail"].label_bin.item() == 0
        assert table["10"].mass[0, 9] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_rows_without_a_softmax_are_refused(value):
    for vocabulary, column in ((70, 1), (70, 69)):
        logits = torch.zeros((2, vocabulary))
        logits[1, column] = value
        with pytest.raises(CalibrationError, match="finite softmax"):
            bin_rows(logits, torch.tensor([0, 0]), (10,))
    with pytest.raises(CalibrationError, match="finite softmax"):
        bin_rows(torch.full((1, 70), -math.inf), torch.tensor([0]), (10,))


def test_wrong_input_is_named():
    logits, labels = text_like(6, 8)
    metric = FullECE()
    with pytest.raises(CalibrationError, match=r"labels \(1, 5\)"):
        metric.update(logits, labels[:5])
    with pytest.raises(CalibrationError, match="mask"):
        metric.update(logits, labels, torch.ones(5))
    with pytest.raises(CalibrationError, match="-1 to|to 8"):
        metric.update(logits, torch.full((6,), 8))
    with pytest.raises(CalibrationError, match="names"):
        FullECE().update(logits[None], labels[None], sequences=[1, 2])
    with pytest.raises(CalibrationError, match="no position"):
        FullECE().compute()
    with pytest.raises(CalibrationError, match="n_bins"):
        FullECE((10, 10))


# --- The tail diagnostic -------------------------------------------------------------------------


def test_tail_diagnostic_sees_the_shape_that_full_ece_is_blind_to():
    """Squeezing mass from rare to very rare entries moves no entry across p = 0.1."""
    generator = torch.Generator().manual_seed(0)
    head = torch.full((4000, 3), 0.2, dtype=torch.float64)
    tail = torch.rand((4000, 97), generator=generator, dtype=torch.float64) ** 3
    p = torch.cat([head, 0.4 * tail / tail.sum(-1, keepdim=True)], 1)
    labels = torch.multinomial(p, 1, generator=generator)[:, 0]
    sharp = tail**3
    q = torch.cat([head, 0.4 * sharp / sharp.sum(-1, keepdim=True)], 1)
    q[:, 3:] = q[:, 3:].clamp(max=0.09)
    q[:, 3:] *= 0.4 / q[:, 3:].sum(-1, keepdim=True)
    assert q[:, 3:].max() < 0.1
    results = []
    for probabilities in (p, q):
        metric = FullECE(tail=True)
        metric.update(probabilities.log(), labels)
        results.append(metric.compute())
    right, wrong = results
    assert wrong.full_ece == pytest.approx(right.full_ece, abs=1e-9)
    assert wrong.tail_gap > 5 * right.tail_gap
    assert len(right.tail) == TAIL_BINS
    assert sum(b.mass for b in right.tail) == pytest.approx(4000, rel=1e-6)
    assert sum(b.labels for b in right.tail) == 4000
    assert sum(b.entries for b in right.tail) == 4000 * 100


# --- Models and command line ---------------------------------------------------------------------


def test_measure_takes_logits_after_soft_capping(tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, final_logit_softcapping=2.0,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=2.0)
    model.save_pretrained(tmp_path / "model")
    ids = torch.randint(1, 40, (6, 9), generator=torch.Generator().manual_seed(0))

    class Rows(list):
        context, vocab_size = 8, 40

    data = Rows({"input_ids": row[:-1], "labels": row[1:]} for row in ids)
    metric, details = measure(tmp_path / "model", data)
    with torch.no_grad():
        hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
        raw = model.lm_head(hidden)
    found = metric.compute().full_ece
    assert found == pytest.approx(full_ece(2 * torch.tanh(raw / 2), ids[:, 1:]), abs=1e-6)
    assert abs(found - full_ece(raw, ids[:, 1:])) > 0.01
    assert metric.compute().sequences == 6 and details["context"] == 8
    limited, _ = measure(tmp_path / "model", data, positions=17)
    assert limited.compute().positions == 24  # whole sequences
    with pytest.raises(CalibrationError, match="49 positions asked"):
        measure(tmp_path / "model", data, positions=49)


def test_command_line_measures_models_on_packed_text(tmp_path, capsys):
    from transformers import LlamaConfig, LlamaForCausalLM

    from tad.data.packing import pack
    from tad.data.prepare import load_encoder, train_tokenizer
    from tad.experiment.schema import Corpus

    texts = [f"This is text number {i}, of {i % 7} words or {i * i}." for i in range(300)]
    tokenizer = train_tokenizer(texts, 280)
    shape = {
        "vocab_size": 280, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "initializer_range": 1.0,
    }  # fmt: skip
    models = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(models):
        torch.manual_seed(seed)
        LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    corpus = Corpus(
        source="local", path="x", tokens=500, validation_tokens=201, validation_fraction=0.3
    )
    encoder = load_encoder("t", tmp_path / "tokenizer")
    pack(texts, encoder, "general", corpus, tmp_path / "packed", sources={})
    data = ["--data", str(tmp_path / "packed"), "--context", "20"]
    assert main(["--model", *map(str, models), *data]) == 0
    records = [json.loads((folder / "calibration.json").read_text()) for folder in models]
    assert [record["positions"] for record in records] == [200, 200]
    assert records[0]["full_ece"] != records[1]["full_ece"]
    assert records[0]["data_fingerprint"] == records[1]["data_fingerprint"]
    capsys.readouterr()
    assert main(["compare", *(str(folder / "calibration.npz") for folder in models)]) == 0
    assert json.loads(capsys.readouterr().out)["sequences"] == 10
    assert (records[0]["bos_expected"], records[0]["bos_found"]) == (False, 0)
    model = ["--model", str(models[0])]
    for arguments, message in (
        (["--model", str(tmp_path)], "no tokenizer.json here"),
        ([*model, "--positions", "0"], "--positions 0: must be at least 1"),
        ([*model, "--positions", "900"], "900 positions asked"),
        ([*model, "--out", str(tmp_path)], "is a folder"),
    ):
        assert main([*arguments, *data]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    broken = LlamaForCausalLM(LlamaConfig(**shape))
    torch.nn.init.constant_(broken.lm_head.weight, math.nan)
    broken.save_pretrained(models[0])
    assert main([*model, *data]) == 2
    assert "NaN or infinity in lm_head.weight" in capsys.readouterr().err
    assert main(["--model", str(models[0]), "--data", str(tmp_path), "--context", "20"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
