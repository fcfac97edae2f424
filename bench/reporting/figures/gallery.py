"""Pages of small spectrograms, each under its name: to look at what a data set sounds like."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.figures.style import FULL, INK, SMALL, set_style
from bench.reporting.text import figure_text

__all__ = ["BANDS", "COLUMNS", "Picture", "gallery_pages", "mel_bands", "pictures_on_page"]

Floats = npt.NDArray[np.floating[Any]]

# of a picture, at most: as many as it has pixels in a PNG
BANDS, COLUMNS = 80, 200
_ACROSS, _DOWN = 5, 9
# inches: beside the page's first picture, between two of them; of a picture, and of the three lines over it
_LEFT, _GAP, _HEIGHT, _LINES, _FOOT = 0.36, 0.1, 0.56, 0.36, 0.24
_WIDTH = (FULL - _LEFT - _ACROSS * _GAP) / _ACROSS
# characters of `SMALL` text that fit over a picture
_LENGTH = 20
_FLOOR_DB = -70.0
_TICKS = {250: "250", 1000: "1k", 4000: "4k"}


@dataclass(frozen=True)
class Picture:
    """A clip of a class: names, seconds, and its power (BANDS, columns) from 0 Hz to half the sample rate."""

    label: str
    clip: str
    seconds: float
    power: Floats


def mel_bands(power: Floats, sample_rate: int, bands: int = BANDS) -> Floats:
    """Return the mean power (bands, columns) in bands of equal width on the mel scale, of (frequencies, columns).

    Frequencies go from 0 Hz to half the sample rate, evenly; a band that is narrower than one of them has its power.
    """
    edges = _hertz(np.linspace(0, _mel(sample_rate / 2), bands + 1))
    width = sample_rate / 2 / (len(power) - 1)
    # each frequency stands for what is around it
    bounds = np.clip((np.arange(len(power) + 1) - 0.5) * width, 0, sample_rate / 2)
    below = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(power * np.diff(bounds)[:, None], axis=0)])
    total = np.stack([np.interp(edges, bounds, column) for column in below.T], axis=1)
    return np.asarray(np.diff(total, axis=0) / np.diff(edges)[:, None])


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: Floats) -> Floats:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


def gallery_pages(pictures: Sequence[Picture], sample_rate: int, what: str) -> Iterator[Figure]:
    """Yield pages of pictures, a row of five after the other; `what` begins a line at their foot."""
    on_page = pictures_on_page(len(pictures))
    scale = f"up to {sample_rate / 2000:g} kHz on a mel scale (ticks in Hz), to {-_FLOOR_DB:g} dB below its loudest"
    for start in range(0, len(pictures), on_page):
        page = f"{start // on_page + 1} of {math.ceil(len(pictures) / on_page)}"
        yield _page(pictures[start : start + on_page], sample_rate, f"{what}: {scale}. Page {page}.")


def pictures_on_page(count: int) -> int:
    """Return how many of so many pictures are on each page but the last: whole rows, nine at most, evenly spread."""
    pages = math.ceil(count / (_ACROSS * _DOWN))
    return _ACROSS * math.ceil(count / pages / _ACROSS)


def _page(pictures: Sequence[Picture], sample_rate: int, foot: str) -> Figure:
    set_style()
    height = math.ceil(len(pictures) / _ACROSS) * (_LINES + _HEIGHT + _GAP) + _FOOT
    # placed by numbers: a layout that measures each text would take longer than the sounds
    figure = plt.figure(figsize=(FULL, height))
    for place, picture in enumerate(pictures):
        row, column = divmod(place, _ACROSS)
        left = _LEFT + column * (_WIDTH + _GAP)
        bottom = height - (row + 1) * (_LINES + _HEIGHT) - row * _GAP
        axes = figure.add_axes((left / FULL, bottom / height, _WIDTH / FULL, _HEIGHT / height))
        _draw(axes, picture, sample_rate)
        if column == 0:
            axes.tick_params(left=True, labelleft=True, length=2, width=0.5, pad=1.5)
    figure.text(_LEFT / FULL, 0.06 / height, foot, fontsize=SMALL, va="bottom")
    return figure


def _draw(axes: Axes, picture: Picture, sample_rate: int) -> None:
    highest = max(float(picture.power.max()), np.finfo(float).tiny)
    decibels = 10 * np.log10(np.maximum(picture.power / highest, 10 ** (_FLOOR_DB / 10)))
    extent = (0.0, 1.0, 0.0, _mel(sample_rate / 2))
    axes.imshow(decibels, origin="lower", aspect="auto", cmap="magma", vmin=_FLOOR_DB, vmax=0, extent=extent)
    axes.grid(False)
    ticks = {_mel(hertz): text for hertz, text in _TICKS.items() if hertz < sample_rate / 2}
    axes.set_yticks([*ticks], [*ticks.values()])
    axes.set_xticks([])
    axes.tick_params(left=False, labelleft=False)
    named = "\n".join(_lines(picture.label))
    clip = f"{figure_text(picture.clip, _LENGTH - 8)}, {picture.seconds:.1f} s"
    style: dict[str, Any] = {"fontsize": SMALL, "va": "baseline", "xycoords": "axes fraction"}
    style |= {"textcoords": "offset points", "annotation_clip": False}
    axes.annotate(clip, (0, 1), (0, 3.5), color="#5a5a5a", **style)
    axes.annotate(named, (0, 1), (0, 11.5), color=INK, fontweight="bold", linespacing=1.05, **style)


def _lines(label: str) -> list[str]:
    """Return a class's name in two lines at most, of words; what is longer ends with three dots."""
    words = figure_text(label, 200).replace("_", " ")
    return textwrap.wrap(words, _LENGTH, max_lines=2, placeholder=" ...") or [""]
