"""Learning curves: the score on val while training, in small panels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from bench.reporting.analysis import Analysis, Standing
from bench.reporting.basis import axis_label
from bench.reporting.figures.panels import (
    LINE,
    POINTS,
    End,
    by_family,
    family_panels,
    name_ends,
    name_length,
    named,
    wrapped,
)
from bench.reporting.figures.style import COLUMN, FULL, SMALL, colour_of, hover, set_style
from bench.reporting.systems import System

__all__ = ["has_own_panels", "learning_curves", "trained"]

# systems that have a panel each; of more, those of a family share one
_MOST_PANELS = 12
# a panel's height in inches; characters of a line of its name
_HEIGHT, _CHARACTERS = 1.15, 24
_STEPS, _ELSEWHERE = "training steps", "#dedede"


@dataclass(frozen=True)
class _Curves:
    """A system's scores on val."""

    system: System
    # step to score, of each seed
    seeds: tuple[pd.Series, ...]
    # over the steps that all seeds have reached
    mean: pd.Series
    # on eval, before the first step; None where training began from other weights than the seed's
    untrained: float | None

    @property
    def colour(self) -> str:
        return colour_of(self.system.first.family)


def trained(analysis: Analysis) -> list[Standing]:
    """Return the systems that were trained: not those that score the weights of others in another way."""
    return [standing for standing in analysis.compared if not standing.system.spec.rescores]


def has_own_panels(analysis: Analysis) -> bool:
    """Return whether each system has a panel of its own."""
    return len(trained(analysis)) <= _MOST_PANELS


def learning_curves(analysis: Analysis, *, width: float = FULL) -> Figure | None:
    """Draw the score on val while training: a panel a system where there are few, else a panel a family.

    At step 0 stands the untrained score on eval: none is known on val. Returns None where nothing was trained.
    """
    shown = trained(analysis)
    if not shown:
        return None
    curves = {standing.system.label: _read(standing.system, analysis.primary.name) for standing in shown}
    draw = _by_system if has_own_panels(analysis) else _by_family
    return draw(by_family(shown), curves, axis_label(analysis, " on val"), width)


def _read(system: System, metric: str) -> _Curves:
    histories = [run.folder.history() for run in system.runs]
    seeds = tuple(history.drop_duplicates("step", keep="last").set_index("step")["val_score"] for history in histories)
    together = pd.concat(seeds, axis=1, join="inner").sort_index()
    untrained = None if system.spec.init else system.mean("untrained", metric)
    return _Curves(system, seeds, together.mean(axis=1, skipna=False), untrained)


def _by_system(
    families: Mapping[str, Sequence[Standing]], curves: Mapping[str, _Curves], label: str, width: float
) -> Figure:
    """Draw a panel a system, its seeds thin and their mean bold, before the means of the others."""
    set_style()
    shown = [curves[standing.system.label] for family in families.values() for standing in family]
    columns = min(len(shown), 2 if width <= COLUMN else 4)
    rows = -(-len(shown) // columns)
    titles = [wrapped(own.system.label, _CHARACTERS) for own in shown]
    height = _HEIGHT + max(title.count("\n") for title in titles) * LINE / POINTS
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, height * rows + 0.35), squeeze=False, sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for axes, own, title in zip(grid.flat, shown, titles, strict=False):
        for other in shown:
            axes.plot(other.mean, color=_ELSEWHERE, linewidth=0.8, zorder=1)
        for seed in own.seeds:
            axes.plot(seed, color=own.colour, linewidth=0.5, alpha=0.6, zorder=2)
        _draw_mean(axes, own)
        axes.set_title(title, loc="left", fontsize=SMALL, fontweight="normal", pad=3)
    _limit(grid.flat)
    for free in range(len(shown), grid.size):
        grid.flat[free].set_visible(False)
        grid.flat[free - columns].tick_params(labelbottom=True)
    figure.supxlabel(_STEPS)
    # beside a single row, a long one would be cut off
    figure.supylabel(label if len(grid) > 1 else "\n(".join(label.rsplit(" (", 1)))
    return figure


def _by_family(
    families: Mapping[str, Sequence[Standing]], curves: Mapping[str, _Curves], label: str, width: float
) -> Figure:
    """Draw a panel a family, the mean over seeds of each of its systems, and name some."""
    figure, panels = family_panels(width, families, _STEPS, label)
    for family, axes in panels.items():
        for standing in families[family]:
            is_named = standing in named(families[family])
            _draw_mean(axes, curves[standing.system.label], is_bold=is_named)
    _limit(panels.values())
    for family, axes in panels.items():
        means = {standing.system.label: curves[standing.system.label].mean for standing in named(families[family])}
        ends = [End(mean.index[-1], mean.iloc[-1], wrapped(name, name_length(width))) for name, mean in means.items()]
        name_ends(axes, ends)
    return figure


def _draw_mean(axes: Axes, curves: _Curves, *, is_bold: bool = True) -> None:
    look: dict[str, Any] = {"color": curves.colour, "alpha": 1.0 if is_bold else 0.45, "zorder": 3 if is_bold else 2}
    (line,) = axes.plot(curves.mean, linewidth=1.5 if is_bold else 0.6, **look)
    hover(line, f"{curves.system.label}: {curves.system.val_score:.3f} on val at the step that was kept")
    if curves.untrained is not None and len(curves.mean):
        start = [0, curves.mean.index[0]], [curves.untrained, curves.mean.iloc[0]]
        axes.plot(*start, linestyle=(0, (1, 1.5)), linewidth=0.8, **look)
        axes.plot(0, curves.untrained, "o", markersize=2.8, markerfacecolor="white", clip_on=False, **look)


def _limit(panels: Iterable[Axes]) -> None:
    for axes in panels:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
