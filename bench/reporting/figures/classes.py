"""Figures of classes: which of two systems recognises each better, and how rare classes fare."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.analysis import Analysis, ClassDifferences, Standing
from bench.reporting.figures.panels import (
    LINE,
    POINTS,
    End,
    by_family,
    family_panels,
    name_ends,
    name_length,
    named,
    short,
    wrapped,
)
from bench.reporting.figures.style import COLUMN, FULL, INK, SMALL, colour_of, hover, log_x, new_figure
from bench.reporting.tables.table import CLAIMED
from bench.reporting.text import figure_text

__all__ = ["class_bins", "class_differences", "is_unnamed", "rare_classes"]

Floats = npt.NDArray[np.float64]

# Of more classes than this those at either end are named, so many; the others are closer together: by so many points
# at the most, and so many in all.
_MOST_NAMED, _AT_AN_END, _CLOSE, _MIDDLE = 24, 8, 3.0, 150.0
# characters of a class's name; points of the frame around the classes
_CHARACTERS, _FRAME = 26, 40.0
_INTERVAL, _UNNAMED, _ELSEWHERE = "#bdbdbd", "#5a5a5a", "#dedede"
# bins of classes, and the least in one
_LEAST_BINS, _MOST_BINS, _LEAST_IN_BIN = 3, 8, 3


def class_differences(analysis: Analysis, *, width: float = FULL) -> Figure | None:
    """Draw the difference between two systems in each class, with its interval, the largest on top.

    The classes at either end are named. Returns None where no two systems are compared class by class.
    """
    classes = analysis.classes
    if classes is None:
        return None
    table = classes.table.dropna(subset=["difference"]).sort_values(["difference", "class"], ascending=[False, True])
    if table.empty:
        return None
    places = _places(len(table))
    figure, axes = new_figure(width, (places[-1] + LINE + _FRAME) / POINTS)
    axes.set_ylim(places[-1] + LINE / 2, -LINE / 2)
    axes.grid(False, axis="y")
    axes.axvline(0, color=INK, linewidth=0.6, zorder=1)
    is_close = is_unnamed(len(table))
    axes.hlines(
        places, table["low"], table["high"], color=_INTERVAL, linewidth=np.where(is_close, 0.45, 0.9), zorder=1.5
    )
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -1.02), min(high, 1.02))
    for line, place, close in zip(table.to_dict("records"), places, is_close, strict=True):
        _draw_class(axes, classes, {str(key): value for key, value in line.items()}, place, 2.4 if close else 3.6)
    _name_classes(axes, table, places)
    names = [figure_text(system.label, 34) for system in (classes.first, classes.second)]
    between = "\n" if width <= COLUMN else " "
    # below all of the figure, since the panel is narrow beside long names
    figure.supxlabel(f"{classes.metric.label} of {names[0]}{between}less that of {names[1]}")
    return figure


def is_unnamed(classes: int) -> npt.NDArray[np.bool_]:
    """Return which classes, the largest difference first, have no name: of many those in the middle."""
    place = np.arange(classes)
    return (classes > _MOST_NAMED) & (place >= _AT_AN_END) & (place < classes - _AT_AN_END)


def _places(classes: int) -> Floats:
    """Return how far below the first each class stands, in points: those that are not named close together."""
    unnamed = is_unnamed(classes)
    close = min(_CLOSE, _MIDDLE / max(1, unnamed.sum()))
    gaps = np.where(unnamed[1:] & unnamed[:-1], close, LINE)
    return np.concatenate([[0.0], np.cumsum(gaps)])


def _draw_class(axes: Axes, classes: ClassDifferences, line: dict[str, Any], place: float, size: float) -> None:
    """Draw a class's difference in the colour of the family that is ahead, filled where it is claimed."""
    ahead = classes.first if line["difference"] > 0 else classes.second
    colour = colour_of(ahead.first.family)
    is_claimed = line["verdict"] in CLAIMED
    look: dict[str, Any] = {"markeredgecolor": colour, "markerfacecolor": colour if is_claimed else "white"}
    (point,) = axes.plot(line["difference"], place, "o", markersize=size, markeredgewidth=0.7, zorder=3, **look)
    scores = " and ".join(f"{line[side]:.3f} of {getattr(classes, side).label}" for side in ("first", "second"))
    between = f"{line['difference']:+.3f}, {line['low']:+.3f} to {line['high']:+.3f}, {line['verdict']}"
    clips = f"{line['eval_clips']} eval clips, {line['train_clips']} training clips"
    hover(point, f"{line['class']}: {classes.metric.label} {scores} ({between}); {clips}")


def _name_classes(axes: Axes, table: pd.DataFrame, places: Floats) -> None:
    """Write the names of classes and their eval clips beside them, and how many are not named."""
    texts = [
        f"{figure_text(name.replace('_', ' '), _CHARACTERS)} ({clips})"
        for name, clips in zip(table["class"].astype(str), table["eval_clips"], strict=True)
    ]
    unnamed = is_unnamed(len(table))
    if unnamed.any():
        axes.text(
            -0.02, places[unnamed].mean(), f"{unnamed.sum()} other classes", color=_UNNAMED, fontsize=SMALL,
            style="italic", ha="right", va="center", transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(places[~unnamed], [text for text, is_without in zip(texts, unnamed, strict=True) if not is_without])
    axes.tick_params(axis="y", length=0, pad=2)


def class_bins(analysis: Analysis) -> list[npt.NDArray[np.int64]] | None:
    """Return the classes of each bin, the rarest in training first; None where they make no three bins."""
    labels, metric = analysis.results.labels, analysis.results.task.class_metric
    has = np.flatnonzero(labels.targets.any(axis=0) & (labels.train_counts > 0))
    counts = labels.train_counts[has]
    bins = min(_MOST_BINS, len(has) // _LEAST_IN_BIN, len(np.unique(counts)))
    if metric is None or bins < _LEAST_BINS:
        return None
    return [has[part] for part in np.array_split(np.argsort(counts, kind="stable"), bins)]


def rare_classes(analysis: Analysis, *, width: float = FULL) -> Figure | None:
    """Draw each system's mean over classes of as many training clips, a panel a family.

    Returns None for a task without values by class, and where classes have as many clips.
    """
    bins, metric = class_bins(analysis), analysis.results.task.class_metric
    if bins is None or metric is None:
        return None
    counts = analysis.results.labels.train_counts
    x = [float(np.exp(np.log(counts[chosen]).mean())) for chosen in bins]
    families = by_family(analysis.compared)
    curves = {
        standing.system.label: [float(np.mean(standing.estimates[metric.name].value[chosen])) for chosen in bins]
        for standing in analysis.compared
    }
    x_label = "training clips of a class (geometric mean of a bin)"
    figure, panels = family_panels(width, families, x_label, f"mean {metric.label} of a bin")
    for family, axes in panels.items():
        for standing in analysis.compared:
            _draw_curve(axes, standing, x, curves[standing.system.label], is_own=standing in families[family])
        axes.set_ylim(bottom=0)
        log_x(axes, 1, 2, 5)
    for family, axes in panels.items():
        labels = [standing.system.label for standing in named(families[family])]
        name_ends(axes, [End(x[-1], curves[label][-1], wrapped(label, name_length(width))) for label in labels])
    return figure


def _draw_curve(axes: Axes, standing: Standing, x: Sequence[float], y: Sequence[float], *, is_own: bool) -> None:
    system = standing.system
    if not is_own:
        axes.plot(x, y, color=_ELSEWHERE, linewidth=0.8, zorder=1)
        return
    (line,) = axes.plot(x, y, "o-", color=colour_of(system.first.family), markersize=2.4, linewidth=1.0, zorder=3)
    hover(line, f"{system.label}: {', '.join(map(short, y))} from the rarest classes to the most frequent")
