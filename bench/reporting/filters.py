"""What a learned front end listens to: scales and summary, from filters.csv and filters.npz alone.

bench.inspect.filters writes the two; all conclusions rest on their rounded numbers, the same without weights or torch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import least_squares
from scipy.stats import linregress

from bench.store import RunFolder
from bench.store.files import damaged, read_arrays, read_table

__all__ = [
    "COLUMNS", "FLOOR_DB", "SCALES", "STATES", "STEP_DB", "BandwidthFit", "Filters", "ScaleFit", "describe",
    "fit_bandwidth", "fit_scale", "fit_scales", "load_filters", "summarise",
]  # fmt: skip

Array = npt.NDArray[np.float64]

STATES = ("untrained", "trained")
COLUMNS = ("state", "filter", "rank", "peak_hz", "bandwidth_hz", "in_band", "gain", "change", "fires", "dead")
# of these, columns of numbers, none below 0
_NUMBERS = ("peak_hz", "bandwidth_hz", "in_band", "gain", "change", "fires")
# of the stored responses: what is below the floor counts as silence
FLOOR_DB, STEP_DB = -40.0, 0.5
# a filter that moved by less than this share of itself has hardly moved
_HARDLY = 0.01


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
        """Return frequencies in Hz, like `u` in shape."""
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
    """What bench.inspect.filters keeps of a run."""

    # a line for each state and filter; see COLUMNS
    table: pd.DataFrame
    # architecture and seed
    title: str
    # the module that holds the filters
    layer: str
    sample_rate: int
    # length of a filter in samples
    taps: int
    # of each state: (filters, bands) dB below each filter's peak; bands of equal width from 0 Hz up
    responses: dict[str, Array]
    # numbers of the filters with the highest gain, the highest first, and their impulse responses (16 or fewer, taps)
    strongest: dict[str, npt.NDArray[np.int64]]
    shapes: dict[str, Array]

    def of(self, state: str) -> pd.DataFrame:
        """Return the lines of one state, by filter number."""
        return self.table[self.table["state"] == state].set_index("filter").sort_index()

    def live(self, state: str) -> pd.DataFrame:
        """Return the filters that are not dead, sorted by the frequency of their maximum."""
        lines = self.of(state)
        return lines[~lines["dead"]].sort_values("rank")


def load_filters(folder: RunFolder) -> Filters:
    """Read what was measured of a run's filters. Raises UserError if a file is missing or damaged."""
    remedy = f"remove both filters.csv and filters.npz and run `bench filters {folder.path}` again"
    table = read_table(folder.filters_table, *COLUMNS, numbers=_NUMBERS, remedy=remedy)
    names = [f"{state}_{part}" for state in STATES for part in ("steps", "strongest", "shapes")]
    arrays = read_arrays(folder.filters_arrays, "title", "layer", "sample_rate", "taps", *names, remedy=remedy)
    count, rate = len(table) // len(STATES), arrays["sample_rate"]
    if rate.shape or rate.dtype.kind not in "iu" or rate < 1:
        raise damaged(folder.filters_arrays, "sample_rate: no number of Hz", remedy)
    for state in STATES:
        if reason := _wrong_lines(table[table["state"] == state], count, int(rate)):
            raise damaged(folder.filters_table, f"{state}: {reason}", remedy)
        if reason := _wrong_arrays(arrays, state, count):
            raise damaged(folder.filters_arrays, f"{state}: {reason}", remedy)
    return Filters(
        table=table[list(COLUMNS)],
        title=str(arrays["title"]),
        layer=str(arrays["layer"]),
        sample_rate=int(rate),
        taps=int(arrays["taps"]),
        responses={state: arrays[f"{state}_steps"] * -STEP_DB for state in STATES},
        strongest={state: arrays[f"{state}_strongest"] for state in STATES},
        shapes={state: arrays[f"{state}_shapes"].astype(np.float64) for state in STATES},
    )


def _wrong_lines(lines: pd.DataFrame, count: int, sample_rate: int) -> str:
    """Return what is wrong with a state's part of filters.csv, of so many filters; '' if nothing is."""
    for name in ("filter", "rank"):
        if sorted(lines[name]) != list(range(count)) or not count:
            return f"{name}: not each of {count} filters once"
    if lines["dead"].dtype != bool:
        return "dead: neither True nor False"
    ends = dict.fromkeys(_NUMBERS, math.inf) | {"peak_hz": sample_rate / 2, "in_band": 1, "fires": 1}
    for name, end in ends.items():
        # a share, or a width between two bins, is rounded; and there is none of a filter of zeros, or without data
        if not (lines[name].isna() | lines[name].between(0, end * 1.001) & np.isfinite(lines[name])).all():
            return f"{name}: a number that it can't be"
    live = lines[~lines["dead"]].sort_values("rank")
    if live["peak_hz"].isna().any() or not (live["bandwidth_hz"] > 0).all():
        return "peak_hz, bandwidth_hz: missing of a filter that is not dead"
    if len(live) and (live["rank"].max() >= len(live) or not live["peak_hz"].is_monotonic_increasing):
        return "rank: not in the order of peak_hz"
    return ""


def _wrong_arrays(arrays: Mapping[str, npt.NDArray[Any]], state: str, count: int) -> str:
    """Return what is wrong with a state's part of filters.npz, of so many filters; '' if nothing is."""
    steps, strongest, shapes = (arrays[f"{state}_{part}"] for part in ("steps", "strongest", "shapes"))
    taps = arrays["taps"]
    if taps.shape or taps.dtype.kind not in "iu" or taps < 1 or arrays["title"].shape or arrays["layer"].shape:
        return "taps, title, layer: not one of each"
    if steps.dtype != np.uint8 or steps.ndim != 2 or len(steps) != count or not steps.size:
        return f"responses of shape {steps.shape}, of {count} filters"
    if steps.max() * -STEP_DB < FLOOR_DB:
        return "responses below the floor"
    is_list = strongest.ndim == 1 and strongest.dtype.kind in "iu"
    if not is_list or len({*strongest.tolist()} & {*range(count)}) != len(strongest):
        return "strongest: no numbers of filters"
    if shapes.shape != (len(strongest), int(taps)) or shapes.dtype.kind != "f":
        return f"shapes of shape {shapes.shape}, of {len(strongest)} filters of {taps} taps"
    if not np.isfinite(shapes).all() or not np.abs(shapes).max(axis=1, initial=0).all():
        return "shapes of no filter"
    return ""


def fit_scale(name: str, centres: Array) -> ScaleFit:
    """Fit, by least squares in Hz, one scale's curve to sorted centre frequencies (n,) in Hz; NaN where too few differ.

    Every scale has the same two parameters, so that their R^2 compare.
    """
    if len(centres) < 3 or np.ptp(centres) == 0:
        return ScaleFit(math.nan, math.nan, math.nan, math.nan)
    scale, u = SCALES[name], np.linspace(0, 1, len(centres))
    # least squares in the scale's unit, as a first guess
    slope, start = np.polyfit(u, scale.forward(centres), 1)
    found = least_squares(
        lambda ends: scale.inverse(ends[0] + (ends[1] - ends[0]) * u) - centres,
        np.minimum([start, start + slope], scale.limit - 1e-3),
        bounds=(-np.inf, scale.limit - 1e-6), x_scale="jac", xtol=1e-12, ftol=1e-12,
    )  # fmt: skip
    start, end = found.x.tolist()
    mean_square = float(np.mean(found.fun**2))
    return ScaleFit(start, end, 1 - mean_square / float(np.var(centres)), math.sqrt(mean_square))


def fit_scales(filters: Filters, state: str) -> dict[str, ScaleFit]:
    """Fit every scale to the filters that are not dead."""
    centres = filters.live(state)["peak_hz"].to_numpy()
    return {name: fit_scale(name, centres) for name in SCALES}


def fit_bandwidth(filters: Filters, state: str) -> BandwidthFit:
    """Fit a power law by least squares on logarithms; filters that peak at 0 Hz are left out. Too few are NaN."""
    used = filters.live(state).query("peak_hz > 0")
    if used["peak_hz"].nunique() < 2 or len(used) < 3:
        return BandwidthFit(math.nan, math.nan, math.nan)
    line = linregress(np.log(used["peak_hz"]), np.log(used["bandwidth_hz"]))
    return BandwidthFit(float(line.slope), float(line.stderr), float(line.intercept))


def summarise(folder: RunFolder) -> dict[str, Any]:
    """Return the findings on a run's filters, as plain values. Raises UserError if a file is missing or damaged."""
    filters = load_filters(folder)
    change = filters.of("trained")["change"]
    return {
        "title": filters.title,
        "layer": filters.layer,
        "filters": len(change),
        "taps": filters.taps,
        "sample_rate": filters.sample_rate,
        "hardly_moved": int((change < _HARDLY).sum()),
        "median_change": float(change.median()),
        **{state: _summary_of(filters, state) for state in STATES},
    }


def _summary_of(filters: Filters, state: str) -> dict[str, Any]:
    lines, fits, bandwidth = filters.of(state), fit_scales(filters, state), fit_bandwidth(filters, state)
    r2 = {name: fit.r2 for name, fit in fits.items() if math.isfinite(fit.r2)}
    return {
        "dead": int(lines["dead"].sum()),
        "median_in_band": float(lines["in_band"].median()),
        # None if it was measured without data
        "median_fires": None if lines["fires"].isna().all() else float(lines["fires"].median()),
        "scales": {name: asdict(fit) for name, fit in fits.items()},
        # None where there was nothing to fit
        "best_scale": max(r2, key=lambda name: r2[name], default=None),
        **{name: getattr(bandwidth, name) for name in ("exponent", "standard_error", "verdict")},
    }


def describe(summary: dict[str, Any]) -> str:
    """Return a summary as lines of text, untrained and trained side by side; shares are medians over the filters."""
    states = [summary[state] for state in STATES]
    rows: dict[str, list[Any]] = {
        "": list(STATES),
        "dead filters": [state["dead"] for state in states],
        "moved by less than 1%": ["", summary["hardly_moved"]],
        "median change": ["", f"{summary['median_change']:.1%}"],
        # tells whether there is a band: a windowed sinusoid has some three quarters of its response within it, random
        # weights nearly none, and their maximum is wherever chance put it
        "response within the band": [f"{state['median_in_band']:.1%}" for state in states],
    }
    if states[1]["median_fires"] is not None:
        rows["patches a filter fires on"] = [f"{state['median_fires']:.1%}" for state in states]
    for name in SCALES:
        fits = [state["scales"][name] for state in states]
        rows[f"centres, {name} scale"] = [f"R2 {fit['r2']:.4f}, RMS {fit['rms_hz']:.0f} Hz" for fit in fits]
    rows |= {
        "best scale": [state["best_scale"] or "none" for state in states],
        "bandwidth exponent": [f"{state['exponent']:.3f} ± {state['standard_error']:.3f}" for state in states],
        "which is": [state["verdict"] for state in states],
    }
    length = f"{1000 * summary['taps'] / summary['sample_rate']:.4g} ms at {summary['sample_rate']} Hz"
    filters = f"{summary['filters']} filters of {summary['taps']} taps ({length})"
    title = f"{summary['title']}: {filters} in {summary['layer']}"
    return "\n".join([title, *(f"{label:27}{a!s:>26}{b!s:>26}" for label, (a, b) in rows.items())])
