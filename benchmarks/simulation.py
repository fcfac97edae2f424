"""How far the statistics can be trusted: how often their intervals hold the truth, and their tests cry wolf.

Reports quote the result, bench/stats/coverage.csv. Populations are built on real label sets of FSD50K's eval split; an
eval set is drawn from them clip by clip, so that the truth, the population's mAP, is known exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bench.protocol.task import get_task
from bench.stats.bootstrap import Estimate, Resampler, bootstrap
from bench.stats.inference import LEVEL, SEEDS_NEEDED, Inference, absolute, difference
from bench.stats.ranking import Bools, Floats, RankedRun

__all__ = ["COVERAGE", "Population", "checkpoints", "groups_of_seeds", "label_sets", "population", "write_coverage"]

_BENCH = Path(__file__).parents[1] / "bench"
_LABEL_SETS = _BENCH / "data" / "fsd50k_label_sets.csv"
COVERAGE = _BENCH / "stats" / "coverage.csv"
# clips of an eval set; the last is FSD50K's
_SIZES = (300, 1_000, 2_000, 5_000, 10_231)


@dataclass(frozen=True)
class Population:
    """Clips with labels, and two architectures' scores for them, seed by seed.

    Attributes:
        targets: (clips, k).
        first, second: (clips, k), one for each seed.
    """

    targets: Bools
    first: list[Floats]
    second: list[Floats]

    def true_map(self, runs: list[Floats]) -> float:
        """Return the population's mAP, mean over seeds."""
        once = np.ones((len(self.targets), 1), np.uint8)
        return float(np.mean([np.nanmean(RankedRun(run, self.targets).average_precision(once)) for run in runs]))


def label_sets() -> Bools:
    """Return the label sets of 2,048 eval clips of FSD50K, classes without any left out: (2048, k)."""
    table = pd.read_csv(_LABEL_SETS, comment="#")
    targets = table["labels"].str.get_dummies(",").to_numpy() > 0
    return np.repeat(targets, table["clips"].to_numpy(), axis=0)


def population(
    *,
    clips: int,
    seeds: int,
    advantage: float,
    seed_spread: float = 0.05,
    classes: int | None = None,
    rng_seed: int = 0,
) -> Population:
    """Return two architectures of about .4 mAP that err on much the same clips.

    A score is the class's separation, if the label is there, plus errors of the clip (shared by all), of architecture
    and clip, and of seed and clip. `advantage` is added to the second one's separations, `seed_spread` is the standard
    deviation of that between seeds. `classes`, evenly spread over frequencies, keep it small.
    """
    rng = np.random.default_rng(rng_seed)
    sets = label_sets()
    targets: Bools = sets[rng.integers(len(sets), size=clips)]
    if classes is not None:
        by_frequency = np.argsort(-sets.sum(axis=0), kind="stable")
        targets = targets[:, by_frequency[np.linspace(0, len(by_frequency) - 1, classes).astype(int)]]
    separations = rng.normal(2.2, 0.7, size=targets.shape[1:])
    shared = 0.75 * rng.standard_normal(targets.shape, np.float32)

    def architecture(extra: float) -> list[Floats]:
        errors = 0.45 * rng.standard_normal(targets.shape, np.float32)
        errors += (separations + rng.normal(extra, 0.2 if extra else 0.0, size=targets.shape[1:])) * targets
        return [_seed(shared + errors, targets, rng, seed_spread) for _ in range(seeds)]

    return Population(targets, architecture(0.0), architecture(advantage))


def _seed(scores: Floats, targets: Bools, rng: np.random.Generator, spread: float) -> Floats:
    noisy = scores + 0.45 * rng.standard_normal(scores.shape, np.float32)
    return (noisy + rng.normal(0.0, spread) * targets).astype(np.float32)


def _estimates(
    people: Population, first: list[Floats], second: list[Floats], n: int, seed: int, resamples: int
) -> dict[str, dict[str, Estimate]]:
    """Estimate two systems, `a` and `b`, on an eval set of n clips drawn from a population."""
    clips = np.random.default_rng((n, seed)).integers(len(people.targets), size=n)
    task, targets = get_task("tagging"), people.targets[clips]
    leaf = np.ones(targets.shape[1], bool)
    # seeds of their own, since nothing but the clips is shared
    systems = {
        name: {seed: task.statistic(targets, run[clips], leaf) for seed, run in enumerate(runs, start=first_seed)}
        for name, runs, first_seed in (("a", first, 0), ("b", second, len(first)))
    }
    return bootstrap(systems, Resampler(n, resamples, seed))


def checkpoints(n: int, repeats: int, resamples: int) -> dict[tuple[str, float], float]:
    """Ask of two given checkpoints, clips drawn anew; return (question, true difference) to the share of repeats.

    Asked is how often intervals hold the truth: of the difference, of one mAP, and of that by plain percentiles.
    """
    people = population(clips=50_000, seeds=1, advantage=0.1)
    truth = people.true_map(people.first)
    true_difference = truth - people.true_map(people.second)
    held = {"difference": 0, "absolute": 0, "absolute by percentiles": 0}
    for seed in range(repeats):
        found = _estimates(people, people.first, people.second, n, seed, resamples)
        a, b = found["a"]["map"], found["b"]["map"]
        held["difference"] += _holds(difference(a, b), true_difference)
        held["absolute"] += _holds(absolute(a), truth)
        low, high = np.quantile(a.replicates, [0.025, 0.975])
        held["absolute by percentiles"] += bool(low <= truth <= high)
    return {(question, true_difference): count / repeats for question, count in held.items()}


def groups_of_seeds(
    n: int, repeats: int, resamples: int, *, advantage: float, pool: int = 30
) -> dict[tuple[str, float], float]:
    """Ask of two groups of five seeds, clips and seeds drawn anew; return as `checkpoints`.

    Asked is how often they are called significant, and how often intervals hold the truth. With `advantage=0` both
    groups are drawn from one architecture's seeds, so that each call is a false one.
    """
    people = population(clips=20_000, seeds=pool, advantage=advantage, classes=50)
    others = people.second if advantage else people.first
    truth = people.true_map(people.first)
    true_difference = truth - people.true_map(others)
    counts = {"called significant": 0, "difference": 0, "absolute": 0}
    for seed in range(repeats):
        order = np.random.default_rng((seed, 1)).permutation(pool)
        a, b = [people.first[i] for i in order[:SEEDS_NEEDED]], [others[i] for i in order[-SEEDS_NEEDED:]]
        found = _estimates(people, a, b, n, seed, resamples)
        between = difference(found["a"]["map"], found["b"]["map"])
        counts["called significant"] += bool(between.p <= LEVEL)
        counts["difference"] += _holds(between, true_difference)
        counts["absolute"] += _holds(absolute(found["a"]["map"]), truth)
    return {(question, true_difference): count / repeats for question, count in counts.items()}


def _holds(found: Inference, truth: float) -> bool:
    return bool(found.low <= truth <= found.high)


def write_coverage(progress: Callable[[float, float], None], repeats: int = 1_000, resamples: int = 500) -> None:
    """Simulate all of it, and write coverage.csv; about an hour on one core.

    Args:
        progress: takes how many simulations are done, and of how many.
    """
    simulations: list[tuple[int, int, Callable[[], dict[tuple[str, float], float]]]] = [
        (1, n, partial(checkpoints, n, repeats, resamples)) for n in _SIZES
    ]
    simulations += [
        (SEEDS_NEEDED, n, partial(groups_of_seeds, n, repeats, resamples, advantage=advantage))
        for n in _SIZES[:-1]
        for advantage in (0.0, 0.2)
    ]
    lines = []
    for done, (seeds, n, simulate) in enumerate(simulations):
        progress(done, len(simulations))
        for (question, truly), rate in simulate().items():
            line = {"question": question, "seeds": seeds, "clips": n, "true_difference": round(truly, 4)}
            lines.append(line | {"rate": rate, "repeats": repeats})
    head = "# How the statistics behave where the truth is known. Written by: python -m benchmarks simulation\n"
    COVERAGE.write_text(head + pd.DataFrame(lines).to_csv(index=False, lineterminator="\n"), "utf-8")
