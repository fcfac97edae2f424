"""A suite's grid: which systems are its points, and whether the ranking of entries hangs on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.reporting.systems import Results, System, ranked_on_val
from bench.suites.grid import field_of, point_of, value_text
from bench.text import printable

__all__ = ["GridPoint", "GridRanking", "grid_points", "grid_ranking", "shown", "varied"]


@dataclass(frozen=True)
class GridPoint:
    """A system that is an entry at one combination of a grid's values."""

    # as the suite declares it; where one was run with several settings, with those in brackets
    entry: str
    # by field, as train.learning_rate
    settings: Mapping[str, Any]
    system: System


@dataclass(frozen=True)
class GridRanking:
    """How entries rank at the combinations of a grid, by the primary metric on eval."""

    # what was varied
    fields: tuple[str, ...]
    # a combination, as `shown`, to the entries that are best there on val, in the grid's order
    best: Mapping[str, tuple[str, ...]]
    # a combination that has all entries to the one that leads there on eval, or those that share the lead
    leaders: Mapping[str, str]
    # Kendall's tau between the rankings of every two combinations that share two entries or more, ascending
    agreement: tuple[float, ...]
    entries: int


def grid_points(results: Results) -> list[GridPoint]:
    """Return the systems that the plan's grid has made of entries, in the grid's order, and the suite's."""
    grid, found = results.grid, []
    for system in results.systems if grid else ():
        if point := point_of(system.name, grid):
            entry, values = point
            others = system.label.removeprefix(printable(system.name))
            found.append(GridPoint(f"{printable(entry)}{others}", values, system))
    return sorted(found, key=lambda point: [grid[name].index(value) for name, value in point.settings.items()])


def varied(points: Sequence[GridPoint]) -> list[str]:
    """Return the fields of which these points have more than one value."""
    fields = points[0].settings if points else ()
    return [field for field in fields if len({value_text(point.settings[field]) for point in points}) > 1]


def shown(point: GridPoint, fields: Sequence[str]) -> str:
    """Return a point's values of some fields as text: 0.001, or of several front_end=log_mel, input_level=raw."""
    texts = {field_of(field): printable(value_text(point.settings[field])) for field in fields}
    return ", ".join(texts.values() if len(texts) == 1 else (f"{name}={text}" for name, text in texts.items()))


def grid_ranking(results: Results) -> GridRanking | None:
    """Return how the entries rank at each point; None where no field has two values."""
    points = grid_points(results)
    if not (fields := varied(points)):
        return None
    of_entries: dict[str, list[GridPoint]] = {}
    for point in points:
        of_entries.setdefault(point.entry, []).append(point)
    best: dict[str, list[str]] = {shown(point, fields): [] for point in points}
    for entry, of_entry in of_entries.items():
        first = ranked_on_val([point.system for point in of_entry])[0]
        best[next(shown(point, fields) for point in of_entry if point.system is first)].append(entry)
    # sorted by, so that the best comes first whichever way the metric is
    keys = pd.DataFrame(index=list(of_entries), columns=list(best), dtype=float)
    for point in points:
        keys.loc[point.entry, shown(point, fields)] = results.task.primary.key(point.system.score)
    complete = keys.dropna(axis="columns")
    leaders = {str(text): " and ".join(keys.index[scores == scores.min()]) for text, scores in complete.items()}
    taus = keys.corr(method="kendall", min_periods=2).to_numpy()[np.triu_indices(len(keys.columns), 1)]
    agreement = tuple(sorted(float(tau) for tau in taus if np.isfinite(tau)))
    known = {text: tuple(entries) for text, entries in best.items() if entries}
    return GridRanking(tuple(fields), known, leaders, agreement, len(of_entries))
