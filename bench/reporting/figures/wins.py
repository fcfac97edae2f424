"""All pairs of systems in a triangle: each difference once, shaded where it is claimed."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.reporting.analysis import Analysis, Pair
from bench.reporting.figures.panels import LINE, POINTS, short, text_width, wrapped
from bench.reporting.figures.style import FULL, INK, SMALL, hover, new_figure
from bench.reporting.tables.table import CLAIMED

__all__ = ["MARKS", "MOST_IN_TRIANGLE", "win_triangle"]

# what stands behind a difference
MARKS: Mapping[str, str] = {"undecided": "?", "checkpoints differ": "c"}
# systems: of more the shades alone would be a cloud; characters of a line of a name
MOST_IN_TRIANGLE, _CHARACTERS = 24, 24
# in points: the figure's margin, a cell's height and the most of its width, what is around a number and beside a name
_EDGE, _HEIGHT, _WIDEST, _AROUND, _BESIDE = 3.0, 11.0, 46.0, 2.5, 4.0
# of the shades, which stand below a triangle without numbers: width and height of their bar, and the height of all
_BAR, _SCALE = (110.0, 6.0), 36.0
# on the darkest of the light ones a number can be read
_LIGHT, _SHADES = (
    ListedColormap(matplotlib.colormaps["Purples"](np.linspace(0.15, darkest, 256))) for darkest in (0.55, 1.0)
)
_PALE = "#5a5a5a"


def win_triangle(analysis: Analysis, *, width: float = FULL) -> Figure | None:
    """Draw by how much each system is better than each below it, best first; in shades alone where numbers don't fit.

    A system's name stands in the triangle's corner: to its right are those below it, above it those that are better.
    Returns None for a single system, and for too many.
    """
    names = [standing.system.label for standing in analysis.compared]
    if not analysis.pairs or len(names) > MOST_IN_TRIANGLE:
        return None
    figure, axes = new_figure(width)
    texts = [wrapped(name, _CHARACTERS) for name in names]
    cell, numbers = _cell_width(figure, texts), [_number(pair) for pair in analysis.pairs]
    is_numbered = max(text_width(figure, number) for number in numbers) + _AROUND <= cell
    lines = max(1 + text.count("\n") for text in texts)
    height = LINE * lines + (_HEIGHT - LINE if is_numbered else 0)
    left = max(text_width(figure, text) - (i + 1) * cell for i, text in enumerate(texts)) + _BESIDE
    _lay_out(figure, axes, (-left, cell * len(names)), height * len(names), 0.0 if is_numbered else _SCALE)
    shades = ScalarMappable(Normalize(0, _largest(analysis.pairs)), _LIGHT if is_numbered else _SHADES)
    for pair, number in zip(analysis.pairs, numbers, strict=True):
        column, row = names.index(pair.second.label), names.index(pair.first.label)
        cell_of_pair = Rectangle((column * cell, row * height), cell, height)
        _draw_cell(axes, pair, cell_of_pair, shades, number if is_numbered else "")
    for i, text in enumerate(texts):
        place = ((i + 1) * cell - _BESIDE, (i + 0.5) * height)
        axes.text(
            *place, text, fontsize=SMALL, ha="right", va="center" if "\n" in text else "center_baseline", linespacing=1
        )
    if not is_numbered:
        _draw_shades(figure, shades, analysis.primary.label)
    return figure


def _cell_width(figure: Figure, names: Sequence[str]) -> float:
    """Return how wide a cell may be, in points, so that all names have room to the left of their rows."""
    room = figure.get_figwidth() * POINTS - 2 * _EDGE - _BESIDE
    behind = range(len(names) - 1, 0, -1)
    # of the last name the row is empty
    widths = [(room - text_width(figure, name)) / cells for name, cells in zip(names[:-1], behind, strict=True)]
    return min(_WIDEST, *widths)


def _number(pair: Pair) -> str:
    value = float(pair.primary.difference.value)
    # by how much the first is better
    return short(value if pair.first.task.primary.higher_is_better else -value) + MARKS.get(pair.primary.verdict, "")


def _largest(pairs: Sequence[Pair]) -> float:
    """Return the largest difference that is claimed."""
    sizes = [abs(float(pair.primary.difference.value)) for pair in pairs if pair.primary.verdict in CLAIMED]
    return max(sizes, default=1.0)


def _lay_out(figure: Figure, axes: Axes, ends: tuple[float, float], rows: float, below: float) -> None:
    """Make the figure as high as its rows and what is below them, and its panel's unit a point; what is drawn ends at
    these two, and stands in the middle."""
    width, height = figure.get_figwidth() * POINTS, rows + 2 * _EDGE + below
    figure.set_size_inches(figure.get_figwidth(), height / POINTS)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set_axis_off()
    middle = sum(ends) / 2
    axes.set_xlim(middle - width / 2, middle + width / 2)
    axes.set_ylim(height - _EDGE, -_EDGE)


def _draw_cell(axes: Axes, pair: Pair, cell: Rectangle, shades: ScalarMappable, number: str) -> None:
    claim, found = pair.primary, pair.primary.difference
    is_claimed = claim.verdict in CLAIMED
    cell.set(facecolor=shades.to_rgba(np.abs(found.value)) if is_claimed else "white")
    cell.set(edgecolor="white" if is_claimed else "#dddddd", linewidth=0.5)
    axes.add_patch(cell)
    p = "" if claim.adjusted_p is None else f", p {claim.adjusted_p:.4f}"
    between = f"{float(found.low):+.3f} to {float(found.high):+.3f}"
    x, y = cell.get_center()
    written = axes.text(x, y, number, fontsize=SMALL, ha="center", va="center_baseline")
    written.set_color(INK if is_claimed else _PALE)
    told = f"{pair.first.label} - {pair.second.label}: {float(found.value):+.3f} ({between}){p}, {claim.verdict}"
    for artist in (cell, written):
        hover(artist, told)


def _draw_shades(figure: Figure, shades: ScalarMappable, metric: str) -> None:
    """Draw what the shades mean below the triangle, at its right end."""
    width, height = (size * POINTS for size in figure.get_size_inches())
    place = ((width - _BAR[0] - 4 * _EDGE) / width, (_SCALE - 3 * _EDGE - _BAR[1]) / height)
    axes = figure.add_axes((*place, _BAR[0] / width, _BAR[1] / height))
    bar = figure.colorbar(shades, cax=axes, orientation="horizontal", format=lambda value, _: short(value))
    bar.outline.set_visible(False)
    bar.locator = matplotlib.ticker.MaxNLocator(4)
    bar.ax.tick_params(labelsize=SMALL, length=2, pad=1)
    bar.set_label(f"difference in {metric}", fontsize=SMALL, labelpad=1)
