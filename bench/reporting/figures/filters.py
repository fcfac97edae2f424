"""What a learned front end listens to: scales, figure and summary, from filters.csv and filters.npz alone.

bench.inspect.filters measures and writes the two files; whatever is concluded from them is computed here, from the rounded
numbers, so that it comes out the same where there are neither weights nor torch.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.optimize import least_squares
from scipy.stats import linregress

from bench.errors import UserError, one_line
from bench.reporting.figures.style import new_figure, save

Array = npt.NDArray[np.float64]

STATES = ("untrained", "trained")
COLUMNS = ("state", "filter", "rank", "peak_hz", "bandwidth_hz", "in_band", "gain", "change", "fires", "dead")
FLOOR_DB, STEP_DB = -40.0, 0.5  # of the stored responses: what is below the floor counts as silence
SINUSOID = 0.886  # -3 dB bandwidth of a sinusoid of n samples, in units of sample_rate / n
HARDLY = 0.01  # a filter that moved by less than this share of itself has hardly moved


@dataclass(frozen=True)
class Scale:
    """A frequency scale. `forward` takes Hz; `limit` is what it approaches as the frequency grows."""

    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    limit: float = math.inf


SCALES = {
    # the bins of a Fourier transform
    "linear": Scale(lambda f: f, lambda s: s),
    # HTK's formula (Young et al., The HTK Book, section 5.4)
    "mel": Scale(lambda f: 2595 * np.log10(1 + f / 700), lambda s: 700 * (10 ** (s / 2595) - 1)),
    # Traunmueller, JASA 88 (1990), p. 97, without his corrections at the two ends
    "bark": Scale(lambda f: 26.81 * f / (1960 + f) - 0.53, lambda s: 1960 * (s + 0.53) / (26.28 - s), limit=26.28),
    # number of equivalent rectangular bandwidths: Glasberg & Moore, Hearing Research 47 (1990), eq. 4
    "ERB": Scale(lambda f: 21.4 * np.log10(1 + 0.00437 * f), lambda s: (10 ** (s / 21.4) - 1) / 0.00437),
}


@dataclass(frozen=True)
class ScaleFit:
    """The curve f(u) = S^-1(start + (end - start) u), u from 0 to 1, that is nearest in Hz; start, end in S's unit."""

    start: float
    end: float
    r2: float
    rms_hz: float

    def curve(self, name: str, u: Array) -> Array:
        """In Hz, like `u` in shape."""
        return SCALES[name].inverse(self.start + (self.end - self.start) * u)


@dataclass(frozen=True)
class BandwidthFit:
    """log(bandwidth) = intercept + exponent log(centre), in natural logarithms of Hz."""

    exponent: float
    standard_error: float
    intercept: float

    @property
    def verdict(self) -> str:
        """In words where the exponent is clear: within .25 of 0 or of 1, two standard errors included."""
        for value, name in ((0, "constant bandwidth"), (1, "constant Q")):
            if abs(self.exponent - value) + 2 * self.standard_error < 0.25:
                return name
        return "neither"


@dataclass(frozen=True)
class Filters:
    """What bench.inspect.filters keeps of a run.

    Attributes:
        table: a row for each state and filter; see COLUMNS.
        title: architecture and seed.
        layer: the module that holds the filters.
        taps: length of a filter in samples.
        responses: state to (filters, bands) dB below each filter's peak; bands of equal width from 0 Hz up.
        strongest: state to the numbers of the filters with the highest gain, the highest first.
        shapes: state to the impulse responses of these: (16 or fewer, taps).
    """

    table: pd.DataFrame
    title: str
    layer: str
    sample_rate: int
    taps: int
    responses: dict[str, Array]
    strongest: dict[str, npt.NDArray[np.int64]]
    shapes: dict[str, Array]

    def of(self, state: str) -> pd.DataFrame:
        """The rows of one state, by filter number."""
        return self.table[self.table["state"] == state].set_index("filter").sort_index()

    def live(self, state: str) -> pd.DataFrame:
        """The filters that are not dead, sorted by the frequency of their maximum."""
        rows = self.of(state)
        return rows[~rows["dead"]].sort_values("rank")


def load_filters(folder: Path) -> Filters:
    """Read filters.csv and filters.npz of a run folder. Raises UserError if one is missing or damaged."""
    for name in ("filters.csv", "filters.npz"):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file; `bench filters {folder}` measures the filters")
    try:
        with np.load(folder / "filters.npz") as arrays:
            return Filters(
                table=pd.read_csv(folder / "filters.csv").astype({"dead": bool})[list(COLUMNS)],
                title=str(arrays["title"]),
                layer=str(arrays["layer"]),
                sample_rate=int(arrays["sample_rate"]),
                taps=int(arrays["taps"]),
                responses={state: arrays[f"{state}_steps"] * -STEP_DB for state in STATES},
                strongest={state: arrays[f"{state}_strongest"] for state in STATES},
                shapes={state: arrays[f"{state}_shapes"].astype(np.float64) for state in STATES},
            )
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise UserError(
            f"{folder}: filters.csv or filters.npz is damaged ({one_line(error)}); remove both and measure again"
        ) from None


def fit_scale(name: str, centres: Array) -> ScaleFit:
    """Least squares in Hz of one scale's two-parameter curve to sorted centre frequencies (n,) in Hz.

    Every scale has the same two parameters, so that their R^2 compare. Fewer than three filters, or filters that all
    have the same frequency, are no curve: NaN.
    """
    if len(centres) < 3 or np.ptp(centres) == 0:
        return ScaleFit(math.nan, math.nan, math.nan, math.nan)
    scale, u = SCALES[name], np.linspace(0, 1, len(centres))
    slope, start = np.polyfit(u, scale.forward(centres), 1)  # least squares in the scale's unit, as a first guess
    guess = np.minimum([start, start + slope], scale.limit - 1e-3)

    def misses(ends: Array) -> Array:
        return scale.inverse(ends[0] + (ends[1] - ends[0]) * u) - centres

    found = least_squares(misses, guess, bounds=(-np.inf, scale.limit - 1e-6), x_scale="jac", xtol=1e-12, ftol=1e-12)
    mean_square = float(np.mean(found.fun**2))
    return ScaleFit(
        float(found.x[0]), float(found.x[1]), 1 - mean_square / float(np.var(centres)), math.sqrt(mean_square)
    )


def fit_bandwidth(centres: Array, bandwidths: Array) -> BandwidthFit:
    """Least squares on logarithms; filters that peak at 0 Hz have none and are left out. Too few are NaN."""
    used = centres > 0
    if used.sum() < 3 or np.ptp(centres[used]) == 0:
        return BandwidthFit(math.nan, math.nan, math.nan)
    line = linregress(np.log(centres[used]), np.log(bandwidths[used]))
    return BandwidthFit(float(line.slope), float(line.stderr), float(line.intercept))


def scale_fits(filters: Filters, state: str) -> dict[str, ScaleFit]:
    centres = filters.live(state)["peak_hz"].to_numpy()
    return {name: fit_scale(name, centres) for name in SCALES}


def bandwidth_fit(filters: Filters, state: str) -> BandwidthFit:
    live = filters.live(state)
    return fit_bandwidth(live["peak_hz"].to_numpy(), live["bandwidth_hz"].to_numpy())


def best_scale(fits: dict[str, ScaleFit]) -> str | None:
    """The scale with the highest R^2; None where there was nothing to fit."""
    known = {name: fit.r2 for name, fit in fits.items() if math.isfinite(fit.r2)}
    return max(known, key=lambda name: known[name]) if known else None


def summarise(folder: Path) -> dict[str, Any]:
    """The findings on a run folder's filters, as plain values.

    Keys: title, layer, filters, taps, sample_rate, hardly_moved, median_change, and for each of the STATES a
    dictionary: dead, median_in_band, median_fires (None without data), scales (name to start, end, r2, rms_hz),
    best_scale, exponent, standard_error, verdict.

    Raises:
        UserError: filters.csv or filters.npz is missing or damaged.
    """
    filters = load_filters(folder)
    change = filters.of("trained")["change"]
    return {
        "title": filters.title,
        "layer": filters.layer,
        "filters": len(change),
        "taps": filters.taps,
        "sample_rate": filters.sample_rate,
        "hardly_moved": int((change < HARDLY).sum()),
        "median_change": float(change.median()),
        **{state: _summary_of(filters, state) for state in STATES},
    }


def _summary_of(filters: Filters, state: str) -> dict[str, Any]:
    rows, fits, bandwidth = filters.of(state), scale_fits(filters, state), bandwidth_fit(filters, state)
    return {
        "dead": int(rows["dead"].sum()),
        "median_in_band": float(rows["in_band"].median()),
        "median_fires": None if rows["fires"].isna().all() else float(rows["fires"].median()),
        "scales": {name: asdict(fit) for name, fit in fits.items()},
        "best_scale": best_scale(fits),
        "exponent": bandwidth.exponent,
        "standard_error": bandwidth.standard_error,
        "verdict": bandwidth.verdict,
    }


def describe(summary: dict[str, Any]) -> str:
    """A summary as lines of text, untrained and trained side by side; shares are medians over the filters.

    How much of its response a filter has within its band tells whether there is a band: a windowed sinusoid has some
    three quarters of it, random weights nearly none, and their maximum is wherever chance put it.
    """
    states = [summary[state] for state in STATES]
    milliseconds = 1000 * summary["taps"] / summary["sample_rate"]
    lines = [
        f"{summary['title']}: {summary['filters']} filters of {summary['taps']} taps ({milliseconds:.4g} ms at "
        f"{summary['sample_rate']} Hz) in {summary['layer']}",
        _columns("", *STATES),
        _columns("dead filters", *(state["dead"] for state in states)),
        _columns("moved by less than 1%", "", summary["hardly_moved"]),
        _columns("median change", "", f"{summary['median_change']:.1%}"),
        _columns("response within the band", *(f"{state['median_in_band']:.1%}" for state in states)),
    ]
    if states[1]["median_fires"] is not None:
        lines.append(_columns("patches a filter fires on", *(f"{state['median_fires']:.1%}" for state in states)))
    lines += [
        _columns(f"centres, {name} scale", *(_quality(state["scales"][name]) for state in states))
        for name in SCALES
    ]  # fmt: skip
    return "\n".join(
        [
            *lines,
            _columns("best scale", *(state["best_scale"] or "none" for state in states)),
            _columns("bandwidth exponent", *(_exponent(state) for state in states)),
            _columns("which is", *(state["verdict"] for state in states)),
        ]
    )


def _columns(label: str, *cells: object) -> str:
    return f"{label:27}" + "".join(f"{cell!s:>26}" for cell in cells)


def _quality(fit: dict[str, float]) -> str:
    return f"R2 {fit['r2']:.4f}, RMS {fit['rms_hz']:.0f} Hz"


def _exponent(state: dict[str, Any]) -> str:
    return f"{state['exponent']:.3f} ± {state['standard_error']:.3f}"


# colour, dashes: each scale is told apart without colour too
LINES: dict[str, tuple[str, Any]] = {
    "linear": ("#949494", (0, (1, 1.2))),
    "mel": ("#0173b2", (0, (6, 1.5))),
    "bark": ("#de8f05", (0, (3, 1.2, 1, 1.2))),
    "ERB": ("#029e73", (0, (2.5, 1.5))),
}
# colour, marker: grey and hollow, black and filled, so that colour is left to the scales
STATE_LOOKS = {"untrained": ("#999999", "s"), "trained": ("black", "o")}
BELOW: dict[str, Any] = {  # of legends: the curves need all the room inside
    "loc": "upper center", "bbox_to_anchor": (0.45, -0.22), "handlelength": 2.5, "columnspacing": 1,
    "fontsize": "small", "frameon": False,
}  # fmt: skip


def filters_figure(folder: Path) -> None:
    """Draw filters.png, .svg and .pdf into a run folder: responses, centre frequencies and bandwidths, and the shapes.

    Raises:
        UserError: filters.csv or filters.npz is missing or damaged.
    """
    filters = load_filters(folder)
    figure, axes = new_figure(7.2, 8.8)
    axes.remove()
    panels: Any = figure.subfigures(3, 1, height_ratios=(3.1, 3.3, 2))
    top, middle, bottom = panels
    _draw_responses(top, filters)
    left, right = middle.subplots(1, 2)
    _draw_centres(left, filters)
    _draw_bandwidths(right, filters)
    _draw_shapes(bottom, filters)
    figure.suptitle(f"{filters.title}: the {len(filters.of('trained')):,} filters of its first layer")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: for each format again, it would take as long as the drawing
    save(figure, folder / "filters")


def _draw_responses(panel: SubFigure, filters: Filters) -> None:
    """The responses as an image, a column for each filter, sorted by the frequency of their maximum, dead ones last."""
    both: npt.NDArray[Any] = panel.subplots(1, 2, sharey=True)
    # from the level that nearly everything is above, since noise has no deep valleys and would be one colour
    darkest = 5 * math.floor(min(np.percentile(filters.responses[state], 2) for state in STATES) / 5)
    for axes, state in zip(both, STATES, strict=True):
        rows = filters.of(state).sort_values("rank")
        order, dead = rows.index.to_numpy(), int(rows["dead"].sum())
        image = axes.imshow(
            filters.responses[state][order].T, origin="lower", aspect="auto", cmap="viridis", vmin=darkest, vmax=0,
            interpolation="none",  # a pixel a value in SVG and PDF, which would else hold them many times over
            extent=(0, len(order), 0, filters.sample_rate / 2000),
        )  # fmt: skip
        axes.grid(False)
        axes.set_title(f"responses, {state}" + (f" (the last {dead} are dead)" if dead else ""))
    both[0].set_ylabel("frequency (kHz)")
    panel.supxlabel("filter, in the order of the frequency of its maximum", fontsize="medium")
    ticks = MaxNLocator(integer=True)
    panel.colorbar(image, ax=both, label="dB relative to own maximum", pad=0.02, extend="min", ticks=ticks)


def _draw_centres(axes: Axes, filters: Filters) -> None:
    """Sorted centre frequencies, and the nearest curve of each scale to the trained ones."""
    for state in STATES:
        centres = filters.live(state)["peak_hz"].to_numpy() / 1000
        axes.plot(np.linspace(0, 1, len(centres)), centres, color=STATE_LOOKS[state][0], linewidth=2.5, label=state)
    u = np.linspace(0, 1, 200)
    for name, fit in scale_fits(filters, "trained").items():
        colour, dashes = LINES[name]
        label = f"{name}, $R^2$ = {fit.r2:.3f}"
        axes.plot(u, fit.curve(name, u) / 1000, color=colour, linestyle=dashes, linewidth=1.5, label=label)
    axes.set(
        title="centre frequencies; scales fitted to trained", xlabel="share of the filters", ylabel="frequency (kHz)",
        xlim=(0, 1), ylim=(0, filters.sample_rate / 2000),
    )  # fmt: skip
    axes.legend(**BELOW, ncols=2)


def _draw_bandwidths(axes: Axes, filters: Filters) -> None:
    """Bandwidth against centre frequency, the fitted power laws, and what the filters' length allows."""
    for state, dashes, zorder in (("untrained", "--", 4), ("trained", "-", 3)):  # the dashes over the line
        colour, marker = STATE_LOOKS[state]
        live, fit = filters.live(state), bandwidth_fit(filters, state)
        live = live[live["peak_hz"] > 0]
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
        SINUSOID * filters.sample_rate / filters.taps, color=LINES["bark"][0], linestyle=":", linewidth=1.5,
        label=f"a sinusoid of {1000 * filters.taps / filters.sample_rate:.4g} ms",
    )  # fmt: skip
    axes.set(
        title="bandwidths", xscale="log", yscale="log", xlabel="frequency of the maximum (Hz)",
        ylabel="-3 dB bandwidth (Hz)",
    )  # fmt: skip
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(**BELOW)


def _draw_shapes(panel: SubFigure, filters: Filters) -> None:
    """The strongest filters in time, each scaled to its own maximum, the lowest first."""
    peaks = filters.of("trained")["peak_hz"]
    numbers, shapes = filters.strongest["trained"], filters.shapes["trained"]
    grid = panel.subplots(2, 8, sharex=True, sharey=True).ravel()
    milliseconds = 1000 * np.arange(filters.taps) / filters.sample_rate
    for axes, place in zip(grid, np.argsort(peaks[numbers], kind="stable"), strict=False):
        axes.plot(milliseconds, shapes[place] / np.abs(shapes[place]).max(), color="black", linewidth=0.5)
        axes.set_title(f"{peaks[numbers[place]]:.0f} Hz", fontsize="small", pad=2)
        axes.set_yticks([])
    for axes in grid[len(numbers) :]:
        axes.set_visible(False)
    panel.suptitle("the trained filters of the highest gain", fontsize="medium")
    panel.supxlabel("time (ms)", fontsize="medium")
