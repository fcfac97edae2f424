"""What a measurement leaves: a row of the CSV, and a line of the table."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median

import pandas as pd

from benchmarks.turns import Turns

__all__ = ["Pair", "Row", "markdown", "row", "table"]


@dataclass(frozen=True)
class Pair:
    """What is compared with what: one item of a part, done in the other way and in ours.

    Attributes:
        target: how many times as fast ours should be, or with `at_most` what it may cost beside the other.
    """

    part: str
    item: str
    other: str
    ours: str
    target: float | None = None
    at_most: bool = False


@dataclass(frozen=True)
class Row:
    """A measured pair.

    Attributes:
        other_seconds, ours_seconds: medians.
        ratio: how many times as fast ours is, or with `at_most` what it costs beside the other: the median over turns.
        low, high: quartiles of the ratio.
        turns: how many of each were timed.
        limit: what holds ours, measured beside it.
        flops, bytes: of a training step, for the roofline.
    """

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
    limit: str
    target: float | None = None
    at_most: bool = False
    flops: float | None = None
    bytes: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


def row(
    pair: Pair,
    turns: Turns,
    limit: str,
    *,
    flops: float | None = None,
    bytes: float | None = None,
) -> Row:
    """Return what turns say of a pair; with `at_most`, their ratios are inverted."""
    ratio, (low, high) = turns.ratio, turns.quartiles
    if pair.at_most:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    return Row(
        **vars(pair),
        other_seconds=median(turns.other),
        ours_seconds=median(turns.ours),
        ratio=ratio,
        low=low,
        high=high,
        turns=len(turns.ours),
        limit=limit,
        flops=flops,
        bytes=bytes,
    )


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return measured pairs as a table, with four digits of every number."""
    frame = pd.DataFrame([{f.name: getattr(r, f.name) for f in fields(Row)} | {"met": r.met} for r in rows])
    return frame.apply(lambda column: column.map(lambda v: float(f"{v:.4g}")) if column.dtype == float else column)


def markdown(frame: pd.DataFrame) -> str:
    """Return a line a part: the range of its ratios, its target and its limit."""
    lines = [
        "| what | beside | ratio | quartiles | target | | limit |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for _, part in frame.groupby("part", sort=False):
        first = part.iloc[0]
        ratio, quartiles = _range(part["ratio"]), f"{_number(part['low'].min())} to {_number(part['high'].max())}"
        target, met = "", ""
        if pd.notna(first["target"]):
            target = f"{'at most' if first['at_most'] else 'at least'} {first['target']:g}"
            missed = part.loc[~part["met"].astype(bool), "item"]
            met = "met" if missed.empty else "not met" if len(missed) == len(part) else f"not: {', '.join(missed)}"
        lines.append(
            f"| {first['ours']} | {first['other']} | {ratio} | {quartiles} | {target} | {met} | {_limit(part)} |"
        )
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(values: "pd.Series[float]") -> str:
    low, high = _number(values.min()), _number(values.max())
    return low if low == high else f"{low} to {high}"


def _limit(part: pd.DataFrame) -> str:
    """Return the limit of the fastest of several."""
    return str(part["limit"].iloc[int(part["ratio"].argmax())])
