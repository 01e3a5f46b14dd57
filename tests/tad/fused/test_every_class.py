"""No class of transformers gives the losses other logits than its own: exact, or refused."""

from __future__ import annotations

import pytest

from .every_class import CLASSES, PAGE, judge, page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model_type", CLASSES)
def test_the_head_gives_the_logits_of_the_model_or_is_refused(model_type):
    verdict = judge(model_type)
    if verdict.kind == "unbuilt":
        pytest.skip(verdict.reason)
    assert verdict.kind in ("exact", "refused"), verdict.reason


def test_most_classes_are_exact():
    kinds = [judge(model_type).kind for model_type in CLASSES]
    assert kinds.count("exact") >= 136
    assert kinds.count("refused") <= 5


def test_the_page_says_what_the_sweep_found():
    assert PAGE.read_text() == page(), "run python -m tests.tad.fused.every_class"
