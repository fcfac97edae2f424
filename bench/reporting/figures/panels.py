"""What figures of many systems share: a panel a family, names at the ends of lines, texts for little room."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from bench.reporting.analysis import Standing
from bench.reporting.basis import FAMILY_NAMES
from bench.reporting.figures.style import COLUMN, FAMILIES, GREY, SMALL, set_style
from bench.reporting.text import figure_text, without_zero

__all__ = [
    "LINE", "POINTS", "End", "by_family", "family_colours", "family_panels", "family_title", "name_ends", "name_length",
    "named", "short", "text_width", "wrapped",
]  # fmt: skip

# an inch, and a line of the smallest text, in points
POINTS, LINE = 72, 8.5
_TITLES = FAMILY_NAMES | {"hybrid": "hybrids"}
_COLOURS = {"cnn": "blue", "transformer": "vermilion"}
# a panel's height in inches, below others and beside them; characters of a name for which no panel is narrowed
_STACKED, _BESIDE, _LONG = 1.5, 2.3, 26
# systems of a family that are named: all of so many, else the best and the last
_MOST_NAMES, _BEST = 6, 3
_LEADER: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.5, "color": GREY, "shrinkA": 1, "shrinkB": 1.5}


@dataclass(frozen=True)
class End:
    """Where a line ends, in data coordinates, and the name that is to stand beside it."""

    x: float
    y: float
    name: str


def by_family(standings: Iterable[Standing]) -> dict[str, list[Standing]]:
    """Return the systems of each family, that of the best system first, and best first within each."""
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        groups.setdefault(standing.system.first.family, []).append(standing)
    return groups


def family_title(family: str) -> str:
    """Return what the systems of a family are called, in the plural."""
    return _TITLES.get(family, family)


def family_colours(families: Iterable[str]) -> str:
    """Return a caption's sentence on colours: 'Convolutional networks are blue, transformers are vermilion.'"""
    known = sorted(set(families), key=lambda family: ([*FAMILIES, family].index(family), family))
    groups = groupby(known, lambda family: _COLOURS.get(family, "dark grey"))
    text = ", ".join(f"{' and '.join(map(family_title, group))} are {colour}" for colour, group in groups)
    return f"{text[:1].upper()}{text[1:]}."


def family_panels(
    width: float, families: Mapping[str, Sequence[Standing]], x: str, y: str
) -> tuple[Figure, Mapping[str, Axes]]:
    """Return a figure with a panel a family, and with names of its axes.

    On a page's width they stand side by side; in a column, and where names are long, one below the other.
    """
    set_style()
    longest = max(len(standing.system.label) for family in families.values() for standing in family)
    is_stacked = width <= COLUMN or longest > _LONG
    rows, columns = (len(families), 1) if is_stacked else (1, len(families))
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, (_STACKED if is_stacked else _BESIDE) * rows + 0.3), squeeze=False, sharex=True,
        sharey=True, layout="constrained",
    )  # fmt: skip
    panels = dict(zip(families, grid.flat, strict=True))
    for family, axes in panels.items():
        axes.set_title(family_title(family), loc="left")
    figure.supxlabel(x)
    figure.supylabel(y)
    return figure, panels


def named(standings: Sequence[Standing]) -> Sequence[Standing]:
    """Return the systems of a family whose names stand beside their lines: of many the best ones and the last."""
    return standings if len(standings) <= _MOST_NAMES else [*standings[:_BEST], standings[-1]]


def name_length(width: float) -> int:
    """Return how many characters a line of a name may have beside a panel."""
    return _LONG if width <= COLUMN else 2 * _LONG


def name_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write names to the right of a panel whose limits are set, each as near to the end of its line as there is room.

    Names that stand elsewhere than at an end are joined to it.
    """
    if not ends:
        return
    axes.figure.figure.draw_without_rendering()
    area, points = axes.get_window_extent(), POINTS / axes.figure.dpi
    height, (_, right) = area.height * points, axes.get_xlim()
    # whatever the axis's scale
    heights = [(axes.transData.transform((end.x, end.y))[1] - area.y0) * points for end in ends]
    places = _apart(heights, [LINE * (1 + end.name.count("\n")) for end in ends], height)
    look: dict[str, Any] = {"fontsize": SMALL, "va": "center", "linespacing": 1.0, "annotation_clip": False}
    for end, at, place in zip(ends, heights, places, strict=True):
        is_joined = abs(place - at) > LINE / 3 or end.x < right
        axes.annotate(
            end.name, (end.x, end.y), (1.04, place / height), textcoords="axes fraction",
            arrowprops=_LEADER | {"relpos": (0, 0.5)} if is_joined else None, **look,
        )  # fmt: skip


def _apart(places: Sequence[float], sizes: Sequence[float], most: float) -> list[float]:
    """Return the nearest places to the given ones, of 0 to `most`, where texts of these sizes don't overlap."""
    order = np.argsort(places, kind="stable")
    size = np.array(sizes)[order]
    # of each text's middle from that of the lowest
    above = np.concatenate([[0.0], np.cumsum((size[1:] + size[:-1]) / 2)])
    lowest, highest = size[0] / 2, most - size[-1] / 2 - above[-1]
    free = isotonic_regression(np.array(places)[order] - above).x.clip(lowest, max(lowest, highest))
    found = np.empty(len(places))
    found[order] = free + above
    return [float(place) for place in found]


def short(value: float, *, signed: bool = False) -> str:
    """Return a number to three digits without the zero before its point: '.379', with a sign '+.018'."""
    text = without_zero(f"{value:{'+' if signed else ''}.3f}")
    return text.replace("-", "\N{MINUS SIGN}")


def wrapped(name: str, length: int, lines: int = 3) -> str:
    """Return a name for a figure in so many lines of this length at most, broken between its words."""
    text = figure_text(name, length * lines)
    done: list[str] = []
    for _ in range(lines - 1):
        if len(text) <= length:
            break
        # behind the last sign that parts words; the other lines must have room for the rest
        ends = [found.end() for found in re.finditer(r"[-_ ,=.]+", text[:length])]
        at = next((end for end in reversed(ends) if len(text) - end <= length * (lines - len(done) - 1)), length)
        done.append(text[:at].rstrip())
        text = text[at:]
    return "\n".join([*done, text])


def text_width(figure: Figure, text: str, size: float = SMALL) -> float:
    """Return how wide a text is, in points."""
    probe = figure.text(0, 0, text, fontsize=size)
    width = probe.get_window_extent().width / figure.dpi * POINTS
    probe.remove()
    return float(width)
