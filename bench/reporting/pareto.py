"""Score against cost: which systems nobody beats in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.reporting.systems import System

__all__ = ["COSTS", "Cost", "on_front"]


@dataclass(frozen=True)
class Cost:
    """A field of run.json's cost, and its axis label."""

    field: str
    axis: str

    def of(self, system: System) -> float | None:
        """Return the mean over seeds; None where it was not measured."""
        return system.mean("cost", self.field) if self.field in system.first.cost else None


COSTS = {
    "P": Cost("parameters", "parameters"),
    "M": Cost("macs", "multiply-accumulates a second of sound"),
    "T": Cost("train_seconds", "seconds of training"),
}


def on_front(system: System, systems: Sequence[System], cost: Callable[[System], float | None]) -> bool:
    """Return whether no other system scores at least as much at no more cost (and is better in one of the two)."""
    key, this_cost = system.task.primary.key, cost(system)
    if this_cost is None:
        return False
    this = (this_cost, key(system.score))
    others = [(of_other, key(other.score)) for other in systems if (of_other := cost(other)) is not None]
    return not any(there != this and there[0] <= this[0] and there[1] <= this[1] for there in others)
