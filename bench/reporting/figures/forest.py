"""What forest plots share: claims one below the other, each with its interval, and a look for each verdict."""

from collections.abc import Collection, Sequence
from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.reporting.analysis import Claim
from bench.stats.inference import Verdict

__all__ = ["draw_claim", "verdict_legend"]

_LOOKS: dict[Verdict, dict[str, Any]] = {
    "significant": {"color": "#0173b2"},
    "undecided": {"color": "#de8f05", "markerfacecolor": "white"},
    "not significant": {"color": "#7f7f7f", "markerfacecolor": "white"},
    "checkpoints differ": {"color": "#7f7f7f"},
    "not shown": {"color": "#7f7f7f", "markerfacecolor": "white"},
}
_WORDS: dict[str, str] = {
    "significant": "significant (p of .05 or less, Holm)",
    "checkpoints differ": "these checkpoints differ (another seed may turn it around)",
    "not shown": "not shown, of these checkpoints",
}


def draw_claim(axes: Axes, claim: Claim, y: float) -> None:
    """Draw a difference as a point, its 95% interval as a line."""
    found, look = claim.difference, _LOOKS[claim.verdict]
    axes.plot([float(found.low), float(found.high)], [y, y], color=look["color"], linewidth=1.4, zorder=2)
    axes.plot(float(found.value), y, "o", markersize=4.5, zorder=3, **look)


def verdict_legend(figure: Figure, verdicts: Collection[Verdict], others: Sequence[Line2D | Patch] = ()) -> None:
    """Write below a figure what the looks of these verdicts mean, and `others` behind them."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], marker="o", markersize=4.5, label=_WORDS.get(verdict, verdict), **_LOOKS[verdict])
        for verdict in get_args(Verdict)
        if verdict in verdicts
    ]
    figure.legend(handles=[*handles, *others], loc="outside lower center", ncols=3, frameon=False, fontsize=7)
