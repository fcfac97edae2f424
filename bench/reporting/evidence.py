"""What a report could refute it checks first: a run's numbers against the scores and labels that they were read off."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import UserError
from bench.protocol.task import Metric, Task, get_task
from bench.store import Labels
from bench.store.files import damaged
from bench.store.results_folder import SEARCH_REMEDY
from bench.store.run_folder import digest_of_scores

if TYPE_CHECKING:
    from bench.reporting.systems import FinishedRun, System

__all__ = [
    "check_data", "check_record", "check_scores", "check_search", "check_seeds", "check_twins", "check_weights",
]  # fmt: skip

# Between machines sums differ in their last digits; what is printed has three.
_CLOSE = 1e-6
_REMEDY = "restore run.json and scores.npz from one copy, or move the run's folder away and run the suite again"


def check_seeds(system: "System") -> None:
    """Raise UserError if a run is there twice: it would count as two seeds."""
    for one, other in pairwise(system.runs):
        if one.record.spec.seed == other.record.spec.seed:
            what = f"{system.label}, seed {one.record.spec.seed}"
            raise UserError(
                f"{other.folder.path}: the same run as {one.folder.path} ({what}); move one of the two folders away"
            )


def check_data(systems: "Sequence[System]", labels: Labels, path: Path) -> None:
    """Raise UserError if a labels.npz is of other data than the runs that are to be judged by it."""
    for run in (run for system in systems for run in system.runs):
        if run.record.dataset != labels.dataset:
            raise UserError(
                f"{path}: of data {_short(labels.dataset)}, but {run.folder.record_file} (data.dataset) is of "
                f"{_short(run.record.dataset)}; restore the labels.npz that the runs were scored on"
            )


def check_record(run: "FinishedRun", task: Task) -> None:
    """Raise UserError if a run's record can't be, by itself: other settings than its hash says, a metric missing."""
    record, path = run.record, run.folder.record_file
    # hashes of format 1 are by other rules; the folder is called by the one that it was made with
    if record.hash != record.spec.hash and not run.folder.is_of_format1:
        raise damaged(path, f"hash: {record.hash}, but spec gives {record.spec.hash}: one was changed", _REMEDY)
    for part in ("metrics", "untrained"):
        values = getattr(record, part)
        for metric in task.metrics:
            if metric.name not in values:
                raise damaged(path, f"{part}.{metric.name}: missing", _REMEDY)
            _check_bounds(path, f"{part}.{metric.name}", values[metric.name], metric)
    # NaN where there was nothing to select by
    if math.isfinite(record.val_score):
        _check_bounds(path, "val_score", record.val_score, task.primary)
    if record.steps < record.best_step:
        raise damaged(path, f"steps: {record.steps}, but best_step is {record.best_step}", _REMEDY)
    history = run.folder.history().groupby("step")["val_score"].last()
    if not _same(record.val_score, float(history.get(record.best_step, math.nan))):
        at = f"{run.folder.history_file.name} has {_said(history.get(record.best_step))} at step {record.best_step}"
        raise damaged(path, f"val_score: {_said(record.val_score)}, but {at}", _REMEDY)


def check_weights(runs: "Sequence[FinishedRun]") -> None:
    """Raise UserError if scores are of other weights than those that the run has which they are said to be of, or if
    runs of one start began with different weights.

    Made again on a GPU, or on another machine, a run has the same hash and other weights. What tells is the loss of the
    evaluation that was kept, which a run that scores them has in its history, too; and of a start, its digest.
    """
    trained = {run.record.hash: run for run in runs}
    started: dict[str, FinishedRun] = {}
    for run in runs:
        start = run.record.spec.init
        if start and run.record.init["weights"] != (other := started.setdefault(start, run)).record.init["weights"]:
            entry = f"{run.record.init['entry']} seed {run.record.spec.seed}"
            raise UserError(
                f"{run.folder.path}: started from other weights of {entry} than {other.folder.name}: move all runs "
                "away that start from it, and run the suite again"
            )
        of_weights = trained.get(run.record.spec.rescores)
        if of_weights and not _same(_kept_loss(run), _kept_loss(of_weights)):
            raise UserError(
                f"{run.folder.path}: its scores are of other weights than {of_weights.folder.name} has now: move it "
                "away and run the suite again"
            )


def _kept_loss(run: "FinishedRun") -> float:
    losses = run.folder.history().reindex(columns=["step", "loss"]).groupby("step")["loss"].last()
    return float(losses.get(run.record.best_step, math.nan))


def check_scores(run: "FinishedRun", scores: npt.NDArray[np.floating], labels: Labels, task: Task) -> None:
    """Raise UserError unless a run's metrics, values by class and floors are what its scores and the labels give."""
    record = run.record
    if record.scores and record.scores != digest_of_scores(scores):
        raise damaged(run.folder.scores_file, "not the scores that run.json has the digest of (scores)", _REMEDY)
    try:
        metrics = task.evaluate(labels.targets, scores, labels.leaf)
    except ValueError as error:
        raise damaged(run.folder.path.parent / "labels.npz", error) from None
    for name, floor in labels.floors.items():
        if floor.shape != (shape := task.floor_shape(labels.targets)):
            reason = f"floors: {name} should be of shape {shape}, is {floor.shape}"
            raise damaged(run.folder.path.parent / "labels.npz", reason)
    found: dict[str, Mapping[str, Any]] = {"metrics": metrics, "floors": task.all_floors(labels.targets, labels.floors)}
    # older runs have none
    if task.class_metric and record.class_scores:
        values = task.class_scores(labels.targets, scores)
        found["class_scores"] = {labels.classes[k]: float(values[k]) for k in np.flatnonzero(np.isfinite(values))}
    for part, computed in found.items():
        recorded: Mapping[str, float | None] = getattr(record, part)
        # a metric that this version has more is in no older run
        for name in sorted(recorded if part == "metrics" else computed.keys() | recorded.keys()):
            said, value = recorded.get(name), computed.get(name, math.nan)
            if not _same(said, value):
                reason = f"{part}.{name}: {_said(said)}, but scores.npz and labels.npz give {_said(value)}"
                raise damaged(run.folder.record_file, reason, _REMEDY)


def check_search(search: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Raise UserError if a search.json has other scores than the trials that it is of, as far as these are there."""
    key = get_task(search["task"]).primary.key
    for entry in search["entries"]:
        of_study = [trial for trial in trials if trial.get("study", "") == entry.get("study")]
        found = (trial.get("val_score") for trial in of_study)
        scores = [score for score in found if isinstance(score, int | float) and math.isfinite(score)]
        if not scores:
            continue
        said, best = ((entry[which] or {}).get("val_score") for which in ("default", "best"))
        wrong = None
        if said is not None and not any(_same(said, score) for score in scores):
            wrong = ("default.val_score", said, "no such trial")
        elif finals := _finals(entry, trials):
            mean = (entry["best"] or {}).get("mean_val_score")
            if not _same(mean, min(finals, key=key)):
                wrong = ("best.mean_val_score", mean, _said(min(finals, key=key)))
        elif not _same(best, min(scores, key=key)):
            wrong = ("best.val_score", best, _said(min(scores, key=key)))
        if wrong:
            which, value, there = wrong
            reason = f"entries.{entry['entry']}.{which}: {_said(value)}, but trials.json has {there}"
            raise damaged(path, reason, SEARCH_REMEDY)


def _finals(entry: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the mean of each finalist of a search all of whose trainings ended well, by the trials themselves."""
    means = []
    for finalist in entry.get("finalists", []):
        of_it = (
            trial.get("val_score")
            for trial in trials
            if trial.get("study") == finalist["study"] and trial.get("retrains") == finalist["trial"]
        )
        scores = [score for score in of_it if isinstance(score, int | float) and math.isfinite(score)]
        if scores and len(scores) == len(finalist["val_scores"]):
            means.append(fmean(scores))
    return means


def check_twins(system: "System", scores: Mapping[int, npt.NDArray[np.floating]]) -> None:
    """Raise UserError if two seeds have the very same scores (by seed): one of them is a copy.

    A model that scores all clips alike does not listen, and may well do so with every seed.
    """
    seen: dict[str, FinishedRun] = {}
    for run in system.runs:
        of_run = scores[run.record.spec.seed]
        if (of_run == of_run[0]).all():
            continue
        other = seen.setdefault(digest_of_scores(of_run), run)
        if other is not run:
            raise UserError(
                f"{run.folder.scores_file}: the same scores as {other.folder.scores_file}, of another seed: one is a "
                "copy; restore the right one, or move the run's folder away and run the suite again"
            )


def _check_bounds(path: Path, key: str, value: float | None, metric: Metric) -> None:
    if value is not None and not metric.lowest <= value <= metric.highest:
        raise damaged(path, f"{key}: {value:g}, not {metric.lowest:g} to {metric.highest:g}", _REMEDY)


def _same(recorded: float | None, computed: float) -> bool:
    """Return whether a number is the same; one that does not exist is null, NaN or infinite."""
    if recorded is None or not math.isfinite(recorded) or not math.isfinite(computed):
        return (recorded is None or not math.isfinite(recorded)) and not math.isfinite(computed)
    return math.isclose(recorded, computed, rel_tol=_CLOSE, abs_tol=_CLOSE)


def _said(value: float | None) -> str:
    return "nothing" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _short(digest: str) -> str:
    return digest[:8] or "unknown"
