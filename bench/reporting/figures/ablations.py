"""The ablations' figure: differences to their bases with intervals, one below the other (a forest plot)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from bench.reporting.analysis import Ablation, Analysis
from bench.reporting.basis import axis_label, basis
from bench.reporting.figures.forest import (
    draw_claim,
    forest,
    numbers,
    reading,
    verdict_legend,
    write_left,
    write_right,
)
from bench.reporting.figures.style import COLUMN, FULL, GREY, draw
from bench.reporting.systems import System
from bench.reporting.text import figure_text

__all__ = ["draw_ablations"]

# characters that have room beside the panel, in a figure as wide as a page and in a narrower one
_WIDE, _NARROW = 46, 36
# of several changes, those that are written out, and values of a list
_CHANGES, _VALUES = 2, 3
# between two groups, in lines
_GAP = 0.4


@dataclass(frozen=True)
class _Heading:
    """A line above ablations; a lower one is below another heading."""

    text: str
    is_lower: bool = False


def draw_ablations(analysis: Analysis) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    caption = (
        "What each change does: difference in {metric} on eval to the base ({base} where no other is named), with its "
        "95% interval, the best on top within a group.{rescored} {reading} On {basis}."
    )
    words = dict.fromkeys(("metric", "base", "rescored", "reading", "basis"), "")
    if analysis.ablations:
        main, claims = _main_base(analysis.ablations), [ablation.claim for ablation in analysis.ablations]
        words = {"metric": analysis.primary.label, "reading": reading(claims, analysis.margin)}
        words |= {"base": f"{main.label}, {main.score:.3f},", "basis": basis(analysis)}
        rescores = any(ablation.system.spec.rescores for ablation in analysis.ablations)
        words["rescored"] = " Rescored are the weights of the base, without a training." if rescores else ""
    return draw({"ablations": (_forest, caption)}, analysis.results.folder, analysis, **words)


def _main_base(ablations: Sequence[Ablation]) -> System:
    """Return the base of most ablations, of several the first."""
    (label, _), *_ = Counter(ablation.base.label for ablation in ablations).most_common()
    return next(ablation.base for ablation in ablations if ablation.base.label == label)


def _forest(analysis: Analysis, *, width: float = FULL) -> Figure | None:
    """Draw a group a theme, in it a list a base, the best on top; values to the right where there is room."""
    if not analysis.ablations:
        return None
    is_wide = width > COLUMN
    lines = _lines(analysis)
    figure, axes = forest(width, lines[-1][0] + 1, analysis.margin)
    if is_wide:
        write_right(axes, "difference [95% interval]", -0.9, color=GREY)
    for y, line in lines:
        if isinstance(line, _Heading):
            look = {"color": "#5a5a5a"} if line.is_lower else {"weight": "bold"}
            write_left(axes, [figure_text(line.text, _WIDE if is_wide else _NARROW)], y, **look)
            continue
        axes.axhline(y, color="#ececec", linewidth=0.5, zorder=0.5)
        write_left(axes, [_label(line, _WIDE if is_wide else _NARROW)], y)
        draw_claim(axes, line.claim, y, figure_text(f"{line.system.label}, base {line.base.label}", 160))
        if is_wide:
            write_right(axes, numbers(line.claim), y)
    axes.set_xlabel(f"difference in {axis_label(analysis, ' on eval to the base' if is_wide else '')}")
    verdict_legend(figure, [ablation.claim for ablation in analysis.ablations], analysis.margin)
    return figure


def _lines(analysis: Analysis) -> list[tuple[float, Ablation | _Heading]]:
    """Return headings and ablations, each with its place, in lines from the top.

    Themes and bases come in the suite's order, ablations of one base the best first. What has no theme stands under
    its base.
    """
    groups: dict[str, dict[str, list[Ablation]]] = {}
    for ablation in analysis.ablations:
        base = f"base {ablation.base.label}"
        group = analysis.results.themes.get(ablation.system.name) or base
        groups.setdefault(group, {}).setdefault(base, []).append(ablation)
    main, key = f"base {_main_base(analysis.ablations).label}", analysis.primary.key
    lines: list[tuple[float, Ablation | _Heading]] = []
    y = 0.0
    for group, bases in groups.items():
        for number, (base, ablations) in enumerate(bases.items()):
            ranked = sorted(ablations, key=lambda each: key(float(each.claim.difference.value)))
            below = "" if base in (main, group) else base
            headings = _headings("" if number else group, below)
            of_base: list[Ablation | _Heading] = [*headings, *ranked]
            lines += [(y + place, line) for place, line in enumerate(of_base)]
            y += len(of_base)
        y += _GAP
    return lines


def _headings(group: str, base: str) -> list[_Heading]:
    """Return what stands above the ablations of one base: the group, if these are its first, and the base."""
    if group and base and len(together := f"{group}, {base}") <= _NARROW:
        return [_Heading(together)]
    return [_Heading(text, is_lower=text == base) for text in (group, base) if text]


def _label(ablation: Ablation, room: int) -> str:
    """Return what an ablation changes: depth 3 → 1; of what has no room only the first, and how many more there are."""
    end = " (rescored)" if ablation.system.spec.rescores else ""
    # none where it is a pack or code that differs
    changes = [_change(name, *values) for name, values in ablation.changed.items()] or [ablation.system.label]
    for count in range(min(_CHANGES, len(changes)), 0, -1):
        more = len(changes) - count
        text = ", ".join(changes[:count]) + (f" and {more} more" if more else "") + end
        if len(text) <= room:
            break
    return figure_text(text, room)


def _change(name: str, old: Any, new: Any) -> str:
    field = name.removeprefix("train.").replace("_", " ")
    before = "" if old is None else f"{_words(old)} "
    return f"{field} {before}\N{RIGHTWARDS ARROW} {_words(new)}"


def _words(value: Any) -> str:
    """Return a setting's value as a reader would write it: 0.5, yes, log mel, 2+4+8."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == []:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        shown = [*map(_words, value)]
        return "+".join(shown if len(shown) <= _VALUES else [shown[0], "\N{HORIZONTAL ELLIPSIS}", shown[-1]])
    return str(value).replace("_", " ")
