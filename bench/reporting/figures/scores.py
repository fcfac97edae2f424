"""The figures of a report; each is one function, saved under its own name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from bench.reporting.analysis import Analysis
from bench.reporting.figures.style import appearance, new_figure, save
from bench.reporting.pareto import COSTS, Cost, on_front

REFERENCES = Path(__file__).with_name("references.csv")
NAMED_CLASSES = 14  # more names than this would hide each other


def draw_all(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Draw every figure that these results allow; returns file stem to caption."""
    made = {}
    for name, (draw, caption) in FIGURES.items():
        if draw(analysis, folder / name):
            made[name] = caption
        else:  # of an earlier report with more rows
            for suffix in (".png", ".svg", ".pdf"):
                (folder / name).with_suffix(suffix).unlink(missing_ok=True)
    return made


def map_vs_parameters(analysis: Analysis, path: Path) -> bool:
    return _map_vs(analysis, COSTS["P"], path, published=True)


def map_vs_macs(analysis: Analysis, path: Path) -> bool:
    return _map_vs(analysis, COSTS["M"], path)


def map_vs_train_seconds(analysis: Analysis, path: Path) -> bool:
    return _map_vs(analysis, COSTS["T"], path)


def _map_vs(analysis: Analysis, cost: Cost, path: Path, *, published: bool = False) -> bool:
    """Measured mAP with intervals against a cost on a logarithmic axis, the Pareto front, and what was published."""
    rows = [standing.row for standing in analysis.compared]
    places = _side_by_side([cost.of(row) for row in rows])
    if places is None:
        return False
    figure, axes = new_figure(height=5.0 if published else 4.2)
    looks = appearance(row.name for row in rows)
    for standing, x in zip(analysis.compared, places, strict=True):
        row, (colour, marker) = standing.row, looks[standing.row.name]
        low, high = float(standing.own["map"].low), float(standing.own["map"].high)
        axes.plot([x, x], [low, high], "-_", color=colour, linewidth=1.2, zorder=2)
        axes.plot(x, row.mean("metrics", "map"), marker, color=colour, label=row.label, **_EDGE)
        if published and row.published:
            axes.plot(row.published["parameters"], row.published["map"], marker, **_hollow(colour))
    _front(axes, analysis, cost, places)
    if published:
        _references(axes)
    axes.axhline(analysis.results.chance_map, color="grey", linestyle=":", label="chance")
    axes.set(xscale="log", xlabel=cost.axis, ylabel="macro mAP on eval, 95% interval", title=analysis.results.title)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    handles, _ = axes.get_legend_handles_labels()
    if published and any(row.published for row in rows):
        handles.append(Line2D([], [], marker="o", linestyle="", label="hollow: published, FSD50K", **_hollow("black")))
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save(figure, path)
    return True


_EDGE: dict[str, Any] = {
    "markersize": 8,
    "markeredgecolor": "black",
    "markeredgewidth": 0.5,
    "linestyle": "",
    "zorder": 3,
}


def _hollow(colour: object) -> dict[str, Any]:
    return {"markersize": 8, "markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.3}


def _side_by_side(values: Sequence[float | None]) -> list[float] | None:
    """x places; rows of the same cost stand next to each other, a little apart, instead of on top. None: not known."""
    known = [value for value in values if value is not None and value > 0]
    if len(known) < len(values):
        return None
    places = []
    for i, value in enumerate(known):
        same = [j for j, other in enumerate(known) if abs(np.log(other / value)) < 0.01]
        places.append(value * 1.06 ** (same.index(i) - (len(same) - 1) / 2))
    return places


def _front(axes: Axes, analysis: Analysis, cost: Cost, places: Sequence[float]) -> None:
    rows = [standing.row for standing in analysis.compared]
    front = sorted(
        (x, standing.row.mean("metrics", "map"))
        for standing, x in zip(analysis.compared, places, strict=True)
        if on_front(standing.row, rows, cost.of)
    )
    if len(front) > 1:
        x, y = zip(*front, strict=True)
        axes.plot(
            x, y, color="black", linewidth=0.8, linestyle="--", drawstyle="steps-post", label="Pareto front", zorder=1
        )


def _references(axes: Axes) -> None:
    """Thin lines for what others reached on FSD50K by other means."""
    table = pd.read_csv(REFERENCES, comment="#")
    table["line"] = table["map"].round(2)
    for _, group in table.groupby("line"):
        height = group["map"].mean()
        names = ", ".join(f"{name} {value:.3f}" for name, value in zip(group["name"], group["map"], strict=True))
        axes.axhline(height, color="grey", linewidth=0.6, zorder=0)
        text = f"FSD50K: {names} ({group['training'].iloc[0]})"
        place = (0.005, height)
        axes.annotate(text, place, xycoords=("axes fraction", "data"), fontsize=5.5, color="dimgrey", va="bottom")


def learning_curves(analysis: Analysis, path: Path) -> bool:
    """val mAP while training: mean over seeds, and their range."""
    figure, axes = new_figure()
    looks = appearance(standing.row.name for standing in analysis.compared)
    for standing in analysis.compared:
        colour, marker = looks[standing.row.name]
        curves = pd.concat(standing.row.histories()).groupby("update")["val_map"].agg(["mean", "min", "max"])
        every = max(1, len(curves) // 10)
        axes.plot(curves.index, curves["mean"], marker=marker, markevery=every, color=colour, label=standing.row.label)
        axes.fill_between(curves.index, curves["min"], curves["max"], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="updates", ylabel="macro mAP on val, mean and range of seeds", title=analysis.results.title)
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save(figure, path)
    return True


def wins(analysis: Analysis, path: Path) -> bool:
    """Row minus column in mAP, ranked; a frame where the difference is real."""
    if not analysis.pairs:
        return False
    names = [standing.row.label for standing in analysis.compared]
    value = {(p.first.label, p.second.label): float(p.differences["map"].value) for p in analysis.pairs}
    verdict = {(p.first.label, p.second.label): p.verdicts["map"] for p in analysis.pairs}
    matrix = np.full((len(names), len(names)), np.nan)
    text = np.full(matrix.shape, "", dtype=object)
    for (a, b), difference in value.items():
        i, j = names.index(a), names.index(b)
        mark = {"different": "*", "unresolved": "?"}.get(verdict[a, b], "")
        matrix[i, j], matrix[j, i] = difference, -difference
        text[i, j], text[j, i] = f"{difference:+.3f}{mark}", f"{-difference:+.3f}{mark}"
    figure, axes = new_figure(max(5.0, 2.6 + 0.75 * len(names)), max(3.2, 1.8 + 0.45 * len(names)))
    limit = np.nanmax(np.abs(matrix)) or 1.0
    sns.heatmap(
        matrix, annot=text, fmt="", cmap="PuOr", center=0, vmin=-limit, vmax=limit, linewidths=0.5, ax=axes,
        xticklabels=names, yticklabels=names, annot_kws={"fontsize": 7}, cbar_kws={"label": "row - column, mAP"},
    )  # fmt: skip
    axes.set_title(f"{analysis.results.title}: * different (p of .05 or less, Holm), ? unresolved")
    axes.tick_params(axis="x", rotation=40)
    for tick in axes.get_xticklabels():
        tick.set_horizontalalignment("right")
    save(figure, path)
    return True


def class_ap(analysis: Analysis, path: Path) -> bool:
    """AP of each class under two rows; the classes that differ are filled, and the farthest named."""
    if analysis.classes is None:
        return False
    classes = analysis.classes
    table = classes.table.assign(differs=classes.table["verdict"] == "different")
    figure, axes = new_figure(7.6, 5.6)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    size = 8 + 30 * np.sqrt(table["eval_clips"] / table["eval_clips"].max())
    for differs, face in ((False, "none"), (True, "#0173b2")):
        chosen = table["differs"] == differs
        part = table[chosen]
        label = f"{len(part)} classes {'that differ' if differs else 'not shown to differ'}"
        look: dict[str, Any] = {"facecolors": face, "edgecolors": "black", "linewidths": 0.6}
        axes.scatter(part["ap_second"], part["ap_first"], size[chosen], label=label, **look)
    named = table[table["differs"]].assign(size=lambda t: t["difference"].abs()).nlargest(NAMED_CLASSES, "size")
    _name_points(axes, named)
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=f"AP of {classes.second.label}",
        ylabel=f"AP of {classes.first.label}", title=f"{analysis.results.title}: AP class by class (area: eval clips)",
    )  # fmt: skip
    axes.legend(loc="lower right")
    save(figure, path)
    return True


def _name_points(axes: Axes, named: pd.DataFrame) -> None:
    """Names in a column beside the plot, in the order of their points, each joined to its own."""
    ordered = named.sort_values(["ap_first", "ap_second"], ascending=False).to_dict("records")
    heights = np.linspace(0.98, 0.98 - 0.05 * max(len(ordered) - 1, 1), len(ordered))
    for row, height in zip(ordered, heights, strict=True):
        axes.annotate(
            str(row["class"]).replace("_", " "), (row["ap_second"], row["ap_first"]), (1.03, height),
            textcoords=("axes fraction", "axes fraction"), fontsize=7, ha="left", va="center", arrowprops=_LEADER,
        )  # fmt: skip


_LEADER = {"arrowstyle": "-", "linewidth": 0.4, "color": "grey", "shrinkB": 3, "zorder": 0}


def class_ap_vs_clips(analysis: Analysis, path: Path) -> bool:
    """Mean AP of the classes against how many training clips they have, in bins of equally many classes."""
    labels = analysis.results.labels
    has = labels.targets.any(axis=0) & (labels.train_counts > 0)
    counts = labels.train_counts[has]
    if len(np.unique(counts)) < 3:
        return False
    bins = np.array_split(np.argsort(counts, kind="stable"), min(8, len(counts) // 3) or 1)
    figure, axes = new_figure()
    looks = appearance(standing.row.name for standing in analysis.compared)
    for standing in analysis.compared:
        colour, marker = looks[standing.row.name]
        ap = standing.estimates["class_ap"].value[has]
        x = [np.exp(np.log(counts[own]).mean()) for own in bins]
        axes.plot(x, [ap[own].mean() for own in bins], marker=marker, color=colour, label=standing.row.label)
    axes.set(
        xscale="log", xlabel="training clips of a class (geometric mean of a bin)", ylabel="mean AP of the bin",
        title=f"{analysis.results.title}: {len(bins)} bins of {len(bins[-1])} to {len(bins[0])} classes",
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save(figure, path)
    return True


Draw = Callable[[Analysis, Path], bool]
FIGURES: dict[str, tuple[Draw, str]] = {
    "map_vs_parameters": (map_vs_parameters, "mAP against parameters. Rows of one size stand side by side."),
    "map_vs_macs": (map_vs_macs, "mAP against multiply-accumulates."),
    "map_vs_train_seconds": (map_vs_train_seconds, "mAP against training time."),
    "learning_curves": (learning_curves, "mAP on val while training."),
    "wins": (wins, "Differences in mAP between all pairs."),
    "class_ap": (
        class_ap,
        "AP class by class: the best convolutional network and the best transformer, or the two best.",
    ),
    "class_ap_vs_clips": (class_ap_vs_clips, "AP against the number of training clips."),
}
