"""The tables, each number once: a record a line, from which every format takes both its text and its raw values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.reporting.analysis import Analysis, ClassDifferences, Pair, Standing
from bench.reporting.pareto import COSTS, on_front
from bench.reporting.systems import Results, Row
from bench.stats.bootstrap import METRICS

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column for readers: its text made from a record, and the field it is sorted by."""

    header: str
    field: str
    text: Callable[[Record], str]
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    name: str  # of its files
    title: str
    columns: tuple[Column, ...]
    records: tuple[Record, ...]

    @property
    def cells(self) -> list[list[str]]:
        return [[column.text(record) for column in self.columns] for record in self.records]


def tables(analysis: Analysis) -> list[Table]:
    """Scores, cost, differences (where there are two rows) and the published figures (where there are any)."""
    rows = tuple(_row_record(standing, analysis) for standing in analysis.standings)
    published = tuple(record for record in rows if record["published_map"] is not None)
    made = [Table("scores", "Scores", _SCORES, rows), Table("cost", "Cost", _COST, rows)]
    if analysis.pairs:
        pairs = tuple(_pair_record(pair) for pair in analysis.pairs)
        made.append(Table("differences", "Differences in mAP", _DIFFERENCES, pairs))
    if published:
        made.append(Table("published", "Published figures", _PUBLISHED, published))
    return made


def class_table(classes: ClassDifferences) -> Table:
    """AP class by class of two rows; those that differ first, the largest difference on top."""
    table = classes.table.assign(order=classes.table["verdict"] != "different", size=-classes.table["difference"].abs())
    records = table.sort_values(["order", "size"], kind="stable").drop(columns=["order", "size"]).to_dict("records")
    title = f"AP of {classes.first.label} and {classes.second.label}, class by class"
    return Table("classes", title, _classes(classes), tuple({str(k): v for k, v in r.items()} for r in records))


def _row_record(standing: Standing, analysis: Analysis) -> dict[str, Any]:
    row, own = standing.row, standing.own
    first, published = row.first, row.published or {}
    cost = first["cost"]
    return {
        "rank": standing.rank,
        "architecture": row.label,
        "inferred": bool(first["spec"]["inferred"]),
        "family": first["family"],
        "seeds": len(row.runs),
        "map": row.mean("metrics", "map"),
        "map_sd": row.spread("metrics", "map"),
        "map_low": float(own["map"].low),
        "map_high": float(own["map"].high),
        "group": standing.letters,
        "leaf_map": row.mean("metrics", "leaf_map"),
        "lwlrap": row.mean("metrics", "lwlrap"),
        "auc": row.mean("metrics", "auc"),
        "dprime_of_mean_auc": row.mean("metrics", "dprime_of_mean_auc"),
        "mean_dprime": row.mean("metrics", "mean_dprime"),
        "val_map": sum(run["val_map"] for run in row.runs) / len(row.runs),
        "untrained_map": row.mean("untrained", "map"),
        "chance_map": analysis.results.chance_map,
        "parameters": cost["parameters"],
        "macs": cost.get("macs"),
        "train_seconds": row.mean("cost", "train_seconds"),
        "samples_per_second": row.mean("cost", "samples_per_second"),
        "latency_seconds": row.mean("cost", "latency_seconds") if "latency_seconds" in cost else None,
        "train_memory_bytes": cost.get("train_memory_bytes"),
        "front": "".join(letter for letter, c in COSTS.items() if on_front(row, analysis.results.rows, c.of)),
        "published_map": published.get("map"),
        "published_parameters": published.get("parameters"),
        "published_source": published.get("source"),
        "published_sample_rate": published.get("sample_rate"),
        "published_chunks": published.get("chunks"),
        "published_aggregation": published.get("aggregation"),
        "published_selection": published.get("selection"),
        "published_note": published.get("note") or None,
    }


def _pair_record(pair: Pair) -> dict[str, Any]:
    record: dict[str, Any] = {"first": pair.first.label, "second": pair.second.label, "about": pair.about}
    for metric in METRICS:
        found = pair.differences[metric]
        record |= {
            metric: float(found.value),
            f"{metric}_low": float(found.low),
            f"{metric}_high": float(found.high),
            f"{metric}_p": float(found.p),
            f"{metric}_p_adjusted": pair.adjusted_p[metric],
            f"{metric}_verdict": pair.verdicts[metric],
        }
    return record


def number(field: str, pattern: str, scale: float = 1) -> Callable[[Record], str]:
    return lambda record: "" if record[field] is None else pattern.format(record[field] * scale)


def words(field: str) -> Callable[[Record], str]:
    return lambda record: "" if record[field] is None else str(record[field])


def name(record: Record) -> str:
    return f"{record['architecture']} (I)" if record["inferred"] else str(record["architecture"])


def interval(low: str, high: str, pattern: str = "{:.3f}") -> Callable[[Record], str]:
    return lambda record: f"{pattern.format(record[low])} to {pattern.format(record[high])}"


def p_value(field: str) -> Callable[[Record], str]:
    return lambda record: "< 0.0001" if record[field] < 0.0001 else f"{record[field]:.4f}"


def _with_sd(record: Record) -> str:
    return f"{record['map']:.3f}" + ("" if record["map_sd"] is None else f" ± {record['map_sd']:.3f}")


_SCORES = (
    Column("architecture", "architecture", name, numeric=False),
    Column("rank", "rank", number("rank", "{:.0f}")),
    Column("seeds", "seeds", number("seeds", "{:.0f}")),
    Column("mAP", "map", _with_sd),
    Column("95% interval", "map_low", interval("map_low", "map_high")),
    Column("group", "group", words("group"), numeric=False),
    Column("leaf mAP", "leaf_map", number("leaf_map", "{:.3f}")),
    Column("lwlrap", "lwlrap", number("lwlrap", "{:.3f}")),
    Column("untrained mAP", "untrained_map", number("untrained_map", "{:.3f}")),
    Column("published mAP", "published_map", number("published_map", "{:.3f}")),
)
_COST = (
    Column("architecture", "architecture", name, numeric=False),
    Column("mAP", "map", number("map", "{:.3f}")),
    Column("parameters", "parameters", number("parameters", "{:,}")),
    Column("published parameters", "published_parameters", number("published_parameters", "{:.2f}M", 1e-6)),
    Column("MMACs/s of sound", "macs", number("macs", "{:.0f}", 1e-6)),
    Column("train s", "train_seconds", number("train_seconds", "{:.0f}")),
    Column("samples/s", "samples_per_second", number("samples_per_second", "{:.0f}")),
    Column("ms a 10 s clip", "latency_seconds", number("latency_seconds", "{:.1f}", 1e3)),
    Column("MiB to train", "train_memory_bytes", number("train_memory_bytes", "{:.0f}", 2**-20)),
    Column("Pareto front", "front", words("front"), numeric=False),
)
_DIFFERENCES = (
    Column("first", "first", words("first"), numeric=False),
    Column("second", "second", words("second"), numeric=False),
    Column("first - second", "map", number("map", "{:+.3f}")),
    Column("95% interval", "map_low", interval("map_low", "map_high", "{:+.3f}")),
    Column("p (Holm)", "map_p_adjusted", p_value("map_p_adjusted")),
    Column("verdict", "map_verdict", words("map_verdict"), numeric=False),
    Column("about", "about", words("about"), numeric=False),
)
_PUBLISHED = (
    Column("architecture", "architecture", words("architecture"), numeric=False),
    Column("mAP", "published_map", number("published_map", "{:.3f}")),
    Column("parameters", "published_parameters", number("published_parameters", "{:.2f}M", 1e-6)),
    Column("sample rate", "published_sample_rate", number("published_sample_rate", "{:,} Hz")),
    Column("chunks", "published_chunks", words("published_chunks"), numeric=False),
    Column("aggregation", "published_aggregation", words("published_aggregation"), numeric=False),
    Column("selection", "published_selection", words("published_selection"), numeric=False),
    Column("source", "published_source", words("published_source"), numeric=False),
    Column("note", "published_note", words("published_note"), numeric=False),
)


def _classes(classes: ClassDifferences) -> tuple[Column, ...]:
    return (
        Column("class", "class", words("class"), numeric=False),
        Column("train clips", "train_clips", number("train_clips", "{:.0f}")),
        Column("eval clips", "eval_clips", number("eval_clips", "{:.0f}")),
        Column(classes.first.label, "ap_first", number("ap_first", "{:.3f}")),
        Column(classes.second.label, "ap_second", number("ap_second", "{:.3f}")),
        Column("difference", "difference", number("difference", "{:+.3f}")),
        Column("95% interval", "low", interval("low", "high", "{:+.3f}")),
        Column("p (Benjamini-Hochberg)", "p_adjusted", p_value("p_adjusted")),
        Column("verdict", "verdict", words("verdict"), numeric=False),
    )


def inferred_settings(results: Results) -> list[tuple[str, str, str, list[str]]]:
    """Field, value and reason of each inferred setting, with the rows it holds for; of ablations only what does not
    hold for their bases, too."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in results.rows:
        for field, reason in row.first["spec"]["inferred"].items():
            found.setdefault((field, _setting(row, field), reason), []).append(row)
    return [
        (*key, [row.label for row in rows if row.base not in {other.name for other in rows}])
        for key, rows in found.items()
    ]


def _setting(row: Row, field: str) -> str:
    spec = row.first["spec"]
    return str(spec["recipe"][field.removeprefix("train.")] if field.startswith("train.") else spec["config"][field])


def unfinished(results: Results) -> Sequence[str]:
    """What the suite planned and the tables lack."""
    failed = [f"failed: {folder} (see failed.json in its folder)" for folder in results.failed]
    return failed + [f"missing: {folder}" for folder in results.missing]
