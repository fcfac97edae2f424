"""Spectrograms of sounds."""

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from bench.disk import whole_file
from bench.reporting.figures.style import FULL, new_figure
from bench.reporting.tags import SOFTWARE, Floats
from bench.reporting.text import figure_text

__all__ = ["DOTS", "PIXELS", "draw_spectrogram", "spectrogram_figure"]

# columns of a spectrogram, at most
PIXELS = 1000
# an inch, twice those of a screen
DOTS = 192
_FLOOR_DB = -80.0


def spectrogram_figure(power: Floats, seconds: float, sample_rate: int, title: str, path: Path) -> None:
    """Draw a spectrogram (frequencies, columns), from 0 Hz to half the sample rate, as PNG."""
    figure, axes = new_figure(FULL, 2.6)
    draw_spectrogram(axes, power, (0, seconds, 0, sample_rate / 2000))
    axes.set_xlabel("time (s)")
    # no caption goes with the file
    axes.set_title(figure_text(title, 100), loc="left", fontweight="normal")
    with warnings.catch_warnings(), whole_file(path) as temporary:
        # a title may be in any script
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(temporary, format="png", metadata={"Software": SOFTWARE}, dpi=DOTS)
    plt.close(figure)


def draw_spectrogram(axes: Axes, power: Floats, extent: tuple[float, float, float, float]) -> None:
    """Draw power (frequencies, columns) in dB below its highest; `extent` is of time in any unit, and of kHz."""
    highest = max(float(power.max()), np.finfo(float).tiny)
    decibels = 10 * np.log10(np.maximum(power / highest, 10 ** (_FLOOR_DB / 10)))
    image = axes.imshow(
        decibels, cmap="magma", vmin=_FLOOR_DB, vmax=0, extent=extent, origin="lower", aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axes.grid(False)
    axes.set_ylabel("frequency (kHz)")
    axes.figure.colorbar(image, ax=axes, label="dB", pad=0.02)
