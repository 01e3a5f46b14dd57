"""The configuration: the paper's values are there, and every fault is one clear line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tad.experiment.config import ConfigError, load_suite
from tad.experiment.flops import pair_account
from tad.experiment.run_id import RunId
from tad.experiment.schema import Student
from tad.experiment.specs import pretrain_spec, run_spec
from tad.methods import Method

CONFIG = Path(__file__).parents[3] / "config"
SCALES = sorted(
    path.stem for path in CONFIG.glob("*.yaml") if path.stem not in ("experiments", "claims")
)


def edited(tmp_path: Path, scale: str, edit) -> Path:
    """A copy of a scale file with ``edit`` applied to its data, beside experiments.yaml."""
    shutil.copy(CONFIG / "experiments.yaml", tmp_path)
    data = yaml.safe_load((CONFIG / f"{scale}.yaml").read_text())
    edit(data)
    path = tmp_path / f"{scale}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_loads_and_resolves_all_its_runs(scale):
    suite = load_suite(CONFIG / f"{scale}.yaml")
    runs = suite.runs()
    assert runs, "a scale that runs nothing"
    assert len(set(runs)) == len(runs)
    for run in runs:
        spec = run_spec(suite, run)
        assert RunId.parse(spec.run) == run
        assert spec.optimisation.seed == run.seed


def test_paper_scale_has_the_papers_values():
    suite = load_suite(CONFIG / "paper.yaml")
    spec = run_spec(
        suite, RunId("scratch", "qwen1.5-1.8b_0.5b", Method.of("tad", k=10, beta=2.0), 0)
    )
    values = spec.optimisation
    assert (values.batch_size, values.context, values.learning_rate) == (128, 2048, 1e-4)
    assert values.weight_decay == 0.1
    assert spec.temperature == 1.0
    assert not spec.hidden_cosine
    # 2.8 billion tokens (Section 3.2.1), in whole steps.
    assert 2.8e9 - 128 * 2048 < values.tokens <= 2.8e9
    continued = run_spec(suite, RunId("continued", "phi3-4b_tinyllama", Method("clm"), 0))
    assert continued.optimisation.learning_rate == 3e-5
    assert continued.start.endswith("480k-1T")
    assert run_spec(suite, RunId("scratch", "phi2_1b", Method("rkl"), 0)).hidden_cosine


def test_matched_clm_has_the_flops_of_tad():
    suite = load_suite(CONFIG / "smoke.yaml")
    matched = run_spec(suite, RunId("scratch", "phi2_1b", Method("clm_matched"), 0)).optimisation
    tad = run_spec(
        suite, RunId("scratch", "phi2_1b", Method.of("tad", k=10, beta=2.0), 0)
    ).optimisation
    account, context = pair_account(suite, "phi2_1b"), tad.context
    ours = tad.tokens * account.cost("tad", context=context).total
    theirs = matched.tokens * account.cost("clm_matched", context=context).total
    # Whole steps, and tokens rounded down: within the FLOPs of a step or two.
    assert abs(theirs / ours - 1) < 2 / tad.steps
    assert matched.tokens > 1.5 * tad.tokens


def test_matched_clm_wants_enough_text(tmp_path):
    def edit(data):
        data["corpora"]["general"]["tokens"] = 201_000
        data["pairs"]["phi2_1b"]["tokens"]["scratch"] = 150_000

    path = edited(tmp_path, "smoke", edit)
    suite = load_suite(path)
    with pytest.raises(ConfigError, match="tokens have the FLOPs of TAD, but max_epochs=1"):
        run_spec(suite, RunId("scratch", "phi2_1b", Method("clm_matched"), 0))


def of(suite, method, **where):
    where = {"stage": "scratch", "pair": "phi2_1b", "seed": 0} | where
    return run_spec(suite, RunId(method=Method.parse(method), **where))


def test_rate_and_budget_of_a_method_are_multiples():
    suite = load_suite(CONFIG / "smoke.yaml")
    plain, values = (of(suite, m).optimisation for m in ("rkl", "rkl-r0.5-x3"))
    assert values.learning_rate == 0.5 * plain.learning_rate
    tokens = suite.pairs["phi2_1b"].tokens["scratch"]
    step = values.batch_size * values.context
    assert (plain.steps, values.steps) == (tokens // step, 3 * tokens // step)
    other = {"learning_rate": plain.learning_rate, "steps": plain.steps}
    assert values.model_copy(update=other) == plain
    share = [of(suite, m).optimisation.tokens for m in ("minillm", "minillm-x2")]
    assert share[1] == pytest.approx(2 * share[0], rel=0.4) and share[1] > share[0]
    epochs = [of(suite, m, stage="supervised", pair="phi3-4b_tinyllama") for m in ("sft", "sft-x2")]
    assert epochs[1].optimisation.steps == 2 * epochs[0].optimisation.steps
    weighted = of(suite, "vanilla_kd-w5-c0.5")
    assert weighted.model_copy(update={"run": ""}) == of(suite, "vanilla_kd").model_copy(
        update={"run": ""}
    )


def test_a_budget_wants_enough_text():
    suite = load_suite(CONFIG / "smoke.yaml")
    assert of(suite, "tad-k10-b2-x20").optimisation.tokens <= 492_000
    message = r"tad-k10-b2-x21/seed0: 516600 tokens are its budget, .*corpora.general.tokens hold"
    with pytest.raises(ConfigError, match=message):
        of(suite, "tad-k10-b2-x21")


def second_teacher(data):
    """Two seeds of an item, of which the second learns from a teacher of its own."""
    shape = data["models"]["phi-2"]["shape"]
    other = {"family": "phi", "tokenizer": "phi", "shape": shape, "seed": 7}
    data["models"]["phi-2_b"] = other | {"checkpoints": {"final": {"tokens": 20_000}}}
    data["pairs"]["phi2_1b"]["teachers_of_seeds"] = {"phi-2_b": [1]}
    data["items"]["controls"] |= {"seeds": [0, 1], "pairs": ["phi2_1b", "qwen1.5-1.8b_0.5b"]}


def test_an_item_has_seeds_of_its_own_and_a_pair_a_second_teacher(tmp_path):
    suite = load_suite(edited(tmp_path, "smoke", second_teacher))
    assert {run.seed for run in suite.runs("controls")} == {0, 1}
    assert {run.seed for run in suite.runs("heldout")} == {0}
    assert suite.teachers("controls") == ["phi-2", "phi-2_b", "qwen1.5-1.8b"]
    assert suite.teachers("figure2") == ["qwen1.5-1.8b", "phi-2"]
    runs = [of(suite, "kd_only", seed=seed) for seed in (0, 1)]
    assert [run.teacher.split("/")[-2] for run in runs] == ["phi-2", "phi-2_b"]
    assert of(suite, "miniplm", seed=1).teacher == runs[1].teacher
    assert of(suite, "kd_only", seed=1, pair="qwen1.5-1.8b_0.5b").teacher.endswith("1.8b/final")
    seeds = [pretrain_spec(suite, m, "final").optimisation.seed for m in ("phi-2", "phi-2_b")]
    assert seeds == [0, 7]


def test_a_scale_gives_an_item_seeds_and_keeps_the_rest():
    suite = load_suite(CONFIG / "mini.yaml")
    seeds = {name: sorted({run.seed for run in suite.runs(name)}) for name in suite.select.items}
    assert seeds["primary"] == [0, 1, 2, 3, 4, 5] and seeds["budgets"] == [0, 1]
    assert seeds["controls"] == seeds["table4"] == [0, 1, 2]
    primary = suite.runs("primary")
    assert len(primary) == 2 * 7 * 6
    taught = {(run.pair, suite.teacher(run.pair, run.seed)) for run in primary}
    assert len(taught) == 4
    budgets = [run.method.shared["x"] for run in suite.runs("budgets")]
    assert max(budgets) / min(budgets) > 10**1.5


def test_items_cover_the_rows_of_the_papers_tables():
    suite = load_suite(CONFIG / "paper.yaml")
    for table in ("table1", "table2", "table4", "table6", "table7", "table8"):
        assert suite.items[table].methods
    grid = {Method.parse(m)["beta"] for m in suite.items["table2"].methods if m.startswith("tad")}
    assert grid == {0.5, 1, 2, 5, 10}
    sizes = [Method.parse(m)["k"] for m in suite.items["table4"].methods if m.startswith("tad")]
    assert sizes == [1, 5, 10, 20]


def put(*keys):
    """An edit that sets data[k1][k2]... = value."""

    def edit(data):
        *path, last, value = keys
        for key in path:
            data = data.setdefault(key, {})
        data[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("sedes", [0]), r"sedes: unknown key \(did you mean 'seeds'\? allowed: .*seeds"),
        (put("seeds", []), "seeds: .*at least 1 item"),
        (put("stages", "scratch", "batch_size", "x"), "stages.scratch.batch_size: 'x'.*integer"),
        (put("stages", "scratch", "batch_size", 0), "batch_size: 0.*greater than or equal to 1"),
        (put("stages", "scratch", "batchsize", 8), "batchsize: unknown key.*batch_size"),
        (put("stages", "scratch", "micro_batch_size", 3), "no multiple of micro_batch_size=3"),
        (put("stages", "warmup", {}), "stages.warmup: not in experiments.yaml.*scratch"),
        (put("stages", "scratch", "schedule", "step"), "schedule: 'step'.*constant.*cosine"),
        (put("select", "pairs", ["phi2_2b"]), "'phi2_2b' is not defined.*did you mean 'phi2_1b'"),
        (
            put("select", "methods", ["tad-k0-b2"]),
            "select.methods: k is 0: method tad needs k >= 1",
        ),
        (put("select", "methods", ["kld"]), "method 'kld' is unknown.*vanilla_kd"),
        (put("select", "items", ["table3"]), "'table3' is not defined"),
        (put("models", "phi-2", "shape", {"hidden_size": 8}), "models.phi-2.shape.layers: missing"),
        (put("models", "phi-2", "checkpoints", {}), "models.phi-2.checkpoints"),
        (
            put("models", "phi-2", "checkpoints", {"final": {"tokens": 10**9}}),
            "models.phi-2.checkpoints.final.tokens: 1000000000: more than max_epochs=1",
        ),
        (
            put("models", "phi-2", "checkpoints", {"b": {"tokens": 9000}, "a": {"tokens": 8000}}),
            "tokens must grow from one checkpoint to the next",
        ),
        (put("pairs", "phi2_1b", "tokens", {"scratch": 10**9}), "pairs.phi2_1b.tokens.scratch"),
        (put("pairs", "phi2_1b", "teacher", "phi-3"), "pairs.phi2_1b.teacher: 'phi-3' is not"),
        (put("corpora", "general", "source", "web"), "source: 'web'.*installed-docs"),
        (put("corpora", "general", "packages", []), "needs the key 'packages'"),
        (put("corpora", {}), "stages.[a-z]+.corpus: '[a-z]+' is not defined"),
        (put("corpora", "math", "also", ["art"]), "corpora.math.also: 'art' is not defined"),
        (put("instructions", {}), "stages.supervised.corpus: 'instruct' is not defined"),
        (put("models", "phi3-4b", "corpus", "art"), "models.phi3-4b.corpus: 'art' is not"),
        (put("tokenizers", "phi", {}), "give exactly one of vocab_size, hub, path"),
        (put("evaluation", {"fewshot": {"suite": "hard"}}), "evaluation.fewshot.suite: 'hard'"),
        (put("models", ["phi-2"]), "models: .*must be a mapping"),
        (put("items", "heldout", {"seeds": []}), "items.heldout.seeds: .*at least 1 item"),
        (put("models", "phi-2", "seed", -1), "models.phi-2.seed: -1: .*greater than or equal to 0"),
        (
            put("pairs", "phi2_1b", "teachers_of_seeds", {"phi-3": [0]}),
            "pairs.phi2_1b.teachers_of_seeds: 'phi-3' is not defined.*did you mean 'phi-2'",
        ),
        (
            put("pairs", "phi2_1b", "teachers_of_seeds", {"phi-2": [3]}),
            "pairs.phi2_1b.teachers_of_seeds.phi-2: 3 is not defined .allowed: 0",
        ),
        (
            put("pairs", "phi2_1b", "teachers_of_seeds", {"phi-2": [0, 0]}),
            "pairs.phi2_1b.teachers_of_seeds.phi-2: seed 0 has two teachers",
        ),
        (
            put("pairs", "phi2_1b", "teachers_of_seeds", {"qwen1.5-1.8b": [0]}),
            "teachers_of_seeds: qwen1.5-1.8b has another family than phi-2; teachers of one pair",
        ),
        (
            put("pairs", "phi2_1b", "student", {"layers_of_teacher": 9}),
            "pairs.phi2_1b.student.layers_of_teacher: 9: phi-2 has 4",
        ),
        (
            put("pairs", "phi2_1b", "student", {"layers_of_teacher": 2, "frozen": ["head"]}),
            "pairs.phi2_1b.student.frozen.0: 'head'.*embeddings",
        ),
        (
            put("pairs", "phi2_1b", "student", "frozen", ["embeddings"]),
            "frozen is of students with",
        ),
        (put("pairs", "phi2_1b", "student", "layers_of_teacher", 2), "give one of shape .*cut out"),
        (
            put("models", "phi-2", "checkpoints", "final", "package", "x"),
            "models.phi-2.checkpoints.final: give exactly one of hub, path, tokens, package",
        ),
        (
            put("tokenizers", "phi", "package", "x"),
            "tokenizers.phi: give exactly one of vocab_size",
        ),
        (put("network", "yes"), "network: 'yes': .*boolean"),
        (put("select", "references", ["llema-7b"]), "'llema-7b' is not.*did you mean 'llemma-7b'"),
        (put("references", "llemma-7b", "path", "x"), "llemma-7b: .*exactly one of hub and path"),
    ],
)
def test_a_fault_is_one_line_with_file_and_key(tmp_path, edit, message):
    path = edited(tmp_path, "smoke", edit)
    with pytest.raises(ConfigError) as error:
        load_suite(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(str(tmp_path))
    assert re.search(message, text), text


def test_a_fault_in_experiments_names_that_file(tmp_path):
    path = edited(tmp_path, "smoke", lambda data: None)
    text = (CONFIG / "experiments.yaml").read_text()
    (tmp_path / "experiments.yaml").write_text(
        text.replace("weight_decay: 0.1", "weight_decay: -1")
    )
    with pytest.raises(ConfigError, match=r"experiments\.yaml: stages\.\w+\.weight_decay"):
        load_suite(path)


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = edited(tmp_path, "smoke", lambda data: None)
    path.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load_suite(path)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match="no such file"):
        load_suite("config/huge.yaml")


def test_checkpoints_continue_one_another(tmp_path):
    def edit(data):
        shape = data["models"]["phi-2"]["shape"]
        points = {"1t": {"tokens": 100_000}, "2t": {"tokens": 200_000}, "2.5t": {"tokens": 250_000}}
        data["models"]["tinyllama-1.1b"] = {"shape": shape, "checkpoints": points}

    suite = load_suite(edited(tmp_path, "smoke", edit))
    first = pretrain_spec(suite, "tinyllama-1.1b", "1t")
    second = pretrain_spec(suite, "tinyllama-1.1b", "2t")
    assert (first.start, first.skip_tokens) == (None, 0)
    assert second.start.endswith("tinyllama-1.1b/1t")
    assert second.skip_tokens == 100_000
    assert second.optimisation.tokens <= 100_000


def test_the_configuration_loads_without_torch():
    modules = "tad.cli, tad.methods, tad.experiment.specs, tad.experiment.layout, workflow.items"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_scale_adds_models_pairs_and_items_of_its_own(tmp_path):
    def edit(data):
        shape = data["models"]["phi-2"]["shape"]
        data["models"]["mine"] = {
            "family": "llama",
            "tokenizer": "phi",
            "shape": shape,
            "checkpoints": {"final": {"tokens": 20_000}},
        }
        small = {**shape, "layers": 1}
        pair = {"teacher": "mine", "student": {"shape": small}, "tokens": {"scratch": 4_000}}
        data["pairs"]["mine_small"] = pair
        item = {"stage": "scratch", "pairs": ["mine_small"], "methods": ["vanilla_kd"]}
        data["items"] = {"mine": item}
        data["select"] |= {"items": ["mine"], "pairs": ["mine_small"]}

    suite = load_suite(edited(tmp_path, "smoke", edit))
    assert [str(run) for run in suite.runs()] == ["scratch/mine_small/vanilla_kd/seed0"]


def test_a_divergence_of_the_users_is_a_method(tmp_path):
    def edit(data):
        data["methods"] = {"half": {"divergence": "half_kl:half_kl", "parameters": {"share": 0.5}}}
        data["items"] = {"heldout": {"methods": ["half-share0.5", "half-share0.25"]}}
        data["select"]["items"] = ["heldout"]
        data["select"]["methods"] = ["half-share0.5", "half-share0.25"]
        data["select"]["pairs"] = ["phi2_1b"]

    suite = load_suite(edited(tmp_path, "smoke", edit))
    assert [str(run.method) for run in suite.runs()] == ["half-share0.25", "half-share0.5"]
    assert suite.runs()[0].method.parameters == {"share": 0.25}

    def wrong(data):
        data["methods"] = {"tad": {"divergence": "half_kl:half_kl"}}

    with pytest.raises(ConfigError, match="smoke.yaml: methods.tad: is a method of this project"):
        load_suite(edited(tmp_path, "smoke", wrong))


def test_a_package_may_have_a_hub_id_to_fall_back_on(tmp_path):
    source = {"package": "some-weights", "hub": "some/weights"}

    def edit(data):
        data["tokenizers"]["phi"] = source
        data["models"]["phi-2"]["checkpoints"] = {"final": source}

    suite = load_suite(edited(tmp_path, "smoke", edit))
    assert suite.models["phi-2"].checkpoints["final"].made
    assert suite.tokenizers["phi"].package == "some-weights"


def test_only_the_papers_scale_asks_the_hub():
    assert {scale for scale in SCALES if load_suite(CONFIG / f"{scale}.yaml").network} == {"paper"}


def test_a_student_of_whole_layers_has_the_sizes_of_its_teacher():
    suite = load_suite(CONFIG / "smollm.yaml")
    whole = suite.models["smollm2-135m"].shape
    assert suite.student_shape("smollm2-135m_pruned") == whole.model_copy(update={"layers": 12})
    ours, recipe = (pair_account(suite, f"smollm2-135m_{kind}") for kind in ("pruned", "recipe"))
    assert ours.student == recipe.student and ours.made_from_teacher and ours.freezes
    pairs = suite.pairs | {
        "smollm2-135m_pruned": suite.pairs["smollm2-135m_pruned"].model_copy(
            update={"student": Student(layers_of_teacher=12)}
        )
    }
    trained = suite.model_copy(update={"pairs": pairs})
    assert not pair_account(trained, "smollm2-135m_pruned").freezes
