"""What figures share: sizes for print, one colour a family, one look a system, hover texts, and files.

A figure is drawn as wide as a page's text and as wide as one of its two columns, at the size that it is printed in; so
no text is below `SMALL` on paper.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import cycle, product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from bench.disk import write_bytes
from bench.store import ResultsFolder
from bench.text import printable

__all__ = [
    "COLUMN", "FAMILIES", "FULL", "GREY", "INK", "SMALL", "Figures", "Look", "colour_of", "draw", "hover",
    "log_x", "looks", "new_figure", "plain_ticks", "save", "set_style",
]  # fmt: skip

# inches: the text of a page with two columns, and one of these
FULL, COLUMN = 6.9, 3.3
# points: the least that is read on paper, and what axes and names are written in
SMALL, _TEXT = 6.5, 7.5
# Two colours that protanopes and deuteranopes tell apart, each with a contrast of 3:1 or more on white; a third kind is
# dark grey, so that it is told by its lightness.
FAMILIES = {"cnn": "#0072b2", "transformer": "#d55e00"}
_OTHER = "#4d4d4d"
# of text; of what only guides the eye
INK, GREY = "#1b1f24", "#8a8a8a"

# file stem to what draws it at a width in inches, or returns None where it has nothing to show, and its caption
Figures = Mapping[str, tuple[Callable[..., Figure | None], str]]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))
# what a file would say of the moment and the version that it was drawn by
_DATELESS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
# of a figure as wide as one column, for paper and, as SVG, for a phone
_COLUMN_NAME = "{}_column"
# pixels an inch of a PNG: twice what a screen has
DOTS = 192
# of an artist whose hover text follows, in hexadecimal
_HOVER = "hover-"


@dataclass(frozen=True)
class Look:
    """How a system is drawn: its family's colour, and a marker and dashes that no other system of it has."""

    colour: str
    marker: str
    is_filled: bool
    dashes: Any

    @property
    def point(self) -> dict[str, Any]:
        """Options of Axes.plot for its points."""
        face = self.colour if self.is_filled else "white"
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.colour}

    @property
    def line(self) -> dict[str, Any]:
        """Options of Axes.plot for its line with points."""
        return self.point | {"linestyle": self.dashes}


def colour_of(family: str) -> str:
    """Return a family's colour."""
    return FAMILIES.get(family, _OTHER)


def looks(families: Mapping[str, str]) -> dict[str, Look]:
    """Return a look for each name, whose family is given, in the order of appearance within a family.

    The first 24 of a family differ in marker or filling.
    """
    free: dict[str, Iterable[Any]] = {}
    found = {}
    for name, family in families.items():
        colour = colour_of(family)
        number = free.setdefault(colour, cycle(enumerate(product((True, False), _MARKERS))))
        place, (is_filled, marker) = next(iter(number))
        found[name] = Look(colour, marker, is_filled, _DASHES[place % len(_DASHES)])
    return found


def new_figure(width: float = FULL, height: float = 4.0) -> tuple[Figure, Axes]:
    """Return a figure of so many inches, with one panel."""
    set_style()
    return plt.subplots(figsize=(width, height), layout="constrained")


def set_style() -> None:
    sizes = ("axes.labelsize", "axes.titlesize", "font.size", "figure.labelsize", "figure.titlesize")
    small = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
    settings: dict[str, Any] = dict.fromkeys(sizes, _TEXT) | dict.fromkeys(small, SMALL)
    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    # a $ in a name begins no formula; embedded fonts are whole TrueType ones, which every printer takes
    settings |= {"svg.hashsalt": "bench", "pdf.fonttype": 42, "text.parse_math": False, "axes.titleweight": "bold"}
    settings |= {"axes.linewidth": 0.6, "grid.linewidth": 0.4, "grid.color": "#e3e3e3", "lines.linewidth": 1.1}
    settings |= {"axes.edgecolor": "#b0b0b0", "legend.frameon": False}
    # matplotlib's own font: others, which seaborn prefers, are not on every machine, and are as wide as they are
    sns.set_theme(context="paper", style="whitegrid", font="DejaVu Sans", rc=settings | colours)


def draw(figures: Figures, folder: ResultsFolder, *given: Any, **words: str) -> dict[str, str]:
    """Draw figures into a results folder; return file stem to caption, which has `words` filled in.

    NAME.pdf, .svg and .png are as wide as a page's text, NAME_column.pdf and .svg as one of two columns.
    """
    made = {}
    for name, (function, caption) in figures.items():
        full, column = folder.report_file(name), folder.report_file(_COLUMN_NAME.format(name))
        for width, path, suffixes in ((FULL, full, (*_DATELESS,)), (COLUMN, column, (".pdf", ".svg"))):
            if figure := function(*given, width=width):
                save(figure, path, suffixes)
                made[name] = caption.format(**words)
            else:
                # of an earlier report, which had more systems
                for suffix in suffixes:
                    path.with_suffix(suffix).unlink(missing_ok=True)
    return made


def save(
    figure: Figure, path: Path, suffixes: Iterable[str] = tuple(_DATELESS), metadata: Mapping[str, str] | None = None
) -> None:
    """Save as PNG, SVG and PDF, without the date, so that the same figure has the same bytes; and close it."""
    with warnings.catch_warnings():
        # names may be in any script
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.draw_without_rendering()
        # laid out once: for each format again, it would take as long as the drawing
        figure.set_layout_engine("none")
        for suffix in suffixes:
            file = io.BytesIO()
            figure.savefig(file, format=suffix[1:], metadata=_DATELESS[suffix] | dict(metadata or {}), dpi=DOTS)
            drawn = file.getvalue()
            write_bytes(path.with_suffix(suffix), _with_hovers(drawn.decode()).encode() if suffix == ".svg" else drawn)
    plt.close(figure)


def hover(artist: Artist, text: str) -> None:
    """Give an artist a text that a browser shows where a pointer rests on it: the <title> of its part of the SVG."""
    # XML has no control characters, which a name may hold; the line ends are ours
    artist.set_gid(_HOVER + printable(text, lines=True).encode().hex())


def _with_hovers(svg: str) -> str:
    def titled(found: re.Match[str]) -> str:
        return f"<g><title>{escape(bytes.fromhex(found[1]).decode())}</title>"

    return re.sub(rf'<g id="{_HOVER}([0-9a-f]+)">', titled, svg)


def log_x(axes: Axes, *steps: int) -> None:
    """Make x logarithmic, with ticks at these multiples of powers of ten: 10k, 30k, 100k."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def plain_ticks(*logarithmic: Axis) -> None:
    """Write the ticks of logarithmic axes as numbers: matplotlib's own are formulas, which `set_style` switches off."""
    for axis in logarithmic:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
