"""Spectrograms of sounds."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from PIL import Image

from bench.reporting.figures.style import COLUMN, DOTS, FULL, new_figure, save
from bench.reporting.tags import SOFTWARE, Floats
from bench.reporting.text import figure_text

__all__ = ["PIXELS", "draw_spectrogram", "small_spectrogram", "spectrogram_figure"]

# columns of a spectrogram, at most
PIXELS = 1000
_FLOOR_DB = -80.0
# of a picture within a page, whose bytes count
_COLOURS = 64


def spectrogram_figure(power: Floats, seconds: float, sample_rate: int, title: str, path: Path) -> None:
    """Draw a spectrogram (frequencies, columns), from 0 Hz to half the sample rate, as PNG."""
    figure, axes = new_figure(FULL, 2.6)
    draw_spectrogram(axes, power, (0, seconds, 0, sample_rate / 2000))
    axes.set_xlabel("time (s)")
    # no caption goes with the file
    axes.set_title(figure_text(title, 100), loc="left", fontweight="normal")
    save(figure, path, [".png"], {"Software": SOFTWARE})


def small_spectrogram(power: Floats, seconds: float, sample_rate: int) -> bytes:
    """Return a spectrogram (frequencies, columns) as a PNG for a page: as wide as a phone, without a colour bar."""
    figure, axes = new_figure(COLUMN, 1.35)
    draw_spectrogram(axes, power, (0, seconds, 0, sample_rate / 2000), bar=False)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("kHz")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DOTS)
    plt.close(figure)
    # a third of the bytes
    Image.open(drawn).convert("RGB").quantize(_COLOURS, Image.Quantize.MEDIANCUT).save(small, "PNG", optimize=True)
    return small.getvalue()


def draw_spectrogram(
    axes: Axes, power: Floats, extent: tuple[float, float, float, float], *, bar: bool = True
) -> AxesImage:
    """Draw power (frequencies, columns) in dB below its highest; `extent` is of time in any unit, and of kHz."""
    highest = max(float(power.max()), np.finfo(float).tiny)
    decibels = 10 * np.log10(np.maximum(power / highest, 10 ** (_FLOOR_DB / 10)))
    image = axes.imshow(
        decibels, cmap="magma", vmin=_FLOOR_DB, vmax=0, extent=extent, origin="lower", aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axes.grid(False)
    axes.set_ylabel("frequency (kHz)")
    if bar:
        axes.figure.colorbar(image, ax=axes, label="dB", pad=0.02)
    return image
