"""How far the statistics can be trusted: how often their intervals hold the truth, and their tests cry wolf.

Reports quote the summary, bench/stats/coverage.csv. Eval sets are drawn from a population without end: label sets are
those of FSD50K's eval clips, a score is normally distributed given the label, so that every truth is an integral and
known exactly. In each repeat clips, errors and seeds are all drawn anew.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from bench.stats.bootstrap import Estimate, Resampler, Statistic, bootstrap, contrast
from bench.stats.inference import LEVEL, SEEDS_NEEDED, absolute, difference, holm, of_contrast
from bench.stats.planning import smallest_difference, variances
from bench.stats.ranking import Bools, Floats, RankedRun

__all__ = [
    "COVERAGE",
    "FIGURE",
    "SCENARIOS",
    "Population",
    "Scenario",
    "label_sets",
    "simulate",
    "summarise",
    "write_coverage",
]

_BENCH = Path(__file__).parents[1] / "bench"
_LABEL_SETS = _BENCH / "data" / "fsd50k_label_sets.csv"
COVERAGE = _BENCH / "stats" / "coverage.csv"
FIGURE = _BENCH.parent / "docs" / "coverage.png"
# repeats in a block, which is done or not when a simulation is resumed
_BLOCK = 25
# the paper's difference between its pooled and its large transformer
PAPERS = 0.012
_FSD50K = 10_231
# of errors that all share, of an architecture, of a seed; and of the separation of all classes between seeds, which
# makes a standard deviation of .010 mAP
_SHARED, _OWN, _NOISE, _SEEDS = 0.75, 0.45, 0.45, 0.03
# how much of errors and labels the clips of an uploader have in common
_ALIKE = 0.9


def label_sets() -> Bools:
    """Return the label sets of 2,048 eval clips of FSD50K, classes without any left out: (2048, k)."""
    table = pd.read_csv(_LABEL_SETS, comment="#")
    targets = table["labels"].str.get_dummies(",").to_numpy() > 0
    return np.repeat(targets, table["clips"].to_numpy(), axis=0)


@dataclass(frozen=True)
class Scenario:
    """What is drawn.

    Attributes:
        pairs: two systems alike and a third one better by `difference`; without, eight systems alike.
        clips, classes: the size of an eval set.
        seeds: how many each system has.
        correlation: of what a seed gives to two systems.
        tails: the distribution of what a seed gives: normal, or Student's t with 3 degrees of freedom.
        group: clips of an uploader; 1: each clip by itself.
        difference: the true difference in mAP of the third system; None: what `bench plan` says can be shown in 8 of
            10 cases.
    """

    name: str
    clips: int
    pairs: bool = True
    classes: int = 50
    seeds: int = 10
    correlation: float = 0.5
    tails: Literal["normal", "t3"] = "normal"
    group: int = 1
    difference: float | None = PAPERS
    repeats: int = 1_000

    @property
    def blocks(self) -> int:
        return -(-self.repeats // _BLOCK)


def _scenarios() -> Iterator[Scenario]:
    for clips in (2_000, _FSD50K):
        for correlation in (0.0, 0.5, 0.96):
            # ten seeds of FSD50K's size take as long as all else, so they are drawn once
            seeds = 10 if clips < _FSD50K or correlation == 0.5 else 5
            yield Scenario(f"{clips}-correlation-{correlation}", clips, seeds=seeds, correlation=correlation)
        if clips == 2_000:
            yield Scenario("2000-heavy-tails", clips, tails="t3")
            yield Scenario("2000-eight", clips, pairs=False, seeds=5)
            yield Scenario("2000-eight-correlation-0.96", clips, pairs=False, seeds=5, correlation=0.96)
            yield Scenario("2000-uploaders-of-10", clips, group=10, seeds=5)
            yield Scenario("1000-uploaders-of-50", 1_000, group=50, seeds=5)
            yield Scenario("300", 300, seeds=5)
            yield Scenario("1000", 1_000, seeds=5)
            yield Scenario("5000", 5_000, seeds=5)
    yield Scenario("10231-planned", _FSD50K, seeds=5, difference=None)
    yield Scenario("10231-all-classes", _FSD50K, classes=200, seeds=5, repeats=200)


SCENARIOS = tuple(_scenarios())


class Population:
    """Clips and classes of which eval sets are drawn, and what is true of them."""

    def __init__(self, classes: int, tails: str = "normal") -> None:
        sets = label_sets()
        by_frequency = np.argsort(-sets.sum(axis=0), kind="stable")
        self.sets: Bools = sets[:, by_frequency[np.linspace(0, len(by_frequency) - 1, classes).astype(int)]]
        self.separations = np.random.default_rng(0).normal(2.2, 0.7, size=classes)
        self.tails = tails

    def draw_seeds(self, rng: np.random.Generator, size: int) -> Floats:
        """Return what seeds add to the separation of all classes: (size,)."""
        drawn = rng.standard_normal(size) if self.tails == "normal" else rng.standard_t(3, size) / 3**0.5
        return _SEEDS * drawn

    @cached_property
    def _curve(self) -> tuple[Floats, Floats]:
        """What is added to the separations, and the mAP without error of sampling: the mean over classes of
        E[p P(+) / (p P(+) + (1 - p) P(-))], at the score of a positive: prior p, and how many of both score as high."""
        added = np.linspace(-1.5, 1.5, 301)
        spread = (_SHARED**2 + _OWN**2 + _NOISE**2) ** 0.5
        above = (np.arange(1_000) + 0.5) / 1_000
        prior = self.sets.mean(axis=0)[:, None]
        values = []
        for extra in added:
            score = (self.separations[:, None] + extra) / spread - special.ndtri(above)
            precision = prior * above / (prior * above + (1 - prior) * special.ndtr(-score))
            values.append(precision.mean())
        return added, np.array(values)

    def true_map(self, added: Floats | float) -> Floats:
        """Return the mAP of checkpoints, given what was added to their separations."""
        found: Floats = np.asarray(np.interp(added, *self._curve))
        return found

    def expected_map(self, advantage: float) -> float:
        """Return the mAP of a system, the expectation over its seeds."""
        levels = (np.arange(20_000) + 0.5) / 20_000
        of = special.ndtri(levels) if self.tails == "normal" else special.stdtrit(3, levels) / 3**0.5
        return float(self.true_map(advantage + _SEEDS * of).mean())

    def advantage(self, difference: float) -> float:
        """Return what has to be added for a system to be better by so much mAP."""
        added = np.linspace(0.0, 0.5, 51)
        gains = [self.expected_map(advantage) - self.expected_map(0.0) for advantage in added]
        return float(np.interp(difference, gains, added))


_population = cache(Population)


@dataclass(frozen=True)
class _Drawn:
    """An eval set and what systems do on it; `added` and `scores` by system and seed."""

    targets: Bools
    groups: list[str]
    added: dict[str, Floats]
    scores: dict[str, list[Floats]]

    def estimates(self, resampler: Resampler) -> dict[str, Estimate]:
        systems = {
            name: {seed: _map_of(run, self.targets) for seed, run in enumerate(runs)}
            for name, runs in self.scores.items()
        }
        return {name: of_system["map"] for name, of_system in bootstrap(systems, resampler).items()}


def _map_of(scores: Floats, targets: Bools) -> Statistic:
    ranked = RankedRun(scores, targets)
    return lambda weights: {"map": np.nanmean(ranked.average_precision(weights), axis=1)}


def _draw(scenario: Scenario, people: Population, advantages: dict[str, float], rng: np.random.Generator) -> _Drawn:
    n, uploaders = scenario.clips, -(-scenario.clips // scenario.group)
    group = np.arange(n) // scenario.group
    sets = rng.integers(len(people.sets), size=n)
    if scenario.group > 1:
        alike = rng.random(n) < _ALIKE
        sets[alike] = rng.integers(len(people.sets), size=uploaders)[group[alike]]
    targets: Bools = people.sets[sets]

    def errors(size: float) -> Floats:
        found = rng.standard_normal(targets.shape, np.float32)
        if scenario.group > 1:
            common = rng.standard_normal((uploaders, targets.shape[1]), np.float32)[group]
            found = np.float32(_ALIKE**0.5) * common + np.float32((1 - _ALIKE) ** 0.5) * found
        return np.float32(size) * found

    def mixed(common: Floats, own: Floats) -> Floats:
        rho = scenario.correlation
        return (rho**0.5 * common + (1 - rho) ** 0.5 * own).astype(np.float32)

    everyone = errors(_SHARED)
    bases = {name: everyone + errors(_OWN) + people.separations * targets for name in advantages}
    common = people.draw_seeds(rng, scenario.seeds)
    added: dict[str, Any] = {name: [] for name in advantages}
    scores: dict[str, list[Floats]] = {name: [] for name in advantages}
    for seed in range(scenario.seeds):
        noise = errors(_NOISE)
        for name, advantage in advantages.items():
            own = people.draw_seeds(rng, 1)
            extra = float(mixed(common[seed : seed + 1], own)[0]) + advantage
            added[name].append(extra)
            run = bases[name] + mixed(noise, errors(_NOISE)) + extra * targets
            scores[name].append(run.astype(np.float32))
    groups = [f"uploader {i}" for i in group]
    return _Drawn(targets, groups, {name: np.array(values) for name, values in added.items()}, scores)


# --- what is asked in each repeat: question, seeds, and what came out


def _asked_of_pair(a: Estimate, b: Estimate, question: str, seeds: int, truth: float) -> dict[str, Any]:
    """Return a - b from the first seeds of both, paired however few they are: that few seeds do not suffice is seen."""
    together = contrast([(1.0, a.of_seeds(range(seeds))), (-1.0, b.of_seeds(range(seeds)))])
    assert together is not None
    found, narrower = of_contrast(together), of_contrast(together, level=2 * LEVEL)
    seed_variance, clip_variance = variances(together)
    return {
        **_outcome(question, seeds, found, truth),
        "low90": float(narrower.low),
        "high90": float(narrower.high),
        "seed_variance": seed_variance,
        "clip_variance": clip_variance,
    }


def _outcome(question: str, seeds: int, found: Any, truth: float) -> dict[str, Any]:
    numbers = {name: float(getattr(found, name)) for name in ("value", "low", "high", "p")}
    return {"question": question, "seeds": seeds, **numbers, "truth": truth}


def _ask_pairs(scenario: Scenario, people: Population, drawn: _Drawn, seed: int, better: float) -> list[dict[str, Any]]:
    asked = []
    ways = {"": None} if scenario.group == 1 else {"": None, ", by uploader": drawn.groups}
    gain = people.expected_map(better) - people.expected_map(0.0)
    for how, groups in ways.items():
        found = drawn.estimates(Resampler(scenario.clips, _RESAMPLES, seed, groups))
        a, b, c = (found[name] for name in ("a", "b", "c"))
        for seeds in (s for s in (2, 3, 5, 10) if s <= scenario.seeds):
            asked.append(_asked_of_pair(a, b, f"equals{how}", seeds, 0.0))
            asked.append(_asked_of_pair(c, a, f"better{how}", seeds, gain))
        first, second = a.of_seeds([0]), b.of_seeds([0])
        of_two = float(people.true_map(drawn.added["a"][0]) - people.true_map(drawn.added["b"][0]))
        asked.append(_outcome(f"checkpoints{how}", 1, difference(first, second), of_two))
        asked.append(_outcome(f"one mAP{how}", 1, absolute(first), float(people.true_map(drawn.added["a"][0]))))
        if scenario.seeds >= SEEDS_NEEDED:
            five = a.of_seeds(range(SEEDS_NEEDED))
            asked.append(_outcome(f"one mAP{how}", 5, absolute(five), people.expected_map(0.0)))
        if scenario.seeds >= 2 * SEEDS_NEEDED:
            apart = b.of_seeds(range(SEEDS_NEEDED, 2 * SEEDS_NEEDED))
            asked.append(_outcome("equals, other seeds", 5, difference(five, apart), 0.0))
    return asked


def _ask_eight(scenario: Scenario, drawn: _Drawn, seed: int) -> list[dict[str, Any]]:
    """Return whether any pair of eight was called significant, as one line, and the contrast of four against four."""
    found = drawn.estimates(Resampler(scenario.clips, _RESAMPLES, seed))
    lines = []
    for seeds in (3, scenario.seeds):
        systems = [estimate.of_seeds(range(seeds)) for estimate in found.values()]
        claims = [difference(a, b) for a, b in combinations(systems, 2)]
        adjusted = holm(np.array([float(claim.p) for claim in claims]))
        nearest = claims[int(np.argmin(adjusted))]
        lines.append(_outcome("any of 28 pairs", seeds, nearest, 0.0) | {"p": float(adjusted.min())})
        families = contrast([(0.25 if i < 4 else -0.25, system) for i, system in enumerate(systems)])
        assert families is not None
        lines.append(_outcome("two families", seeds, of_contrast(families), 0.0))
    return lines


_RESAMPLES = 300


def simulate(scenario: Scenario, block: int, repeats: int = _BLOCK) -> pd.DataFrame:
    """Return a line a repeat and question: seeds, value, interval, p, truth; `difference` must be given."""
    people = _population(scenario.classes, scenario.tails)
    assert scenario.difference is not None
    better = people.advantage(scenario.difference)
    names = {"a": 0.0, "b": 0.0, "c": better} if scenario.pairs else dict.fromkeys("abcdefgh", 0.0)
    lines = []
    for repeat in range(block * _BLOCK, min(block * _BLOCK + repeats, scenario.repeats)):
        rng = np.random.default_rng((zlib.crc32(scenario.name.encode()), repeat))
        drawn = _draw(scenario, people, names, rng)
        if scenario.pairs:
            asked = _ask_pairs(scenario, people, drawn, repeat, better)
        else:
            asked = _ask_eight(scenario, drawn, repeat)
        lines += [{"scenario": scenario.name, "repeat": repeat, **line} for line in asked]
    return pd.DataFrame(lines)


# --- the whole, block by block


def _write_block(scenario: Scenario, block: int, path: Path) -> None:
    partial = path.with_suffix(".part")
    simulate(scenario, block).to_csv(partial, index=False)
    os.replace(partial, path)


def _planned(scenario: Scenario, folder: Path) -> Scenario:
    """Return the scenario with the difference that planning says is shown in 8 of 10 cases, by pilots of ten seeds."""
    if scenario.difference is not None:
        return scenario
    pilots = pd.concat(pd.read_csv(path) for path in sorted(folder.glob(f"{scenario.clips}-correlation-0.5-*.csv")))
    pilots = pilots[(pilots["question"] == "equals") & (pilots["seeds"] == 10)]
    seed_variance, clip_variance = (float(pilots[name].mean()) for name in ("seed_variance", "clip_variance"))
    return replace(scenario, difference=smallest_difference(seed_variance, clip_variance, scenario.seeds))


def write_coverage(
    folder: Path,
    scenarios: Sequence[Scenario],
    summary: Path,
    workers: int = 1,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Simulate what the folder lacks, write the summary and return it; all scenarios take two hours on two cores.

    Args:
        folder: a file a block of repeats; a simulation that was interrupted resumes from there.
        workers: processes.
        progress: takes how many blocks are done, and of how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total, done = sum(scenario.blocks for scenario in scenarios), 0
    with ProcessPoolExecutor(workers, initializer=_one_thread) as pool:
        # planned ones go by what others found
        for chosen in ([s for s in scenarios if s.difference], [s for s in scenarios if s.difference is None]):
            left = []
            for scenario in (_planned(s, folder) for s in chosen):
                for block in range(scenario.blocks):
                    path = folder / f"{scenario.name}-{block:03}.csv"
                    if path.exists():
                        done += 1
                    else:
                        left.append(pool.submit(_write_block, scenario, block, path))
            progress(done, total)
            for finished in as_completed(left):
                finished.result()
                done += 1
                progress(done, total)
    blocks = (folder / f"{scenario.name}-{block:03}.csv" for scenario in scenarios for block in range(scenario.blocks))
    lines = pd.concat(map(pd.read_csv, blocks))
    table = summarise(lines, scenarios)
    head = "# How the statistics behave where the truth is known. Written by: python -m benchmarks simulation\n"
    summary.write_text(head + table.to_csv(index=False, lineterminator="\n"), "utf-8")
    return table


def _one_thread() -> None:
    import numba

    numba.set_num_threads(1)


def summarise(lines: pd.DataFrame, scenarios: Sequence[Scenario] = SCENARIOS) -> pd.DataFrame:
    """Return a line a scenario, question and number of seeds: shares of repeats, and the mean half width.

    `significant`: called so (of equals, a false call); `holds`: the interval held the truth; `equivalent`: called
    equivalent within the paper's difference (of better systems, a false call). `truth` is the true value's mean.
    """
    known = {scenario.name: scenario for scenario in scenarios}
    lines = lines.assign(
        significant=lines["p"] <= LEVEL,
        holds=(lines["low"] <= lines["truth"]) & (lines["truth"] <= lines["high"]),
        equivalent=(lines["low90"] >= -PAPERS) & (lines["high90"] <= PAPERS),
        half_width=(lines["high"] - lines["low"]) / 2,
    )
    rows = []
    for key, group in lines.groupby(["scenario", "question", "seeds"], sort=False):
        name, question, seeds = key
        scenario, single = known[str(name)], str(question).startswith("one mAP")
        rates = group[["significant", "holds", "equivalent"]].mean()
        rows.append(
            {
                "scenario": name,
                "clips": scenario.clips,
                "classes": scenario.classes,
                "correlation": scenario.correlation,
                "tails": scenario.tails,
                "group": scenario.group,
                "question": question,
                "seeds": seeds,
                "truth": round(group["truth"].mean(), 4) + 0.0,
                "significant": np.nan if single else rates["significant"],
                # of 28 pairs one alone is kept, the clearest
                "holds": np.nan if str(question).startswith("any of") else rates["holds"],
                "equivalent": rates["equivalent"] if group["low90"].notna().all() else np.nan,
                "half_width": float(f"{group['half_width'].mean():.3g}"),
                "repeats": len(group),
            }
        )
    return pd.DataFrame(rows)
