"""What the searches of a results folder found: best recipe against default, from search.json alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.reporting.analysis import Analysis, Pair
from bench.reporting.formats import markdown_table
from bench.reporting.systems import Row, Search
from bench.reporting.tables.scores import Column, Record, Table, interval, number, p_value, words
from bench.stats.inference import holm, verdicts


def _found_record(search: Search, row: Mapping[str, Any]) -> dict[str, Any]:
    default, best = row["default"], row["best"]
    return {
        "row": row["row"],
        "best": best["name"] if best else None,
        "budget": search["budget"],
        "finished": row["finished"],
        "pruned": row["pruned"],
        "failed": row["failed"],
        "seconds": row["seconds"],
        "default_val_map": default["val_map"] if default else None,
        "best_val_map": best["val_map"] if best else None,
        "best_recipe": ", ".join(f"{k} {_text(v)}" for k, v in best["params"].items()) if best else None,
    }


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


_SEARCHED = (
    Column("row", "row", words("row"), numeric=False),
    Column("budget", "budget", words("budget"), numeric=False),
    Column("trials", "finished", number("finished", "{:.0f}")),
    Column("pruned", "pruned", number("pruned", "{:.0f}")),
    Column("failed", "failed", number("failed", "{:.0f}")),
    Column("search s", "seconds", number("seconds", "{:.0f}")),
    Column("val mAP, default", "default_val_map", number("default_val_map", "{:.3f}")),
    Column("val mAP, best", "best_val_map", number("best_val_map", "{:.3f}")),
)
_RECIPE = Column("best recipe", "best_recipe", words("best_recipe"), numeric=False)


def summary(search: Search) -> str:
    """The searches alone, as Markdown."""
    records = tuple(_found_record(search, row) for row in search["rows"])
    return "\n".join(markdown_table(Table("searches", "Searches", (*_SEARCHED, _RECIPE), records)))


def tuning_table(analysis: Analysis, search: Search) -> Table:
    """Best against default recipe, row by row: what the search saw on val, and on eval the paired difference of the
    retrained, whatever its sign. p is corrected over these differences (Holm)."""
    records = [_found_record(search, row) for row in search["rows"]]
    compared = []
    for record, row in zip(records, search["rows"], strict=True):
        default, best = _row_of(analysis, row["default"]), _row_of(analysis, row["best"])
        pair = _pair(analysis, default, best)
        record |= _eval_record(default, best, pair)
        if pair:
            compared.append((record, pair))
    adjusted = holm(np.array([float(pair.differences["map"].p) for _, pair in compared]))
    for (record, pair), p in zip(compared, adjusted, strict=True):
        found = pair.differences["map"]
        verdict = verdicts(np.array([found.p]), np.array([p]), found.floor)[0]
        record |= {"p": float(found.p), "p_adjusted": float(p), "verdict": verdict, "about": pair.about}
    return Table("tuning", f"Best recipe against default ({search['budget']} each)", _TUNING, tuple(records))


def _row_of(analysis: Analysis, result: Mapping[str, Any] | None) -> Row | None:
    """The retrained runs of a recipe."""
    for row in analysis.results.rows:
        if result and row.name == result["name"] and row.first["spec"]["recipe"] == result["recipe"]:
            return row
    return None


def _pair(analysis: Analysis, one: Row | None, other: Row | None) -> Pair | None:
    if one is None or other is None:
        return None
    labels = {one.label, other.label}
    return next((pair for pair in analysis.pairs if {pair.first.label, pair.second.label} == labels), None)


def _eval_record(default: Row | None, best: Row | None, pair: Pair | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "default_map": default.mean("metrics", "map") if default else None,
        "best_map": best.mean("metrics", "map") if best else None,
        "difference": None, "low": None, "high": None, "p": None, "p_adjusted": None, "verdict": None, "about": None,
    }  # fmt: skip
    if best is not None and default is not None and best.label == default.label:
        return record | {"verdict": "the default was the best"}
    if pair is None or best is None:
        return record | {"verdict": "not retrained"}
    found = pair.differences["map"]
    value, low, high = float(found.value), float(found.low), float(found.high)
    if pair.first.label != best.label:
        value, low, high = -value, -high, -low
    return record | {"difference": value, "low": low, "high": high}


def _where_known(text: Callable[[Record], str], field: str) -> Callable[[Record], str]:
    return lambda record: "" if record[field] is None else text(record)


_TUNING = (
    *_SEARCHED,
    Column("eval mAP, default", "default_map", number("default_map", "{:.3f}")),
    Column("eval mAP, best", "best_map", number("best_map", "{:.3f}")),
    Column("best - default", "difference", number("difference", "{:+.3f}")),
    Column("95% interval", "low", _where_known(interval("low", "high", "{:+.3f}"), "low")),
    Column("p (Holm)", "p_adjusted", _where_known(p_value("p_adjusted"), "p_adjusted")),
    Column("verdict", "verdict", words("verdict"), numeric=False),
    Column("about", "about", words("about"), numeric=False),
    _RECIPE,
)
