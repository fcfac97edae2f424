"""Ensembles from kept scores: what the mean of several checkpoints is worth, without any training.

Nothing here generalises: it is about the checkpoints at hand, with neither interval nor p.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt

from bench.protocol.task import Metric, Task
from bench.reporting.analysis import no_ablations
from bench.reporting.systems import Results, System, ranked_on_val
from bench.store import Labels

__all__ = ["MOST_SYSTEMS", "Ensembles", "Member", "Mixture", "ensembled", "ensembles", "seed_combinations"]

# the pairs of more would take minutes, and their matrix could not be read
MOST_SYSTEMS = 12
# of two checkpoints, for each pair of systems: of each system the scores of so many seeds are held in memory
_COMBINATIONS = 3

_Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Mixture:
    """Two checkpoints, one of each system, or two of the same one, whose scores are averaged."""

    first: System
    second: System
    # the primary metric on eval, mean over the combinations
    score: float
    # seeds of first and second
    combinations: tuple[tuple[int, int], ...]
    # what it is compared with, of so many checkpoints: of a pair the better system, of one system a single checkpoint
    baseline: float
    baseline_checkpoints: int
    # by how much it is better than the baseline, whichever way the metric is better
    gain: float


@dataclass(frozen=True)
class Member:
    """A system, as an ensemble of its own seeds."""

    system: System
    # the primary metric on eval of the mean over all its seeds' scores, and what that gains over a single one
    all_seeds: float
    gain: float
    # two of its checkpoints; None with a single seed
    own: Mixture | None


@dataclass(frozen=True)
class Ensembles:
    """What the mean of checkpoints' scores is worth, by system and by pair of systems."""

    metric: Metric
    # best first, by the mean over seeds
    members: tuple[Member, ...]
    # of different systems, each in the suite's order
    pairs: tuple[Mixture, ...]

    def best_partner(self, member: Member) -> tuple[System, Mixture] | None:
        """Return the system with which most is gained over the better of the two, and how; None for a single system.

        That which scores best would be the best system, for all others.
        """
        found = [
            (pair.second if pair.first.label == member.system.label else pair.first, pair)
            for pair in self.pairs
            if member.system.label in (pair.first.label, pair.second.label)
        ]
        return max(found, key=lambda partner: partner[1].gain, default=None)


def ensembles(results: Results) -> Ensembles | None:
    """Average the kept scores of checkpoints, and judge the means as the task judges a run.

    The mean is over scores as they were kept, (clips, k): of probabilities for tagging. Each run's are read once.
    Returns None where there is nothing to average. Raises UserError for missing or damaged scores.
    """
    systems, task, labels = ensembled(results), results.task, results.labels
    kept, members = {}, {}
    for system in systems:
        kept[system.label], of_all = _read(system, task, labels)
        members[system.label] = _member(system, of_all, kept[system.label], labels)
    pairs = []
    for a, b in itertools.combinations(systems, 2):
        seeds = seed_combinations([*kept[a.label]], [*kept[b.label]])
        score = _score(task, labels, kept[a.label], kept[b.label], seeds)
        owns = [own.score for system in (a, b) if (own := members[system.label].own)]
        baseline = min(owns if len(owns) == 2 else [a.score, b.score], key=task.primary.key)
        gain = _gain(task.primary, score, baseline)
        pairs.append(Mixture(a, b, score, seeds, baseline, 2 if len(owns) == 2 else 1, gain))
    ranked = sorted(members.values(), key=lambda member: task.primary.key(member.system.score))
    return Ensembles(task.primary, tuple(ranked), tuple(pairs)) if systems else None


def ensembled(results: Results) -> list[System]:
    """Return the systems whose scores are averaged, in the suite's order.

    They are all that are no ablations, or of many the MOST_SYSTEMS that are best on val; none where a single system has
    a single seed, or whose task has none.
    """
    systems = no_ablations(results.systems) if results.task.has_ensembles else []
    best = {system.label for system in ranked_on_val(systems)[:MOST_SYSTEMS]}
    chosen = [system for system in systems if system.label in best]
    return chosen if sum(len(system.runs) for system in chosen) > 1 else []


def seed_combinations(first: Sequence[int], second: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return which seeds of two different systems are averaged, at most three pairs, by the seeds' numbers alone.

    Among the first three of each, the i-th of first goes with the one after the i-th of second, in a circle. So where
    systems have the same seeds, each takes part with the same ones in every pair, as in `_own_combinations`, and no two
    checkpoints saw the data in the same order. Where numbers would still meet themselves, second is shifted on; what
    no shift avoids is left out, unless there is nothing else.
    """
    a, b = sorted(first)[:_COMBINATIONS], sorted(second)[:_COMBINATIONS]
    n = max(len(a), len(b))
    circles = [[(a[i % len(a)], b[(i + shift) % len(b)]) for i in range(n)] for shift in range(1, n + 1)]
    different = [[(s, t) for s, t in circle if s != t] for circle in circles]
    most = max(different, key=len)
    return tuple(most or circles[0])


def _own_combinations(seeds: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return which seeds of one system are averaged: all pairs of its first three."""
    return tuple(itertools.combinations(sorted(seeds)[:_COMBINATIONS], 2))


def _read(system: System, task: Task, labels: Labels) -> tuple[dict[int, _Scores], float]:
    """Return the scores that combinations need, by seed, and the primary metric of the mean over all seeds."""
    kept: dict[int, _Scores] = {}
    total = np.zeros(labels.targets.shape)
    for run in sorted(system.runs, key=lambda run: run.record.spec.seed):
        scores = run.folder.scores(labels.targets.shape)
        total += scores
        if len(kept) < _COMBINATIONS:
            kept[run.record.spec.seed] = scores
    return kept, _judged(task, labels, total / len(system.runs))


def _member(system: System, of_all: float, scores: Mapping[int, _Scores], labels: Labels) -> Member:
    task, seeds, own = system.task, _own_combinations([*scores]), None
    if seeds:
        score = _score(task, labels, scores, scores, seeds)
        own = Mixture(system, system, score, seeds, system.score, 1, _gain(task.primary, score, system.score))
    return Member(system, of_all, _gain(task.primary, of_all, system.score), own)


def _score(
    task: Task,
    labels: Labels,
    first: Mapping[int, _Scores],
    second: Mapping[int, _Scores],
    seeds: Sequence[tuple[int, int]],
) -> float:
    """Return the primary metric of two checkpoints' mean scores, mean over combinations of seeds."""
    # fp64: the mean of two fp32 scores, rounded to fp32, has ties that neither had
    means = ((first[a].astype(np.float64) + second[b]) / 2 for a, b in seeds)
    return fmean(_judged(task, labels, mean) for mean in means)


def _judged(task: Task, labels: Labels, scores: npt.NDArray[np.float64]) -> float:
    """Return the primary metric, by what also scores resamples: half the time of the evaluator's, the same value."""
    once = np.ones((len(scores), 1), np.uint8)
    return float(task.statistic(labels.targets, scores, labels.leaf)(once)[task.primary.name][0])


def _gain(metric: Metric, score: float, over: float) -> float:
    return metric.key(over) - metric.key(score)
