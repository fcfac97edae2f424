"""Where the heads of a transformer look: under a sound's spectrogram, each head's map and what it amounts to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.reporting.attention import Array, Block, Listening, describe_place
from bench.reporting.figures.spectrograms import draw_spectrogram
from bench.reporting.figures.style import FULL, GREY, INK, SMALL, save, set_style
from bench.reporting.text import figure_text

__all__ = ["attention_figure"]

# Weights are drawn as multiples of even ones, those of a head that looks at all that it may see alike; what it may not
# see is left white.
_TICKS = {1 / 4: "1/4", 1 / 2: "1/2", 1: "even", 2: "2", 4: "4", 8: "8", 16: "16"}
_COLOURS: dict[str, Any] = {"cmap": "viridis", "norm": LogNorm(min(_TICKS), max(_TICKS)), "interpolation": "none"}
# inches: of the spectrogram, of a head's line of the strip below it, of the numbers; and of all at most
_SOUND, _LINE, _NUMBERS, _HIGHEST = 1.5, 0.035, 1.55, 9.4
_STRIP = (0.6, 1.5)
# of a row of maps, which are squares unless there are few or many
_MAPS, _LARGEST = 6.2, 1.8
# of more heads, or blocks, there is only room for numbers
_NAMED = 8
# what is not looked at at all has no logarithm
_LEAST = 1e-9


def attention_figure(listening: Listening, path: Path) -> None:
    """Draw a sound and where each block and head looks, as PNG, SVG and PDF, as wide as a page's text."""
    set_style()
    heads, count = max(len(block.maps) for block in listening.blocks), len(listening.blocks)
    strip = float(np.clip(_LINE * sum(len(block.maps) for block in listening.blocks), *_STRIP)) + 0.45
    maps = min(min(_MAPS / heads, _LARGEST) * count + 0.6, _HIGHEST - _SOUND - strip - _NUMBERS)
    heights = (_SOUND + strip, maps, _NUMBERS)
    figure = plt.figure(figsize=(FULL, sum(heights)), layout="constrained")
    top, middle, bottom = np.asarray(figure.subfigures(3, 1, height_ratios=heights))
    upper, lower = top.subplots(2, 1, sharex=True, height_ratios=(_SOUND, strip))
    _draw_sound(upper, listening)
    image = _draw_received(lower, listening)
    bar = top.colorbar(
        image, ax=[upper, lower], label="weight, as a multiple of even ones", pad=0.02, aspect=30, extend="both"
    )
    bar.set_ticks([*_TICKS], labels=[*_TICKS.values()], minor=False)
    bar.minorticks_off()
    _draw_maps(middle, listening, heads)
    _draw_numbers(bottom, listening.blocks)
    save(figure, path)


def _draw_sound(axes: Axes, listening: Listening) -> None:
    extent = (listening.second, listening.second + listening.seconds, 0.0, listening.sample_rate / 2000)
    draw_spectrogram(axes, listening.power, extent, bar=False)
    # no caption goes with the file
    axes.set_title(figure_text(describe_place(listening), 110), loc="left", fontweight="normal")


def _draw_received(axes: Axes, listening: Listening) -> AxesImage:
    """Draw how much each moment is looked at, a line a block and head, under the moments of the spectrogram."""
    bottom, ticks = 0, []
    for number, block in enumerate(listening.blocks, start=1):
        begin, end = (listening.second + at for at in block.span)
        heads = len(block.received)
        image = axes.imshow(
            np.maximum(block.received, _LEAST), extent=(begin, end, bottom + heads, bottom), aspect="auto", **_COLOURS
        )
        if bottom:
            axes.axhline(bottom, color="white", linewidth=1.5)
        ticks.append((bottom + heads / 2, f"{number}"))
        bottom += heads
    axes.set(xlim=(listening.second, listening.second + listening.seconds), ylim=(bottom, 0), xlabel="time (s)")
    axes.set_yticks(*zip(*ticks, strict=True))
    axes.set_ylabel("block")
    axes.grid(False)
    axes.set_title("how much each moment is looked at, a line a head", loc="left")
    return image


def _draw_maps(panel: SubFigure, listening: Listening, heads: int) -> None:
    """Draw a map for each block (row) and head (column): queries downwards in time, what they look at across."""
    grid = panel.subplots(len(listening.blocks), heads, squeeze=False, sharex=True, sharey=True)
    # not at the end, where the next map's begin
    ticks = FixedLocator([listening.second, listening.second + listening.seconds / 2])
    for number, (row, block) in enumerate(zip(grid, listening.blocks, strict=True), start=1):
        begin, end = (listening.second + at for at in block.span)
        for axes, image in zip(row, block.maps, strict=False):
            axes.imshow(np.maximum(image, _LEAST), extent=(begin, end, end, begin), aspect="auto", **_COLOURS)
            axes.grid(False)
        for axes in row[len(block.maps) :]:
            axes.set_visible(False)
        row[0].set_ylabel(f"block {number}" if len(grid) <= _NAMED else number, fontsize=SMALL)
    for head, axes in enumerate(grid[0], start=1):
        axes.set_title(f"head {head}" if heads <= _NAMED else head, fontsize=SMALL, fontweight="normal", pad=2)
    for axis in (grid[0, 0].xaxis, grid[0, 0].yaxis):
        axis.set_major_locator(ticks)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.suptitle("where each head looks: a row a block, a column a head", fontweight="bold", x=0.01, ha="left")
    panel.supxlabel("time that is looked at (s)")
    panel.supylabel("time of the query (s)")


def _draw_numbers(panel: SubFigure, blocks: Sequence[Block]) -> None:
    left, right = panel.subplots(1, 2)
    _draw_number(left, blocks, [1000 * block.distance for block in blocks], [1000 * b.even_distance for b in blocks])
    left.set(ylabel="ms")
    left.set_title("mean distance to what is looked at", loc="left")
    _draw_number(right, blocks, [block.entropy for block in blocks], [block.even_entropy for block in blocks])
    right.set(ylabel="bits")
    right.set_title("entropy of the weights", loc="left")
    # above, where no point is
    right.legend(loc="lower right", bbox_to_anchor=(1.01, 0.97), ncols=2, handlelength=1.2, columnspacing=1)


def _draw_number(axes: Axes, blocks: Sequence[Block], values: Sequence[Array], even: Sequence[Array]) -> None:
    """Draw a point a head over the blocks, each beside what looking at all that it may see alike would give."""
    for block, (of_heads, of_even) in enumerate(zip(values, even, strict=True), start=1):
        width = 0.6 / len(of_heads)
        places = block + width * (np.arange(len(of_heads)) - (len(of_heads) - 1) / 2)
        # of heads that may see the same a line without gaps
        axes.hlines(
            of_even, places - width / 2, places + width / 2, color=GREY, label="even weights" if block == 1 else ""
        )
        axes.plot(places, of_heads, "o", color=INK, markersize=2.5, label="a head" if block == 1 else "")
    axes.set_xlabel("block (heads from left to right)")
    axes.xaxis.set_major_locator(FixedLocator(range(1, len(blocks) + 1)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1.12 * max(float(np.max(each)) for each in (*values, *even)))
