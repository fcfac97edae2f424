"""The ensembles' figure: what two systems know that one does not, pair by pair."""

import numpy as np
from matplotlib.figure import Figure

from bench.reporting.ensembles import Ensembles
from bench.reporting.figures.style import draw, heatmap, new_figure
from bench.reporting.systems import Results
from bench.reporting.text import figure_text

__all__ = ["draw_ensembles"]


def draw_ensembles(results: Results, found: Ensembles | None) -> dict[str, str]:
    """Draw the figure, or remove that of an earlier report; return file stem to caption."""
    caption = (
        "What two systems know that one does not: {metric} of one checkpoint of each, less that of two checkpoints of "
        "the better one (two of each stand behind its name). About these checkpoints only."
    )
    words = {"metric": results.task.primary.label}
    return draw({"ensembles": (_gains, caption)}, results.folder, figure_text(results.title), found, **words)


def _gains(title: str, found: Ensembles | None) -> Figure | None:
    if found is None or not found.pairs:
        return None
    labels = [member.system.label for member in found.members]
    names = [
        f"{shown} {member.own.score:.3f}" if member.own else shown
        for member, shown in zip(found.members, map(figure_text, labels), strict=True)
    ]
    matrix = np.full((len(labels), len(labels)), np.nan)
    text = np.full(matrix.shape, "", dtype=object)
    for pair in found.pairs:
        i, j = labels.index(pair.first.label), labels.index(pair.second.label)
        matrix[i, j] = matrix[j, i] = pair.gain
        text[i, j] = text[j, i] = f"{pair.gain:+.3f}{'s' if pair.baseline_checkpoints == 1 else ''}"
    figure, axes = new_figure(max(5.5, 3.2 + 0.75 * len(labels)), max(3.4, 2.0 + 0.45 * len(labels)))
    limit = np.nanmax(np.abs(matrix)) or 1.0
    heatmap(
        axes, matrix, f"gain over the better, {found.metric.label}", annot=text, fmt="", cmap="PuOr", center=0,
        vmin=-limit, vmax=limit, linewidths=0.5, xticklabels=[*map(figure_text, labels)], yticklabels=names,
    )  # fmt: skip
    # the cells of a system with itself are empty
    axes.grid(False)
    single = "; s: over a single one" if any(pair.baseline_checkpoints == 1 for pair in found.pairs) else ""
    axes.set_title(
        f"{title}: one checkpoint of each, against two of the better one\n"
        f"(these checkpoints only; behind a name: two of its own{single})"
    )
    return figure
