"""What inputs of several lengths cost each architecture, and the exponents by which that grows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from bench.protocol.task import Metric

__all__ = ["COLUMNS", "MEASURES", "Growth", "Measure", "exponent"]


@dataclass(frozen=True)
class Measure:
    """A cost: how it is called, its unit, and what its record is multiplied by to be in that unit."""

    name: str
    unit: str
    scale: float


# column of `Growth.points` to what it is
MEASURES = {
    "macs": Measure("multiply-accumulates", "G", 1e-9),
    "latency_seconds": Measure("latency", "ms", 1e3),
    "train_memory_bytes": Measure("memory of a training step", "MB", 1e-6),
}
# of `Growth.points`
COLUMNS = ("entry", "family", "seconds", "parameters", *MEASURES, "score", "seeds")


@dataclass(frozen=True, repr=False)
class Growth:
    """What inputs of several lengths cost the architectures of a suite; it shows itself in a notebook."""

    title: str
    # that it was measured on
    device: str
    # inputs of the step whose memory was measured
    rows: int
    metric: Metric
    # a row an entry and length, with COLUMNS; score: the mean over seeds of runs with chunks as long, else NaN
    points: pd.DataFrame = field(repr=False)
    # entry and length to why it could not be measured
    failed: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def by_entry(self) -> dict[str, pd.DataFrame]:
        """The points of each entry, shortest first."""
        return {str(entry): points.sort_values("seconds") for entry, points in self.points.groupby("entry", sort=False)}

    @property
    def lengths(self) -> list[float]:
        """All lengths in seconds, shortest first."""
        return sorted(self.points["seconds"].unique())

    @cached_property
    def exponents(self) -> pd.DataFrame:
        """A row an entry: the exponent of each measure, NaN of fewer than two lengths, or of fewer than others have."""
        # those of other lengths are no others' equals: fixed parts weigh more in short inputs
        whole = {name: points for name, points in self.by_entry.items() if len(points) == len(self.lengths)}
        found = {entry: {name: exponent(points, name) for name in MEASURES} for entry, points in whole.items()}
        return pd.DataFrame.from_dict(found, orient="index", columns=[*MEASURES]).reindex([*self.by_entry])

    def shown_exponent(self, entry: str, column: str) -> str:
        """Return an entry's exponent of a measure as text, '-' where there is none."""
        # z: no -0.00
        return _text(float(self.exponents[column][entry]), "z.2f")

    @property
    def table(self) -> pd.DataFrame:
        """The points, each with its entry's exponents, as in growth.csv."""
        return self.points.join(self.exponents.add_suffix("_exponent"), on="entry")

    def __repr__(self) -> str:
        failed = [f"{name}: could not be measured: {why}" for name, why in self.failed.items()]
        if self.points.empty:
            return "\n".join(failed)
        blocks = [self._block(name, f"{each.name} ({each.unit})", each.scale) for name, each in MEASURES.items()]
        if self.points["score"].notna().any():
            blocks.append(self._block("score", f"{self.metric.label} on eval of runs with chunks as long", 1.0))
        legend = [
            f"{self.title}: of one chunk, on {self.device} with nothing else running; memory: of a step of {self.rows} "
            "chunks, with weights, gradients and moments",
            "exponent: of the power of the length that a cost grows by (1: twice as long costs twice as much)",
        ]
        return "\n\n".join([*blocks, "\n".join([*failed, *legend])])

    def _block(self, column: str, heading: str, scale: float) -> str:
        """Return a table of one measure: a line an entry, a column a length, and the exponent of what is a cost."""
        lines = {}
        for entry, points in self.by_entry.items():
            values = zip(points["seconds"], scale * points[column], strict=True)
            lines[entry] = {f"{seconds:g} s": _text(value, ".3g") for seconds, value in values}
            if column in MEASURES:
                lines[entry]["exponent"] = self.shown_exponent(entry, column)
        columns = [*(f"{seconds:g} s" for seconds in self.lengths), *(["exponent"] if column in MEASURES else [])]
        return f"{heading}\n{pd.DataFrame.from_dict(lines, orient='index', columns=columns).fillna('-').to_string()}"

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False, border=0, float_format="{:.4g}".format))


def _text(value: float, digits: str) -> str:
    return "-" if math.isnan(value) else f"{value:{digits}}"


def exponent(points: pd.DataFrame, column: str) -> float:
    """Return the exponent of the power law in `seconds` that is nearest to all points (least squares of logarithms)."""
    if len(points) < 2:
        return math.nan
    return float(np.polyfit(np.log(points["seconds"]), np.log(points[column]), 1)[0])
