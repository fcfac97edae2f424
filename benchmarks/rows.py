"""What a measurement leaves: a row of the CSV, and a line of the table."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.turns import Turns


@dataclass(frozen=True)
class Row:
    """One pair. Seconds are medians; `ratio` is how many times as fast ours is, or (at_most) what it costs beside the
    other: the median over turns, with its quartiles."""

    part: str
    item: str
    other: str
    ours: str
    other_seconds: float
    ours_seconds: float
    ratio: float
    low: float
    high: float
    turns: int
    limit: str  # what holds it, measured beside it
    target: float | None = None
    at_most: bool = False
    # of a training step, for the roofline
    flops: float | None = None
    bytes: float | None = None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


def row(part: str, item: str, other: str, ours: str, turns: Turns, limit: str, **more: Any) -> Row:
    """Of turns; those of `at_most` are turned over."""
    ratio, (low, high) = turns.ratio, turns.quartiles
    if more.get("at_most"):
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    medians = median(turns.other), median(turns.ours)
    return Row(part, item, other, ours, medians[0], medians[1], ratio, low, high, len(turns.ours), limit, **more)


def table(rows: Sequence[Row]) -> pd.DataFrame:
    frame = pd.DataFrame([{f.name: getattr(r, f.name) for f in fields(Row)} | {"met": r.met} for r in rows])
    return frame.apply(lambda column: column.map(lambda v: float(f"{v:.4g}")) if column.dtype == float else column)


def markdown(frame: pd.DataFrame) -> str:
    """A line a part: the range of its ratios, its target and its limit."""
    lines = [
        "| what | beside | ratio | quartiles | target | | limit |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for _, part in frame.groupby("part", sort=False):
        first = part.iloc[0]
        ratio, quartiles = _range(part["ratio"]), f"{number(part['low'].min())} to {number(part['high'].max())}"
        target, met = "", ""
        if pd.notna(first["target"]):
            target = f"{'at most' if first['at_most'] else 'at least'} {first['target']:g}"
            missed = part.loc[~part["met"].astype(bool), "item"]
            met = "met" if missed.empty else "not met" if len(missed) == len(part) else f"not: {', '.join(missed)}"
        lines.append(
            f"| {first['ours']} | {first['other']} | {ratio} | {quartiles} | {target} | {met} | {_limit(part)} |"
        )
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(values: "pd.Series[float]") -> str:
    low, high = number(values.min()), number(values.max())
    return low if low == high else f"{low} to {high}"


def _limit(part: pd.DataFrame) -> str:
    """That of the fastest of several."""
    return str(part["limit"].iloc[int(part["ratio"].argmax())])
