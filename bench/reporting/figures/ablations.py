"""The ablations' figure: differences to their bases with intervals, one below the other (a forest plot)."""

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.reporting.analysis import Ablation, Analysis
from bench.reporting.figures.style import new_figure, save

NAME = "ablations"
CAPTION = "Ablations: difference in mAP to the base, with 95% intervals."
# of a verdict: colour, and whether the marker is filled
LOOKS = {"different": ("#0173b2", True), "unresolved": ("#de8f05", False), "not shown": ("#7f7f7f", False)}


def draw_ablations(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; returns file stem to caption, as `draw_all`."""
    if not analysis.ablations:
        for suffix in (".png", ".svg", ".pdf"):
            (folder / NAME).with_suffix(suffix).unlink(missing_ok=True)
        return {}
    forest(analysis, folder / NAME)
    return {NAME: CAPTION}


def forest(analysis: Analysis, path: Path) -> None:
    """A group a base, in the suite's order; the zero line is the base."""
    by_base = sorted(analysis.ablations, key=lambda a: [b.base.label for b in analysis.ablations].index(a.base.label))
    groups = [(base, list(group)) for base, group in groupby(by_base, key=lambda a: a.base.label)]
    lines = len(by_base) + len(groups)
    figure, axes = new_figure(7.0, 1.3 + 0.19 * lines)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    labels, y = [], 0
    for base, group in groups:
        labels.append(f"base: {base}, mAP {group[0].base.mean('metrics', 'map'):.3f}")
        axes.axhspan(y - 0.5, y + 0.5, color="#eeeeee", zorder=0)
        for ablation in group:
            y += 1
            labels.append(ablation.row.label)
            _draw(axes, ablation, y)
        y += 1
    axes.set_yticks(range(lines), labels, fontsize=7)
    for tick, label in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if label.startswith("base: ") else "normal")
    axes.set_ylim(lines - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xlabel("difference in macro mAP on eval to the base, 95% interval")
    axes.set_title(analysis.results.title)
    figure.legend(handles=_legend(by_base), loc="outside lower center", ncols=3, frameon=False, fontsize=7)
    save(figure, path)


def _draw(axes: Axes, ablation: Ablation, y: int) -> None:
    found = ablation.difference
    colour, filled = LOOKS[ablation.verdict]
    axes.plot([float(found.low), float(found.high)], [y, y], color=colour, linewidth=1.4, zorder=2)
    face = colour if filled else "white"
    axes.plot(float(found.value), y, "o", color=colour, markerfacecolor=face, markersize=4.5, zorder=3)


def _legend(ablations: list[Ablation]) -> list[Line2D]:
    words = {"different": "different (p of .05 or less, Holm)", "not shown": "not shown to differ"}
    present = [verdict for verdict in LOOKS if any(a.verdict == verdict for a in ablations)]
    return [
        Line2D([], [], color=LOOKS[v][0], marker="o", markersize=4.5, label=words.get(v, v),
               markerfacecolor=LOOKS[v][0] if LOOKS[v][1] else "white")
        for v in present
    ]  # fmt: skip
