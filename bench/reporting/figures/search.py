"""The figures of a search, from search.json and trials.csv alone: neither Optuna nor its database is needed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.errors import UserError
from bench.reporting.figures.style import appearance, new_figure, save, set_style
from bench.reporting.systems import Search, load_search


def load_trials(folder: Path) -> pd.DataFrame:
    """trials.csv: a line a finished trial. Raises UserError if it is missing or damaged."""
    path = folder / "trials.csv"
    try:
        table = pd.read_csv(path)
        table[["row", "trial", "state", "val_map", "best_seen", "default", "spent_seconds"]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); run the search again") from None
    return table


Draw = Callable[[Search, pd.DataFrame, Path], bool]


def draw_search(folder: Path) -> dict[str, str]:
    """Draw the figures of the searches, if there were any; returns file stem to caption."""
    search = load_search(folder)
    if search is None:
        return {}
    trials = load_trials(folder)
    made = {}
    for name, (draw, caption) in SEARCH_FIGURES.items():
        if draw(search, trials, folder / name):
            made[name] = caption
        else:
            for suffix in (".png", ".svg", ".pdf"):
                (folder / name).with_suffix(suffix).unlink(missing_ok=True)
    return made


def best_so_far(search: Search, trials: pd.DataFrame, path: Path) -> bool:
    """Best val mAP against what was spent, for all: is the ranking settled, or a matter of budget?"""
    by_trials = "trials" in search["budget"]
    figure, axes = new_figure()
    looks = appearance(trials["row"].unique())
    for name, own in trials.groupby("row", sort=False):
        colour, marker = looks[str(name)]
        spent = own["trial"] + 1 if by_trials else own["spent_seconds"] / 3600
        best = own["val_map"].cummax().ffill()
        axes.plot(
            spent, best, drawstyle="steps-post", marker=marker, markevery=max(1, len(own) // 10), color=colour,
            label=str(name),
        )  # fmt: skip
    unit = "finished trials" if by_trials else "hours of compute"
    axes.set(xlabel=f"{unit} (budget: {search['budget']})", ylabel="best val mAP so far", title=search["title"])
    if by_trials:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save(figure, path)
    return True


def search_history(search: Search, trials: pd.DataFrame, path: Path) -> bool:
    """Each trial's val mAP, row by row: complete, pruned (the best that was seen of it), failed."""
    figure, panels = _panels(list(trials["row"].unique()), 2.6)
    for axes, (name, own) in zip(panels, trials.groupby("row", sort=False), strict=True):
        complete, pruned, failed = (own[own["state"] == state] for state in ("complete", "pruned", "failed"))
        axes.scatter(complete["trial"], complete["val_map"], 16, color="#0173b2", label="complete")
        axes.scatter(pruned["trial"], pruned["best_seen"], 16, color="grey", marker="x", label="pruned")
        if len(failed):
            axes.vlines(
                failed["trial"],
                0,
                1,
                color="#d55e00",
                linestyle=":",
                transform=axes.get_xaxis_transform(),
                label="failed",
            )
        axes.plot(own["trial"], own["val_map"].cummax().ffill(), color="#0173b2", linewidth=0.8, drawstyle="steps-post")
        axes.set(title=str(name), xlabel="trial", ylabel="val mAP")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, panels)
    figure.suptitle(f"{search['title']}: {search['budget']} each")
    save(figure, path)
    return True


def search_importance(search: Search, _trials: pd.DataFrame, path: Path) -> bool:
    """Which parameter decides, row by row."""
    table = pd.DataFrame({row["row"]: row["importance"] for row in search["rows"] if row["importance"]})
    if table.empty:
        return False
    table = table.reindex([name for name in search["space"] if name in table.index])
    figure, axes = new_figure(max(5.0, 3 + 0.6 * len(table.columns)), 1.6 + 0.32 * len(table))
    sns.heatmap(table, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, ax=axes, annot_kws={"fontsize": 7},
                cbar_kws={"label": "share of importance"})  # fmt: skip
    axes.set(title=f"{search['title']}: what separates the best trials (PED-ANOVA)", xlabel="", ylabel="")
    axes.tick_params(axis="x", rotation=40)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right")
    save(figure, path)
    return True


def search_slices(search: Search, trials: pd.DataFrame, path: Path) -> bool:
    """val mAP against each parameter alone, all rows in one panel."""
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        return False
    looks = appearance(trials["row"].unique())
    figure, panels = _panels(list(search["space"]), 2.4)
    for axes, (name, dimension) in zip(panels, search["space"].items(), strict=True):
        places = {str(value): place for place, value in enumerate(dimension.get("choices", ()))}
        for row, own in complete.groupby("row", sort=False):
            colour, marker = looks[str(row)]
            x = own[name].map(lambda value, places=places: _place(places, value)) if places else own[name]
            axes.scatter(x, own["val_map"], 12, color=colour, marker=marker, label=str(row))
        if places:
            axes.set_xticks(list(places.values()), list(places), fontsize=7)
            axes.set_xlim(-0.5, len(places) - 0.5)
        elif dimension.get("log"):
            axes.set_xscale("log")
        axes.set(xlabel=name, ylabel="val mAP")
    _legend(figure, panels)
    figure.suptitle(f"{search['title']}: complete trials, {search['budget']} each")
    save(figure, path)
    return True


def _place(places: Mapping[str, int], value: Any) -> int:
    """Of a choice; a CSV's column of numbers may have made 16.0 of 16."""
    return next(place for text, place in places.items() if text == str(value) or _same(text, value))


def _same(text: str, value: Any) -> bool:
    try:
        return float(text) == float(value)
    except ValueError:
        return False


def _panels(names: list[str], height: float) -> tuple[Figure, list[Axes]]:
    """A grid with a panel a name."""
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
    """One for all panels, beside them."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(str(label), handle)
    figure.legend(list(named.values()), list(named), loc="outside right center", frameon=False)


SEARCH_FIGURES: dict[str, tuple[Draw, str]] = {
    "best_so_far": (best_so_far, "The best val mAP so far against the budget: is the ranking settled?"),
    "search_history": (search_history, "Every trial of every search."),
    "search_importance": (search_importance, "Which parameter decides, contestant by contestant."),
    "search_slices": (search_slices, "val mAP against each searched parameter."),
}
