"""Published files are those that their manifest names."""

from __future__ import annotations

import hashlib
import json

import pytest

from .conftest import CONFIG


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_published_files_are_those_of_their_manifest(scale):
    root = CONFIG.parent / "results" / scale
    expected = json.loads((root / "manifest.json").read_text())["files"]
    found = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in expected}
    assert found == expected
