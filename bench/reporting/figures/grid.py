"""The grid's figure: what the values that a suite crosses do to each of its entries (an interaction plot)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from scipy import stats

from bench.reporting.analysis import Analysis
from bench.reporting.basis import axis_label, basis, beginning
from bench.reporting.figures.panels import End, family_colours, family_title, name_ends, short, wrapped
from bench.reporting.figures.style import COLUMN, FULL, GREY, SMALL, Look, draw, hover, looks, set_style
from bench.reporting.grids import GridPoint, grid_points, shown, varied
from bench.reporting.systems import System
from bench.reporting.text import figure_text
from bench.stats.inference import LEVEL, SHARED_SEEDS_NEEDED
from bench.suites.grid import field_of

__all__ = ["draw_grid"]

# inches of a panel's height, and a line of a name beside a line's end
_HEIGHT, _NAME = 2.1, 0.125
# panels beside each other, and in all; entries that one panel shows without being a clot
_COLUMNS, _MOST_PANELS, _MOST_ENTRIES = 3, 6, 5
# entries of a panel of which names have a line each; signs of such a line
_MANY, _LENGTH = 12, 20
# of the way to the next value, which entries take up side by side
_SPREAD = 0.16
# of the range of the scores, as far below them as the chance level is still shown, and the best of other floors
_FLOOR, _BEST_FLOOR = 0.35, 3.0


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


@dataclass(frozen=True)
class _Panel:
    """What one panel shows: its heading, and points by entry."""

    heading: str
    points: Sequence[GridPoint]

    @property
    def entries(self) -> dict[str, list[GridPoint]]:
        found: dict[str, list[GridPoint]] = {}
        for point in self.points:
            found.setdefault(point.entry, []).append(point)
        return found

    @property
    def names(self) -> dict[str, str]:
        """What its entries are called beside the ends of their lines, by entry."""
        lines = 2 if len(self.entries) < _MANY else 1
        return {entry: wrapped(entry, _LENGTH, lines) for entry in self.entries}


def draw_grid(analysis: Analysis) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    points = grid_points(analysis.results)
    caption = (
        "{metric} on eval at each combination of {fields}. A line joins the means of an entry over its seeds, a dot is "
        "a seed, a bar the 95% interval of the mean over seeds, on these clips, where there are {seeds} or more. "
        "{colours} {floors}On {basis}."
    )
    words = {"metric": beginning(analysis.primary.label), "fields": " and ".join(varied(points))}
    words |= {"seeds": str(SHARED_SEEDS_NEEDED), "basis": basis(analysis)}
    words["colours"] = family_colours(point.system.first.family for point in points) if points else ""
    words["floors"] = "".join(f"{name.capitalize()}: {value:.3f}. " for name, value in analysis.results.floors.items())
    return draw({"grid": (_grid, caption)}, analysis.results.folder, analysis, points, **words)


def _grid(analysis: Analysis, points: Sequence[GridPoint], *, width: float = FULL) -> Figure | None:
    """Draw the first field along x, the others as panels; where these would be too many, all fields along x."""
    fields = varied(points)
    if not fields:
        return None
    along, panels = _Along.of(points, fields[:1]), _by_fields(points, fields[1:])
    if len(panels) > _MOST_PANELS:
        along, panels = _Along.of(points, fields), [_Panel("", points)]
    if len(panels) == 1 and len(panels[0].entries) > _MOST_ENTRIES:
        panels = _by_family(points)
    of_entries = looks({point.entry: point.system.first.family for point in points})
    # entries of one family have panels, and so names, of their own
    are_same = all(panel.entries.keys() == panels[0].entries.keys() for panel in panels)
    columns = min(len(panels), _COLUMNS if width > COLUMN else (2 if are_same else 1))
    figure, drawn = _panels(width, panels, columns)
    for axes, panel in zip(drawn, panels, strict=True):
        _draw_panel(axes, panel, along, of_entries)
        axes.set_title(figure_text(panel.heading, 30), loc="left", fontsize=SMALL)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    _draw_floors(drawn[0], analysis)
    for axes in drawn[-columns:]:
        axes.set_xlabel(figure_text(", ".join(map(_words, along.fields)), 40))
        axes.tick_params(labelbottom=True)
    for axes in drawn[::columns]:
        axes.set_ylabel(axis_label(analysis, " on eval"))
    for place, (axes, panel) in enumerate(zip(drawn, panels, strict=True)):
        if not are_same or place % columns == columns - 1 or place == len(panels) - 1:
            _name(axes, panel, along, of_entries)
    return figure


def _power(value: float) -> str:
    """Return a small number as in 5e-4, for which there is room where 0.0005 has none."""
    if value >= 0.1:
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    return f"{value / 10**exponent:.3g}e{exponent}"


def _words(field: str) -> str:
    """Return a field's name as a reader would write it: learning rate."""
    return field_of(field).replace("_", " ")


def _by_fields(points: Sequence[GridPoint], fields: Sequence[str]) -> list[_Panel]:
    panels: dict[str, list[GridPoint]] = {}
    for point in points:
        heading = ", ".join(f"{_words(name)} {shown(point, [name]).replace('_', ' ')}" for name in fields)
        panels.setdefault(heading, []).append(point)
    return [_Panel(heading, of_panel) for heading, of_panel in panels.items()]


def _by_family(points: Sequence[GridPoint]) -> list[_Panel]:
    panels: dict[str, list[GridPoint]] = {}
    for point in points:
        panels.setdefault(family_title(point.system.first.family), []).append(point)
    return [_Panel(heading, of_panel) for heading, of_panel in panels.items()]


def _panels(width: float, panels: Sequence[_Panel], columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, each with room for its names one below the other."""
    set_style()
    rows = -(-len(panels) // columns)
    most = max(sum(1 + name.count("\n") for name in panel.names.values()) for panel in panels)
    height = max(_HEIGHT, _NAME * most)
    size = (width, 0.2 + rows * (height + 0.5))
    figure, grid = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True, sharey=True
    )
    drawn = list(grid.flat)
    for axes in drawn[len(panels) :]:
        axes.set_visible(False)
    return figure, drawn[: len(panels)]


def _draw_panel(axes: Axes, panel: _Panel, along: _Along, of_entries: Mapping[str, Look]) -> None:
    shares = _shares(of_entries)
    # several fields in one have no order that a line could follow
    joined = {} if len(along.fields) == 1 else {"linestyle": ""}
    for entry, points in panel.entries.items():
        look = of_entries[entry]
        placed = sorted(((along.place(point, shares[entry]), point) for point in points), key=lambda pair: pair[0])
        axes.plot(
            [x for x, _ in placed], [point.system.score for _, point in placed], markersize=4, zorder=3,
            **look.line | joined,
        )  # fmt: skip
        for x, point in placed:
            text = f"{entry}, {shown(point, along.fields)}: {short(point.system.score)}"
            _draw_seeds(axes, x, point.system, look.colour, text)
    if along.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    texts = [
        _power(place) if along.is_log else figure_text(text).replace("_", " ") for text, place in along.places.items()
    ]
    axes.set_xticks([*along.places.values()], texts)
    axes.margins(x=0.12)
    room = axes.get_position().width * axes.figure.figure.get_figwidth()
    if sum(map(len, texts)) * 0.06 > room:
        plt.setp(axes.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")


def _shares(of_entries: Mapping[str, Look]) -> dict[str, float]:
    """Return by which share of the way to the next value each entry is moved, so that they stand side by side."""
    return {entry: _SPREAD * ((number + 0.5) / len(of_entries) - 0.5) for number, entry in enumerate(of_entries)}


def _draw_seeds(axes: Axes, x: float, system: System, colour: str, text: str) -> None:
    """Draw each seed, and where there are enough of them the interval of their mean (Student's t)."""
    values = np.array(system.values("metrics", system.task.primary.name))
    (dots,) = axes.plot(np.full(len(values), x), values, ".", color=colour, markersize=2.5, alpha=0.55, zorder=2)
    hover(dots, figure_text(text, 160))
    if len(values) >= SHARED_SEEDS_NEEDED:
        half = stats.t.isf(LEVEL / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        axes.plot([x, x], [values.mean() - half, values.mean() + half], color=colour, linewidth=0.9, zorder=2)


def _draw_floors(axes: Axes, analysis: Analysis) -> None:
    """Draw what is scored without any learning, into all panels, if that is not far below all scores.

    Of floors that systems are compared with it is the best one, which they should be seen to beat, or not.
    """
    low, high = axes.get_ylim()
    floors, most = analysis.results.floors, _FLOOR
    if analysis.over_floor:
        name = analysis.best_floor.name
        floors, most = {name: floors[name]}, _BEST_FLOOR
    for name, value in floors.items():
        if value > low - most * (high - low):
            for each in axes.figure.figure.axes:
                each.axhline(value, color=GREY, linestyle=":", linewidth=0.8, zorder=1)
            axes.annotate(
                name, (0, value), (2, 1.5), xycoords=("axes fraction", "data"), textcoords="offset points",
                fontsize=SMALL, color="#5a5a5a", va="bottom",
            )  # fmt: skip


def _name(axes: Axes, panel: _Panel, along: _Along, of_entries: Mapping[str, Look]) -> None:
    """Write the entries' names beside the ends of their lines."""
    shares, names, ends = _shares(of_entries), panel.names, []
    for entry, points in panel.entries.items():
        last = max(points, key=lambda point: along.place(point, 0))
        ends.append(End(along.place(last, shares[entry]), last.system.score, names[entry]))
    name_ends(axes, ends)
