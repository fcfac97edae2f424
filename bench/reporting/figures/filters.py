"""The figure of a learned front end, from what bench.inspect.filters has measured."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, MaxNLocator

from bench.reporting.figures.style import FULL, GREY, INK, SMALL, new_figure, plain_ticks, save
from bench.reporting.filters import STATES, Array, Filters, fit_bandwidth, fit_scales, load_filters
from bench.store import RunFolder

__all__ = ["colour_bar", "darkest", "draw_bandwidths", "draw_centres", "draw_responses", "filters_figure"]

# -3 dB bandwidth of a sinusoid of n samples, in units of sample_rate / n
_SINUSOID = 0.886
# colour, dashes: each scale is distinguished without colour too; these are no families, so neither are the colours
_LINES: dict[str, tuple[str, Any]] = {
    "linear": ("#6e6e6e", (0, (1, 1.2))),
    "mel": ("#6a3d9a", (0, (6, 1.5))),
    "bark": ("#9a6a00", (0, (3, 1.2, 1, 1.2))),
    "ERB": ("#00806b", (0, (2.5, 1.5))),
}
# colour, marker: grey and hollow, black and filled, so that colour is left to the scales
_STATE_LOOKS = {"untrained": (GREY, "s"), "trained": (INK, "o")}
_BELOW: dict[str, Any] = {  # of legends: the curves need all the room inside
    "loc": "upper center", "bbox_to_anchor": (0.45, -0.22), "handlelength": 2.5, "columnspacing": 1,
}  # fmt: skip


def filters_figure(folder: RunFolder) -> None:
    """Draw a run's filters into its folder, as wide as a page's text and as high as a page with a caption.

    Raises UserError where filters.csv or filters.npz is missing or damaged.
    """
    filters = load_filters(folder)
    figure, axes = new_figure(FULL, 8.2)
    axes.remove()
    top, middle, bottom = np.asarray(figure.subfigures(3, 1, height_ratios=(3.1, 3.3, 2)))
    _draw_states(top, filters)
    left, right = middle.subplots(1, 2)
    draw_centres(left, filters)
    draw_bandwidths(right, filters)
    _draw_shapes(bottom, filters)
    save(figure, folder.filters_figure)


def _draw_states(panel: SubFigure, filters: Filters) -> None:
    both: npt.NDArray[Any] = panel.subplots(1, 2, sharey=True)
    floor = darkest(filters.responses.values())
    for axes, state in zip(both, STATES, strict=True):
        image = draw_responses(axes, filters, state, floor)
    both[0].set_ylabel("frequency (kHz)")
    panel.supxlabel("filter, in the order of the frequency of its maximum")
    colour_bar(image, both)


def darkest(responses: Iterable[Array]) -> int:
    """Return the dB that are drawn darkest: what nearly all of each of these responses is above."""
    # noise has no deep valleys, and would be one colour
    return 5 * math.floor(min(np.percentile(each, 2) for each in responses) / 5)


def draw_responses(axes: Axes, filters: Filters, state: str, floor: float) -> AxesImage:
    """Draw the responses as an image, a column for each filter, sorted by where their maximum is, dead ones last."""
    lines = filters.of(state).sort_values("rank")
    order, dead = lines.index.to_numpy(), int(lines["dead"].sum())
    image = axes.imshow(
        filters.responses[state][order].T, origin="lower", aspect="auto", cmap="viridis", vmin=floor, vmax=0,
        interpolation="none",  # a pixel a value in SVG and PDF, which would else hold them many times over
        extent=(0, len(order), 0, filters.sample_rate / 2000),
    )  # fmt: skip
    axes.grid(False)
    axes.set_title(f"responses, {state}" + (f" (the last {dead:,} are dead)" if dead else ""), loc="left")
    return image


def colour_bar(image: AxesImage, row: npt.NDArray[Any], **place: Any) -> None:
    """Give a row of images of responses their colour bar; `place` are options of Figure.colorbar."""
    ticks = MaxNLocator(integer=True)
    figure = row[0].figure
    figure.colorbar(image, ax=row, label="dB relative to own maximum", pad=0.02, extend="min", ticks=ticks, **place)


def draw_centres(axes: Axes, filters: Filters) -> None:
    """Draw the sorted centre frequencies of both states, and the scales that were fitted to the trained ones."""
    for state in STATES:
        centres = filters.live(state)["peak_hz"].to_numpy() / 1000
        axes.plot(np.linspace(0, 1, len(centres)), centres, color=_STATE_LOOKS[state][0], linewidth=2.5, label=state)
    u = np.linspace(0, 1, 200)
    for name, fit in fit_scales(filters, "trained").items():
        colour, dashes = _LINES[name]
        label = f"{name}, R² = {fit.r2:.3f}"
        axes.plot(u, fit.curve(name, u) / 1000, color=colour, linestyle=dashes, linewidth=1.5, label=label)
    axes.set_title("centre frequencies; scales fitted to trained", loc="left")
    axes.set(xlabel="share of the filters", ylabel="frequency (kHz)", xlim=(0, 1), ylim=(0, filters.sample_rate / 2000))
    axes.legend(**_BELOW, ncols=2)


def draw_bandwidths(axes: Axes, filters: Filters) -> None:
    """Draw the bandwidth of each filter over its centre frequency, and the power law of each state."""
    for state, dashes, zorder in (("untrained", "--", 4), ("trained", "-", 3)):  # the dashes over the line
        colour, marker = _STATE_LOOKS[state]
        live, fit = filters.live(state).query("peak_hz > 0"), fit_bandwidth(filters, state)
        axes.scatter(
            live["peak_hz"], live["bandwidth_hz"], s=4, marker=marker, alpha=0.3, rasterized=True, linewidths=0.4,
            facecolors="none" if state == "untrained" else colour, edgecolors=colour,
        )  # fmt: skip
        if math.isfinite(fit.exponent):
            x = np.array([live["peak_hz"].min(), live["peak_hz"].max()])
            axes.plot(
                x, np.exp(fit.intercept) * x**fit.exponent, dashes, color=colour, linewidth=1.5, zorder=zorder,
                label=f"{state}: exponent {fit.exponent:.3f} ± {fit.standard_error:.3f};\n"
                f"{live['in_band'].median():.1%} of the energy in band",
            )  # fmt: skip
    axes.axhline(
        _SINUSOID * filters.sample_rate / filters.taps, color=_LINES["bark"][0], linestyle=":", linewidth=1.5,
        label=f"a sinusoid of {1000 * filters.taps / filters.sample_rate:.4g} ms",
    )  # fmt: skip
    axes.set(xlabel="frequency of the maximum (Hz)", ylabel="-3 dB bandwidth (Hz)", xscale="log", yscale="log")
    axes.set_title("bandwidths", loc="left")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plain_ticks(axes.xaxis, axes.yaxis)
    axes.legend(**_BELOW)


def _draw_shapes(panel: SubFigure, filters: Filters) -> None:
    peaks = filters.of("trained")["peak_hz"]
    numbers, shapes = filters.strongest["trained"], filters.shapes["trained"]
    grid = panel.subplots(2, 8, sharex=True, sharey=True).ravel()
    milliseconds = 1000 * np.arange(filters.taps) / filters.sample_rate
    for axes, place in zip(grid, np.argsort(peaks[numbers], kind="stable"), strict=False):
        axes.plot(milliseconds, shapes[place] / np.abs(shapes[place]).max(), color=INK, linewidth=0.5)
        axes.set_title(f"{peaks[numbers[place]]:.0f} Hz", fontsize=SMALL, fontweight="normal", pad=2)
        axes.set_yticks([])
    for axes in grid[len(numbers) :]:
        axes.set_visible(False)
    panel.suptitle("the trained filters of the highest gain", fontweight="bold", x=0.01, ha="left")
    panel.supxlabel("time (ms)")
