"""The contrasts' figure: what a suite asked before any result was read, and what came of it (a forest plot)."""

import textwrap
from collections.abc import Sequence
from itertools import accumulate, pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.analysis import Analysis, Contrast
from bench.reporting.basis import axis_label, basis
from bench.reporting.contrasts import totals
from bench.reporting.figures.forest import (
    draw_claim,
    forest,
    numbers,
    reading,
    verdict_legend,
    write_left,
    write_right,
)
from bench.reporting.figures.style import COLUMN, FULL, draw
from bench.reporting.tables.contrasts import contrast_table
from bench.text import printable

__all__ = ["draw_contrasts"]

# the characters that have room beside the panel, in a figure as wide as a page and in a narrower one
_WIDE, _NARROW = 52, 32
# of these, what is bold has
_BOLD = 0.9
# of a question; the table has all of it
_MOST_LINES = 4


def draw_contrasts(analysis: Analysis) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    claims = [contrast.claim for contrast in analysis.contrasts if contrast.claim]
    caption = (
        "What the suite asked before any result was read: each declared contrast, a weighted difference in {metric} on "
        "eval, with its 95% interval.{sums} {reading} On {basis}."
    )
    sums = [
        f"{total} is the sum of what follows it with = and +."
        for total in totals([contrast.weighed.planned for contrast in analysis.contrasts])
    ]
    words = {"metric": analysis.primary.label, "sums": "".join(f" {text}" for text in sums)}
    words |= {"reading": reading(claims, analysis.margin), "basis": basis(analysis)}
    return draw({"contrasts": (_forest, caption)}, analysis.results.folder, analysis, **words)


def _forest(analysis: Analysis, *, width: float = FULL) -> Figure | None:
    """Draw a contrast below the other, as they were declared; y counts lines of text."""
    claims = [contrast.claim for contrast in analysis.contrasts if contrast.claim]
    if not claims:
        return None
    is_wide = width > COLUMN
    signs, cells = _signs(analysis.contrasts), contrast_table(analysis.contrasts, analysis.margin).cells
    blocks = []
    for contrast, sign, (name, question, *_) in zip(analysis.contrasts, signs, cells, strict=True):
        # numbers have a column of their own where there is room for one
        value = [] if is_wide else [_value(contrast)]
        blocks.append((_wrapped(sign + name, width, _BOLD), value, _wrapped(question, width)))
    # half a line between two
    ends = [*accumulate((sum(map(len, block)) + 0.5 for block in blocks), initial=0.0)]
    figure, axes = forest(width, ends[-1], analysis.margin)
    for contrast, block, (top, end) in zip(analysis.contrasts, blocks, pairwise(ends), strict=True):
        _write(axes, block, top)
        middle = (top + end - 0.5) / 2
        if contrast.claim:
            draw_claim(axes, contrast.claim, middle, printable(contrast.weighed.planned.name))
        if is_wide:
            write_right(axes, _value(contrast), middle)
    axes.set_xlabel(f"weighted difference in {axis_label(analysis, ' on eval' if is_wide else '')}")
    verdict_legend(figure, claims, analysis.margin)
    return figure


def _value(contrast: Contrast) -> str:
    return numbers(contrast.claim) if contrast.claim else "not computed"


def _wrapped(text: str, width: float, share: float = 1.0) -> list[str]:
    room = _WIDE if width > COLUMN else _NARROW
    return textwrap.wrap(printable(text), round(share * room), max_lines=_MOST_LINES, placeholder=" ...")


def _write(axes: Axes, block: Sequence[list[str]], top: float) -> None:
    """Write name, numbers and question to the left of a panel, from a height on downwards."""
    for lines, look in zip(block, ({"weight": "bold"}, {}, {"color": "#5a5a5a"}), strict=True):
        if lines:
            write_left(axes, lines, top + len(lines) / 2, **look)
        top += len(lines)


def _signs(contrasts: Sequence[Contrast]) -> list[str]:
    """Return what stands before each contrast's name, so that a sum reads as one: '', '= ', '+ '."""
    signs, parts = ["" for _ in contrasts], totals([contrast.weighed.planned for contrast in contrasts])
    for place, contrast in enumerate(contrasts):
        for part in range(parts.get(contrast.weighed.planned.name, 0)):
            signs[place + 1 + part] = "+ " if part else "= "
    return signs
