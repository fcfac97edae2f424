"""Score against cost: what a system costs, by all of its seeds, and which systems no other is shown to beat."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from bench.protocol.task import Metric
from bench.reporting.analysis import Analysis
from bench.reporting.systems import System

__all__ = [
    "COSTS",
    "MEASURED",
    "Cost",
    "can_be_beaten",
    "is_steady",
    "leading",
    "least",
    "training_seconds",
    "unbeaten",
]

# by how much the slowest seed may exceed the fastest: beyond, it is the machine that was measured
_STEADY = 1.5


@dataclass(frozen=True)
class Cost:
    """What a front is drawn over: how it is called, its unit on an axis, and how to read it off a system."""

    name: str
    # None where it was not measured, or not well enough
    of: Callable[[System], float | None]
    unit: str = ""
    # of a record's value, which gives it in that unit
    scale: float = 1.0
    # whether it is the machine's as much as the system's
    is_measured: bool = False

    @property
    def axis(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


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


# by the letters of the cost table
COSTS = {
    "P": Cost("parameters", partial(least, field="parameters")),
    "M": Cost("multiply-accumulates per second of a 10 s clip", partial(least, field="macs")),
    "T": Cost("training time, fastest seed", _steady_seconds, "s", is_measured=True),
}
# others that are drawn, without a letter
MEASURED = {
    "latency": Cost("latency of a 10 s clip", partial(least, field="latency_seconds"), "ms", 1e3, is_measured=True),
    "field": Cost("receptive field", partial(least, field="receptive_field")),
    "memory": Cost("memory of a training step", partial(least, field="train_memory_bytes"), "MiB", 2**-20),
}


def leading(costs: Mapping[str, float], scores: Mapping[str, float], metric: Metric) -> list[str]:
    """Return which of some names, the cheapest first, score better than all that cost less or as much."""
    led: list[str] = []
    for name in sorted(costs, key=lambda name: (costs[name], metric.key(scores[name]))):
        if not led or metric.better(scores[name], scores[led[-1]]):
            led.append(name)
    return led


def can_be_beaten(analysis: Analysis) -> bool:
    """Return whether anything can be shown at all: with few seeds, no claim is about architectures."""
    return any(pair.primary.difference.generalises for pair in analysis.pairs)


def unbeaten(analysis: Analysis, cost: Cost, metric: Metric | None = None) -> set[str]:
    """Return the labels of the systems that no other is shown to beat: none that costs no more is significantly better.

    Of those that are compared with each other and whose cost is known; so an ablation is none of them. Better is in the
    primary metric unless another is given.
    """
    costs = {standing.system.label: cost.of(standing.system) for standing in analysis.compared}
    known = {label: value for label, value in costs.items() if value is not None}
    beaten = {
        loser
        for winner, loser in _significant(analysis, metric or analysis.primary)
        if winner in known and loser in known and known[winner] <= known[loser]
    }
    return known.keys() - beaten


def _significant(analysis: Analysis, metric: Metric) -> Iterator[tuple[str, str]]:
    """Yield the labels of two systems of which the first is significantly better."""
    for pair in analysis.pairs:
        if pair.claims[metric.name].verdict == "significant":
            labels = pair.first.label, pair.second.label
            # by the seeds that both have, which may say otherwise than all
            value = float(pair.claims[metric.name].difference.value)
            yield labels if metric.better(value, 0) else labels[::-1]
