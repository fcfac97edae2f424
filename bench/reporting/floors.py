"""Floors: predictors that learn nothing, scored clip by clip as systems are, and what systems are compared with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.protocol.task import Metric
from bench.reporting.systems import Results, System
from bench.stats.bootstrap import Estimate, Resampler, bootstrap, only
from bench.stats.inference import Inference, difference

__all__ = ["Estimates", "Floor", "floors_of", "less_floor"]

Estimates = Mapping[str, Mapping[str, Estimate]]

# what the known ones predict; of a plugin's the name has to do
_PREDICTIONS = {
    "last_value": "the last code, then the two on either side of it; no probabilities",
    "straight_line": "the code on the line through the last two samples, then two on either side; no probabilities",
    "linear_prediction": "a sum of the last 32 samples, weighted by a fit to what precedes, and a Laplace around it",
    "histogram": "each code as often as it occurs in the training clips",
    "mean_frame": "the mean frame of training, at all times of all clips",
    "clip_mean": "each clip's own mean frame, at all times: a single frame is sent of it",
    "unigram": "each code as often as it occurs in training",
    "bigram": "each code as often as it follows the last one in training",
    "trigram": "each code as often as it follows the last two in training",
}


@dataclass(frozen=True)
class Floor:
    """A predictor that learns nothing: its name, and its mean over eval's clips by metric, NaN of what it lacks."""

    name: str
    scores: Mapping[str, float]

    @property
    def prediction(self) -> str:
        """What it predicts, in a line; '' where only its task knows."""
        return _PREDICTIONS.get(self.name, "")


def floors_of(results: Results) -> tuple[Floor, ...]:
    """Return the floors whose scores of clips are known, best first in the primary metric, those without it behind."""
    task, labels = results.task, results.labels
    found = []
    for name, scores in labels.floors.items():
        values = task.clip_metrics(labels.targets, scores)
        found.append(Floor(name, {metric.name: float(np.mean(values[metric.name])) for metric in task.metrics}))
    return tuple(sorted(found, key=lambda floor: _place(task.primary, floor)))


def _place(metric: Metric, floor: Floor) -> float:
    score = floor.scores[metric.name]
    return metric.key(score) if math.isfinite(score) else math.inf


def less_floor(
    floor: Floor, systems: Sequence[System], estimates: Estimates, results: Results, resampler: Resampler
) -> list[Inference]:
    """Return by how much each system is above a floor in the primary metric, on the resamples of its estimates.

    A floor is a system that every seed gives the same scores.
    """
    labels, task = results.labels, results.task
    metric = task.primary.name
    statistic = task.statistic(labels.targets, labels.floors[floor.name], labels.leaf)
    found = bootstrap({floor.name: only(metric, {0: statistic})}, resampler)[floor.name][metric]
    of_systems = [estimates[system.label][metric] for system in systems]
    return [difference(of_system, _with_seeds(found, of_system.seeds)) for of_system in of_systems]


def _with_seeds(single: Estimate, seeds: tuple[int, ...]) -> Estimate:
    """Return an estimate of one run as that of as many alike."""
    assert single.by_seed is not None
    runs, by_seed = (np.repeat(values, len(seeds), axis=0) for values in (single.runs, single.by_seed))
    return Estimate(seeds, runs, single.replicates, single.run_variance, by_seed)
