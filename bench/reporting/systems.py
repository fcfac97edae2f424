"""A results folder as systems: runs that differ in nothing but the seed."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.protocol.task import Metric, Task, task_of
from bench.reporting.evidence import (
    check_record,
    check_scores,
    check_search,
    check_seeds,
    check_twins,
    check_weights,
)
from bench.stats.bootstrap import Statistic
from bench.store import Labels, PlannedContrast, ResultsFolder, RunFolder, RunRecord
from bench.text import printable

__all__ = ["FinishedRun", "Results", "System", "different_origins", "load_results", "ranked_on_val"]


@dataclass(frozen=True)
class FinishedRun:
    """A run's record, and where it stands."""

    folder: RunFolder
    record: RunRecord


@dataclass(frozen=True)
class System:
    """All seeds of one architecture under one recipe."""

    label: str
    runs: tuple[FinishedRun, ...]

    @property
    def first(self) -> RunRecord:
        return self.runs[0].record

    @property
    def spec(self) -> RunSpec:
        return self.first.spec

    @property
    def name(self) -> str:
        return self.spec.name

    @cached_property
    def task(self) -> Task:
        return task_of(self.spec)

    @property
    def settings(self) -> dict[str, Any]:
        """All fields of recipe (as train.FIELD), of the task (as task_settings.FIELD) and of config."""
        recipe, task = (settings.model_dump(mode="json") for settings in (self.spec.recipe, self.task.settings))
        tables = {f"train.{k}": v for k, v in recipe.items()} | {f"task_settings.{k}": v for k, v in task.items()}
        return tables | dict(self.spec.config)

    @property
    def published(self) -> dict[str, Any] | None:
        """The figures of the architecture as it was published: on this task, and of no ablation of it.

        Nor of a start from other weights, of a part of them, or of fewer labels.
        """
        spec = self.spec
        is_other = spec.base or spec.init or spec.recipe.freeze or spec.recipe.label_share < 1
        return self.first.published if self.published_metric and not is_other else None

    @property
    def published_metric(self) -> Metric | None:
        """The metric of the task that the paper of the architecture has, if there is one."""
        published = self.first.published or {}
        return next((metric for metric in self.task.metrics if metric.name in published), None)

    @property
    def score(self) -> float:
        """The primary metric on eval, mean over seeds."""
        return self.mean("metrics", self.task.primary.name)

    @property
    def val_score(self) -> float:
        """The primary metric on val, at the step that was kept, mean over seeds."""
        return fmean(run.record.val_score for run in self.runs)

    def values(self, table: str, key: str) -> list[float]:
        """Return a number of each seed's record, NaN where it does not exist."""
        found = [getattr(run.record, table).get(key) for run in self.runs]
        return [math.nan if value is None else value for value in found]

    def mean(self, table: str, key: str) -> float:
        return fmean(self.values(table, key))

    def spread(self, table: str, key: str) -> float | None:
        """Return the standard deviation over seeds, with n - 1; None for a single one."""
        return stdev(values) if len(values := self.values(table, key)) > 1 else None

    def statistics(self, labels: Labels) -> dict[int, Statistic]:
        """Return what computes metrics on resampled clips, by seed.

        Raises UserError for missing or damaged scores, and for those that give other numbers than the runs' records.
        """
        scores = {run.record.spec.seed: run.folder.scores(self.task.score_shape(labels.targets)) for run in self.runs}
        for run in self.runs:
            check_scores(run, scores[run.record.spec.seed], labels, self.task)
        check_twins(self, scores)
        return {seed: self.task.statistic(labels.targets, of_run, labels.leaf) for seed, of_run in scores.items()}


@dataclass(frozen=True)
class Results:
    """What a report is made of."""

    folder: ResultsFolder
    title: str
    systems: tuple[System, ...]
    failed: tuple[str, ...]
    # planned runs that have neither finished nor failed
    missing: tuple[str, ...]
    # why these runs should not be compared; empty where they may
    mixed: tuple[str, ...]
    # as the suite declared them
    contrasts: tuple[PlannedContrast, ...]
    # fields and the values of each that the suite crossed over its entries
    grid: Mapping[str, list[Any]] = field(default_factory=dict)
    # digest of a data set to its name, as packs have it
    sources: Mapping[str, str] = field(default_factory=dict)
    # entry to its theme, of those that have one
    themes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def labels(self) -> Labels:
        return self.folder.labels()

    @cached_property
    def search(self) -> dict[str, Any] | None:
        """Raises UserError for a damaged one, and for one that its trials refute."""
        search = self.folder.search()
        if search:
            check_search(search, self.folder.trials(), self.folder.search_file)
        return search

    @property
    def task(self) -> Task:
        return self.systems[0].task

    @property
    def published_metric(self) -> Metric:
        """The metric of published figures, which need not be the primary one."""
        found = (system.published_metric for system in self.systems if system.published)
        return next((metric for metric in found if metric), self.task.primary)

    @property
    def floors(self) -> dict[str, float]:
        """The primary metric without any learning, by name."""
        return self.systems[0].first.floors

    @property
    def runs(self) -> list[FinishedRun]:
        return [run for system in self.systems for run in system.runs]


def ranked_on_val(systems: Sequence[System]) -> list[System]:
    """Return systems, best on val first: chosen on eval, they would be tested on what they were chosen by."""
    return sorted(systems, key=lambda system: system.task.primary.key(system.val_score))


def load_results(path: Path, *, mixed: bool = False) -> Results:
    """Read every finished run of a folder.

    Raises UserError for none, a damaged one, or different tasks; without `mixed`, also for different data or code.
    """
    folder = ResultsFolder(path)
    if not path.is_dir():
        raise UserError(f"{path}: {'no folder' if path.exists() else 'no such folder'}; `bench run` makes one")
    runs = [FinishedRun(run, run.record()) for run in folder.finished()]
    if not runs:
        raise UserError(f"{path}: no finished run in it; `bench run` makes them")
    plan = folder.plan()
    failed = tuple(run.name for run in folder.failed())
    done = {run.folder.name for run in runs} | set(failed)
    missing = tuple(name for name in plan.planned if name not in done)
    # as the suite lists them, others behind
    entries = dict.fromkeys(name.rsplit("-s", 1)[0] for name in plan.planned)
    places = {entry: place for place, entry in enumerate(entries)}
    systems = tuple(sorted(_group(runs), key=lambda system: (places.get(system.name, len(places)), system.label)))
    if len(tasks := sorted({system.spec.task for system in systems})) > 1:
        raise UserError(f"{path}: runs of different tasks ({', '.join(tasks)}): nothing compares them")
    _require_one_question(path, systems)
    for system in systems:
        check_seeds(system)
        for run in system.runs:
            check_record(run, system.task)
    check_weights(runs)
    reasons = different_origins(systems)
    if reasons and not mixed:
        raise UserError(
            f"{path}: not compared: {'; '.join(reasons)}. Remove the older runs' folders and run the suite again, "
            "or say --mixed to compare them all the same"
        )
    title = printable(plan.title)
    return Results(
        folder, title, systems, failed, missing, reasons, plan.contrasts, plan.grid, plan.sources, plan.themes
    )


def _require_one_question(path: Path, systems: Sequence[System]) -> None:
    """Raise UserError if runs of one task were judged on different things."""
    questions = {system.label: system.task.judged_on() for system in systems}
    for name in next(iter(questions.values())):
        values = {str(question[name]): label for label, question in questions.items()}
        if len(values) > 1:
            shown = ", ".join(f"{system} has {value}" for value, system in values.items())
            raise UserError(f"{path}: runs with different {name} ({shown}): nothing compares them")


def different_origins(systems: Sequence[System]) -> tuple[str, ...]:
    """Return why the numbers of these systems do not belong side by side."""
    reasons = _differing("different data", systems, "dataset")
    reasons += _differing("different training or evaluation code", systems, "protocol")
    # in records of tasks that are asked for codes which were found by training
    reasons += _differing("different codes to be predicted", systems, "codes")
    for system in systems:
        reasons += _differing(f"different code of {system.label}", [system], "architecture")
    return tuple(reasons)


def _differing(what: str, systems: Sequence[System], digest: str) -> list[str]:
    examples: dict[str, str] = {}
    for run in (run for system in systems for run in system.runs):
        digests = run.record.provenance.source | run.record.data
        examples.setdefault(digests.get(digest, "unknown"), run.folder.name)
    shown = ", ".join(f"{name} ({value[:8]})" for value, name in examples.items())
    return [f"{what}: {shown}"] if len(examples) > 1 else []


def _group(runs: Sequence[FinishedRun]) -> list[System]:
    """Return runs as systems, and where several have one name, labels that say what they differ in."""
    groups: dict[str, dict[str, list[FinishedRun]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        groups[run.record.spec.name][run.record.system].append(run)
    systems = []
    for name, of_name in groups.items():
        by_seed = [sorted(group, key=lambda run: run.record.spec.seed) for group in of_name.values()]
        same_name = [System(printable(name), tuple(group)) for group in by_seed]
        flat = [s.settings | _origin(s.first) for s in same_name]
        differing = [key for key in flat[0] if len({json.dumps(values.get(key)) for values in flat}) > 1]
        for system, values in zip(same_name, flat, strict=True):
            what = ", ".join(f"{key}={values.get(key)}" for key in differing)
            systems.append(replace(system, label=printable(f"{name} ({what})")) if differing else system)
    return systems


def _origin(record: RunRecord) -> dict[str, str]:
    """Return what two systems of one name may differ in beside their settings."""
    spec, init = record.spec, record.init
    # what a reader can tell starts apart by, and what tells all of them apart
    start = "{entry} after {steps} steps {system}".format(**init) if init else "drawn"
    return {"pack": spec.pack[:8], "source": spec.source[:8], "rescores": spec.rescores, "init": start}
