"""What the searches of a results folder found: best recipe against default, from search.json alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.protocol.task import Metric, get_task
from bench.reporting.analysis import Analysis, judge
from bench.reporting.formats import markdown_table
from bench.reporting.systems import System
from bench.reporting.tables.table import Column, Record, Table, claimed, difference, number, scope_of, words
from bench.stats.inference import Inference

__all__ = ["summary", "tuning_table"]

_RECIPE = words("best recipe", "best_recipe")
_CLAIM = (
    "difference", "low", "high", "p", "p_adjusted", "verdict", "equivalence", "generalises_to", "seeds_paired",
)  # fmt: skip


def summary(search: Mapping[str, Any]) -> str:
    """Return the searches alone, as Markdown."""
    records = tuple(_search_record(search, entry) for entry in search["entries"])
    columns = (*_searched(get_task(search["task"]).primary, records), _RECIPE)
    return "\n".join(markdown_table(Table("searches", "Searches", columns, records)))


def _searched(primary: Metric, records: Sequence[Record]) -> tuple[Column, ...]:
    counts = {"trials": "finished", "pruned": "pruned", "failed": "failed", "steps": "steps"}
    scores = {"default": "default_val_score", "best": "best_val_score", "best, retrained": "best_mean_val_score"}
    columns = (
        words("entry"),
        words("budget"),
        *(number(header, field, "{:.0f}") for header, field in counts.items()),
        number("hours", "hours", "{:.3g}"),
        *(number(f"val {primary.label}, {which}", field) for which, field in scores.items()),
        words("chosen by", "chosen_by"),
        words("without effect", "without_effect"),
    )
    # older searches have no finalists, and most spaces no dimension without effect
    optional = {"steps", "best_mean_val_score", "chosen_by", "without_effect"}
    return tuple(c for c in columns if c.field not in optional or any(record[c.field] for record in records))


def _search_record(search: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    default, best, finalists = entry["default"], entry["best"], entry.get("finalists", ())
    params = best["params"].items() if best else ()
    texts = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in params]
    return {
        "entry": entry["entry"],
        "best": best["name"] if best else None,
        "budget": search["budget"],
        **{key: entry[key] for key in ("finished", "pruned", "failed", "seconds")},
        "hours": entry["seconds"] / 3600,
        # beside the budget: what it took to choose among the finalists
        **{f"finals_{key}": sum(finalist[key] for finalist in finalists) for key in ("seconds", "steps")},
        # which older searches do not tell
        "steps": entry.get("steps"),
        "chosen_by": entry.get("chosen_by") if best else None,
        "without_effect": ", ".join(entry.get("without_effect", ())) or None,
        "default_val_score": default["val_score"] if default else None,
        "best_val_score": best["val_score"] if best else None,
        "best_mean_val_score": best.get("mean_val_score") if best else None,
        "best_recipe": ", ".join(texts) if best else None,
    }


def tuning_table(analysis: Analysis, search: Mapping[str, Any]) -> Table:
    """Return best against default recipe, entry by entry.

    On val as the search saw it, on eval the paired difference of the retrained, with p corrected over these (Holm).
    """
    records, compared, primary = [], [], analysis.primary
    for entry in search["entries"]:
        default, best = _system_of(analysis, entry["default"]), _system_of(analysis, entry["best"])
        record = _search_record(search, entry) | {
            "default_score": default.score if default else None,
            "best_score": best.score if best else None,
            **dict.fromkeys(_CLAIM),
        }
        if default and best and (found := _best_minus_default(analysis, default, best)):
            compared.append((record, found, (best, default)))
        else:
            same = default and best and default.label == best.label
            record["verdict"] = "the default was the best" if same else "not retrained"
        records.append(record)
    claims = judge([found for _, found, _ in compared], analysis.margin)
    for (record, _, both), claim in zip(compared, claims, strict=True):
        record |= claimed(claim) | scope_of(claim, *both)
    columns = (
        *_searched(primary, records),
        *(number(f"eval {primary.label}, {which}", f"{which}_score") for which in ("default", "best")),
        *difference("best - default", margin=analysis.margin),
        _RECIPE,
    )
    return Table("tuning", f"Best recipe against default ({search['budget']} each)", columns, tuple(records))


def _system_of(analysis: Analysis, result: Mapping[str, Any] | None) -> System | None:
    for system in analysis.results.systems:
        recipe = system.spec.recipe.model_dump(mode="json")
        if result and system.name == result["name"] and recipe == recipe | result["recipe"]:
            return system
    return None


def _best_minus_default(analysis: Analysis, default: System, best: System) -> Inference | None:
    for pair in analysis.pairs:
        if {pair.first.label, pair.second.label} == {default.label, best.label}:
            found = pair.primary.difference
            # a pair has the better one first, whichever that is
            return found if pair.first.label == best.label else found.turned
    return None
