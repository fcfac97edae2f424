"""The ablations' figure: differences to their bases with intervals, one below the other (a forest plot)."""

from matplotlib.figure import Figure

from bench.reporting.analysis import Ablation, Analysis
from bench.reporting.figures.forest import draw_claim, verdict_legend
from bench.reporting.figures.style import draw, new_figure
from bench.reporting.text import figure_text

__all__ = ["draw_ablations"]


def draw_ablations(analysis: Analysis) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    caption = "Ablations: difference in {metric} to the base, with 95% intervals."
    return draw({"ablations": (_forest, caption)}, analysis.results.folder, analysis, metric=analysis.primary.label)


def _forest(analysis: Analysis) -> Figure | None:
    """Draw a group a base, in the suite's order; the zero line is the base."""
    if not analysis.ablations:
        return None
    groups: dict[str, list[Ablation]] = {}
    for ablation in analysis.ablations:
        groups.setdefault(ablation.base.label, []).append(ablation)
    lines = len(analysis.ablations) + len(groups)
    figure, axes = new_figure(7.0, 1.3 + 0.19 * lines)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    labels: list[str] = []
    for base, group in groups.items():
        axes.axhspan(len(labels) - 0.5, len(labels) + 0.5, color="#eeeeee", zorder=0)
        labels.append(f"base: {figure_text(base)}, {analysis.primary.label} {group[0].base.score:.3f}")
        for ablation in group:
            draw_claim(axes, ablation.claim, len(labels))
            labels.append(figure_text(ablation.system.label))
    axes.set_yticks(range(lines), labels, fontsize=7)
    for tick, label in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if label.startswith("base: ") else "normal")
    axes.set_ylim(lines - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"difference in {analysis.primary.label} on eval to the base, 95% interval")
    axes.set_title(figure_text(analysis.results.title))
    verdict_legend(figure, {ablation.claim.verdict for ablation in analysis.ablations})
    return figure
