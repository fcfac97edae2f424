"""What forest plots share: claims one below the other, each with its interval, and a look for each verdict."""

from collections.abc import Collection, Sequence
from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.reporting.analysis import Claim
from bench.reporting.figures.panels import short
from bench.reporting.figures.style import COLUMN, GREY, INK, SMALL, hover, new_figure
from bench.stats.inference import Verdict

__all__ = ["LINE", "draw_claim", "forest", "numbers", "reading", "verdict_legend", "write_left", "write_right"]

# inches from a line of text to the next, and what axis, its label and the legend take
LINE, _BELOW = 0.125, 0.85
_BAND: dict[str, Any] = {"color": "#e4e9ee", "linewidth": 0, "zorder": 0}
_INTERVAL: dict[str, Any] = {"linewidth": 0.9, "zorder": 2, "solid_capstyle": "butt"}
_NARROWER: dict[str, Any] = {"linewidth": 2.6, "zorder": 2.5, "solid_capstyle": "butt"}
_POINT: dict[str, Any] = {"marker": "o", "markersize": 4.2, "markeredgewidth": 0.9, "linestyle": ""}
# Filled: there is a difference. No colour: those are of the families.
_LOOKS: dict[Verdict, dict[str, Any]] = {
    "significant": {"color": INK},
    "undecided": {"color": INK, "fillstyle": "left", "markerfacecoloralt": "white"},
    "not significant": {"color": GREY, "markerfacecolor": "white"},
    "checkpoints differ": {"color": INK},
    "not shown": {"color": GREY, "markerfacecolor": "white"},
}
_WORDS: dict[Verdict, str] = {"checkpoints differ": "these checkpoints differ"}
# what a caption says of them
_READING: dict[Verdict, str] = {
    "significant": "Filled points differ significantly from 0 (Holm, p of .05 or less).",
    "undecided": "Half-filled points are undecided: more resamples are needed.",
    "checkpoints differ": "Filled points differ for these checkpoints alone: another seed may turn them around.",
}


def forest(width: float, lines: float, margin: float) -> tuple[Figure, Axes]:
    """Return a figure of so many inches, and its panel, where y counts lines of text downwards from 0.

    Zero is a line, and what lies within the margin of equivalence is shaded.
    """
    figure, axes = new_figure(width, _BELOW + LINE * (lines + 1))
    axes.axvspan(-margin, margin, **_BAND)
    axes.axvline(0, color=INK, linewidth=0.7, zorder=1)
    axes.set_ylim(lines, -0.5)
    axes.set_yticks([])
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=4 if width <= COLUMN else 7)
    return figure, axes


def draw_claim(axes: Axes, claim: Claim, y: float, text: str) -> None:
    """Draw a difference as a point, its 95% interval as a line, a 90% interval as a thick one; `text` for hovering."""
    found, look = claim.difference, _LOOKS[claim.verdict]
    axes.plot([float(found.low), float(found.high)], [y, y], color=look["color"], **_INTERVAL)
    if found.narrower:
        axes.plot([float(end) for end in found.narrower], [y, y], color=look["color"], alpha=0.45, **_NARROWER)
    (point,) = axes.plot(float(found.value), y, zorder=3, **_POINT, **look)
    hover(point, f"{text}: {numbers(claim)}, {_WORDS.get(claim.verdict, claim.verdict)}")


def numbers(claim: Claim) -> str:
    """Return a difference and its 95% interval: '+.031 [+.012, +.050]', with a minus sign."""
    found = claim.difference
    rounded = [round(float(each), 3) for each in (found.value, found.low, found.high)]
    # what is rounded to nothing has no sign
    value, low, high = (short(each or 0.0, signed=bool(each)) for each in rounded)
    return f"{value} [{low}, {high}]"


def write_left(axes: Axes, lines: Sequence[str], y: float, **look: Any) -> None:
    """Write lines to the left of a panel, around a height."""
    # letters with descenders would lift a single line
    va = "center" if len(lines) > 1 else "center_baseline"
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": va}
    axes.text(-0.02, y, "\n".join(lines), **{"fontsize": SMALL, "linespacing": 1.15} | place | look)


def write_right(axes: Axes, text: str, y: float, **look: Any) -> None:
    """Write a line to the right of a panel."""
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline"}
    axes.text(1.02, y, text, **{"fontsize": SMALL} | place | look)


def verdict_legend(figure: Figure, claims: Collection[Claim], margin: float) -> None:
    """Write below a figure what the looks of these claims mean."""
    verdicts = {claim.verdict for claim in claims}
    handles: list[Line2D | Patch] = [
        Line2D([], [], label=_WORDS.get(verdict, verdict), **_POINT, **_LOOKS[verdict])
        for verdict in get_args(Verdict)
        if verdict in verdicts
    ]
    handles.append(Patch(label=f"within {margin:g} of 0", **_BAND))
    if any(claim.difference.narrower for claim in claims):
        handles.append(Line2D([], [], color=INK, alpha=0.45, label="90% interval", **_NARROWER))
    columns = 2 if figure.get_figwidth() <= COLUMN else len(handles)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=1.6, columnspacing=1.2)


def reading(claims: Collection[Claim], margin: float) -> str:
    """Return how the looks of these claims are read, in sentences of a caption."""
    verdicts = {claim.verdict for claim in claims}
    sentences = [sentence for verdict, sentence in _READING.items() if verdict in verdicts]
    band = f"The shaded band is of differences within {margin:g}"
    if any(claim.difference.narrower for claim in claims):
        band += ": what has its 90% interval, drawn thick, inside the band is equivalent to none"
    return " ".join([*sentences, f"{band}."])
