"""Two learned front ends side by side, in numbers: what each has become, beside what it was drawn as.

All of it follows from the filters.csv and filters.npz of both runs, so that neither weights nor torch are needed.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.reporting.filters import SCALES, STATES, Filters, fit_bandwidth, fit_scales, load_filters
from bench.store import ResultsFolder, RunFolder

__all__ = ["FrontEnds", "Side", "describe_sides", "load_sides", "table_of"]

_LETTERS = "AB"
# columns of the text: of what a row is, and of each state
_FIRST, _OTHER = 25, 19


@dataclass(frozen=True)
class Side:
    """One of the two: the letter that it is called by, its run's folder, what it was trained on, and its filters."""

    letter: str
    folder: RunFolder
    # the data set's name, '' where the results folder does not tell it
    data: str
    filters: Filters

    @property
    def name(self) -> str:
        return f"{self.letter}: {self.filters.title}" + (f", on {self.data}" if self.data else "")


@dataclass(frozen=True)
class FrontEnds:
    """The comparison: a row a side and state, its files (also as .svg and .pdf), and all of it as text."""

    table: pd.DataFrame = field(repr=False)
    csv: Path
    png: Path
    text: str = field(repr=False)

    def _repr_html_(self) -> str:
        return f'<img src="data:image/png;base64,{base64.b64encode(self.png.read_bytes()).decode()}">'


def load_sides(folders: Sequence[RunFolder]) -> list[Side]:
    """Read what was measured of two runs' filters.

    Raises UserError if the two are one run, or if something is missing or damaged.
    """
    first, second = (folder.path.resolve() for folder in folders)
    if first == second:
        raise UserError(f"{folders[0].path}: both are this run; name two")
    return [
        Side(letter, folder, _data_of(folder), load_filters(folder))
        for letter, folder in zip(_LETTERS, folders, strict=True)
    ]


def _data_of(folder: RunFolder) -> str:
    return ResultsFolder(folder.path.parent).plan().sources.get(folder.record().dataset, "")


def table_of(sides: Sequence[Side]) -> pd.DataFrame:
    """Return a row a side and state: how many filters live, where they listen, how broadly, and how far they moved.

    side, run, model, data      the letter, the run's folder, architecture and seed, what it was trained on
    state                       untrained or trained
    filters, taps, sample_rate  how many, of how many samples, at how many Hz
    dead, dead_share            filters that are dead, as filters.csv has it, and their share
    change                      median of the change from untrained, as a share of a filter's norm; untrained: 0
    centre_hz, bandwidth_hz     medians of the filters that are not dead: frequency of the maximum, -3 dB bandwidth
    in_band                     the same of the share of the response within that band
    best_scale, r2              the frequency scale that fits the sorted centres best, and its R^2; none: '' and NaN
    r2_linear, ...              R^2 of each scale
    exponent, exponent_error    of the power law of bandwidth over centre frequency, and its standard error
    law                         what that is: constant bandwidth (0), constant Q (1) or neither
    """
    return pd.DataFrame([_row(side, state) for side in sides for state in STATES])


def _row(side: Side, state: str) -> dict[str, Any]:
    filters = side.filters
    lines, live, law = filters.of(state), filters.live(state), fit_bandwidth(filters, state)
    r2 = pd.Series({name: fit.r2 for name, fit in fit_scales(filters, state).items()})
    return {
        "side": side.letter,
        "run": str(side.folder.path),
        "model": filters.title,
        "data": side.data,
        "state": state,
        "filters": len(lines),
        "taps": filters.taps,
        "sample_rate": filters.sample_rate,
        "dead": int(lines["dead"].sum()),
        "dead_share": float(lines["dead"].mean()),
        "change": float(lines["change"].median()),
        "centre_hz": float(live["peak_hz"].median()),
        "bandwidth_hz": float(live["bandwidth_hz"].median()),
        "in_band": float(live["in_band"].median()),
        "best_scale": "" if r2.isna().all() else str(r2.idxmax()),
        "r2": float(r2.max()),
        **{f"r2_{name}": float(value) for name, value in r2.items()},
        "exponent": law.exponent,
        "exponent_error": law.standard_error,
        "law": law.verdict,
    }


def describe_sides(sides: Sequence[Side]) -> str:
    """Return the comparison as lines of text: a column a side and state."""
    rows = table_of(sides).to_dict("records")
    shown = {
        "": [f"{row['side']} {row['state']}" for row in rows],
        "filters": [f"{row['filters']} of {1000 * row['taps'] / row['sample_rate']:.4g} ms" for row in rows],
        "dead": [f"{row['dead_share']:.1%}" for row in rows],
        "median change": ["" if row["state"] == "untrained" else f"{row['change']:.1%}" for row in rows],
        "median centre": [f"{row['centre_hz']:.0f} Hz" for row in rows],
        "median bandwidth": [f"{row['bandwidth_hz']:.0f} Hz" for row in rows],
        # tells whether there is a band: of random weights nearly nothing is within it
        "response within the band": [f"{row['in_band']:.1%}" for row in rows],
        "best scale": [row["best_scale"] or "none" for row in rows],
        **{f"R2, {name} scale": [f"{row[f'r2_{name}']:.4f}" for row in rows] for name in SCALES},
        "bandwidth exponent": [f"{row['exponent']:.3f} ± {row['exponent_error']:.3f}" for row in rows],
        "which is": [row["law"] for row in rows],
    }
    lines = ["".join([f"{what:{_FIRST}}", *(f"{cell:>{_OTHER}}" for cell in cells)]) for what, cells in shown.items()]
    return "\n".join([*(side.name for side in sides), *lines])
