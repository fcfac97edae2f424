"""The tables of scores, floors, costs, differences, ablations and published figures."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bench.protocol.task import Task
from bench.reporting.analysis import Ablation, Analysis, ClassDifferences, Pair, Standing
from bench.reporting.marks import KINDS, NO_BETTER, symbols
from bench.reporting.pareto import COSTS as AXES
from bench.reporting.pareto import least, training_seconds, unbeaten
from bench.reporting.systems import Results
from bench.reporting.tables.contrasts import contrast_table
from bench.reporting.tables.floors import floor_table, over_floor_table
from bench.reporting.tables.starts import start_table
from bench.reporting.tables.table import (
    CLAIMED,
    COSTS,
    Column,
    Record,
    Table,
    claimed,
    difference,
    heading,
    interval,
    number,
    scope_of,
    words,
)

__all__ = [
    "NAME", "as_published", "class_table", "has_fields", "ranked", "rate_name", "tables", "unfinished", "with_sd",
]  # fmt: skip

# what papers on tagging say of their protocols, and those on next-sample prediction
_PROTOCOLS = (("chunks", "aggregation", "selection"), ("context", "coding", "data"))


def _marked_name(record: Record) -> str:
    marks = symbols([kind.name for kind in KINDS if record[kind.name]])
    if record.get("beats_floor", "yes") != "yes":
        marks += NO_BETTER
    return f"{record['entry']} {marks}".rstrip()


NAME = Column("entry", "entry", _marked_name, numeric=False)


def tables(analysis: Analysis) -> list[Table]:
    """Return ablations, scores, floors, contrasts, costs, starts, differences, published figures, if there are any."""
    fronts = {letter: unbeaten(analysis, axis) for letter, axis in AXES.items()}
    records = tuple(_record(standing, analysis, fronts) for standing in analysis.standings)
    published = tuple(record for record in records if record["published_parameters"] is not None)
    primary = analysis.primary
    made = [_ablation_table(analysis)] if analysis.ablations else []
    made.append(Table("scores", "Scores", _scores(analysis), records))
    if analysis.floors:
        made.append(floor_table(analysis))
    if analysis.over_floor:
        made.append(over_floor_table(analysis))
    if analysis.contrasts:
        made.append(contrast_table(analysis.contrasts, analysis.margin))
    made.append(Table("cost", "Cost", _cost(analysis), records))
    if starts := start_table(analysis):
        made.append(starts)
    if analysis.pairs:
        between = difference("first - second", primary.name, f"{primary.name}_", margin=analysis.margin)
        columns = (words("first"), words("second"), *between)
        pairs = tuple(_pair_record(pair) for pair in analysis.pairs)
        made.append(Table("differences", f"Exploratory: all pairs, differences in {primary.label}", columns, pairs))
    if published:
        made.append(Table("published", "Published figures", _published(analysis), published))
    return made


def _ablation_table(analysis: Analysis) -> Table:
    columns = (
        *(words(header) for header in ("entry", "question", "base", "changed")),
        number(analysis.primary.label, analysis.primary.name),
        *difference("entry - base", margin=analysis.margin),
        number("seeds", "seeds", "{:.0f}"),
        number("parameters", "parameters_ratio", "x {:.2f}"),
    )
    return Table("ablations", "Ablations", columns, tuple(_ablation_record(each) for each in analysis.ablations))


def class_table(classes: ClassDifferences) -> Table:
    """Return two systems class by class; classes that differ first, the largest difference on top."""
    columns = (
        words("class"),
        *(number(f"{part} clips", f"{part}_clips", "{:.0f}") for part in ("train", "eval")),
        number(classes.first.label, "first"),
        number(classes.second.label, "second"),
        *difference("difference", by="Benjamini-Hochberg"),
    )
    by = ["verdict", "difference"]
    order = classes.table.sort_values(by, key=lambda c: ~c.isin(CLAIMED) if c.name == "verdict" else -c.abs())
    records = tuple({str(k): v for k, v in record.items()} for record in order.to_dict("records"))
    title = f"{classes.metric.label} of {classes.first.label} and {classes.second.label}, class by class"
    return Table("classes", title, columns, records)


def _record(standing: Standing, analysis: Analysis, fronts: Mapping[str, set[str]]) -> dict[str, Any]:
    system, systems, primary = standing.system, analysis.results.systems, analysis.primary.name
    first, published = system.first, system.published or {}
    between = standing.intervals[primary] if standing.intervals else None
    cost, (fastest, slowest) = first.cost, training_seconds(system)
    metrics = {key: value for each in systems for key, value in each.first.metrics.items()}
    others = [key for key, value in metrics.items() if key != primary and isinstance(value, float | None)]
    over_floor = {each.system.label: each.beats for each in analysis.over_floor}
    papers = ("parameters", "source", "sample_rate", *_protocol(analysis.results), "note")
    return {
        "rank": standing.rank,
        **dict(zip(("rank_low", "rank_high"), standing.rank_interval, strict=True)),
        "entry": system.label,
        **{kind.name: bool(getattr(system.spec, kind.name)) for kind in KINDS},
        "family": first.family,
        "seeds": len(system.runs),
        primary: system.score,
        f"{primary}_sd": system.spread("metrics", primary),
        **{f"{primary}_{end}": float(getattr(between, end)) if between else None for end in ("low", "high")},
        f"{primary}_corrected": float(standing.estimates[primary].corrected),
        "group": standing.letters,
        **({"beats_floor": over_floor[system.label]} if over_floor else {}),
        **{key: system.mean("metrics", key) for key in others},
        "val_score": system.val_score,
        f"untrained_{primary}": system.mean("untrained", primary),
        **{f"{floor}_{primary}": value for floor, value in analysis.results.floors.items()},
        "parameters": cost["parameters"],
        **({"receptive_field": least(system, "receptive_field")} if has_fields(analysis.results) else {}),
        "macs": cost.get("macs"),
        "train_seconds": fastest,
        "train_seconds_most": slowest,
        "samples_per_second": max(system.values("cost", "samples_per_second")),
        "latency_seconds": least(system, "latency_seconds"),
        "train_memory_bytes": cost.get("train_memory_bytes"),
        "front": "".join(letter for letter, labels in fronts.items() if system.label in labels),
        **{f"published_{key}": published.get(key) or None for key in (analysis.results.published_metric.name, *papers)},
        **{f"published_{kind.name}": " ".join(published.get(kind.name, ())) or None for kind in KINDS},
    }


def _protocol(results: Results) -> tuple[str, ...]:
    """Return the fields in which the papers of these systems say what their figures rest on."""
    known = {field for system in results.systems for field in system.published or ()}
    return next((fields for fields in _PROTOCOLS if known & {*fields}), _PROTOCOLS[0])


def has_fields(results: Results) -> bool:
    """Return whether it is known how many samples an output sees."""
    return any("receptive_field" in system.first.cost for system in results.systems)


def _pair_record(pair: Pair) -> dict[str, Any]:
    record = {"first": pair.first.label, "second": pair.second.label, **scope_of(pair.primary, pair.first, pair.second)}
    for metric, claim in pair.claims.items():
        record |= claimed(claim, metric, f"{metric}_")
    return record


def _ablation_record(ablation: Ablation) -> dict[str, Any]:
    system, base, primary = ablation.system, ablation.base, ablation.system.task.primary.name
    return {
        "question": system.spec.question,
        "entry": system.label,
        "base": base.label,
        "changed": ", ".join(f"{name} {old} -> {new}" for name, (old, new) in ablation.changed.items()),
        "seeds": len(system.runs),
        f"base_{primary}": base.score,
        primary: system.score,
        f"{primary}_sd": system.spread("metrics", primary),
        **claimed(ablation.claim),
        **scope_of(ablation.claim, ablation.system, ablation.base),
        "parameters_ratio": system.mean("cost", "parameters") / base.mean("cost", "parameters"),
    }


def with_sd(field: str) -> Callable[[Record], str]:
    """Return what writes a mean over seeds and its standard deviation, if there is one: 0.379 ± 0.040."""

    def text(record: Record) -> str:
        sd = record[f"{field}_sd"]
        return f"{record[field]:.3f}" + ("" if sd is None or math.isnan(sd) else f" ± {sd:.3f}")

    return text


def ranked(record: Record) -> str:
    """Return a rank, and those that it may be."""
    low, high = record["rank_low"], record["rank_high"]
    return f"{record['rank']}" if low == high else f"{record['rank']} ({low} to {high})"


def _scores(analysis: Analysis) -> tuple[Column, ...]:
    task, of_papers = analysis.results.task, analysis.results.published_metric
    primary, *others = task.metrics
    trusted = analysis.standings[0].intervals is not None
    corrected = number(f"corrected {primary.label}", f"{primary.name}_corrected")
    figures = as_published(number(f"published {of_papers.label}", f"published_{of_papers.name}"))
    published = [figures] if any(system.published for system in analysis.results.systems) else []
    # beside the metric that it is of; of the primary one, behind all that is measured here
    beside = {of_papers.name: published} if of_papers != primary else {}
    measured = [[number(heading(each, task), each.name), *beside.get(each.name, ())] for each in others]
    return (
        NAME,
        Column("rank", "rank", ranked),
        number("seeds", "seeds", "{:.0f}"),
        Column(heading(primary, task), primary.name, with_sd(primary.name)),
        interval(f"{primary.name}_") if trusted else corrected,
        words("group"),
        *(column for columns in measured for column in columns),
        number(f"untrained {primary.label}", f"untrained_{primary.name}"),
        *(published if not beside else []),
    )


def _cost(analysis: Analysis) -> tuple[Column, ...]:
    patterns = {"parameters": "{:,}", "latency_seconds": "{:.1f}"}
    columns = {
        field: number(header, field, patterns.get(field, "{:.0f}"), unit) for field, (header, unit) in COSTS.items()
    }
    columns["train_seconds"] = replace(columns["train_seconds"], text=_spread)
    columns["samples_per_second"] = replace(columns["samples_per_second"], header=rate_name(analysis.results.task))
    parameters, *others = columns.values()
    return (
        NAME,
        number(analysis.primary.label, analysis.primary.name),
        parameters,
        as_published(number("published parameters", "published_parameters", "{:.2f}M", 1e-6)),
        *([number("field", "receptive_field", "{:,.0f}")] if has_fields(analysis.results) else []),
        *others,
        words("not shown to be beaten in", "front"),
    )


def rate_name(task: Task) -> str:
    """Return what is trained on in a second: samples/s, or windows/s."""
    # of what is no chunk a sample is something else
    return "samples/s" if task.inputs == "chunks" else f"{task.inputs}/s"


def _spread(record: Record) -> str:
    """Return the seconds of the fastest seed, and where those of the slowest are others, these too."""
    fastest, slowest = (f"{record[name]:.0f}" for name in ("train_seconds", "train_seconds_most"))
    return fastest if fastest == slowest else f"{fastest} (to {slowest})"


def _published(analysis: Analysis) -> tuple[Column, ...]:
    of_papers = analysis.results.published_metric
    figures = (
        number(of_papers.label, f"published_{of_papers.name}"),
        number("parameters", "published_parameters", "{:.2f}M", 1e-6),
        number("sample rate", "published_sample_rate", "{:,} Hz"),
        *(words(field, f"published_{field}") for field in (*_protocol(analysis.results), "source", "note")),
    )
    return (words("entry"), *map(as_published, figures))


def as_published(column: Column) -> Column:
    """Return a column of published figures with marks at those that were not read in the paper itself."""
    field = column.field.removeprefix("published_")

    def text(record: Record) -> str:
        kinds = [kind.name for kind in KINDS if field in (record[f"published_{kind.name}"] or "").split()]
        return f"{column.text(record)} {symbols(kinds)}".strip()

    return replace(column, text=text)


def unfinished(results: Results) -> list[str]:
    """Return what the suite planned and the tables lack, a line each."""
    failed = [f"failed: {folder} (see failed.json in its folder)" for folder in results.failed]
    return failed + [f"missing: {folder}" for folder in results.missing]
