"""The figures of a search, from search.json and trials.csv alone: neither Optuna nor its database is needed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.protocol.task import Metric, get_task
from bench.reporting.figures.style import (
    Figures,
    appearance,
    draw,
    heatmap,
    legend_beside,
    new_figure,
    plain_ticks,
    set_style,
)  # fmt: skip
from bench.reporting.text import figure_text
from bench.store import ResultsFolder

__all__ = ["draw_search"]

Search = Mapping[str, Any]


def draw_search(folder: ResultsFolder) -> dict[str, str]:
    """Draw the figures of the searches, if there were any; return file stem to caption."""
    search = folder.search()
    if search is None:
        return {}
    metric, trials = get_task(search["task"]).primary, folder.trial_lines()
    if trials.empty:
        return {}
    return draw(_FIGURES, folder, search, trials, metric, label=metric.label)


def _best_so_far_of(trials: pd.DataFrame, metric: Metric) -> "pd.Series[float]":
    return (trials["val_score"].cummax() if metric.higher_is_better else trials["val_score"].cummin()).ffill()


def _best_so_far(search: Search, trials: pd.DataFrame, metric: Metric) -> Figure:
    by_trials = "trials" in search["budget"]
    figure, axes = new_figure()
    looks = appearance(trials["entry"].unique())
    for name, of_entry in trials.groupby("entry", sort=False):
        colour, marker = looks[str(name)]
        spent = of_entry["trial"] + 1 if by_trials else of_entry["spent_seconds"] / 3600
        axes.plot(
            spent, _best_so_far_of(of_entry, metric), drawstyle="steps-post", marker=marker,
            markevery=max(1, len(of_entry) // 10), color=colour, label=figure_text(str(name)),
        )  # fmt: skip
    unit = "finished trials" if by_trials else "hours of compute"
    label = f"best val {metric.label} so far"
    axes.set(xlabel=f"{unit} (budget: {search['budget']})", ylabel=label, title=figure_text(search["title"]))
    if by_trials:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_beside(axes)
    return figure


def _search_history(search: Search, trials: pd.DataFrame, metric: Metric) -> Figure:
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


def _search_slices(search: Search, trials: pd.DataFrame, metric: Metric) -> Figure | None:
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
    "best_so_far": (_best_so_far, "The best val {label} so far against the budget: is the ranking settled?"),
    "search_history": (_search_history, "Every trial of every search."),
    "search_importance": (_search_importance, "Which parameter decides, architecture by architecture."),
    "search_slices": (_search_slices, "val {label} against each searched parameter."),
}
