"""The ensembles' figure: what two systems know that one does not, a line of dots a system."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.analysis import Analysis
from bench.reporting.basis import setting
from bench.reporting.ensembles import Ensembles, Member
from bench.reporting.figures.panels import LINE, POINTS, family_colours, short, wrapped
from bench.reporting.figures.style import COLUMN, FULL, INK, SMALL, colour_of, draw, hover, new_figure

__all__ = ["draw_ensembles", "gains"]

# points of a system's row beside its text, and of the frame around all; characters of a line of a name
_ROW, _FRAME, _CHARACTERS = 5.5, 36.0, 24
_PALE = "#5a5a5a"
_CAPTION = (
    "What two systems know that one does not, on {setting}: {metric} of the mean of two checkpoints' scores, one of "
    "each system, less that of two checkpoints of the better one; means over at most 3 combinations of seeds. A row "
    "has a dot for each partner of its system, in the colour of the partner's family; the best is named where there is "
    "room. {colours}{own}{single} These checkpoints only: no intervals, and no claim on architectures."
)


def draw_ensembles(analysis: Analysis, found: Ensembles | None) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    words = _words(analysis, found) if found else {}
    return draw({"ensembles": (gains, _CAPTION)}, analysis.results.folder, found, **words)


def _words(analysis: Analysis, found: Ensembles) -> dict[str, str]:
    families = [member.system.first.family for member in found.members]
    has_own = any(member.own for member in found.members)
    has_single = any(pair.baseline_checkpoints == 1 for pair in found.pairs)
    return {
        "metric": analysis.primary.label,
        "setting": setting(analysis),
        "colours": family_colours(families),
        "own": f" Behind a name stands the {analysis.primary.label} of two of its own checkpoints." if has_own else "",
        "single": " Hollow dots: over a single checkpoint, for want of a second seed." if has_single else "",
    }


def gains(found: Ensembles | None, *, width: float = FULL) -> Figure | None:
    """Draw what each system gains with each other one, over two checkpoints of the better of the two.

    Returns None where there are no two systems to average.
    """
    if found is None or not found.pairs:
        return None
    names = [_name(member) for member in found.members]
    rows = (_ROW + LINE * max(1 + name.count("\n") for name in names)) * len(names)
    figure, axes = new_figure(width, (rows + _FRAME) / POINTS)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color=INK, linewidth=0.6, zorder=1)
    for row, member in enumerate(found.members):
        _draw_partners(axes, found, member, row)
        if width > COLUMN:
            _name_best(axes, found, member, row)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, pad=2)
    between = "\n" if width <= COLUMN else " "
    axes.set_xlabel(f"gain in {found.metric.label} over two checkpoints{between}of the better of the two")
    return figure


def _name(member: Member) -> str:
    """Return a system's name, and the score of two of its own checkpoints."""
    own = f"  {short(member.own.score)}" if member.own else ""
    return wrapped(member.system.label, _CHARACTERS) + own


def _draw_partners(axes: Axes, found: Ensembles, member: Member, row: int) -> None:
    for pair in found.pairs:
        labels = [pair.first.label, pair.second.label]
        if member.system.label not in labels:
            continue
        partner = pair.second if pair.first.label == member.system.label else pair.first
        colour = colour_of(partner.first.family)
        look: dict[str, Any] = {"color": colour, "markersize": 4.5, "markeredgewidth": 0.8, "zorder": 3, "alpha": 0.85}
        face = "white" if pair.baseline_checkpoints == 1 else colour
        (dot,) = axes.plot(pair.gain, row, "o", markerfacecolor=face, **look)
        text = f"{pair.gain:+.3f} over {pair.baseline:.3f} ({pair.baseline_checkpoints} of the better)"
        hover(dot, f"{' with '.join(labels)}: {pair.score:.3f}, {text}")


def _name_best(axes: Axes, found: Ensembles, member: Member, row: int) -> None:
    """Write to the right of the panel with which system one gains most."""
    if best := found.best_partner(member):
        partner, pair = best
        text = f"{short(pair.gain, signed=True)} with {wrapped(partner.label, _CHARACTERS)}"
        axes.annotate(
            text, (1, row), (4, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points", fontsize=SMALL,
            color=_PALE, va="center", annotation_clip=False,
        )  # fmt: skip
