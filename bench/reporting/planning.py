"""What a suite needs to show a difference: seeds, clips and hours, from a pilot's variances or stated ones."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.data.dataset import Progress
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.reporting.analysis import Analysis, no_ablations
from bench.reporting.contrasts import weigh
from bench.reporting.evidence import check_data
from bench.reporting.pareto import training_seconds
from bench.reporting.sampling import Sampling
from bench.reporting.systems import Results, System
from bench.stats import planning
from bench.stats.bootstrap import Estimate, bootstrap, contrast, nanvar, only
from bench.stats.inference import LEVEL, SHARED_SEEDS_NEEDED
from bench.store import PlannedContrast

__all__ = [
    "SEEDS", "Detectable", "Pilot", "Question", "Record", "Spread", "answers", "comparisons", "detectable",
    "training_hours", "weigh_pilot",
]  # fmt: skip

# of which the smallest difference is told
SEEDS = (3, 5, 10)
Record = dict[str, Any]
_SMALLEST, _MOST = 1e-6, 1_000_000_000


@dataclass(frozen=True)
class Spread:
    """How a difference varies: from seed to seed, and over draws of so many eval clips."""

    name: str
    # of one seed's difference, and of the mean difference, in the square of the metric's unit
    seed_variance: float
    clip_variance: float
    # how many showed the variance of seeds; 0: it was stated
    seeds: int = 0
    # the part of seed_variance that falls with the number of clips, as clip_variance does
    interaction: float = 0.0
    # what seed_variance is below with a confidence of 80%; None where it was stated
    upper: float | None = None

    @classmethod
    def of(cls, name: str, found: Estimate, share: float = 1.0) -> "Spread":
        """Return what a contrast shows, for 1 / `share` times as many clips."""
        n, (seed, clip) = len(found.seeds), planning.variances(found)
        interaction = min(float(found.interaction()) * n, seed)
        # the difference of two uncertain variances may be next to nothing by chance: not so its upper value
        upper = planning.upper_seed_variance(seed, n) - interaction * (1 - share)
        seed -= interaction * (1 - share)
        return cls(name, seed, clip * share, n, interaction * share, upper)


@dataclass(frozen=True)
class Question:
    """The difference that a suite of so many seeds and eval clips should find, and with what chance."""

    difference: float
    power: float
    seeds: int
    clips: int

    def __post_init__(self) -> None:
        # a smaller one than any metric is told to would take seeds without number
        if not (math.isfinite(self.difference) and self.difference >= _SMALLEST):
            raise UserError(f"--difference {self.difference:g}: give one above 0, such as .01, in the metric's unit")
        if not 0.5 <= self.power < 1:
            raise UserError(f"--power {self.power:g}: give a chance from .5 to below 1, such as .8")
        if not 1 <= self.clips <= _MOST:
            raise UserError(f"--clips {self.clips}: give how many clips eval has, 1 or more")
        if not 1 <= self.seeds <= _MOST:
            raise UserError(f"--seeds {self.seeds}: give how many seeds there will be, 1 or more")


# --- variances of a pilot


@dataclass(frozen=True)
class Pilot:
    """How differences vary in a pilot: those of pairs that a report compares, and contrasts that a suite declares."""

    pairs: tuple[Spread, ...]
    contrasts: tuple[Spread, ...]
    # of other contrasts, by name, why the pilot does not tell
    lacks: Mapping[str, str]


def weigh_pilot(
    pilot: Results,
    contrasts: Sequence[PlannedContrast],
    sampling: Sampling,
    clips: int | None = None,
    progress: Progress = lambda *_: None,
) -> Pilot:
    """Return how differences in the primary metric vary in a pilot, whose systems share three seeds or more.

    Pairs are those of systems that are no ablations, and ablations with their bases. Variances are those at `clips`
    eval clips; None stands for the pilot's own number. Raises UserError where no two systems share three seeds.
    """
    labels, name = pilot.labels, pilot.task.primary.name
    if not pilot.mixed:
        check_data(pilot.systems, labels, pilot.folder.labels_file)
    couples = [couple for couple in comparisons(pilot.systems) if _shared(*couple) >= SHARED_SEEDS_NEEDED]
    if not couples:
        raise UserError(f"--pilot {pilot.folder.path}: {_too_few(pilot.systems)}")
    chosen = {system.label: system for couple in couples for system in couple}
    statistics = {label: only(name, system.statistics(labels)) for label, system in chosen.items()}
    found = bootstrap(statistics, sampling.resampler(labels), progress)
    share = len(labels.clips) / clips if clips else 1.0
    pairs = [
        Spread.of(f"{a.label} - {b.label}", _together(found[a.label][name], found[b.label][name]), share)
        for a, b in couples
    ]
    weighed, lacks = [], {}
    for each in weigh(contrasts, list(chosen.values()), found):
        if each.estimate is None or each.shared_seeds < SHARED_SEEDS_NEEDED:
            lacks[each.planned.name] = each.lacks or f"{', '.join(each.weights)} share {each.shared_seeds} seeds"
        else:
            weighed.append(Spread.of(each.planned.name, each.estimate, share))
    return Pilot(tuple(pairs), tuple(weighed), lacks)


def comparisons(systems: Sequence[System]) -> list[tuple[System, System]]:
    """Return the pairs of systems that a report compares."""
    pairs = list(itertools.combinations(no_ablations(systems), 2))
    return pairs + [(system, base) for system in systems for base in systems if base.name == system.spec.base]


def _shared(a: System, b: System) -> int:
    return len(set.intersection(*({run.record.spec.seed for run in system.runs} for system in (a, b))))


def _too_few(systems: Sequence[System]) -> str:
    remedy = "--seeds 3 or more, or state --seed-sd, --clip-sd and --clips instead"
    if len(systems) < 2:
        return f"has one system, {systems[0].label}, and nothing to compare it with: run a second one, with {remedy}"
    most = max((_shared(a, b) for a, b in comparisons(systems)), default=0)
    return f"no two systems share {SHARED_SEEDS_NEEDED} seeds (the most is {most}): run them with {remedy}"


def _together(a: Estimate, b: Estimate) -> Estimate:
    """Return a - b, seed by seed, of two that share seeds."""
    found = contrast([(1.0, a), (-1.0, b)])
    assert found is not None
    return found


# --- answers


def answers(spread: Spread, question: Question, level: float = LEVEL) -> Record:
    """Return what a difference that varies like this needs to be found, at a level of p; None where nothing suffices.

    The fields are `seed_sd` and `clip_sd`; `power`, of the question's own number of seeds; `seeds_needed`, at its
    number of clips, and `seeds_needed_cautious`, where the variance of seeds is as high as it may be, with a confidence
    of 80% (None for a stated one); `smallest_3` and so on, the smallest difference that so many seeds find; and
    `clips_needed`, with its number of seeds.
    """
    wanted, varies = question.difference, (spread.seed_variance, spread.clip_variance)
    how = (question.power, level)
    enough = question.seeds >= SHARED_SEEDS_NEEDED
    cautious = None
    if spread.upper is not None:
        cautious = planning.seeds_needed(wanted, spread.upper, spread.clip_variance, *how)
    return {
        "seed_sd": math.sqrt(spread.seed_variance),
        "clip_sd": math.sqrt(spread.clip_variance),
        "power": float(planning.power(wanted, *varies, question.seeds, level)) if enough else None,
        "seeds_needed": planning.seeds_needed(wanted, *varies, *how),
        "seeds_needed_cautious": cautious,
        **{f"smallest_{n}": planning.smallest_difference(*varies, n, *how) for n in SEEDS},
        "clips_needed": _clips_needed(spread, question, level) if enough else None,
    }


def _clips_needed(spread: Spread, question: Question, level: float) -> int | None:
    return planning.clips_needed(
        question.difference, spread.seed_variance, spread.clip_variance, question.clips, question.seeds,
        question.power, level, spread.interaction,
    )  # fmt: skip


# --- hours


def training_hours(pilot: Results, recipes: Mapping[str, tuple[str, Recipe]]) -> tuple[float, list[str]]:
    """Return hours of training of one seed of every entry, and which entries the pilot has no run of.

    Args:
        pilot: An entry's time is that of the pilot's system of its name, or else of its architecture.
        recipes: By entry, its architecture and its recipe. Time is taken to be in proportion to the sound that is
            trained on: steps, chunks a step and seconds a chunk.
    """
    seconds, missing = 0.0, []
    for name, (architecture, recipe) in recipes.items():
        system = _system_of(pilot, name, architecture)
        if system is None:
            missing.append(name)
        else:
            # of the fastest seed: the others were disturbed
            seconds += training_seconds(system)[0] * _sound(recipe) / _sound(system.spec.recipe)
    return seconds / 3600, missing


def _system_of(pilot: Results, name: str, architecture: str) -> System | None:
    named = [system for system in pilot.systems if system.name == name]
    same = [system for system in pilot.systems if system.spec.architecture == architecture]
    return next(iter([*named, *same]), None)


def _sound(recipe: Recipe) -> float:
    return recipe.max_steps * recipe.batch_size * recipe.chunk_seconds


# --- of a report


@dataclass(frozen=True)
class Detectable:
    """The smallest differences that tables could have shown, by the variances that pairs turned out to have."""

    median: float
    low: float
    high: float
    pairs: int


def detectable(analysis: Analysis, power: float = planning.POWER, level: float = LEVEL) -> Detectable | None:
    """Return the smallest true differences of the primary metric that pairs would be called significant for, each by
    itself, with a chance of `power`: of the pairs, ablations and bases included, whose claims generalise. None where
    there are none.
    """
    metric = analysis.primary.name
    estimates = {standing.system.label: standing.estimates[metric] for standing in analysis.standings}
    compared = [(pair.first, pair.second, pair.primary) for pair in analysis.pairs]
    compared += [(ablation.system, ablation.base, ablation.claim) for ablation in analysis.ablations]
    found = []
    for one, other, claim in compared:
        if claim.difference.generalises:
            pair = estimates[one.label], estimates[other.label]
            varies = _paired(*pair) if claim.difference.paired else _independent(*pair)
            found.append(planning.smallest_difference(*varies, power, level))
    return Detectable(float(np.median(found)), min(found), max(found), len(found)) if found else None


def _paired(a: Estimate, b: Estimate) -> tuple[float, float, int]:
    """Return the variances of a difference, of one seed and of clips, and by how many seeds."""
    together = _together(a, b)
    return *planning.variances(together), len(together.seeds)


def _independent(a: Estimate, b: Estimate) -> tuple[float, float, int]:
    """Return the same where the two have other seeds, as many as the one with fewer."""
    seeds = min(len(a.seeds), len(b.seeds))
    clips = nanvar(a.replicates - b.replicates) - a.interaction() - b.interaction()
    return float(a.seed_variance() + b.seed_variance()) * seeds, max(0.0, float(clips)), seeds
