"""Score against cost: which rows nobody beats in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.reporting.systems import Row


@dataclass(frozen=True)
class Cost:
    field: str  # of run.json's cost
    axis: str

    def of(self, row: Row) -> float | None:
        return row.mean("cost", self.field) if self.field in row.first["cost"] else None


COSTS = {
    "P": Cost("parameters", "parameters"),
    "M": Cost("macs", "multiply-accumulates a second of sound"),
    "T": Cost("train_seconds", "seconds of training"),
}


def on_front(row: Row, rows: Sequence[Row], cost: Callable[[Row], float | None]) -> bool:
    """Whether no other row scores at least as much at no more cost (and is better in one of the two)."""
    own_cost, own_map = cost(row), row.mean("metrics", "map")
    if own_cost is None:
        return False
    for other in rows:
        other_cost, other_map = cost(other), other.mean("metrics", "map")
        if other_cost is None or other is row:
            continue
        if other_cost <= own_cost and other_map >= own_map and (other_cost < own_cost or other_map > own_map):
            return False
    return True
