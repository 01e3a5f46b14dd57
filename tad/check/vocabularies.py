"""Whether the tokenizers of a pair fit: that of the data, the teacher's and the student's.

The data are written in one tokenizer's ids (``models.NAME.tokenizer`` of the student, or of the
teacher that it is cut from), and teacher and student read them. MiniPLM's reference model has a
tokenizer of its own, of which an end-of-text token is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tad.check.findings import Finding, Seen
from tad.check.wanted import Wanted, first_stage
from tad.data.vocabulary import VocabularyError, same_ids, shared_vocabulary, size
from tad.experiment.config import Suite
from tad.experiment.specs import last_checkpoint, weights

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from transformers import PreTrainedTokenizerBase

SAMPLE = (
    "The tail of a distribution holds 3.14159 or 2,718,281 things:\n\n"
    "\tdef f(x_1, x_2):\n\t\treturn x_1**2 - {'k': [x_2]}  # naïve, isn't it?\n"
    "If $\\frac{a}{b} \\geq 10^{-6}$, then $a = 0.000001 \\cdot b$.  "
    "Überraschung! «Où est-ce?» 東京 и Москва, 100% \U0001f642\n"
)
"""Words, numbers, code, formulas, other scripts, white space: where tokenizers of one vocabulary
still part ways."""

FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""What a tokenizer may be made of."""


@dataclass(frozen=True)
class Meeting:
    """Two tokenizers that a run brings together: ``ours`` writes the data, ``theirs`` is the one of
    ``role``'s weights. Both are a hub id or path, None where it is trained here under a name."""

    about: str
    role: str
    ours: str | None
    theirs: str | None
    ours_name: str
    theirs_name: str
    rows: int | None


def meetings(suite: Suite) -> list[Meeting]:
    """The pairs of tokenizers of the selected runs, once each."""
    found: dict[tuple, Meeting] = {}
    for run in suite.runs():
        pair = suite.pairs[run.pair]
        teacher = suite.teacher(run.pair, run.seed)
        data = suite.models[pair.student.model or teacher].tokenizer
        others = [("teacher", teacher, last_checkpoint(suite, teacher))]
        if pair.student.model:
            point = pair.student.start[first_stage(suite, run.stage)]
            others.append(("student", pair.student.model, point))
        for role, model, point in others:
            own, name = _own(suite, model, point), suite.models[model].tokenizer
            if own is None and name == data:
                continue  # one tokenizer, made here
            key = (run.pair, role, model, point)
            found.setdefault(
                key,
                Meeting(
                    about=f"pairs.{run.pair}",
                    role=f"{role} {model}/{point}",
                    ours=_loaded(suite, data),
                    theirs=own or _loaded(suite, name),
                    ours_name=data,
                    theirs_name=name,
                    rows=suite.models[model].shape.vocab_size,
                ),
            )
    return list(found.values())


def _own(suite: Suite, model: str, point: str) -> str | None:
    """Where weights that are loaded come from, which brings their tokenizer."""
    trained = suite.models[model].checkpoints[point].tokens is not None
    return None if trained else weights(suite, model, point)


def _loaded(suite: Suite, tokenizer: str) -> str | None:
    entry = suite.tokenizers[tokenizer]
    return entry.hub or entry.path


def loaded_references(suite: Suite, need: Wanted) -> dict[str, str]:
    """MiniPLM's reference models that are loaded, and where from."""
    return {name: weights(suite, name, last_checkpoint(suite, name)) for name in need.references}


def used(suite: Suite, need: Wanted) -> list[str]:
    """Hub ids and paths of all tokenizers that are to be compared."""
    both = [place for each in meetings(suite) for place in (each.ours, each.theirs)]
    data = [_loaded(suite, name) for name in need.tokenizers]
    places = [*data, *both, *loaded_references(suite, need).values()]
    return list(dict.fromkeys(place for place in places if place))


def fetched(api: HfApi, name: str, names: Iterable[str], timeout: float) -> Seen:
    """Download a hub id's tokenizer into the local cache, where the jobs look for it too: those of
    the files ``names`` of the repository that it may be made of."""
    for file in set(names) & set(FILES):
        api.hf_hub_download(name, file, etag_timeout=timeout)
    return Seen(there=True)


# --- Comparing -----------------------------------------------------------------------------------


def compare(suite: Suite, need: Wanted, folder_of: Callable[[str], Path | None]) -> list[Finding]:
    """What the tokenizers say of one another. ``folder_of`` maps a hub id or path to a folder, None
    for what cannot be had, which is told elsewhere."""
    loader = _Loader(folder_of)
    findings = []
    for name in need.tokenizers:
        if place := _loaded(suite, name):
            findings += loader.told(f"tokenizers.{name}", place, partial(_of_data, name))
    met = meetings(suite)
    for meeting in met:
        findings += _met(loader, meeting)
    if lost := [m for m in met if loader.lacks(m.ours) or loader.lacks(m.theirs)]:
        pairs = ", ".join(dict.fromkeys(m.about.removeprefix("pairs.") for m in lost))
        found = f"tokenizers of data and models not compared, as some cannot be had: {pairs}"
        findings.append(Finding("warning", "pairs", found, "mend that, and check again"))
    for name, place in loaded_references(suite, need).items():
        findings += loader.told(f"models.{name}", place, partial(_of_reference, name))
    return findings


class _Loader:
    """Loads each tokenizer once."""

    def __init__(self, folder_of: Callable[[str], Path | None]) -> None:
        self.folder_of = folder_of
        self.known: dict[str, PreTrainedTokenizerBase | str] = {}

    def get(self, place: str) -> PreTrainedTokenizerBase | str:
        """The tokenizer, or why there is none."""
        from tad.models.fingerprint import ModelError
        from tad.models.loading import load_tokenizer

        if place not in self.known:
            folder = self.folder_of(place)
            try:
                loaded = load_tokenizer(str(folder)) if folder else f"{place} cannot be had"
                self.known[place] = loaded
            except ModelError as error:
                self.known[place] = str(error)
        return self.known[place]

    def lacks(self, place: str | None) -> bool:
        """Whether a tokenizer that is to be loaded could not be."""
        return place is not None and isinstance(self.get(place), str)

    def told(
        self, about: str, place: str, judge: Callable[[PreTrainedTokenizerBase], list[Finding]]
    ) -> list[Finding]:
        """What ``judge`` says of a tokenizer that could be loaded; why it could not."""
        loaded = self.get(place)
        if not isinstance(loaded, str):
            return judge(loaded)
        if self.folder_of(place) is None:
            return []
        return [Finding("failure", about, f"its tokenizer cannot be loaded: {loaded}")]


def _of_data(name: str, tokenizer: PreTrainedTokenizerBase) -> list[Finding]:
    """What packing asks of a tokenizer (``tad.data.prepare``)."""
    about = f"tokenizers.{name}"
    if not tokenizer.is_fast:
        cure = "choose a copy that has one, or save it anew with a newer transformers"
        return [Finding("failure", about, "has no tokenizer.json (fast tokenizer)", cure)]
    if tokenizer.eos_token is None:
        cure = "add eos_token to its tokenizer_config.json, in a local copy"
        return [Finding("failure", about, "names no eos_token to end documents with", cure)]
    return [
        Finding("ok", about, f"{size(tokenizer):,} tokens, ends texts by {tokenizer.eos_token}")
    ]


def _of_reference(name: str, tokenizer: PreTrainedTokenizerBase) -> list[Finding]:
    """What MiniPLM asks of its reference model's tokenizer (``tad.baselines.selection``)."""
    if tokenizer.eos_token_id is None:
        cure = "add eos_token to its tokenizer_config.json, in a local copy"
        found = "MiniPLM's reference has no end-of-text token"
        return [Finding("failure", f"models.{name}", found, cure)]
    return [Finding("ok", f"models.{name}", "MiniPLM's reference, with a tokenizer of its own")]


def _met(loader: _Loader, met: Meeting) -> list[Finding]:
    if met.ours is None or met.theirs is None:
        if met.ours is met.theirs is None and met.ours_name == met.theirs_name:
            return []
        found = (
            f"the data are in tokens of {met.ours_name} and the {met.role} reads those of "
            f"{met.theirs_name}, one of which is trained here"
        )
        cure = "give teacher and student one tokenizer (models.NAME.tokenizer)"
        return [Finding("failure", met.about, found, cure)]
    ours, theirs = loader.get(met.ours), loader.get(met.theirs)
    if isinstance(ours, str) or isinstance(theirs, str):
        return []  # told once for all
    return [_judged(met, ours, theirs)]


def _judged(
    met: Meeting, ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase
) -> Finding:
    """One line about two tokenizers that are loaded."""
    who = f"tokenizers of the data ({met.ours}) and the {met.role}"
    cure = "choose a pair that shares its tokenizer, or another entry of tokenizers for the model"
    if met.rows is not None and met.rows < size(ours):
        found = f"the {met.role} has {met.rows:,} embeddings, the data {size(ours):,} tokens"
        return Finding("failure", met.about, found, cure)
    rows = met.rows or max(size(ours), size(theirs))
    if met.role.startswith("student") and not same_ids(ours, theirs):
        return Finding("failure", met.about, f"{who}: {first_difference(ours, theirs)}", cure)
    try:
        shared = shared_vocabulary(theirs, ours, rows, rows)
    except VocabularyError:
        return Finding("failure", met.about, f"{who}: {first_difference(ours, theirs)}", cure)
    a, b = _sample(ours), _sample(theirs)
    if a != b:
        at = next(
            (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
        )
        found = (
            f"{who} cut a sample text otherwise: its token {at} is {_shown(ours, a, at)} to the "
            f"data and {_shown(theirs, b, at)} to the {met.role.split()[0]}"
        )
        cure = "the ids mean the same, but the model reads unusual text; see that this is meant"
        return Finding("warning", met.about, found, cure)
    told = f"{who} agree on ids 0 to {shared - 1:,}, and on the {len(a)} tokens of a sample text"
    return Finding("ok", met.about, told)


def first_difference(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> str:
    """The lowest id that is another token, or none, in ``theirs``, in words."""
    mine = {index: token for token, index in ours.get_vocab().items()}
    other = {index: token for token, index in theirs.get_vocab().items()}
    for index in sorted(mine):
        if mine[index] != other.get(index):
            found = repr(other[index]) if index in other else "none"
            return f"token {index} is {mine[index]!r} to the one and {found} to the other"
    return "they differ in no token"


def _sample(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(SAMPLE, add_special_tokens=False)["input_ids"])


def _shown(tokenizer: PreTrainedTokenizerBase, ids: list[int], at: int) -> str:
    return repr(tokenizer.convert_ids_to_tokens(ids[at])) if at < len(ids) else "none"
