"""Spectrograms of generated sounds beside the real one."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.reporting.analysis import Analysis
from bench.reporting.figures.spectrograms import draw_spectrogram
from bench.reporting.figures.style import FULL, Figures, draw, set_style
from bench.reporting.sounds import REAL, FoundSound, sounds_of, way_of_all
from bench.reporting.text import figure_text

__all__ = ["draw_sounds"]

# panels: of more, a page has no room
_MOST = 12
# inches
_HEIGHT = 1.25


def draw_sounds(analysis: Analysis) -> dict[str, str]:
    """Draw the sounds of `bench generate` in a results folder; return the figure's stem and caption, if any."""
    found = sounds_of(analysis.results, [standing.system for standing in analysis.standings])
    shown = dict(list(found.items())[:_MOST])
    way, left = way_of_all(found), len(found) - len(shown)
    parts = [
        f"Spectrograms of what trained models generate{f' {way}' if way else ''}, the best system first, in dB below "
        "the loudest point of each panel."
    ]
    if REAL in found:
        parts.append("Beside them what really followed.")
    if left:
        parts.append(f"Not drawn, for want of room: {left} more.")
    figures: Figures = {"sounds": (_panels, "{sounds}")}
    return draw(figures, analysis.results.folder, shown, sounds=" ".join(parts))


def _panels(found: dict[str, FoundSound], width: float = FULL) -> Figure | None:
    """Return a panel a sound; a folder without any has no figure."""
    if not found:
        return None
    set_style()
    columns = min(3 if width == FULL else 1, len(found))
    rows = -(-len(found) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, _HEIGHT * rows + 0.3), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    panels = grid.ravel()
    for axes, (name, sound) in zip(panels, found.items(), strict=False):
        extent = (0, sound.seconds, 0, sound.sample_rate / 2000)
        image = draw_spectrogram(axes, sound.power, extent, bar=False)
        axes.set_ylabel("")
        axes.set_title(figure_text(name, 36), loc="left", fontweight="normal")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    # the lowest that is drawn in each column has the ticks
    for axes in panels[len(found) - columns : len(found)]:
        axes.tick_params(labelbottom=True)
    panels[0].set_xlim(0, max(sound.seconds for sound in found.values()))
    figure.supxlabel("time (s)")
    figure.supylabel("frequency (kHz)")
    figure.colorbar(image, ax=grid, label="dB", pad=0.01, aspect=14 * rows)
    return figure
