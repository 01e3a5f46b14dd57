"""The stand-in of the hub as the one that is asked, and a cache that is empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from tests.tad.check.made import tokenizer
from tests.tad.check.stand_in import StandIn, serving


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub and of ``datasets``."""
    folder = tmp_path / "huggingface"
    monkeypatch.setattr(constants, "HF_HOME", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    return folder


@pytest.fixture
def hub(cache, monkeypatch) -> Iterator[StandIn]:
    """The stand-in, at HF_ENDPOINT."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    with serving() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.address)
        yield state
    close_session()


@pytest.fixture
def saved_model(tmp_path, tiny_llama):
    """A folder with a tiny model and a tokenizer, whole."""
    folder = tmp_path / "saved"
    tiny_llama(0).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
