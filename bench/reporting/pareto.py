"""Score against cost: what a system costs, by all of its seeds, and which systems no other is shown to beat."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from bench.reporting.analysis import Analysis
from bench.reporting.systems import System

__all__ = ["COSTS", "Cost", "is_steady", "least", "training_seconds", "unbeaten"]

# by how much the slowest seed may exceed the fastest: beyond, it is the machine that was measured
_STEADY = 1.5


@dataclass(frozen=True)
class Cost:
    """What a front is drawn over: its axis label, and how to read it off a system."""

    axis: str
    # None where it was not measured, or not well enough
    of: Callable[[System], float | None]


def least(system: System, field: str) -> float | None:
    """Return the least of a cost over seeds, since other work on a machine only adds; None where none has it."""
    known = [value for value in system.values("cost", field) if math.isfinite(value)]
    return min(known, default=None)


def training_seconds(system: System) -> tuple[float, float]:
    """Return the seconds of training by the fastest seed and by the slowest, for the steps of a mean seed.

    A seed's seconds themselves, where all take the same number of steps; where training ends early, a seed that ended
    first was not faster.
    """
    steps = fmean(run.record.steps for run in system.runs)
    of_a_step = [run.record.cost["train_seconds"] / max(run.record.steps, 1) for run in system.runs]
    return round(min(of_a_step) * steps, 3), round(max(of_a_step) * steps, 3)


def is_steady(system: System) -> bool:
    """Return whether no seed took more than half as long again as another to train."""
    fastest, slowest = training_seconds(system)
    return slowest <= _STEADY * fastest


def _steady_seconds(system: System) -> float | None:
    return training_seconds(system)[0] if is_steady(system) else None


COSTS = {
    "P": Cost("parameters", partial(least, field="parameters")),
    "M": Cost("multiply-accumulates a second of a 10 s clip", partial(least, field="macs")),
    "T": Cost("seconds of training, fastest seed", _steady_seconds),
}


def unbeaten(analysis: Analysis, cost: Cost) -> set[str]:
    """Return the labels of the systems that no other is shown to beat: none that costs no more is significantly better.

    Of those that are compared with each other and whose cost is known; so an ablation is none of them.
    """
    costs = {standing.system.label: cost.of(standing.system) for standing in analysis.compared}
    known = {label: value for label, value in costs.items() if value is not None}
    beaten = {
        loser
        for winner, loser in _significant(analysis)
        if winner in known and loser in known and known[winner] <= known[loser]
    }
    return known.keys() - beaten


def _significant(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """Yield the labels of two systems of which the first is significantly better."""
    for pair in analysis.pairs:
        if pair.primary.verdict == "significant":
            labels = pair.first.label, pair.second.label
            # by the seeds that both have, which may say otherwise than all
            yield labels if analysis.primary.better(float(pair.primary.difference.value), 0) else labels[::-1]
