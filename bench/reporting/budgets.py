"""Which architecture would lead had a search spent less: its trials counted again, in many other orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.protocol.task import Metric

__all__ = ["ORDERS", "simulate_budgets"]

# random orders of an entry's trials, which one seed draws
ORDERS = 400
_SEED = 0
# points of a curve over hours
_POINTS = 100

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Trials:
    """One entry's trials in every order, (orders, trials): the best score so far, and the hours spent by then."""

    best: Array
    hours: Array

    def after_hours(self, hours: Array) -> Array:
        """Return the best score (orders, points) of what had ended by then; NaN where nothing had scored."""
        ended = np.stack([np.searchsorted(spent, hours, side="right") for spent in self.hours])
        none = np.full((len(self.best), 1), np.nan)
        return np.take_along_axis(np.hstack([none, self.best]), ended, axis=1)


def simulate_budgets(trials: Sequence[Mapping[str, Any]], metric: Metric) -> pd.DataFrame:
    """Return what the best val score of each entry would have been after fewer trials, and after fewer hours.

    An entry's trials come in random orders; those that were pruned or failed have no score, but take their place and
    their time. As far as every entry's search went; a row an entry, `measure` (trials, hours) and `spent`: the `mean`
    over orders, `low` and `high` (5 and 95%), and in which share of orders the entry `leads`. No row where no trial has
    a score.
    """
    by_entry: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        # what chose among finalists is no part of a budget
        if "retrains" not in trial:
            by_entry.setdefault(trial["spec"]["name"], []).append(trial)
    random = np.random.default_rng(_SEED)
    shuffled = {name: _shuffled(of_entry, metric, random) for name, of_entry in by_entry.items()}
    if not any(np.isfinite(each.best).any() for each in shuffled.values()):
        return pd.DataFrame()
    counts = np.arange(1, 1 + min(each.best.shape[1] for each in shuffled.values()))
    hours = np.linspace(0, min(float(each.hours[0, -1]) for each in shuffled.values()), 1 + _POINTS)[1:]
    by_trials = {name: each.best[:, : len(counts)] for name, each in shuffled.items()}
    by_hours = {name: each.after_hours(hours) for name, each in shuffled.items()}
    return pd.concat([_curves("trials", counts, by_trials, metric), _curves("hours", hours, by_hours, metric)])


def _shuffled(trials: Sequence[Mapping[str, Any]], metric: Metric, random: np.random.Generator) -> _Trials:
    scores = np.array([np.nan if trial["val_score"] is None else trial["val_score"] for trial in trials], float)
    hours = np.array([trial["cost"]["seconds"] for trial in trials], float) / 3600
    orders = random.permuted(np.tile(np.arange(len(trials)), (ORDERS, 1)), axis=1)
    better = np.fmax if metric.higher_is_better else np.fmin
    # of the same hours in another order the sum is the same, but for its last digits
    spent = np.minimum(hours[orders].cumsum(axis=1), hours.sum())
    spent[:, -1] = hours.sum()
    return _Trials(better.accumulate(scores[orders], axis=1), spent)


def _curves(measure: str, spent: npt.NDArray[Any], best: Mapping[str, Array], metric: Metric) -> pd.DataFrame:
    every = np.stack(list(best.values()))  # (entries, orders, points)
    worst = -np.inf if metric.higher_is_better else np.inf
    known = np.where(np.isnan(every), worst, every)
    # equal ones share the lead; nobody has it before there is a score
    leading = (known == (known.max(axis=0) if metric.higher_is_better else known.min(axis=0))) & np.isfinite(known)
    leads = (leading / np.maximum(leading.sum(axis=0), 1)).mean(axis=1)  # (entries, points)
    tables = list[pd.DataFrame]()
    for place, name in enumerate(best):
        curves = pd.DataFrame(every[place])
        # without the orders that had no score by then
        columns = {"mean": curves.mean(), "low": curves.quantile(0.05), "high": curves.quantile(0.95)}
        values = {"entry": name, "measure": measure, "spent": spent, **columns, "leads": leads[place]}
        tables.append(pd.DataFrame(values))
    return pd.concat(tables)
