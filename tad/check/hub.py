"""What the hub has, and whether this user may have it: asked of its interface, nothing downloaded.

A repository is asked for its files, and then for one of them by a HEAD: a gated one lists its files
to all, but hands them only to who accepted its licence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
)
from huggingface_hub.hf_api import DatasetInfo, ModelInfo
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils.logging import set_verbosity_error

from tad.check.findings import Finding, Seen, in_bytes
from tad.check.folders import PICKLED_ONLY, cached, missing_files
from tad.check.wanted import Source

SITE = "https://huggingface.co"
"""Where licences are accepted, whatever mirror HF_ENDPOINT names."""

SMALL = (".json", ".model", ".txt", ".jinja")
"""Besides the weights, what loading a model fetches."""

FAULTS = (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError)
"""All that a request can end in: the last three where the answer is none of the hub's."""


class Hub:
    """The hub at HF_ENDPOINT, with the user's own token; each answer in ``timeout`` seconds."""

    def __init__(self, timeout: float) -> None:
        disable_progress_bars()  # there is one of our own
        set_verbosity_error()
        self.timeout = timeout
        self.api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or constants.ENDPOINT)

    def look(self, source: Source) -> Seen:
        """A model, tokenizer or data set: there, whole, open to this user, and how large."""
        try:
            info = self._info(source)
        except FAULTS as error:
            return self._refused(source, error, gated=False)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        lacks = missing_files(set(sizes), source.kind) if source.kind != "dataset" else ""
        probe = _probe(sizes, source.kind)
        try:
            if probe:
                self._head(source, probe)
        except FAULTS as error:
            return self._refused(source, error, gated=bool(info.gated))
        return self._whole(source, info, sizes, lacks)

    def _info(self, source: Source) -> ModelInfo | DatasetInfo:
        ask = self.api.dataset_info if source.kind == "dataset" else self.api.model_info
        return ask(source.hub or "", timeout=self.timeout, files_metadata=True)

    def _head(self, source: Source, name: str) -> None:
        kind = "dataset" if source.kind == "dataset" else None
        url = hf_hub_url(source.hub or "", name, repo_type=kind, endpoint=self.api.endpoint)
        self.api.get_hf_file_metadata(url=url, timeout=self.timeout)

    def _whole(
        self, source: Source, info: ModelInfo | DatasetInfo, sizes: Mapping[str, int], lacks: str
    ) -> Seen:
        if lacks == PICKLED_ONLY:
            cure = (
                "transformers then asks the hub's conversion service, which may not answer; safer: "
                f"convert it yourself and write the folder to {source.instead}"
            )
            return Seen([Finding("warning", source.about, lacks, cure)], there=True, sizes=sizes)
        if lacks:
            cure = f"correct {source.keys[0]}, or write a whole folder to {source.instead}"
            return Seen([Finding("failure", source.about, lacks, cure)])
        if source.kind == "dataset":
            size = f", {in_bytes(sum(sizes.values()))}" if any(sizes.values()) else ""
            card = info.card_data.to_dict() if info.card_data is not None else {}
            told = [Finding("ok", source.about, f"on the hub{size}")]
            return Seen(told, there=True, sizes=sizes, card=card)
        left = sum(size for name, size in sizes.items() if self._to_fetch(source, name, info))
        size = f"{in_bytes(left)} to download" if left else "downloaded"
        told = [Finding("ok", source.about, f"on the hub, {size}")]
        return Seen(told, there=True, download=left, sizes=sizes)

    def _to_fetch(self, source: Source, name: str, info: Any) -> bool:
        """Whether loading will download a file: those at the top, and not in the cache yet."""
        weights = name.endswith(".safetensors") and source.kind == "model"
        if "/" in name or not (weights or name.endswith(SMALL)):
            return False
        return not isinstance(
            try_to_load_from_cache(source.hub or "", name, revision=info.sha or "main"), str
        )

    def _refused(self, source: Source, error: Exception, *, gated: bool) -> Seen:
        """A fault as a finding: a warning where the copy in the cache would do."""
        found, cure = self._told(source, error, gated)
        if _unreachable(error):
            folder, lacks = cached(source)
            if folder is not None and not lacks:
                cure = "its copy in the local cache is whole: set HF_HUB_OFFLINE=1 to work with it"
                return Seen([Finding("warning", source.about, found, cure)], there=True)
        return Seen([Finding("failure", source.about, found, cure)])

    def _told(self, source: Source, error: Exception, gated: bool) -> tuple[str, str]:
        """(what is wrong, its cure) of a request that failed."""
        status = _status(error)
        if isinstance(error, HFValidationError):
            return "no hub id, which is ORGANISATION/NAME", f"correct {', '.join(source.keys)}"
        if isinstance(error, GatedRepoError) or (gated and status in (401, 403)):
            return _licence(source, status)
        if isinstance(error, DisabledRepoError):
            return "disabled by its author", f"write another source to {source.instead}"
        if status == 401 and "invalid credentials" in str(error).lower():
            return "your token is refused (401)", "hf auth login, with a valid token"
        if status == 401:
            page = _page(source)
            return (
                "no such repository, or one that asks who you are (401)",
                f"see whether {page} is spelled right; if it is, hf auth login",
            )
        if status == 403:
            cure = (
                f"accept the licence at {_page(source)}, if it has one, and hf auth login with a "
                "token that may read it"
            )
            return "forbidden to your token (403)", cure
        if status == 404:
            kind = "data set" if source.kind == "dataset" else "model"
            return f"no such {kind} on the hub (404)", f"correct its id at {', '.join(source.keys)}"
        if status is not None:
            return f"the hub answers {status}", "try again in some minutes"
        network = f"see that {self.api.endpoint} can be reached from here, or write a folder to"
        if isinstance(error, httpx2.TimeoutException):
            return f"no answer within {self.timeout:g} s", f"{network} {source.instead}"
        if isinstance(error, httpx2.RemoteProtocolError):
            return (
                f"the answer was cut off ({_reason(error)})",
                f"try again; {network} {source.instead}",
            )
        if isinstance(error, httpx2.HTTPError | OSError):
            return f"the hub cannot be reached ({_reason(error)})", f"{network} {source.instead}"
        return (
            f"what answered is not the hub, or was cut off ({_reason(error)})",
            f"see what {self.api.endpoint} is (HF_ENDPOINT, a proxy, a login page)",
        )


def _licence(source: Source, status: int | None) -> tuple[str, str]:
    page = _page(source)
    if status == 401:
        return (
            "gated, and you are not logged in (401)",
            f"accept its licence at {page}, then hf auth login",
        )
    return (
        f"gated, and your account is not let in ({status or 403})",
        f"accept its licence at {page} with the account of your token (hf auth whoami), or "
        "hf auth login as another",
    )


def _page(source: Source) -> str:
    return f"{SITE}/{'datasets/' if source.kind == 'dataset' else ''}{source.hub}"


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _unreachable(error: Exception) -> bool:
    """Whether it was the network, or a hub that is down, and no answer about the repository."""
    return (_status(error) or 500) >= 429


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:120]}..."


def _probe(sizes: Mapping[str, int], kind: str) -> str | None:
    """A file that a gate, where there is one, holds back: not the card."""
    if kind != "dataset" and "config.json" in sizes:
        return "config.json"
    hidden = (name for name in sizes if not name.startswith(".") and not name.endswith(".md"))
    return next(hidden, None)
