"""The tables of floors: what predictors that learn nothing come to, and by how much each system is better."""

import math
from typing import Any

from bench.reporting.analysis import Analysis, OverFloor
from bench.reporting.tables.table import Table, claimed, difference, heading, number, words

__all__ = ["floor_table", "over_floor_table"]


def floor_table(analysis: Analysis) -> Table:
    """Return a line a floor, best first, with the metrics that any of them has."""
    task = analysis.results.task
    shown = [m for m in task.metrics if any(math.isfinite(floor.scores[m.name]) for floor in analysis.floors)]
    columns = (
        words("floor"),
        *(number(heading(metric, task), metric.name) for metric in shown),
        words("what it predicts", "prediction"),
    )
    records = tuple(
        {"floor": floor.name, "prediction": floor.prediction, **{m.name: floor.scores[m.name] for m in shown}}
        for floor in analysis.floors
    )
    return Table("floors", "Floors, which learn nothing", columns, records)


def over_floor_table(analysis: Analysis) -> Table:
    """Return a line a system, best first: its primary metric less the best floor's, p corrected over the systems."""
    best, primary = analysis.best_floor.name, analysis.primary
    columns = (
        words("entry"),
        number(heading(primary, analysis.results.task), primary.name),
        # without its last column: a floor has no seeds to pair
        *difference(f"entry - {best}", margin=analysis.margin)[:-1],
        words("beats it", "beats_floor"),
    )
    records = tuple(_record(each, best) for each in analysis.over_floor)
    return Table("over_floor", f"Against {best}, the best floor", columns, records)


def _record(each: OverFloor, floor: str) -> dict[str, Any]:
    primary = each.system.task.primary.name
    return {
        "entry": each.system.label,
        "floor": floor,
        primary: each.system.score,
        **claimed(each.claim),
        "generalises_to": each.claim.difference.scope,
        "beats_floor": each.beats,
    }
