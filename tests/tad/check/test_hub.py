"""What the hub answers, and the line that a user reads."""

from __future__ import annotations

import time

import pytest

from tad.check.findings import Task, look_at
from tad.check.folders import look_in_cache
from tad.check.hub import Hub
from tad.check.wanted import Source
from tests.tad.check.stand_in import StandIn

KEY = "models.m.checkpoints.final"
WHOLE = {"config.json": b"{}", "model.safetensors": b"w" * 2_000_000, "tokenizer.json": b"{}"}


def model(name: str = "lab/m", kind: str = "model") -> Source:
    return Source((KEY,), kind, f"{KEY}.path", name)


def look(source: Source, timeout: float = 20.0):
    seen = Hub(timeout).look(source)
    assert len(seen.findings) == 1
    return seen, seen.findings[0].line()


def test_a_model_that_is_there(hub: StandIn):
    hub.model("lab/m", files=WHOLE, sizes={"original/consolidated.00.pth": 9**12, "tf_model.h5": 9})
    seen, line = look(model())
    assert line == f"ok       {KEY}: lab/m: on the hub, 2 MB to download"
    assert seen.there and seen.download == 2_000_004
    assert hub.asked == ["GET /api/models/lab/m", "HEAD /lab/m/resolve/main/config.json"]


@pytest.mark.parametrize(
    ("mode", "found", "cure"),
    [
        (
            "gated401",
            "gated, and you are not logged in (401)",
            "accept its licence at https://huggingface.co/lab/m, then hf auth login",
        ),
        (
            "gated403",
            "gated, and your account is not let in (403)",
            "accept its licence at https://huggingface.co/lab/m with the account of your token",
        ),
        ("plain403", "gated, and your account is not let in (403)", "huggingface.co/lab/m"),
        ("private", "no such repository, or one that asks who you are (401)", "hf auth login"),
        ("slow", "no answer within 0.3 s", "can be reached from here, or write a folder to"),
        ("cut", "the answer was cut off", "try again"),
        ("login", "what answered is not the hub", "HF_ENDPOINT, a proxy, a login page"),
        ("broken", "the hub answers 503", "try again in some minutes"),
    ],
)
def test_what_is_refused_is_told_with_the_cure(hub: StandIn, mode, found, cure):
    hub.model("lab/m", files=WHOLE, mode=mode)
    start = time.monotonic()
    seen, line = look(model(), timeout=0.3 if mode == "slow" else 20.0)
    assert time.monotonic() - start < 25  # the stand-in is silent for 30
    assert not seen.there
    assert line.startswith(f"failure  {KEY}: lab/m: {found}") and cure in line


def test_a_model_that_is_not_there(hub: StandIn):
    line = look(model("lab/nothing"))[1]
    assert line == (
        f"failure  {KEY}: lab/nothing: no such model on the hub (404); correct its id at {KEY}"
    )


def test_a_name_that_is_no_hub_id(hub: StandIn):
    assert "no hub id, which is ORGANISATION/NAME" in look(model("lab/m/final"))[1]
    assert hub.asked == []


def test_nobody_listens(hub: StandIn, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    line = look(model())[1]
    assert "the hub cannot be reached" in line and "http://127.0.0.1:9" in line


@pytest.mark.parametrize(
    ("lost", "level", "found"),
    [
        ("config.json", "failure", "config.json is missing"),
        ("model.safetensors", "failure", "weights are missing"),
        ("tokenizer.json", "failure", "a tokenizer is missing"),
    ],
)
def test_a_repository_that_is_not_whole(hub: StandIn, lost, level, found):
    hub.model("lab/m", files={name: WHOLE[name] for name in WHOLE if name != lost})
    assert look(model())[1].startswith(f"{level:<9}{KEY}: lab/m: {found}")


def test_pickled_weights_are_a_warning(hub: StandIn):
    files = {"config.json": b"{}", "pytorch_model.bin": b"x", "tokenizer.json": b"{}"}
    hub.model("lab/m", files=files)
    seen, line = look(model())
    assert seen.there and line.startswith("warning") and "never unpickled" in line


def test_a_tokenizer_needs_no_weights(hub: StandIn):
    hub.model("lab/m", files={"vocab.json": b"{}", "merges.txt": b"", "big.safetensors": b"1" * 99})
    assert look(model(kind="tokenizer"))[1].endswith("on the hub, 0 MB to download")


def test_a_data_set_has_its_card_and_sizes(hub: StandIn):
    card = {"dataset_info": {"splits": [{"name": "train", "num_bytes": 5, "num_examples": 2}]}}
    hub.dataset("lab/d", files={"README.md": b"x"}, sizes={"train.parquet": 3 * 10**9}, card=card)
    source = Source(("corpora.c",), "dataset", "corpora.c.id", "lab/d")
    seen, line = look(source)
    assert line == "ok       corpora.c: lab/d: on the hub, 3.0 GB"
    assert seen.card["dataset_info"] == card["dataset_info"]
    assert seen.download == 0  # it is streamed
    # The card of a gated one is open to all: another file is asked for.
    assert hub.asked[-1] == "HEAD /datasets/lab/d/resolve/main/train.parquet"
    hub.repositories["datasets/lab/d"].mode = "gated403"
    assert "https://huggingface.co/datasets/lab/d" in look(source)[1]


def test_an_answer_that_never_ends_is_left_behind(hub: StandIn):
    hub.model("lab/m", files=WHOLE, mode="drip")
    hub.model("lab/n", files=WHOLE)
    asked = Hub(5.0)
    assert asked.look(model("lab/n")).there  # a first request takes long: it reads certificates
    start = time.monotonic()
    tasks = [Task(name, lambda n=name: asked.look(model(n))) for name in ("lab/m", "lab/n")]
    slow, there = look_at(tasks, seconds=3)
    assert time.monotonic() - start < 20  # the whole answer would take longer
    assert slow.findings[0].line().startswith("failure  lab/m: not answered within 3 s")
    assert there.there


def test_a_fault_of_ours_keeps_its_traceback():
    def wrong():
        raise ZeroDivisionError("ours")

    def denied():
        raise PermissionError(13, "denied", "x")

    with pytest.raises(ZeroDivisionError, match="ours"):
        look_at([Task("a", wrong)], 5)
    assert look_at([Task("b", denied)], 5)[0].findings[0].level == "failure"


def fill(cache, name: str, files: dict[str, bytes]) -> None:
    store = cache / "hub" / f"models--{name.replace('/', '--')}"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text("abc")
    (store / "snapshots" / "abc").mkdir(parents=True)
    for file, content in files.items():
        (store / "snapshots" / "abc" / file).write_bytes(content)


def test_offline_the_cache_is_what_there_is(cache, saved_model):
    line = look_in_cache(model()).findings[0].line()
    assert "not in the local cache (HF_HUB_OFFLINE is set); hf download lab/m where" in line
    files = {path.name: path.read_bytes() for path in saved_model.iterdir()}
    fill(cache, "lab/m", files)
    fill(cache, "lab/half", {"config.json": files["config.json"]})
    assert look_in_cache(model()).findings[0].line().endswith("lab/m: in the local cache")
    line = look_in_cache(model("lab/half")).findings[0].line()
    assert "its copy in the local cache is not whole: weights are missing" in line


def test_a_hub_that_is_down_is_a_warning_where_the_cache_will_do(hub: StandIn, cache, saved_model):
    fill(cache, "lab/m", {path.name: path.read_bytes() for path in saved_model.iterdir()})
    hub.model("lab/m", mode="broken")
    seen, line = look(model())
    assert seen.there and line.startswith("warning")
    assert "set HF_HUB_OFFLINE=1" in line
    hub.repositories["models/lab/m"].mode = "private"
    assert look(model())[1].startswith("failure"), "refused is no fault of the network"


def test_offline_data_sets_are_those_that_datasets_prepared(cache):
    source = Source(("corpora.c",), "dataset", "corpora.c.id", "Lab/MyData")
    assert not look_in_cache(source).there
    folder = cache / "datasets" / "Lab___my_data" / "default" / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    assert look_in_cache(source).there
