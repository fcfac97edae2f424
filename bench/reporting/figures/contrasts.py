"""The contrasts' figure: what a suite asked before any result was read, and what came of it (a forest plot)."""

import textwrap
from itertools import accumulate, pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.reporting.analysis import Analysis, Contrast
from bench.reporting.figures.forest import draw_claim, verdict_legend
from bench.reporting.figures.style import draw, new_figure
from bench.reporting.tables.contrasts import contrast_table
from bench.reporting.text import figure_text
from bench.text import printable

__all__ = ["draw_contrasts"]

# a page's width, and a line of text, in inches; the characters that have room beside the panel
_WIDTH, _LINE, _CHARACTERS = 6.9, 0.125, 46
# of a question; the table has all of it
_MOST_LINES = 4
_SHADE: dict[str, Any] = {"color": "#e4e4e4", "zorder": 0}
_NARROWER: dict[str, Any] = {"color": "#7f7f7f", "linewidth": 4, "alpha": 0.5, "zorder": 1.5}


def draw_contrasts(analysis: Analysis) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    caption = (
        "What the suite asked before any result was read: each declared contrast as a weighted difference in {metric} "
        "on eval, with its 95% interval. The shaded band is of differences within {margin}: a contrast is equivalent "
        "to none where its 90% interval, drawn thick, lies in that band."
    )
    words = {"metric": analysis.primary.label, "margin": f"{analysis.margin:g}"}
    return draw({"contrasts": (_forest, caption)}, analysis.results.folder, analysis, **words)


def _forest(analysis: Analysis) -> Figure | None:
    """Draw a contrast below the other, as they were declared; y counts lines of text."""
    claims = [contrast.claim for contrast in analysis.contrasts if contrast.claim]
    if not claims:
        return None
    cells = contrast_table(analysis.contrasts, analysis.margin).cells
    texts = [(_wrapped(name), _wrapped(question)) for name, question, *_ in cells]
    # half a line between two
    ends = [*accumulate((len(name) + len(question) + 0.5 for name, question in texts), initial=0.0)]
    figure, axes = new_figure(_WIDTH, 1.2 + _LINE * ends[-1])
    axes.axvspan(-analysis.margin, analysis.margin, **_SHADE)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    lines = zip(analysis.contrasts, texts, cells, pairwise(ends), strict=True)
    for contrast, (name, question), (_, _, value, between, *_), (top, end) in lines:
        middle = (top + end - 0.5) / 2
        _write(axes, name, top + len(name) / 2, weight="bold")
        _write(axes, question, top + len(name) + len(question) / 2, color="#444444")
        _draw(axes, contrast, middle)
        numbers = f"{value} ({between})" if value else "not computed"
        axes.text(1.02, middle, numbers, transform=axes.get_yaxis_transform(), fontsize=7, va="center")
    axes.set_ylim(ends[-1], -0.5)
    axes.set_yticks([])
    axes.set_xlabel(f"weighted difference in {analysis.primary.label} on eval, 95% interval", fontsize=8)
    axes.set_title(figure_text(analysis.results.title))
    others: list[Line2D | Patch] = [Patch(label=f"differences within {analysis.margin:g}", **_SHADE)]
    if any(claim.difference.narrower for claim in claims):
        others.append(Line2D([], [], label="90% interval", **_NARROWER))
    verdict_legend(figure, {claim.verdict for claim in claims}, others)
    return figure


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), _CHARACTERS, max_lines=_MOST_LINES, placeholder=" ...")


def _write(axes: Axes, lines: list[str], middle: float, **look: Any) -> None:
    """Write lines to the left of a panel, around a height."""
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
    axes.text(-0.02, middle, "\n".join(lines), fontsize=7, **place, **look)


def _draw(axes: Axes, contrast: Contrast, y: float) -> None:
    if claim := contrast.claim:
        draw_claim(axes, claim, y)
        if claim.difference.narrower:
            axes.plot([float(end) for end in claim.difference.narrower], [y, y], **_NARROWER)
