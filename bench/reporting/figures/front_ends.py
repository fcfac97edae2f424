"""The figure of two learned front ends side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy.typing as npt

from bench.reporting.figures.filters import colour_bar, darkest, draw_bandwidths, draw_centres, draw_responses
from bench.reporting.figures.style import FULL, save, set_style
from bench.reporting.front_ends import Side
from bench.reporting.text import figure_text

__all__ = ["front_ends_figure"]


def front_ends_figure(sides: Sequence[Side], path: Path) -> None:
    """Draw two sides as PNG, SVG and PDF, as wide as a page's text: responses, centre frequencies and bandwidths."""
    set_style()
    figure, (top, middle, bottom) = plt.subplots(
        3, len(sides), figsize=(FULL, 8.7), height_ratios=(3, 3, 2.8), layout="constrained"
    )
    _draw_responses(top, sides)
    # of one rate they have one scale, so that what is higher listens higher
    if len({side.filters.sample_rate for side in sides}) == 1:
        middle[1].sharey(middle[0])
    bottom[1].sharex(bottom[0])
    bottom[1].sharey(bottom[0])
    for row, draw in ((middle, draw_centres), (bottom, draw_bandwidths)):
        for axes, side in zip(row, sides, strict=True):
            draw(axes, side.filters)
            axes.set_title(f"{side.letter}: {axes.get_title(loc='left')}", loc="left")
        # the unit stands beside the first, as the numbers do where they are the same
        row[1].set_ylabel("")
    save(figure, path)


def _draw_responses(row: npt.NDArray[Any], sides: Sequence[Side]) -> None:
    floor = darkest(side.filters.responses["trained"] for side in sides)
    for axes, side in zip(row, sides, strict=True):
        image = draw_responses(axes, side.filters, "trained", floor)
        axes.set_title(f"{figure_text(side.name, 55)}\n{axes.get_title(loc='left')}", loc="left")
        axes.set_xlabel("filter, by the frequency of its maximum")
    row[0].set_ylabel("frequency (kHz)")
    # below: beside them it would make all rows narrower
    colour_bar(image, row, location="bottom", aspect=60)
