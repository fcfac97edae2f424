"""The rank diagram: systems along their scores, joined by bars where no test tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.protocol.task import Metric
from bench.reporting.analysis import Analysis, Standing
from bench.reporting.basis import axis_label
from bench.reporting.figures.panels import LINE, POINTS, short, text_width, wrapped
from bench.reporting.figures.style import COLUMN, FULL, GREY, INK, SMALL, colour_of, hover, new_figure
from bench.stats.inference import alike

__all__ = ["rank_diagram", "ranked"]

# systems, whose names still have room on a page; heights of bars, beyond which none is followed
_MOST, _MOST_BARS = 60, 24
# in points: the axis above all, the first bar, from bar to bar, the first name below the last of these
_AXIS, _FIRST, _BAR, _GAP = 30.0, 9.0, 6.0, 8.0
# characters of a name: in a column, and on either side of a page
_NARROW, _WIDE = 24, 32
_JOINT: dict[str, Any] = {"marker": "o", "markersize": 3.2, "linestyle": "", "color": INK, "zorder": 4}


@dataclass(frozen=True)
class _Name:
    """A system's name and the place of its middle below the axis, in points."""

    standing: Standing
    text: str
    y: float
    is_left: bool


def ranked(analysis: Analysis) -> list[Standing]:
    """Return the systems that the diagram shows: those whose seeds allow claims on each with each other."""
    return [standing for standing in analysis.compared if standing.letters]


def rank_diagram(analysis: Analysis, *, width: float = FULL) -> Figure | None:
    """Draw every system at its score on an axis, its name at a line, and a bar for each set that is not told apart.

    Returns None where no claim generalises, and where there are too many systems or sets.
    """
    shown = ranked(analysis)
    if not 1 < len(shown) <= _MOST:
        return None
    levels = _levels(_groups(analysis, shown))
    if len(levels) > _MOST_BARS:
        return None
    bars = _FIRST + _BAR * len(levels)
    names = _names(shown, bars + _GAP, is_narrow=width <= COLUMN)
    bottom = max(name.y + LINE * (1 + name.text.count("\n")) / 2 for name in names)
    figure, axes = new_figure(width, (bottom + _AXIS) / POINTS)
    axes.set_ylim(bottom, 0)
    _draw_axis(axes, shown, axis_label(analysis, " on eval, mean over seeds"), analysis.primary)
    for level, sets in enumerate(levels):
        for members in sets:
            _draw_bar(axes, members, _FIRST + _BAR * level, analysis.primary.label)
    inset = max(text_width(figure, short(name.standing.system.score)) for name in names)
    for name in names:
        _draw_name(axes, name, inset)
    return figure


def _groups(analysis: Analysis, shown: Sequence[Standing]) -> list[list[Standing]]:
    """Return the largest sets of two or more systems of which no two differ significantly, the best first."""
    by_label = {standing.system.label: standing for standing in shown}
    differ = {(p.first.label, p.second.label) for p in analysis.pairs if p.primary.verdict == "significant"}
    sets = alike([*by_label], lambda a, b: (a, b) in differ)
    return [[by_label[label] for label in group] for group in sets if len(group) > 1]


def _levels(groups: Sequence[list[Standing]]) -> list[list[list[Standing]]]:
    """Return which bars stand at which height: those that do not overlap may stand side by side."""
    levels: list[list[list[Standing]]] = []
    for group in groups:
        free = (level for level in levels if all(_part(group, other) for other in level))
        if (level := next(free, None)) is None:
            levels.append(level := [])
        level.append(group)
    return levels


def _part(a: Sequence[Standing], b: Sequence[Standing]) -> bool:
    (low, high), (lowest, highest) = _ends(a), _ends(b)
    return high < lowest or highest < low


def _ends(group: Sequence[Standing]) -> tuple[float, float]:
    scores = [standing.system.score for standing in group]
    return min(scores), max(scores)


def _names(shown: Sequence[Standing], top: float, *, is_narrow: bool) -> list[_Name]:
    """Place the names: in a column all to the right, on a page the worse half to the left, outermost on top."""
    right = sorted(shown, key=lambda standing: standing.system.task.primary.key(standing.system.score))
    half = len(right) if is_narrow else (len(right) + 1) // 2
    sides = ((right[:half], False), (right[half:][::-1], True))
    names = []
    for side, is_left in sides:
        y = top
        for standing in side:
            text = wrapped(standing.system.label, _NARROW if is_narrow else _WIDE)
            lines = 1 + text.count("\n")
            names.append(_Name(standing, text, y + LINE * (lines - 1) / 2, is_left))
            y += LINE * lines + 1
    return names


def _draw_axis(axes: Axes, shown: Sequence[Standing], label: str, metric: Metric) -> None:
    """Draw the axis, the better end to the right."""
    low, high = _ends(shown)
    margin = 0.04 * (high - low) or 0.01
    ends = low - margin, high + margin
    axes.set_xlim(ends if metric.higher_is_better else ends[::-1])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    axes.spines["top"].set_color(INK)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(axis="x", length=3, width=0.6, color=INK, top=True, pad=2)
    axes.set_xlabel(label, labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))


def _draw_bar(axes: Axes, members: Sequence[Standing], y: float, metric: str) -> None:
    (bar,) = axes.plot(_ends(members), [y, y], color=GREY, linewidth=2.4, solid_capstyle="round", zorder=3)
    axes.plot([standing.system.score for standing in members], [y] * len(members), **_JOINT)
    names = ", ".join(standing.system.label for standing in members)
    hover(bar, f"not told apart in {metric}: {names}")


def _draw_name(axes: Axes, name: _Name, inset: float) -> None:
    """Draw a system's point, its score and name, and the line that joins them: down, then to the side.

    The name stands beyond the score, which is `inset` points wide at most.
    """
    system = name.standing.system
    colour, edge, x = colour_of(system.first.family), 0 if name.is_left else 1, system.score
    outer = axes.get_xlim()[edge]
    axes.plot([x, x, outer], [0, name.y, name.y], color=colour, linewidth=0.6, alpha=0.8, zorder=1)
    (point,) = axes.plot(x, 0, "o", color=colour, markersize=5, clip_on=False, zorder=5)
    hover(point, f"{system.label}: {x:.3f}, rank {name.standing.rank}, {len(system.runs)} seeds")
    way = -1 if name.is_left else 1
    place: dict[str, Any] = {"xy": (edge, name.y), "xycoords": axes.get_yaxis_transform(), "annotation_clip": False}
    look: dict[str, Any] = {"fontsize": SMALL, "va": "center", "ha": "right" if name.is_left else "left"}
    for text, offset in ((short(x), 3), (name.text, 8 + inset)):
        axes.annotate(text, xytext=(way * offset, 0), textcoords="offset points", linespacing=1.0, **place, **look)
