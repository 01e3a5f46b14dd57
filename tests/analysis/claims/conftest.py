"""Invented records for the runs of a few methods."""

from __future__ import annotations

import pytest

from ..invented import suite_of, write_records


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("root"), suite_of())
