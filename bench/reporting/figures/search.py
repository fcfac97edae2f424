"""The figures of a search, from search.json, trials.csv and trials.json alone: without Optuna and its database."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.protocol.task import Metric, get_task
from bench.reporting.budgets import ORDERS, simulate_budgets
from bench.reporting.figures.style import (
    Figures,
    appearance,
    draw,
    heatmap,
    new_figure,
    plain_ticks,
    set_style,
)  # fmt: skip
from bench.reporting.text import figure_text
from bench.store import ResultsFolder
from bench.store.files import damaged, write_table
from bench.store.results_folder import SEARCH_REMEDY

__all__ = ["draw_search"]

Search = Mapping[str, Any]

# the least share of orders in which an entry leads that is told of it
_WORTH_NAMING = 0.01


def draw_search(folder: ResultsFolder) -> dict[str, str]:
    """Draw the figures of the searches, if there were any; return file stem to caption."""
    search = folder.search()
    if search is None:
        return {}
    metric, trials = get_task(search["task"]).primary, folder.trial_lines()
    if trials.empty:
        return {}
    try:
        budgets = simulate_budgets(folder.trials(), metric)
    except (KeyError, TypeError, ValueError):
        raise damaged(folder.trials_file, "a trial without spec, val_score or cost", SEARCH_REMEDY) from None
    path = folder.report_file("best_so_far.csv")
    if budgets.empty:
        path.unlink(missing_ok=True)
    else:
        write_table(path, budgets)
    return draw(_FIGURES, folder, search, trials, metric, budgets, label=metric.label, leads=_who_leads(budgets))


def _best_so_far_of(trials: pd.DataFrame, metric: Metric) -> "pd.Series[float]":
    return (trials["val_score"].cummax() if metric.higher_is_better else trials["val_score"].cummin()).ffill()


def _best_so_far(search: Search, _: pd.DataFrame, metric: Metric, budgets: pd.DataFrame) -> Figure | None:
    """Draw what the best score would have been after less: its mean over orders of the trials, and where 90% are."""
    if budgets.empty:
        return None
    set_style()
    figure, panels = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained", sharey=True)
    looks = appearance(budgets["entry"].unique())
    for axes, (measure, curves) in zip(panels, budgets.groupby("measure", sort=False), strict=True):
        for name, of_entry in curves.groupby("entry", sort=False):
            colour, marker = looks[str(name)]
            axes.fill_between(of_entry["spent"], of_entry["low"], of_entry["high"], color=colour, alpha=0.12, lw=0)
            axes.plot(
                of_entry["spent"], of_entry["mean"], marker=marker, markevery=max(1, len(of_entry) // 8), color=colour,
                label=figure_text(str(name)),
            )  # fmt: skip
        axes.set_xlabel(f"{'finished trials' if measure == 'trials' else 'hours of compute'} of each")
    panels[0].set_ylabel(f"best val {metric.label}")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(figure_text(search["title"]))
    _legend(figure, list(panels))
    return figure


def _who_leads(budgets: pd.DataFrame) -> str:
    """Return which entries would have led after half of the trials, and after half of the hours."""
    if budgets.empty:
        return ""
    parts = []
    for measure, curves in budgets.groupby("measure", sort=False):
        points = sorted(curves["spent"].unique())
        half = points[(len(points) - 1) // 2]
        shares = curves[curves["spent"] == half].set_index("entry")["leads"].sort_values(ascending=False, kind="stable")
        leading = [f"{name!s} in {share:.0%}" for name, share in shares.items() if share >= _WORTH_NAMING]
        unit = str(measure).removesuffix("s") if half == 1 else str(measure)
        parts.append(f"after {half:.3g} {unit} {', '.join(leading) or 'none'}")
    return f" Leading, in {ORDERS} random orders of the trials: {'; '.join(parts)}."


def _search_history(search: Search, trials: pd.DataFrame, metric: Metric, _: pd.DataFrame) -> Figure:
    """Draw each trial's score, entry by entry: complete, pruned (the best that was seen of it), failed."""
    figure, panels = _panels(list(trials["entry"].unique()), 2.6)
    for axes, (name, of_entry) in zip(panels, trials.groupby("entry", sort=False), strict=True):
        complete, pruned, failed = (of_entry[of_entry["state"] == state] for state in ("complete", "pruned", "failed"))
        axes.scatter(complete["trial"], complete["val_score"], 16, color="#0173b2", label="complete")
        axes.scatter(pruned["trial"], pruned["best_seen"], 16, color="grey", marker="x", label="pruned")
        if len(failed):
            height = axes.get_xaxis_transform()
            axes.vlines(failed["trial"], 0, 1, color="#d55e00", linestyle=":", transform=height, label="failed")
        best = _best_so_far_of(of_entry, metric)
        axes.plot(of_entry["trial"], best, color="#0173b2", linewidth=0.8, drawstyle="steps-post")
        axes.set(title=figure_text(str(name)), xlabel="trial", ylabel=f"val {metric.label}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, panels)
    figure.suptitle(f"{figure_text(search['title'])}: {search['budget']} each")
    return figure


def _search_importance(search: Search, *_: object) -> Figure | None:
    table = pd.DataFrame(
        {figure_text(entry["entry"]): entry["importance"] for entry in search["entries"] if entry["importance"]}
    )
    if table.empty:
        return None
    table = table.reindex([name for name in search["space"] if name in table.index])
    figure, axes = new_figure(max(5.0, 3 + 0.6 * len(table.columns)), 1.6 + 0.32 * len(table))
    heatmap(axes, table, "share of importance", annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1)
    axes.set(title=f"{figure_text(search['title'])}: what separates the best trials (PED-ANOVA)", xlabel="", ylabel="")
    return figure


def _search_slices(search: Search, trials: pd.DataFrame, metric: Metric, _: pd.DataFrame) -> Figure | None:
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return None
    looks = appearance(trials["entry"].unique())
    figure, panels = _panels(list(search["space"]), 2.4)
    for axes, (name, dimension) in zip(panels, search["space"].items(), strict=True):
        choices = [str(choice) for choice in dimension.get("choices", ())]
        for entry, of_entry in complete.groupby("entry", sort=False):
            if name not in of_entry:
                continue
            colour, marker = looks[str(entry)]
            x = [_place(choices, value) for value in of_entry[name]] if choices else of_entry[name]
            axes.scatter(x, of_entry["val_score"], 12, color=colour, marker=marker, label=figure_text(str(entry)))
        if choices:
            axes.set_xticks(range(len(choices)), [*map(figure_text, choices)], fontsize=7)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif dimension.get("log"):
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
        axes.set(xlabel=name, ylabel=f"val {metric.label}")
    _legend(figure, panels)
    figure.suptitle(f"{figure_text(search['title'])}: complete trials, {search['budget']} each")
    return figure


def _place(choices: list[str], value: Any) -> int:
    """Return the place of a choice; a CSV's column of numbers may have made 16.0 of 16."""
    if str(value) in choices:
        return choices.index(str(value))
    return pd.to_numeric(pd.Series(choices), errors="coerce").tolist().index(float(value))


def _panels(names: list[str], height: float) -> tuple[Figure, list[Axes]]:
    set_style()
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    size = (max(4.5, 2.9 * columns), height * lines + 0.4)
    figure, grid = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
    panels = list(grid.flat)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure, panels[: len(names)]


def _legend(figure: Figure, panels: list[Axes]) -> None:
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(str(label), handle)
    figure.legend(list(named.values()), list(named), loc="outside right center", frameon=False)


_FIGURES: Figures = {
    "best_so_far": (
        _best_so_far,
        "The best val {label} had each search spent less: mean over random orders of its trials, with the band that "
        "holds 90% of them, of the orders that have a score by then. Searches draw their later trials by the earlier "
        "ones, which orders leave out.{leads}",
    ),
    "search_history": (_search_history, "Every trial of every search."),
    "search_importance": (_search_importance, "Which parameter decides, architecture by architecture."),
    "search_slices": (_search_slices, "val {label} against each searched parameter."),
}
