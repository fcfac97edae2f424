"""The grid's figure: what the values that a suite crosses do to each of its entries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from scipy import stats

from bench.reporting.analysis import Analysis
from bench.reporting.figures.style import appearance, draw, set_style
from bench.reporting.grids import GridPoint, grid_points, shown, varied
from bench.reporting.systems import System
from bench.reporting.text import figure_text
from bench.stats.inference import LEVEL, SHARED_SEEDS_NEEDED

__all__ = ["draw_grid"]

# of a page, in inches; panels beside each other, and in all
_WIDTH, _COLUMNS, _MOST_PANELS = 6.9, 3, 6
_STROKES = {"cnn": "-", "transformer": "--", "hybrid": ":"}
# of the way to the next value, which entries take up side by side
_SPREAD = 0.2


@dataclass(frozen=True)
class _Along:
    """Where values stand along x: numbers where they are, a logarithm where they span a decade, others in order."""

    fields: Sequence[str]
    # as text, which `shown` makes of a point
    places: Mapping[str, float]
    is_log: bool = False

    @classmethod
    def of(cls, points: Sequence[GridPoint], fields: Sequence[str]) -> "_Along":
        values = [point.settings[fields[0]] for point in points]
        if len(fields) > 1 or not all(type(value) in (int, float) for value in values):
            texts = dict.fromkeys(shown(point, fields) for point in points)
            return cls(fields, {text: float(place) for place, text in enumerate(texts)})
        is_log = min(values) > 0 and max(values) >= 10 * min(values)
        return cls(fields, {shown(point, fields): float(point.settings[fields[0]]) for point in points}, is_log)

    def place(self, point: GridPoint, share: float) -> float:
        """Return where a point stands, moved by a share of the way between neighbours."""
        x, known = self.places[shown(point, self.fields)], sorted(self.places.values())
        if self.is_log:
            return x * float(min(b / a for a, b in pairwise(known)) ** share)
        return x + share * min(b - a for a, b in pairwise(known))


def draw_grid(analysis: Analysis) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    points = grid_points(analysis.results)
    caption = (
        "{metric} on eval at each combination of the suite's grid ({fields}). A line joins the means of an entry "
        "(solid: convolutional networks, dashed: transformers, dotted: hybrids), a dot is a seed, a bar the 95% "
        "interval of the mean over seeds, on these clips, where there are {seeds} or more."
    )
    words = {"metric": analysis.primary.label, "fields": ", ".join(varied(points)), "seeds": str(SHARED_SEEDS_NEEDED)}
    return draw({"grid": (_grid, caption)}, analysis.results.folder, analysis, points, **words)


def _grid(analysis: Analysis, points: Sequence[GridPoint]) -> Figure | None:
    """Draw the first field along x, the others as panels; where these would be too many, all fields along x."""
    fields = varied(points)
    if not fields:
        return None
    along, panels = _Along.of(points, fields[:1]), _grouped(points, fields[1:])
    if len(panels) > _MOST_PANELS:
        along, panels = _Along.of(points, fields), {"": [*points]}
    looks, floors = _looks(points), analysis.results.floors
    figure, drawn = _panels(len(panels), len(looks) + len(floors))
    for axes, (name, of_panel) in zip(drawn, panels.items(), strict=True):
        _draw_panel(axes, of_panel, along, looks)
        axes.set_title(figure_text(name), fontsize=8)
        axes.set_xlabel(figure_text(", ".join(along.fields)), fontsize=8)
        for value in floors.values():
            axes.axhline(value, color="grey", linestyle=":", linewidth=0.8)
    drawn[0].set_ylim(bottom=min(0.0, drawn[0].get_ylim()[0]))
    handles = [Line2D([], [], label=figure_text(entry), **look) for entry, look in looks.items()]
    handles += [Line2D([], [], color="grey", linestyle=":", label=floor) for floor in floors]
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": _COLUMNS}
    figure.legend(handles=handles, frameon=False, fontsize=7, handlelength=4, **place)
    figure.supylabel(f"{analysis.primary.label} on eval", fontsize=8)
    figure.suptitle(figure_text(analysis.results.title), fontsize=9)
    return figure


def _grouped(points: Sequence[GridPoint], fields: Sequence[str]) -> dict[str, list[GridPoint]]:
    panels: dict[str, list[GridPoint]] = {}
    for point in points:
        panels.setdefault(", ".join(f"{name} {shown(point, [name])}" for name in fields), []).append(point)
    return panels


def _panels(count: int, handles: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, with room for a legend of so many."""
    set_style()
    columns = min(_COLUMNS, count)
    lines = -(-count // columns)
    size = (_WIDTH, 0.8 + 2.6 * lines + 0.15 * -(-handles // _COLUMNS))
    figure, grid = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False, sharey=True)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _looks(points: Sequence[GridPoint]) -> dict[str, dict[str, Any]]:
    """Return how each entry is drawn: by its own colour and marker, its family by the stroke."""
    families = {point.entry: point.system.first.family for point in points}
    looks = appearance(families)
    return {
        entry: {"color": looks[entry][0], "marker": looks[entry][1], "linestyle": _STROKES.get(family, "-")}
        for entry, family in families.items()
    }


def _draw_panel(axes: Axes, points: Sequence[GridPoint], along: _Along, looks: Mapping[str, dict[str, Any]]) -> None:
    for number, (entry, look) in enumerate(looks.items()):
        share = _SPREAD * ((number + 0.5) / len(looks) - 0.5)
        placed = sorted(
            ((along.place(point, share), point.system) for point in points if point.entry == entry),
            key=lambda pair: pair[0],
        )
        # several fields in one have no order that a line could follow
        joined = {} if len(along.fields) == 1 else {"linestyle": ""}
        means = [system.score for _, system in placed]
        axes.plot([x for x, _ in placed], means, markersize=5, linewidth=1.1, zorder=3, **look | joined)
        for x, system in placed:
            _draw_seeds(axes, x, system, look["color"])
    if along.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    texts = [*map(figure_text, along.places)]
    axes.set_xticks([*along.places.values()], texts, fontsize=7)
    if sum(map(len, texts)) * 0.07 > axes.get_position().width * _WIDTH:
        plt.setp(axes.get_xticklabels(), rotation=40, ha="right")


def _draw_seeds(axes: Axes, x: float, system: System, colour: object) -> None:
    """Draw each seed, and where there are enough of them the interval of their mean (Student's t)."""
    values = np.array(system.values("metrics", system.task.primary.name))
    axes.plot(np.full(len(values), x), values, ".", color=colour, markersize=3, alpha=0.6, zorder=2)
    if len(values) >= SHARED_SEEDS_NEEDED:
        half = stats.t.isf(LEVEL / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        axes.plot([x, x], [values.mean() - half, values.mean() + half], color=colour, linewidth=1, zorder=2)
