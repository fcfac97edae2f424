"""What the results say: every row's intervals and rank, and which pairs of rows differ."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import UserError
from bench.reporting.systems import Labels, Results, Row
from bench.stats.bootstrap import METRICS, RESAMPLES, Draws, Estimate, Floats, bootstrap
from bench.stats.inference import (
    SEEDS_NEEDED,
    Inference,
    absolute,
    benjamini_hochberg,
    difference,
    group_letters,
    holm,
    verdicts,
)

COVERAGE = Path(__file__).parent.parent / "stats" / "coverage.csv"


@dataclass(frozen=True)
class Sampling:
    """How the bootstrap draws."""

    resamples: int = RESAMPLES
    by_group: bool = False
    seed: int = 0

    def draws(self, labels: Labels) -> Draws:
        """Raises UserError where groups are asked for and none are known."""
        if self.by_group and not any(labels.groups):
            raise UserError(
                "--by-group: the uploaders of these eval clips are not known (the data set had no metadata)"
            )
        return Draws(len(labels.clips), self.resamples, self.seed, labels.groups if self.by_group else None)

    @property
    def units(self) -> str:
        return "whole uploaders' clips" if self.by_group else "clips"


@dataclass(frozen=True)
class Standing:
    """A row among the others."""

    row: Row
    rank: int  # by mean mAP
    estimates: Mapping[str, Estimate]
    own: Mapping[str, Inference]  # per metric
    letters: str  # '' with too few seeds


@dataclass(frozen=True)
class Pair:
    """Two rows, the better one first."""

    first: Row
    second: Row
    differences: Mapping[str, Inference]  # per metric, first - second
    adjusted_p: Mapping[str, float]  # over all pairs, Holm
    verdicts: Mapping[str, str]

    @property
    def about(self) -> str:
        return "architectures" if self.differences["map"].about_architectures else "these checkpoints only"


@dataclass(frozen=True)
class Ablation:
    """A row and the base that it was declared to differ from."""

    row: Row
    base: Row
    changed: Mapping[str, tuple[Any, Any]]  # field to its values in base and row
    difference: Inference  # in mAP, row - base
    adjusted_p: float  # over all ablations, Holm
    verdict: str


@dataclass(frozen=True)
class ClassDifferences:
    """Two rows, class by class."""

    first: Row
    second: Row
    table: pd.DataFrame  # a line a class


@dataclass(frozen=True)
class Analysis:
    results: Results
    sampling: Sampling
    standings: tuple[Standing, ...]  # best first
    pairs: tuple[Pair, ...]  # of the rows that are no ablations
    ablations: tuple[Ablation, ...]  # in the suite's order
    classes: ClassDifferences | None  # of the best of each family; None with a single row

    @property
    def compared(self) -> tuple[Standing, ...]:
        """The rows that `pairs` compare, each with each other: the figures show these."""
        labels = {row.label for row in _no_ablations(self.results.rows)}
        return tuple(standing for standing in self.standings if standing.row.label in labels)


def analyse(
    results: Results, sampling: Sampling, progress: Callable[[float, float], None] = lambda done, total: None
) -> Analysis:
    """Bootstrap all rows on the same draws. Raises UserError for missing or damaged scores."""
    labels = results.labels
    systems = {row.label: scores_of(row, labels) for row in results.rows}
    estimates = bootstrap(systems, labels.targets, labels.leaf, sampling.draws(labels), progress)
    ranked = sorted(results.rows, key=lambda row: -row.mean("metrics", "map"))
    compared = _no_ablations(ranked)
    pairs = compare_rows(compared, estimates)
    letters = _letters(compared, pairs)
    standings = tuple(
        Standing(
            row,
            rank,
            estimates[row.label],
            {metric: absolute(estimates[row.label][metric]) for metric in METRICS},
            letters.get(row.label, ""),
        )
        for rank, row in enumerate(ranked, start=1)
    )
    classes = _best_of_families(compared, estimates, labels)
    return Analysis(results, sampling, standings, tuple(pairs), compare_ablations(results.rows, estimates), classes)


def _no_ablations(rows: Sequence[Row]) -> list[Row]:
    """All but the rows whose base is among them, which are compared with that alone."""
    names = {row.name for row in rows}
    return [row for row in rows if row.base not in names]


def compare_ablations(rows: Sequence[Row], estimates: Mapping[str, Mapping[str, Estimate]]) -> tuple[Ablation, ...]:
    """Every row that has its base among the rows; p corrected over these differences alone, which were planned."""
    couples = [(row, base) for row in rows if (base := _base_of(row, rows))]
    found = [difference(estimates[row.label]["map"], estimates[base.label]["map"]) for row, base in couples]
    adjusted = holm(np.array([float(d.p) for d in found]))
    return tuple(
        Ablation(row, base, changes(row, base), own, float(p), verdicts(np.array([own.p]), np.array([p]), own.floor)[0])
        for (row, base), own, p in zip(couples, found, adjusted, strict=True)
    )


def _base_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """Of several of that name (run with other options), the one that differs least."""
    named = [other for other in rows if row.base and other.name == row.base]
    return min(named, key=lambda base: len(changes(row, base)), default=None)


def changes(row: Row, base: Row) -> dict[str, tuple[Any, Any]]:
    """The settings in which a row differs from its base: field to the base's value and the row's."""
    old, new = base.settings, row.settings
    return {name: (old.get(name), value) for name, value in new.items() if value != old.get(name)}


def scores_of(row: Row, labels: Labels) -> list[Floats]:
    """Of each seed, (clips, k). Raises UserError if they are missing, damaged, or of other clips than the labels."""
    scores = row.scores()
    for run, own in zip(row.runs, scores, strict=True):
        if own.shape != labels.targets.shape:
            raise UserError(
                f"{run['folder'] / 'scores.npz'}: scores of shape {own.shape}, but labels.npz has "
                f"{labels.targets.shape}; remove the run's folder and run the suite again"
            )
    return scores


def compare_rows(rows: Sequence[Row], estimates: Mapping[str, Mapping[str, Estimate]]) -> list[Pair]:
    """Every pair, in the order of the rows; p corrected over all of them, metric by metric."""
    couples = list(itertools.combinations(rows, 2))
    found = {
        metric: [difference(estimates[a.label][metric], estimates[b.label][metric]) for a, b in couples]
        for metric in METRICS
    }
    adjusted = {metric: holm(np.array([float(d.p) for d in found[metric]])) for metric in METRICS}
    pairs = []
    for i, (a, b) in enumerate(couples):
        own = {metric: found[metric][i] for metric in METRICS}
        p = {metric: float(adjusted[metric][i]) for metric in METRICS}
        words = {m: verdicts(np.array([own[m].p]), np.array([p[m]]), own[m].floor)[0] for m in METRICS}
        pairs.append(Pair(a, b, own, p, words))
    return pairs


def _letters(rows: Sequence[Row], pairs: Sequence[Pair]) -> dict[str, str]:
    """Among rows with seeds enough."""
    differ = {(p.first.label, p.second.label) for p in pairs if p.verdicts["map"] == "different"}
    names = [row.label for row in rows if len(row.runs) >= SEEDS_NEEDED]
    return group_letters(names, lambda a, b: (a, b) in differ) if len(names) > 1 else {}


def _best_of_families(
    ranked: Sequence[Row], estimates: Mapping[str, Mapping[str, Estimate]], labels: Labels
) -> ClassDifferences | None:
    """The question of the whole: the best convolutional network and the best transformer, else the two best rows."""
    if len(ranked) < 2:
        return None
    best: dict[str, Row] = {}
    for row in ranked:
        best.setdefault(row.first["family"], row)
    chosen = [best["cnn"], best["transformer"]] if {"cnn", "transformer"} <= set(best) else list(ranked[:2])
    return class_differences(chosen[0], chosen[1], estimates, labels)


def class_differences(
    a: Row, b: Row, estimates: Mapping[str, Mapping[str, Estimate]], labels: Labels
) -> ClassDifferences:
    """AP of each class that eval has, and which of them differ (Benjamini-Hochberg over the classes)."""
    first, second = estimates[a.label]["class_ap"], estimates[b.label]["class_ap"]
    has = np.asarray(labels.targets.any(axis=0))
    found = difference(first.of(has), second.of(has))
    adjusted = benjamini_hochberg(found.p)
    table = pd.DataFrame(
        {
            "class": np.array(labels.classes)[has],
            "train_clips": labels.train_counts[has],
            "eval_clips": labels.targets.sum(axis=0)[has],
            "ap_first": first.value[has],
            "ap_second": second.value[has],
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "p_adjusted": adjusted,
            "verdict": verdicts(found.p, adjusted, found.floor),
        }
    )
    return ClassDifferences(a, b, table)


def simulated_coverage(question: str, clips: int, seeds: int) -> tuple[float, int]:
    """How often intervals hold the truth in simulation, and at how many clips (the nearest that was simulated).

    `question` is "absolute" (one row's mAP) or "difference"; of several answers, the worst.
    """
    table = pd.read_csv(COVERAGE, comment="#")
    table = table[(table["question"] == question) & (table["seeds"] == (5 if seeds >= SEEDS_NEEDED else 1))]
    nearest = table["clips"].iloc[(np.log(table["clips"]) - np.log(clips)).abs().argmin()]
    return float(table.loc[table["clips"] == nearest, "rate"].min()), int(nearest)
