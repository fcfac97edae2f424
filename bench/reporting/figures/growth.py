"""The figure of growth: what an input costs against its length, a panel a cost, both axes logarithmic."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from bench.reporting.figures.panels import End, family_colours, name_ends, wrapped
from bench.reporting.figures.style import COLUMN, FULL, GREY, SMALL, draw, hover, looks, plain_ticks, set_style
from bench.reporting.growth import MEASURES, Growth
from bench.reporting.text import figure_text
from bench.store import ResultsFolder

__all__ = ["draw_growth"]

# inches of a panel's height, beside others and below them
_BESIDE, _STACKED = 2.4, 2.0


def draw_growth(growth: Growth, results: ResultsFolder) -> dict[str, str]:
    """Draw the figure into a results folder; return file stem to caption."""
    caption = (
        "What one chunk costs against its length, on {device}, both axes logarithmic; memory is that of a training "
        "step of {rows} chunks. Behind a name stands the exponent by which the cost grows; dotted lines grow by 1 and "
        "by 2. {colours}"
    )
    words = {"device": growth.device, "rows": str(growth.rows), "colours": family_colours(growth.points["family"])}
    return draw({"growth": (_growth, caption)}, results, growth, **words)


def _growth(growth: Growth, *, width: float = FULL) -> Figure | None:
    if growth.points["seconds"].nunique() < 2:
        return None
    set_style()
    is_stacked = width <= COLUMN
    rows, columns = (len(MEASURES), 1) if is_stacked else (1, len(MEASURES))
    size = (width, rows * (_STACKED if is_stacked else _BESIDE) + 0.2)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True)
    for axes, column in zip(grid.flat, MEASURES, strict=True):
        _draw_panel(axes, growth, column)
    for axes in grid[-1]:
        axes.set_xlabel("length of a chunk (s)")
    for axes, column in zip(grid.flat, MEASURES, strict=True):
        _name(axes, growth, column)
    return figure


def _draw_panel(axes: Axes, growth: Growth, column: str) -> None:
    """Draw a line an entry, and two that show how steep the exponents 1 and 2 are."""
    measure = MEASURES[column]
    families = {entry: str(points["family"].iloc[0]) for entry, points in growth.by_entry.items()}
    for entry, look in looks(families).items():
        points = growth.by_entry[entry]
        (line,) = axes.plot(points["seconds"], points[column] * measure.scale, markersize=3.5, **look.line)
        hover(line, figure_text(f"{entry}: exponent {growth.shown_exponent(entry, column)}", 160))
    lengths = np.array(growth.lengths)
    low = growth.points[column].min() * measure.scale
    axes.set(xscale="log", yscale="log")
    top = axes.get_ylim()[1]
    for power in (1, 2):
        guide = low * (lengths / lengths[0]) ** power
        axes.plot(lengths, guide, ":", color=GREY, linewidth=0.8, zorder=1)
    # the second may leave the panel
    axes.set_ylim(top=top)
    axes.set_title(f"{measure.name} ({measure.unit})", loc="left", fontsize=SMALL)
    axes.xaxis.set_major_locator(FixedLocator([*lengths]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < 300 * low else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    plain_ticks(axes.xaxis, axes.yaxis)
    axes.margins(x=0.08)


def _name(axes: Axes, growth: Growth, column: str) -> None:
    """Write each entry's name and exponent beside the end of its line."""
    ends = []
    for entry, points in growth.by_entry.items():
        last = points.iloc[-1]
        name = f"{wrapped(entry, 18, 2)} {growth.shown_exponent(entry, column)}"
        ends.append(End(float(last["seconds"]), float(last[column] * MEASURES[column].scale), name))
    name_ends(axes, ends)
