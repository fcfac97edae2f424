"""The figures of a search, from search.json, trials.csv and trials.json alone: without Optuna and its database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.protocol.task import Metric, get_task
from bench.reporting.budgets import ORDERS, simulate_budgets
from bench.reporting.figures.panels import End, family_colours, family_title, name_ends, wrapped
from bench.reporting.figures.style import (
    COLUMN,
    FULL,
    GREY,
    INK,
    SMALL,
    Figures,
    Look,
    draw,
    hover,
    looks,
    new_figure,
    plain_ticks,
    set_style,
)
from bench.reporting.text import figure_text
from bench.store import ResultsFolder
from bench.store.files import damaged, write_table
from bench.store.results_folder import SEARCH_REMEDY
from bench.store.search_record import FOR_IMPORTANCE
from bench.text import printable

__all__ = ["draw_search"]

# the least share of orders in which an entry leads that is told of it
_WORTH_NAMING = 0.01
# entries that one panel shows without being a clot
_MOST_ENTRIES = 4
# inches of a panel's height with one, and of a line of a legend
_HEIGHT, _LINE = 1.45, 0.14
_SCORED: dict[str, Any] = {"markersize": 3.2, "markeredgewidth": 0.7, "linestyle": ""}
_PRUNED: dict[str, Any] = {"color": GREY, "marker": "x"}
_FAILED: dict[str, Any] = {"color": INK, "marker": "|"}


@dataclass(frozen=True)
class _Found:
    """What the searches of a folder came to."""

    record: Mapping[str, Any]
    # a line a trial; curves of `simulate_budgets`
    trials: pd.DataFrame
    budgets: pd.DataFrame
    metric: Metric
    # entry to its family, '' where older records lack it
    families: Mapping[str, str]

    @property
    def looks(self) -> dict[str, Look]:
        return looks(self.families)


def draw_search(folder: ResultsFolder) -> dict[str, str]:
    """Draw the figures of the searches, if there were any; return file stem to caption."""
    search = folder.search()
    if search is None:
        return {}
    metric, trials = get_task(search["task"]).primary, folder.trial_lines()
    if trials.empty:
        return {}
    every = folder.trials()
    try:
        budgets = simulate_budgets(every, metric)
    except (KeyError, TypeError, ValueError):
        raise damaged(folder.trials_file, "a trial without spec, val_score or cost", SEARCH_REMEDY) from None
    path = folder.report_file("best_so_far.csv")
    if budgets.empty:
        path.unlink(missing_ok=True)
    else:
        write_table(path, budgets)
    known = {trial["spec"]["name"]: str(trial.get("family", "")) for trial in every}
    families = {str(name): known.get(str(name), "") for name in trials["entry"].unique()}
    words = {"label": metric.label, "leads": _who_leads(budgets), "trials": _count(search, trials, folder)}
    words["colours"] = family_colours(filter(None, families.values())) if any(families.values()) else ""
    return draw(_FIGURES, folder, _Found(search, trials, budgets, metric, families), **words)


def _count(search: Mapping[str, Any], trials: pd.DataFrame, folder: ResultsFolder) -> str:
    """Return what a caption says of trials, budget and data: '64 trials of 8 entries, 8 trials each, on FSD50K'."""
    entries = trials["entry"].nunique()
    of = f"{len(trials):,} trials of {entries} {'entry' if entries == 1 else 'entries'}, {search['budget']} each"
    if not folder.labels_file.exists():
        return of
    labels = folder.labels()
    other = folder.plan().sources.get(labels.dataset, "data other than FSD50K")
    return f"{of}, on {'FSD50K' if labels.is_fsd50k else printable(other)}"


def _best_so_far_of(trials: pd.DataFrame, metric: Metric) -> "pd.Series[float]":
    return (trials["val_score"].cummax() if metric.higher_is_better else trials["val_score"].cummin()).ffill()


def _best_so_far(found: _Found, *, width: float = FULL) -> Figure | None:
    """Draw what the best score would have been after less: its mean over orders of the trials, and where 90% are.

    A row of panels a family where there are many entries, trials to the left, hours to the right; in a column, all
    below each other.
    """
    if found.budgets.empty:
        return None
    is_wide = width > COLUMN
    groups = _by_family(found.families) if len(found.families) > _MOST_ENTRIES else {"": [*found.families]}
    measures = [*found.budgets.groupby("measure", sort=False)]
    kinds = [(title, names, each) for title, names in groups.items() for each in measures]
    figure, panels = _panels(len(kinds), len(measures) if is_wide else 1, width, _HEIGHT, sharex=is_wide)
    for place, (axes, (title, names, (measure, curves))) in enumerate(zip(panels, kinds, strict=True)):
        for name in names:
            _draw_curve(axes, found.looks[name], curves[curves["entry"] == name], name)
        if place % len(measures) == 0:
            axes.set_title(title, loc="left", fontsize=SMALL)
        axes.set_xlabel("finished trials of each" if measure == "trials" else "hours of compute of each")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=measure == "trials"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if not is_wide or place % len(measures) == 0:
            axes.set_ylabel(f"best val {found.metric.label}")
    for place, (axes, (_, names, (_, curves))) in enumerate(zip(panels, kinds, strict=True)):
        if not is_wide or place % len(measures) == len(measures) - 1:
            name_ends(axes, _ends(curves, names))
    return figure


def _draw_curve(axes: Axes, look: Look, curve: pd.DataFrame, name: str) -> None:
    axes.fill_between(curve["spent"], curve["low"], curve["high"], color=look.colour, alpha=0.1, lw=0)
    (line,) = axes.plot(curve["spent"], curve["mean"], markersize=3, markevery=max(1, len(curve) // 6), **look.line)
    hover(line, figure_text(name, 160))


def _ends(curves: pd.DataFrame, names: Iterable[str]) -> list[End]:
    """Return where the curves end that have any point."""
    known = {name: curves[(curves["entry"] == name) & curves["mean"].notna()] for name in names}
    return [
        End(float(curve["spent"].iloc[-1]), float(curve["mean"].iloc[-1]), wrapped(name, 20))
        for name, curve in known.items()
        if len(curve)
    ]


def _by_family(families: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, family in families.items():
        groups.setdefault(family_title(family), []).append(name)
    return groups


def _who_leads(budgets: pd.DataFrame) -> str:
    """Return sentences on which entries lead after half of the budget that all searches had, and after all of it."""
    if budgets.empty:
        return ""
    parts = []
    for measure, curves in budgets.groupby("measure", sort=False):
        spent = sorted(curves["spent"].unique())
        half = spent[(len(spent) - 1) // 2]
        shares = curves[curves["spent"] == half].set_index("entry")["leads"].sort_values(ascending=False, kind="stable")
        leading = [f"{name!s} in {share:.0%}" for name, share in shares.items() if share >= _WORTH_NAMING]
        unit = str(measure).removesuffix("s") if half == 1 else str(measure)
        parts.append(f"after {half:.3g} {unit} {', '.join(leading) or 'none'}")
    return f" Leading, in {ORDERS} random orders of the trials: {'; '.join(parts)}."


def _search_history(found: _Found, *, width: float = FULL) -> Figure:
    """Draw each trial's score, entry by entry: complete, pruned (the best that was seen of it), failed."""
    names = [*found.families]
    columns = 4 if width > COLUMN else 2
    figure, panels = _panels(len(names), min(columns, len(names)), width, 1.15, legend=1)
    for place, (axes, name) in enumerate(zip(panels, names, strict=True)):
        _draw_trials(axes, found, found.trials[found.trials["entry"] == name], found.looks[name])
        axes.set_title(wrapped(name, 26 if columns == 4 else 24, 1), loc="left", fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if place % columns == 0:
            axes.set_ylabel(f"val {found.metric.label}")
        if place >= len(names) - columns:
            axes.set_xlabel("trial")
    kinds = {"complete": {"color": INK, "marker": "o"}, "pruned": _PRUNED, "failed": _FAILED}
    states = set(found.trials["state"])
    handles = [Line2D([], [], label=state, **_SCORED, **look) for state, look in kinds.items() if state in states]
    handles.append(Line2D([], [], color=INK, linewidth=0.8, label="best so far"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1.4, columnspacing=1.2)
    return figure


def _draw_trials(axes: Axes, found: _Found, trials: pd.DataFrame, look: Look) -> None:
    complete, pruned, failed = (trials[trials["state"] == state] for state in ("complete", "pruned", "failed"))
    best = _best_so_far_of(trials, found.metric)
    axes.plot(trials["trial"], best, color=look.colour, linewidth=0.8, drawstyle="steps-post")
    axes.plot(complete["trial"], complete["val_score"], color=look.colour, marker="o", **_SCORED)
    axes.plot(pruned["trial"], pruned["best_seen"], **_SCORED, **_PRUNED)
    # what has no score stands near the axis
    low = [0.04] * len(failed)
    axes.plot(failed["trial"], low, transform=axes.get_xaxis_transform(), **_SCORED, **_FAILED)


def _search_importance(found: _Found, *, width: float = FULL) -> Figure | None:
    """Draw each parameter's share, of the searches that have trials enough; without digits, which would be false."""
    shares = {entry["entry"]: entry["importance"] for entry in found.record["entries"] if _has_importance(entry)}
    names = [name for name in found.record["space"] if any(name in share for share in shares.values())]
    if not names:
        return None
    lines = _legend_lines(len(shares), width)
    figure, axes = new_figure(width, 0.7 + 0.24 * len(names) + _LINE * lines)
    for number, (entry, share) in enumerate(shares.items()):
        look = found.looks[entry]
        places = [
            place + 0.5 * ((number + 0.5) / len(shares) - 0.5) for place, name in enumerate(names) if name in share
        ]
        values = [share[name] for name in names if name in share]
        axes.plot(values, places, markersize=4, linestyle="", **look.point)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5), xlabel="share of importance")
    axes.set_xticks([0, 0.5, 1], ["0", "half", "all"])
    axes.set_yticks(range(len(names)), [figure_text(name.replace("_", " "), 40) for name in names])
    _legend(figure, {entry: found.looks[entry] for entry in shares}, width)
    return figure


def _has_importance(entry: Mapping[str, Any]) -> bool:
    """Return whether a search has a share of each parameter that is more than noise; older records have any."""
    complete = entry["finished"] - entry["pruned"] - entry["failed"]
    return bool(entry["importance"]) and complete >= FOR_IMPORTANCE


def _search_slices(found: _Found, *, width: float = FULL) -> Figure | None:
    complete = found.trials[found.trials["state"] == "complete"]
    if complete.empty:
        return None
    names = list(found.record["space"])
    columns = min(3 if width > COLUMN else 2, len(names))
    figure, panels = _panels(
        len(names), columns, width, 1.3, legend=_legend_lines(len(found.families), width), sharex=False
    )
    for place, (axes, name) in enumerate(zip(panels, names, strict=True)):
        _draw_slice(axes, found, complete, name)
        axes.set_xlabel(figure_text(name.replace("_", " "), 40))
        if place % columns == 0:
            axes.set_ylabel(f"val {found.metric.label}")
    _legend(figure, found.looks, width)
    return figure


def _draw_slice(axes: Axes, found: _Found, complete: pd.DataFrame, name: str) -> None:
    """Draw the complete trials' scores against one parameter: a choice in its place, a number where it is."""
    dimension = found.record["space"][name]
    choices = [str(choice) for choice in dimension.get("choices", ())]
    for number, (entry, look) in enumerate(found.looks.items()):
        of_entry = complete[complete["entry"] == entry]
        if name not in of_entry:
            continue
        aside = 0.5 * ((number + 0.5) / len(found.looks) - 0.5)
        x = [_place(choices, value) + aside for value in of_entry[name]] if choices else of_entry[name]
        size = {"markersize": 3.2 if len(found.looks) <= _MOST_ENTRIES else 2.4}
        axes.plot(x, of_entry["val_score"], alpha=0.75, **_SCORED | size, **look.point)
    if choices:
        axes.set_xticks(range(len(choices)), [figure_text(choice, 12) for choice in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
    elif dimension.get("log"):
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _place(choices: Sequence[str], value: Any) -> int:
    """Return the place of a choice; a CSV's column of numbers may have made 16.0 of 16."""
    if str(value) in choices:
        return choices.index(str(value))
    return pd.to_numeric(pd.Series(choices), errors="coerce").tolist().index(float(value))


def _panels(
    count: int, columns: int, width: float, height: float, *, legend: int = 0, sharex: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels of so many inches' height, with room for a legend of so many lines."""
    set_style()
    rows = -(-count // columns)
    size = (width, 0.15 + rows * (height + 0.35) + _LINE * legend)
    share: Any = "col" if sharex else False
    figure, grid = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=share, sharey=True
    )
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return figure, panels[:count]


def _legend_lines(entries: int, width: float) -> int:
    return -(-entries // _legend_columns(width))


def _legend_columns(width: float) -> int:
    return 4 if width > COLUMN else 2


def _legend(figure: Figure, of_entries: Mapping[str, Look], width: float) -> None:
    """Write below a figure which entry has which look."""
    handles = [
        Line2D([], [], label=figure_text(name, 28), **_SCORED, **look.point) for name, look in of_entries.items()
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=_legend_columns(width), handlelength=1, columnspacing=1
    )


_FIGURES: Figures = {
    "best_so_far": (
        _best_so_far,
        "The best val {label} had each search spent less: mean over random orders of its trials, with the band that "
        "holds 90% of them, of the orders that have a score by then. Searches draw their later trials by the earlier "
        "ones, which orders leave out.{leads} {colours} {trials}.",
    ),
    "search_history": (
        _search_history,
        "val {label} of every trial of every search, and the best so far; of a pruned trial it is the best that was "
        "seen of it. {colours} {trials}.",
    ),
    "search_importance": (
        _search_importance,
        "Which parameters separate the best tenth of a search's complete trials from the others (PED-ANOVA), as shares "
        f"of all; of searches with {FOR_IMPORTANCE} complete trials or more, since the best tenth of fewer is chance. "
        "{colours} {trials}.",
    ),
    "search_slices": (
        _search_slices,
        "val {label} of every complete trial against each searched parameter; choices stand side by side, entry by "
        "entry. {colours} {trials}.",
    ),
}
