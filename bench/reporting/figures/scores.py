"""The figures of a report; each is one function."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.reporting.analysis import Analysis, Standing
from bench.reporting.figures.style import Figures, appearance, draw, heatmap, legend_beside, log_x, new_figure
from bench.reporting.pareto import COSTS, Cost, unbeaten
from bench.reporting.tables.table import CLAIMED
from bench.reporting.text import figure_text

__all__ = ["draw_scores"]

_REFERENCES = Path(__file__).with_name("references.csv")
# more names than this would hide each other
_NAMED_CLASSES = 14
_EDGE: dict[str, Any] = {"markersize": 8, "markeredgecolor": "black", "markeredgewidth": 1.2, "ls": "", "zorder": 3}
_BEATEN = _EDGE | {"markeredgewidth": 0, "alpha": 0.5}
_LEADER = {"arrowstyle": "-", "linewidth": 0.4, "color": "grey", "shrinkB": 3, "zorder": 0}


def draw_scores(analysis: Analysis) -> dict[str, str]:
    """Draw every figure that these results allow; return file stem to caption."""
    metric = analysis.results.task.class_metric
    words = {"metric": analysis.primary.label, "class_metric": metric.label if metric else ""}
    return draw(_FIGURES, analysis.results.folder, analysis, **words)


def _map_vs(cost: Cost, analysis: Analysis, *, published: bool = False) -> Figure | None:
    compared, primary = {standing.system.label: standing for standing in analysis.compared}, analysis.primary
    # where 0 has no logarithm
    known = {label: value for label, standing in compared.items() if (value := cost.of(standing.system))}
    if not known:
        return None
    shown = [compared[label] for label in known]
    systems = [standing.system for standing in shown]
    figure, axes = new_figure(height=5.0 if published else 4.2)
    looks, front = appearance(system.name for system in systems), unbeaten(analysis, cost)
    places = _side_by_side(list(known.values()))
    for standing, x in zip(shown, places, strict=True):
        system = standing.system
        colour, marker = looks[system.name]
        if ends := _ends(standing, primary.name):
            axes.plot([x, x], ends, "-_", color=colour, linewidth=1.2, zorder=2)
        edge = _EDGE if system.label in front else _BEATEN
        axes.plot(x, system.score, marker, color=colour, label=figure_text(system.label), **edge)
        if published and system.published and system.published.get("parameters"):
            axes.plot(system.published["parameters"], system.published[primary.name], marker, **_hollow(colour))
    if published and analysis.results.task.name == "tagging":
        _references(axes)
    for floor, value in analysis.results.floors.items():
        axes.axhline(value, color="grey", linestyle=":", label=floor)
    bars = "95% interval" if analysis.standings[0].intervals else "standard deviation of seeds"
    axes.set(xlabel=cost.axis, ylabel=f"{primary.label} on eval, {bars}", title=figure_text(analysis.results.title))
    axes.set_ylim(bottom=0)
    log_x(axes, 1, 3)
    handles, _ = axes.get_legend_handles_labels()
    handles.append(Line2D([], [], marker="o", color="silver", label="edged: not shown to be beaten", **_EDGE))
    left_out = [label for label in compared if label not in known]
    handles += [Line2D([], [], linestyle="", label=f"not drawn: {figure_text(label)}") for label in left_out]
    if published and any(system.published for system in systems):
        handles.append(Line2D([], [], marker="o", linestyle="", label="hollow: published, FSD50K", **_hollow("black")))
    legend_beside(axes, handles=handles)
    return figure


def _ends(standing: Standing, metric: str) -> list[float] | None:
    """Return the ends of a system's bar: of its interval, or as far as seeds spread; None for a single seed."""
    if standing.intervals:
        return [float(standing.intervals[metric].low), float(standing.intervals[metric].high)]
    mean, spread = standing.system.score, standing.system.spread("metrics", metric)
    return None if spread is None else [mean - spread, mean + spread]


def _hollow(colour: object) -> dict[str, Any]:
    return {"markersize": 8, "markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.3}


def _side_by_side(values: Sequence[float]) -> list[float]:
    """Return places along x; systems of the same cost stand next to each other, a little apart."""
    places = []
    for i, value in enumerate(values):
        same = [j for j, other in enumerate(values) if abs(np.log(other / value)) < 0.01]
        places.append(value * 1.06 ** (same.index(i) - (len(same) - 1) / 2))
    return places


def _references(axes: Axes) -> None:
    table = pd.read_csv(_REFERENCES, comment="#")
    for _, group in table.groupby(table["map"].round(2)):
        height = group["map"].mean()
        names = ", ".join(f"{name} {value:.3f}" for name, value in zip(group["name"], group["map"], strict=True))
        axes.axhline(height, color="grey", linewidth=0.6, zorder=0)
        text = f"FSD50K: {names} ({group['training'].iloc[0]})"
        place = (0.005, height)
        axes.annotate(text, place, xycoords=("axes fraction", "data"), fontsize=5.5, color="dimgrey", va="bottom")


def _learning_curves(analysis: Analysis) -> Figure:
    figure, axes = new_figure()
    looks = appearance(standing.system.name for standing in analysis.compared)
    for system in (standing.system for standing in analysis.compared):
        colour, marker = looks[system.name]
        histories = pd.concat([run.folder.history() for run in system.runs])
        curves = histories.groupby("step")["val_score"].agg(["mean", "min", "max"])
        every = max(1, len(curves) // 10)
        axes.plot(
            curves.index, curves["mean"], marker=marker, markevery=every, color=colour, label=figure_text(system.label)
        )
        axes.fill_between(curves.index, curves["min"], curves["max"], color=colour, alpha=0.15, linewidth=0)
    label = f"{analysis.primary.label} on val, mean and range of seeds"
    axes.set(xlabel="steps", ylabel=label, title=figure_text(analysis.results.title), ylim=(0, None))
    legend_beside(axes)
    return figure


def _wins(analysis: Analysis) -> Figure | None:
    if not analysis.pairs:
        return None
    names = [standing.system.label for standing in analysis.compared]
    matrix = np.full((len(names), len(names)), np.nan)
    text = np.full(matrix.shape, "", dtype=object)
    for pair in analysis.pairs:
        i, j = names.index(pair.first.label), names.index(pair.second.label)
        difference = float(pair.primary.difference.value)
        mark = {"significant": "*", "undecided": "?", "checkpoints differ": "c"}.get(pair.primary.verdict, "")
        matrix[i, j], matrix[j, i] = difference, -difference
        text[i, j], text[j, i] = f"{difference:+.3f}{mark}", f"{-difference:+.3f}{mark}"
    figure, axes = new_figure(max(5.0, 2.6 + 0.75 * len(names)), max(3.2, 1.8 + 0.45 * len(names)))
    limit, shown = np.nanmax(np.abs(matrix)) or 1.0, [*map(figure_text, names)]
    heatmap(
        axes, matrix, f"row - column, {analysis.primary.label}", annot=text, fmt="", cmap="PuOr", center=0,
        vmin=-limit, vmax=limit, linewidths=0.5, xticklabels=shown, yticklabels=shown,
    )  # fmt: skip
    legend = "* significant (p of .05 or less, Holm), ? undecided, c checkpoints only"
    axes.set_title(f"{figure_text(analysis.results.title)}: {legend}")
    return figure


def _class_ap(analysis: Analysis) -> Figure | None:
    classes = analysis.classes
    if classes is None:
        return None
    metric = classes.metric
    table = classes.table.assign(differs=classes.table["verdict"].isin(CLAIMED))
    figure, axes = new_figure(7.6, 5.6)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    size = 8 + 30 * np.sqrt(table["eval_clips"] / table["eval_clips"].max())
    for differs, face in ((False, "none"), (True, "#0173b2")):
        chosen = table["differs"] == differs
        part = table[chosen]
        label = f"{len(part)} classes {'that differ' if differs else 'without a significant difference'}"
        look: dict[str, Any] = {"facecolors": face, "edgecolors": "black", "linewidths": 0.6}
        axes.scatter(part["second"], part["first"], size[chosen], label=label, **look)
    named = table[table["differs"]].assign(size=lambda t: t["difference"].abs()).nlargest(_NAMED_CLASSES, "size")
    _name_points(axes, named)
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=f"{metric.label} of {figure_text(classes.second.label)}",
        ylabel=f"{metric.label} of {figure_text(classes.first.label)}",
        title=f"{figure_text(analysis.results.title)}: {metric.label} class by class (area: eval clips)",
    )  # fmt: skip
    axes.legend(loc="lower right")
    return figure


def _name_points(axes: Axes, named: pd.DataFrame) -> None:
    """Write names in a column beside the plot, in the order of their points, each joined to its own."""
    for place, line in enumerate(named.sort_values(["first", "second"], ascending=False).to_dict("records")):
        axes.annotate(
            figure_text(str(line["class"]).replace("_", " ")), (line["second"], line["first"]),
            (1.03, 0.98 - 0.05 * place), textcoords=("axes fraction", "axes fraction"), fontsize=7, ha="left",
            va="center", arrowprops=_LEADER,
        )  # fmt: skip


def _class_ap_vs_clips(analysis: Analysis) -> Figure | None:
    labels, metric = analysis.results.labels, analysis.results.task.class_metric
    has = labels.targets.any(axis=0) & (labels.train_counts > 0)
    counts = labels.train_counts[has]
    if metric is None or len(np.unique(counts)) < 3:
        return None
    bins = np.array_split(np.argsort(counts, kind="stable"), min(8, len(counts) // 3) or 1)
    x = [np.exp(np.log(counts[chosen]).mean()) for chosen in bins]
    figure, axes = new_figure()
    looks = appearance(standing.system.name for standing in analysis.compared)
    for standing in analysis.compared:
        colour, marker = looks[standing.system.name]
        values = standing.estimates[metric.name].value[has]
        means = [values[chosen].mean() for chosen in bins]
        axes.plot(x, means, marker=marker, color=colour, label=figure_text(standing.system.label))
    axes.set(
        xlabel="training clips of a class (geometric mean of a bin)", ylabel=f"mean {metric.label} of the bin",
        title=f"{figure_text(analysis.results.title)}: {len(bins)} bins of {len(bins[-1])} to {len(bins[0])} classes",
        ylim=(0, None),
    )  # fmt: skip
    log_x(axes, 1, 2, 5)
    legend_beside(axes)
    return figure


_FIGURES: Figures = {
    "map_vs_parameters": (
        partial(_map_vs, COSTS["P"], published=True),
        "{metric} against parameters. Systems of one size stand side by side.",
    ),
    "map_vs_macs": (partial(_map_vs, COSTS["M"]), "{metric} against multiply-accumulates."),
    "map_vs_train_seconds": (partial(_map_vs, COSTS["T"]), "{metric} against training time."),
    "learning_curves": (_learning_curves, "{metric} on val while training."),
    "wins": (_wins, "Differences in {metric} between all pairs."),
    "class_ap": (
        _class_ap,
        "{class_metric} class by class: the best convolutional network and the best transformer, or the two best.",
    ),
    "class_ap_vs_clips": (_class_ap_vs_clips, "{class_metric} against the number of training clips."),
}
