"""A table: each number once, in a record a line, from which every format takes both its text and its raw values."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.protocol.task import Metric, Task
from bench.reporting.analysis import CLAIMED, Claim
from bench.reporting.systems import System
from bench.text import printable

__all__ = [
    "CLAIMED",
    "COSTS",
    "Column",
    "Record",
    "Table",
    "claimed",
    "difference",
    "heading",
    "interval",
    "number",
    "scope_of",
    "words",
]

Record = Mapping[str, Any]
# what a run costs: field of its record to header and unit (what to multiply by)
COSTS: Mapping[str, tuple[str, float]] = {
    "parameters": ("parameters", 1),
    "macs": ("MMACs/s of a clip", 1e-6),
    "train_seconds": ("train s", 1),
    "samples_per_second": ("samples/s", 1),
    "latency_seconds": ("ms a 10 s clip", 1e3),
    "train_memory_bytes": ("MiB to train", 2**-20),
}


@dataclass(frozen=True)
class Column:
    """A column for readers: its text made from a record, and the field it is sorted by."""

    header: str
    field: str
    text: Callable[[Record], str]
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table; `name` is that of its files."""

    name: str
    title: str
    columns: tuple[Column, ...]
    records: tuple[Record, ...]

    @property
    def cells(self) -> list[list[str]]:
        return [[printable(column.text(record)) for column in self.columns] for record in self.records]


# --- kinds of columns; what is not known is empty, a number that does not exist, such as the mean over no class, is -


def _column(header: str, field: str, text: Callable[[Any], str], *, numeric: bool = True) -> Column:
    return Column(header, field, lambda record: _text(record[field], text), numeric)


def _text(value: Any, text: Callable[[Any], str]) -> str:
    if value is None:
        return ""
    return "-" if isinstance(value, float) and math.isnan(value) else text(value)


def heading(metric: Metric, task: Task) -> str:
    """Return a metric's label, with the better direction if that is not the same for all of a task's: 'bits ↓'."""
    if len({each.higher_is_better for each in task.metrics}) < 2:
        return metric.label
    return f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"


def words(header: str, field: str | None = None) -> Column:
    """Return a column of text, of the field that is called like it unless another is named."""
    return _column(header, field or header, str, numeric=False)


def number(header: str, field: str, pattern: str = "{:.3f}", scale: float = 1) -> Column:
    """Return a column of numbers, formatted by `pattern` after multiplication by `scale`."""
    return _column(header, field, lambda value: pattern.format(value * scale))


def interval(prefix: str = "", pattern: str = "{:.3f}") -> Column:
    """Return the column of the interval from PREFIXlow to PREFIXhigh."""
    low, high, both = f"{prefix}low", f"{prefix}high", f"{pattern} to {pattern}"
    return Column("95% interval", low, lambda r: _text(r[low], lambda value: both.format(value, r[high])))


def difference(
    header: str, field: str = "difference", prefix: str = "", by: str = "Holm", *, margin: float | None = None
) -> tuple[Column, ...]:
    """Return the columns of what `claimed` records, p being corrected `by`.

    With a margin they also say whether the two are equivalent within it, and what the claim generalises to.
    """
    return (
        number(header, field, "{:+.3f}"),
        interval(prefix, "{:+.3f}"),
        _column(f"p ({by})", f"{prefix}p_adjusted", lambda p: "< 0.0001" if p < 0.0001 else f"{p:.4f}"),
        words("verdict", f"{prefix}verdict"),
        *(_scope(margin, prefix) if margin is not None else []),
    )


def _scope(margin: float, prefix: str) -> list[Column]:
    equivalence = words(f"equivalent within {margin:g}", f"{prefix}equivalence")
    return [equivalence, words("generalises to", "generalises_to"), words("seeds paired", "seeds_paired")]


def scope_of(claim: Claim, first: System, second: System) -> dict[str, Any]:
    """Return the fields of a record that say what a claim generalises to, and which seeds it rests on: '5 of 5'."""
    paired = claim.difference.paired
    of = max(len(first.runs), len(second.runs))
    return {"generalises_to": claim.difference.scope, "seeds_paired": f"{paired} of {of}" if paired else None}


def claimed(claim: Claim | None, field: str = "difference", prefix: str = "") -> dict[str, Any]:
    """Return the fields of a record that `difference` shows, and p without the correction; without a claim, empty."""
    # of a metric that does not exist there is nothing to claim
    claim = claim if claim and math.isfinite(claim.difference.value) else None
    found = claim.difference if claim else None
    values: dict[str, Any] = {name: float(getattr(found, name)) if found else None for name in ("low", "high", "p")}
    values["p_adjusted"] = claim.adjusted_p if claim else None
    values |= {name: getattr(claim, name, None) for name in ("verdict", "equivalence")}
    return {field: float(found.value) if found else None} | {f"{prefix}{name}": value for name, value in values.items()}
