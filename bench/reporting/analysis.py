"""What the results say: every system's intervals and rank, and which pairs of systems differ."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.data.dataset import Progress
from bench.errors import UserError
from bench.protocol.task import Metric, Task
from bench.reporting.contrasts import WeighedContrast, weigh
from bench.reporting.evidence import check_data
from bench.reporting.floors import Estimates, Floor, floors_of, less_floor
from bench.reporting.sampling import Sampling, Units, compare_units
from bench.reporting.systems import Results, System, ranked_on_val
from bench.stats import inference
from bench.stats.bootstrap import Estimate, bootstrap
from bench.stats.inference import Equivalence, Inference, Verdict, difference, verdicts
from bench.stats.ranks import rank_intervals
from bench.store import Labels

__all__ = [
    "CLAIMED", "CLIPS_NEEDED", "MARGIN", "Ablation", "Analysis", "Claim", "ClassDifferences", "Contrast", "OverFloor",
    "Pair", "Standing", "analyse", "check_margin", "class_differences", "is_simulated", "judge", "no_ablations",
]  # fmt: skip

# the smallest difference in mAP that the field takes for one
MARGIN = 0.01
# for an interval of a single mAP: on fewer, average precision is biased by as much as the interval is wide
CLIPS_NEEDED = 5_000
# verdicts by which two systems, or two sets of checkpoints, differ
CLAIMED: tuple[Verdict, ...] = ("significant", "checkpoints differ")


@dataclass(frozen=True)
class Standing:
    """A system among the others, ranked by the primary metric; `letters` are '' with too few seeds."""

    system: System
    rank: int
    # from the best to the worst that 95% of draws of clips and seeds give it
    rank_interval: tuple[int, int]
    estimates: Mapping[str, Estimate]
    # by metric; None where no interval of a single system can be trusted
    intervals: Mapping[str, Inference] | None
    letters: str


@dataclass(frozen=True)
class Claim:
    """A difference, its p corrected for all that it was found among (Holm), and the verdict.

    A claim on checkpoints only is not corrected, and has no `adjusted_p`: it is no test among others. Nor does it say
    anything on equivalence.
    """

    difference: Inference
    adjusted_p: float | None
    verdict: Verdict
    equivalence: Equivalence | None


@dataclass(frozen=True)
class Pair:
    """Two systems, the better one first, and by metric what is claimed of first - second."""

    first: System
    second: System
    claims: Mapping[str, Claim]

    @property
    def primary(self) -> Claim:
        return self.claims[self.first.task.primary.name]


@dataclass(frozen=True)
class Ablation:
    """A system and the base that it was declared to differ from."""

    system: System
    base: System
    # field to its values in base and system
    changed: Mapping[str, tuple[Any, Any]]
    # on system - base in the primary metric, among all ablations
    claim: Claim


@dataclass(frozen=True)
class Contrast:
    """What a suite asked of several systems together; one that could not be computed has no claim."""

    weighed: WeighedContrast
    # in the primary metric, among all contrasts
    claim: Claim | None


@dataclass(frozen=True)
class OverFloor:
    """A system, and what is claimed of system - the best floor in the primary metric, among all systems."""

    system: System
    claim: Claim

    @property
    def is_better(self) -> bool:
        """Whether it is shown to be better."""
        return self.is_told_apart and self.system.task.primary.better(float(self.claim.difference.value), 0)

    @property
    def is_told_apart(self) -> bool:
        return self.claim.verdict in CLAIMED

    @property
    def beats(self) -> str:
        """Whether it beats the floor, for tables: 'yes', 'no', or 'not shown', where neither is shown to be better."""
        if not self.is_told_apart:
            return "not shown"
        return "yes" if self.is_better else "no"


@dataclass(frozen=True)
class ClassDifferences:
    """Two systems, class by class: `table` has a line a class."""

    first: System
    second: System
    metric: Metric
    table: pd.DataFrame


@dataclass(frozen=True)
class Analysis:
    """All that tables and figures show."""

    results: Results
    sampling: Sampling
    # what differences are equivalent within, in the primary metric's unit
    margin: float
    units: Units
    # best first
    standings: tuple[Standing, ...]
    # of the systems that are no ablations
    pairs: tuple[Pair, ...]
    # in the suite's order
    ablations: tuple[Ablation, ...]
    # as they were declared
    contrasts: tuple[Contrast, ...]
    # of the best of each family; None with a single system, or a task without values by class
    classes: ClassDifferences | None
    # of a task that has scores of clips that need no training, the best first
    floors: tuple[Floor, ...] = ()
    # of all systems, best first, if a floor has the primary metric
    over_floor: tuple[OverFloor, ...] = ()

    @property
    def primary(self) -> Metric:
        return self.results.task.primary

    @property
    def best_floor(self) -> Floor:
        """The floor that `over_floor` compares with."""
        return self.floors[0]

    @property
    def compared(self) -> tuple[Standing, ...]:
        """The systems that `pairs` compare, each with each other: the figures show these."""
        labels = {system.label for system in no_ablations(self.results.systems)}
        return tuple(standing for standing in self.standings if standing.system.label in labels)


def analyse(
    results: Results, sampling: Sampling, progress: Progress = lambda *_: None, margin: float = MARGIN
) -> Analysis:
    """Bootstrap all systems on the same resamples. Raises UserError for a wrong margin or damaged scores."""
    check_margin(margin)
    labels, task = results.labels, results.task
    if not results.mixed:
        check_data(results.systems, labels, results.folder.labels_file)
    statistics = {system.label: system.statistics(labels) for system in results.systems}
    ranked = sorted(results.systems, key=lambda system: task.primary.key(system.score))
    compared = no_ablations(ranked)
    best = _best_of_families(compared)
    names = [(best[0].label, best[1].label)] if best else []
    estimates = bootstrap(statistics, sampling.resampler(labels), progress, names)
    pairs = _compare_pairs(compared, estimates, margin)
    ablations = _compare_ablations(results.systems, estimates, margin)
    contrasts = _judge_contrasts(weigh(results.contrasts, results.systems, estimates), margin)
    classes = class_differences(*best, estimates, labels) if best else None
    differences = [(each.first, each.second) for each in pairs] or [(each.system, each.base) for each in ablations]
    couples = [(first.label, second.label) for first, second in differences]
    of_primary = {label: estimates[label][task.primary.name] for label in statistics}
    units = compare_units(sampling, labels, statistics, couples, of_primary, task.primary)
    standings = _standings(ranked, estimates, _letters(compared, pairs), len(labels.clips))
    floors = floors_of(results)
    over_floor = _compare_floor(floors, ranked, estimates, results, sampling, margin)
    return Analysis(
        results, sampling, margin, units, standings, pairs, ablations, contrasts, classes, floors, over_floor
    )


def _standings(
    ranked: Sequence[System], estimates: Estimates, letters: Mapping[str, str], clips: int
) -> tuple[Standing, ...]:
    task = ranked[0].task
    of_primary = [estimates[system.label][task.primary.name] for system in ranked]
    ranges = rank_intervals(of_primary, higher_is_better=task.primary.higher_is_better)
    trusted = clips >= CLIPS_NEEDED or not is_simulated(task)
    standings = []
    for rank, (system, between) in enumerate(zip(ranked, ranges, strict=True), start=1):
        of_system = estimates[system.label]
        intervals = {metric.name: inference.absolute(of_system[metric.name]) for metric in task.metrics}
        letter = letters.get(system.label, "")
        standings.append(Standing(system, rank, between, of_system, intervals if trusted else None, letter))
    return tuple(standings)


def is_simulated(task: Task) -> bool:
    """Return whether the simulations are of this task's primary metric: average precision, which few clips bias."""
    return task.name == "tagging"


def check_margin(margin: float) -> None:
    """Raise UserError unless two systems could lie within this of each other."""
    if not 0 < margin < math.inf:
        raise UserError(f"--margin {margin:g}: give one above 0, such as .01, in the primary metric's unit")


def judge(found: Sequence[Inference], margin: float | None = None) -> list[Claim]:
    """Return what may be claimed of differences that are looked at together; on equivalence within `margin`, if any."""
    adjusted = iter(inference.holm(np.array([float(d.p) for d in found if d.generalises])))
    return [_claim(d, float(next(adjusted)) if d.generalises else None, margin) for d in found]


def _claim(found: Inference, adjusted: float | None, margin: float | None) -> Claim:
    corrected = np.array([found.p if adjusted is None else adjusted])
    (verdict,) = verdicts(np.array([found.p]), corrected, found.floor, generalises=found.generalises)
    return Claim(found, adjusted, verdict, None if margin is None else inference.equivalence(found, margin))


def _judge_contrasts(weighed: Sequence[WeighedContrast], margin: float) -> tuple[Contrast, ...]:
    """Judge those that could be computed together: they were declared, whatever other pairs there are."""
    claims = iter(judge([each.found for each in weighed if each.found], margin))
    return tuple(Contrast(each, next(claims) if each.found else None) for each in weighed)


def _compare_floor(
    floors: Sequence[Floor], ranked: Sequence[System], estimates: Estimates, analysed: Results, sampling: Sampling,
    margin: float,
) -> tuple[OverFloor, ...]:  # fmt: skip
    """Compare each system with the best floor; p is corrected over the systems."""
    if not floors or math.isnan(floors[0].scores[ranked[0].task.primary.name]):
        return ()
    found = less_floor(floors[0], ranked, estimates, analysed, sampling.resampler(analysed.labels))
    return tuple(OverFloor(system, claim) for system, claim in zip(ranked, judge(found, margin), strict=True))


def no_ablations(systems: Sequence[System]) -> list[System]:
    """Return all but the systems whose base is among them, which are compared with that alone."""
    names = {system.name for system in systems}
    return [system for system in systems if system.spec.base not in names]


def _compare_ablations(systems: Sequence[System], estimates: Estimates, margin: float) -> tuple[Ablation, ...]:
    couples = [(system, base) for system in systems if (base := _base_of(system, systems))]
    # p is corrected over these differences alone, which were planned
    claims = _claims(couples, estimates, systems[0].task.primary, margin)
    return tuple(Ablation(a, b, _changes(a, b), claim) for (a, b), claim in zip(couples, claims, strict=True))


def _claims(
    couples: Sequence[tuple[System, System]], estimates: Estimates, metric: Metric, margin: float
) -> list[Claim]:
    # the margin is in the primary metric's unit, and says nothing of the others
    of_primary = metric == couples[0][0].task.primary if couples else True
    found = [difference(estimates[a.label][metric.name], estimates[b.label][metric.name]) for a, b in couples]
    return judge(found, margin if of_primary else None)


def _base_of(system: System, systems: Sequence[System]) -> System | None:
    """Return a system's base; of several of that name (run with other options), the one that differs least."""
    named = [other for other in systems if system.spec.base and other.name == system.spec.base]
    return min(named, key=lambda base: len(_changes(system, base)), default=None)


def _changes(system: System, base: System) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which a system differs from its base: field to the base's value and the system's."""
    old = base.settings
    return {name: (old.get(name), value) for name, value in system.settings.items() if value != old.get(name)}


def _compare_pairs(systems: Sequence[System], estimates: Estimates, margin: float) -> tuple[Pair, ...]:
    """Compare every pair, in the order of the systems; p corrected over all of them, metric by metric."""
    couples = list(itertools.combinations(systems, 2))
    claims = {metric.name: _claims(couples, estimates, metric, margin) for metric in systems[0].task.metrics}
    each = (dict(zip(claims, of_pair, strict=True)) for of_pair in zip(*claims.values(), strict=True))
    return tuple(Pair(a, b, of_pair) for (a, b), of_pair in zip(couples, each, strict=True))


def _letters(systems: Sequence[System], pairs: Sequence[Pair]) -> dict[str, str]:
    """Return group letters of the systems whose seeds allow claims that generalise, on each with each other."""
    differ = {(p.first.label, p.second.label) for p in pairs if p.primary.verdict == "significant"}
    only_checkpoints = [(p.first.label, p.second.label) for p in pairs if not p.primary.difference.generalises]
    seeds = {system.label: len(system.runs) for system in systems}
    names = list(seeds)
    for pair in only_checkpoints:
        # the one with fewer seeds is why
        names = [name for name in names if name != min(pair, key=seeds.__getitem__) or not {*pair} <= {*names}]
    return inference.group_letters(names, lambda a, b: (a, b) in differ) if len(names) > 1 else {}


def _best_of_families(systems: Sequence[System]) -> tuple[System, System] | None:
    """Return the best convolutional network and the best transformer, the question of the whole; else the two best."""
    if len(systems) < 2:
        return None
    ranked = ranked_on_val(systems)
    best: dict[str, System] = {}
    for system in ranked:
        best.setdefault(system.first.family, system)
    first, second = (best["cnn"], best["transformer"]) if {"cnn", "transformer"} <= set(best) else ranked[:2]
    return first, second


def class_differences(a: System, b: System, estimates: Estimates, labels: Labels) -> ClassDifferences | None:
    """Compare two systems in each class that eval has (Benjamini-Hochberg over the classes), if the task has values."""
    metric = a.task.class_metric
    if metric is None:
        return None
    first, second = estimates[a.label][metric.name], estimates[b.label][metric.name]
    has = np.asarray(labels.targets.any(axis=0))
    paired = estimates.get(f"{a.label} - {b.label}", {}).get(metric.name)
    found = difference(first.of(has), second.of(has), paired.of(has) if paired else None)
    adjusted = inference.benjamini_hochberg(found.p)
    table = pd.DataFrame(
        {
            "class": np.array(labels.classes)[has],
            "train_clips": labels.train_counts[has],
            "eval_clips": labels.targets.sum(axis=0)[has],
            "first": first.value[has],
            "second": second.value[has],
            "difference": found.value,
            **{name: getattr(found, name) for name in ("low", "high", "p")},
            "p_adjusted": adjusted,
            "verdict": verdicts(found.p, adjusted, found.floor, generalises=found.generalises),
        }
    )
    return ClassDifferences(a, b, metric, table)
