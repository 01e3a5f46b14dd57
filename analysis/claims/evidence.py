"""The records below one root, as claims read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.metrics import Metric, NotTestable
from analysis.kinds import read_record
from analysis.paired import read_items
from analysis.resampled import NotResampledError, Sample
from analysis.telling import telling
from tad.experiment.config import Suite
from tad.experiment.layout import Layout
from tad.experiment.run_id import RunId
from tad.experiment.specs import last_checkpoint
from tad.records import RecordError, read_json_lines
from workflow.items import OF_EVERY_RUN, RECORDS

Runs = dict[str, dict[str, list[RunId]]]
"""By pair and method id, in the order of seeds."""


@dataclass
class Evidence:
    """The records of one root, read once each."""

    suite: Suite
    root: Path
    _contents: dict[Any, Any] = field(default_factory=dict, repr=False)

    def runs(self, items: Sequence[str], record: str) -> Runs:
        """Runs that have ``record`` because a selected one of ``items`` asks for it.

        Raises NotTestable where there are none.
        """
        asked = [
            item
            for item in items
            if item in self.suite.select.items
            and (record in OF_EVERY_RUN or record in RECORDS.get(item, ()))
        ]
        found: Runs = {}
        for run in (run for item in asked for run in self.suite.runs(item)):
            of_method = found.setdefault(run.pair, {}).setdefault(str(run.method), [])
            if run not in of_method:
                of_method.append(run)
        if not found:
            scale, wanted = self.suite.scale, " or ".join(items)
            raise NotTestable(f"scale {scale} has no {record} for {wanted}")
        return found

    def value(self, folder: Path, metric: Metric) -> float:
        """A metric of a run or checkpoint. Raises RecordError, naming the file, and NotTestable for
        one that may be 0 and is."""
        path = folder / metric.record
        try:
            value = float(metric.read(self.content(path)))
        except RecordError:
            raise
        except (KeyError, IndexError, TypeError) as error:
            raise RecordError(
                f"{path}: has no {metric.name} ({type(error).__name__}: {error}); make it again"
            ) from None
        if metric.vanishes and value == 0:  # a tiny student may give no token 10%
            raise NotTestable(f"{path}: {metric.name} is 0, which has no ratio")
        if not math.isfinite(value) or (metric.ratio and value <= 0):
            raise RecordError(f"{path}: {metric.name} is {value}; the run did not end well")
        return value

    def telling(self, pair: str, seeds: Iterable[int], record: str) -> list[str]:
        """The tasks of a benchmark that tell methods apart: on which the teachers of these seeds do
        not guess. Raises RecordError."""
        models = dict.fromkeys(self.suite.teacher(pair, seed) for seed in seeds)
        points = [(model, last_checkpoint(self.suite, model)) for model in models]
        return telling([self.content(self.layout.model(*point) / record) for point in points])

    def sample(self, folder: Path, metric: Metric) -> Sample:
        """A metric of a run item by item, document by document, read once. Raises UserError for a
        broken record, NotResampledError for one number a run."""
        if metric.sample is None:
            raise NotResampledError(f"{metric.record} has one number of it a run")
        key = (folder, metric.sample)
        if key not in self._contents:
            self._contents[key] = metric.sample(folder)
        return self._contents[key]

    def content(self, path: Path) -> Any:
        """A record, read once. Raises RecordError."""
        if path not in self._contents:
            read = read_json_lines if path.suffix == ".jsonl" else read_record
            self._contents[path] = read(path)
        return self._contents[path]

    @cached_property
    def layout(self) -> Layout:
        """The paths below the root."""
        return Layout(self.root)

    def items(self, path: Path) -> pd.DataFrame:
        """Results item by item, read once. Raises ItemsError, naming the file."""
        if path not in self._contents:
            self._contents[path] = read_items(path)
        return self._contents[path]
