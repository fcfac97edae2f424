"""The tables of a paper: of the report's tables a few columns, in groups, what is best or significant emphasised."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.errors import UserError
from bench.protocol.task import Metric
from bench.reporting.analysis import Analysis
from bench.reporting.basis import FAMILY_NAMES
from bench.reporting.captions import table_caption
from bench.reporting.systems import Results
from bench.reporting.tables.scores import NAME, as_published, has_fields, ranked, rate_name, with_sd
from bench.reporting.tables.table import CLAIMED, Column, Record, Table, heading, interval, number, words
from bench.reporting.text import figure_text

__all__ = ["Printed", "chosen_columns", "printed_tables"]

# a field and a record -> 'bold', 'underlined' or ''
Emphasis = Callable[[str, Record], str]
# a heading, which may be empty, and the records below it
Group = tuple[str, tuple[Record, ...]]

_EQUIVALENT = {"equivalent": "yes", "not equivalent": "no", "inconclusive": "?"}
# of every declared or paired difference
_CLAIM = {"low": "95% interval", "p_adjusted": "p", "equivalence": "Eq."}
# a table -> its fields, in this order, and their headers; a field that a table lacks is left out
_LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "contrasts": {"contrast": "Contrast", "weighted_difference": "Diff.", **_CLAIM},
    "ablations": {
        "entry": "Entry", "changed": "Changed", "{primary}": "{label}", "difference": "Difference", **_CLAIM,
        "parameters_ratio": "Params",
    },
    "over_floor": {
        "entry": "Entry", "{primary}": "{label}", "difference": "Difference", **_CLAIM, "beats_floor": "Beats it",
    },
    "starts": {
        "entry": "Entry", "{primary}": "{label}", "start": "Start", "start_source": "Heard",
        "start_examples": "Examples", "start_seconds": "s before", "train_seconds": "s", "trained": "Trained",
        "label_share": "Labels",
    },
    "differences": {
        "first": "First", "second": "Second", "{primary}": "Difference",
        **{f"{{primary}}_{name}": header for name, header in _CLAIM.items()},
    },
    "tuning": {
        "entry": "Entry", "default_score": "{label}, default", "best_score": "{label}, best",
        "difference": "Difference", **_CLAIM, "best_recipe": "Best recipe",
    },
    "ensembles": {
        "entry": "Entry", "score": "{label}", "all_seeds": "All seeds", "gain": "Gain", "own": "Own pair",
        "partner": "Best partner", "with_partner": "Pair", "partner_gain": "Gain",
    },
    "published": {
        "entry": "Entry", "published_{published}": "{published_label}", "published_parameters": "Params",
        "published_sample_rate": "Rate", "published_chunks": "Chunks", "published_aggregation": "Aggregation",
        "published_selection": "Selection", "published_context": "Context", "published_coding": "Coding",
        "published_data": "Data", "published_source": "Source",
    },
}  # fmt: skip
# those that fit into one of a page's two columns
_NARROW = ("contrasts",)
# columns that fit behind the names into one of a page's two
_FITTING = 3


@dataclass(frozen=True)
class Printed:
    """A table as it is printed; `name` is that of its file, without table_."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    emphasis: Emphasis
    # whether it takes a page's width; else one of two columns
    is_wide: bool

    @property
    def records(self) -> list[Record]:
        return [record for _, records in self.groups for record in records]


def chosen_columns(results: Results, names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of the printed table of scores behind the entry's; UserError for a name that is none."""
    known = _score_columns(results)
    for name in names:
        if name not in known:
            raise UserError(f"--columns {name}: no column of the table of scores; known are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _score_columns(results: Results) -> dict[str, Column]:
    """Return what the table of scores may show of a system, by name."""
    task, of_papers = results.task, results.published_metric
    primary, label = task.primary.name, task.primary.label
    others = [name for name, value in results.systems[0].first.metrics.items() if isinstance(value, float)]
    return {
        "family": words("Family", "family"),
        "rank": Column("Rank", "rank", ranked),
        "seeds": number("Seeds", "seeds", "{:.0f}"),
        primary: Column(heading(task.primary, task), primary, with_sd(primary)),
        "interval": interval(f"{primary}_"),
        f"{primary}_corrected": number(f"{label}, corrected", f"{primary}_corrected"),
        "group": words("Group", "group"),
        **{name: number(name, name) for name in others if name != primary},
        **{metric.name: number(heading(metric, task), metric.name) for metric in task.metrics[1:]},
        "val_score": number(f"{label} on val", "val_score"),
        f"untrained_{primary}": number(f"{label}, untrained", f"untrained_{primary}"),
        **_cost_columns(results),
        f"published_{of_papers.name}": as_published(number(_published(results), f"published_{of_papers.name}")),
        "published_parameters": as_published(number("Params, published", "published_parameters", "{:.2f}M", 1e-6)),
    }


def _published(results: Results) -> str:
    is_primary = results.published_metric == results.task.primary
    return "Published" if is_primary else f"{results.published_metric.label}, published"


def _cost_columns(results: Results) -> dict[str, Column]:
    field = {"receptive_field": number("Field", "receptive_field", "{:,.0f}")}
    return {
        "parameters": number("Params (M)", "parameters", "{:.2f}", 1e-6),
        **(field if has_fields(results) else {}),
        "macs": number("MMAC/s", "macs", "{:.0f}", 1e-6),
        "train_seconds": Column("Train (s)", "train_seconds", _seconds),
        "samples_per_second": number(rate_name(results.task).capitalize(), "samples_per_second", "{:.0f}"),
        "latency_seconds": number("Latency (ms)", "latency_seconds", "{:.1f}", 1e3),
        "train_memory_bytes": number("Memory (MiB)", "train_memory_bytes", "{:.0f}", 2**-20),
        "front": words("Unbeaten in", "front"),
    }


def _seconds(record: Record) -> str:
    fastest, slowest = (f"{record[name]:.0f}" for name in ("train_seconds", "train_seconds_most"))
    return fastest if fastest == slowest else f"{fastest}–{slowest}"  # noqa: RUF001


def printed_tables(analysis: Analysis, made: Sequence[Table], columns: Sequence[Column] = ()) -> list[Printed]:
    """Return the report's tables as a paper has them, that of scores with these columns, or those that fit a column."""
    return [
        _of_systems(analysis, table, columns) if table.name in ("scores", "cost") else _of_claims(analysis, table)
        for table in made
    ]


def _of_systems(analysis: Analysis, table: Table, columns: Sequence[Column]) -> Printed:
    """Return systems below their families, each metric's best emphasised, and what is not shown to be worse."""
    if table.name == "scores":
        shown = tuple(columns) or _usual(analysis)
    else:
        shown = (number(analysis.primary.label, analysis.primary.name), *_cost_columns(analysis.results).values())
    families = dict.fromkeys(str(record["family"]) for record in table.records)
    groups = [
        (_capitalised(FAMILY_NAMES.get(family, family)), tuple(r for r in table.records if r["family"] == family))
        for family in families
    ]
    name = "costs" if table.name == "cost" else table.name
    return Printed(
        name,
        table_caption(analysis, table, _lines(shown, table.records)),
        _lines((replace(NAME, header="Entry"), *shown), table.records),
        tuple(groups) if len(groups) > 1 else (("", table.records),),
        _best(analysis, table.records),
        is_wide=len(shown) > _FITTING,
    )


def _usual(analysis: Analysis) -> tuple[Column, ...]:
    """Return the columns that fit beside names of usual length: score, interval, or other metrics without one."""
    known = _score_columns(analysis.results)
    trusted = analysis.standings[0].intervals is not None
    names = ["interval"] if trusted else [metric.name for metric in analysis.results.task.metrics[1:3]]
    if analysis.results.published_metric != analysis.primary:
        # the metric that the field prints, beside what it printed
        names += [analysis.results.published_metric.name, f"published_{analysis.results.published_metric.name}"]
    return tuple(known[name] for name in (analysis.primary.name, *names))


def _lines(columns: Iterable[Column], records: Sequence[Record]) -> tuple[Column, ...]:
    """Return the columns in which any record has a text."""
    return tuple(column for column in columns if any(column.text(record) for record in records))


def _best(analysis: Analysis, records: Sequence[Record]) -> Emphasis:
    """Return what is bold, the best of each metric, and underlined: what no test says is worse than that."""
    bold, underlined = set(), set()
    for metric in analysis.results.task.metrics if len(records) > 1 else ():
        best = min(records, key=lambda record: _place(metric, record))["entry"]
        bold.add((metric.name, best))
        for pair in analysis.pairs:
            both = (pair.first.label, pair.second.label)
            if best in both and pair.claims[metric.name].verdict not in CLAIMED:
                underlined.add((metric.name, both[both[0] == best]))

    def emphasis(field: str, record: Record) -> str:
        place = field, record["entry"]
        return "bold" if place in bold else "underlined" if place in underlined else ""

    return emphasis


def _place(metric: Metric, record: Record) -> float:
    value = record[metric.name]
    # a mean over no class is no best one
    return metric.key(value) if value is not None and value == value else float("inf")


def _of_claims(analysis: Analysis, table: Table) -> Printed:
    """Return differences with what is claimed of them, significant ones in bold."""
    # of floors, whose metrics are the task's
    columns = _as_they_are(table) if table.name == "floors" else _laid_out(analysis, table)
    primary = analysis.primary.name
    groups: tuple[Group, ...] = (("", table.records),)
    difference, verdict = "difference", "verdict"
    if table.name == "contrasts":
        difference = "weighted_difference"
    elif table.name == "ablations":
        groups = _by_theme(analysis, table.records)
    elif table.name == "differences":
        difference, verdict = primary, f"{primary}_verdict"
        firsts = dict.fromkeys(str(record["first"]) for record in table.records)
        groups = tuple(("", tuple(r for r in table.records if r["first"] == first)) for first in firsts)

    def emphasis(field: str, record: Record) -> str:
        return "bold" if field == difference and record.get(verdict) in CLAIMED else ""

    is_wide = table.name not in _NARROW
    return Printed(table.name, table_caption(analysis, table, columns), columns, groups, emphasis, is_wide)


def _laid_out(analysis: Analysis, table: Table) -> tuple[Column, ...]:
    """Return a table's columns as its layout has them, without those that are empty."""
    of_papers = analysis.results.published_metric
    of_task = {"primary": analysis.primary.name, "label": analysis.primary.label}
    of_task |= {"published": of_papers.name, "published_label": of_papers.label}
    by_field = {column.field: column for column in table.columns}
    found = []
    for field, header in _LAYOUTS[table.name].items():
        column = by_field.get(field.format(**of_task))
        if column is not None:
            column = replace(column, header=header.format(**of_task))
            found.append(_short(column) if column.header == _CLAIM["equivalence"] else column)
    if table.name == "ablations":
        main = _main_base(table.records)
        ratio = number("Params", "parameters_ratio", "{:.2f}")
        others = {"changed": words("Changed"), "parameters_ratio": ratio}
        found = [replace(c, text=_changed(main)) if c.field == "changed" else others.get(c.field, c) for c in found]
    return _lines(found, table.records)


def _as_they_are(table: Table) -> tuple[Column, ...]:
    return tuple(replace(column, header=column.header[:1].upper() + column.header[1:]) for column in table.columns)


def _short(column: Column) -> Column:
    def text(record: Record) -> str:
        return _EQUIVALENT.get(column.text(record), column.text(record))

    return replace(column, text=text)


def _main_base(records: Sequence[Record]) -> str:
    return Counter(str(record["base"]) for record in records).most_common(1)[0][0]


def _changed(main: str) -> Callable[[Record], str]:
    """Return what writes the changes of an ablation, and its base where that is another than the main one."""

    def text(record: Record) -> str:
        return record["changed"] + ("" if record["base"] == main else f" (base: {record['base']})")

    return text


def _by_theme(analysis: Analysis, records: Sequence[Record]) -> tuple[Group, ...]:
    """Return ablations below their themes, those without one at the end."""
    themes: dict[str, list[Record]] = {}
    named = analysis.results.themes
    for ablation, record in zip(analysis.ablations, records, strict=True):
        themes.setdefault(named.get(ablation.system.name, ""), []).append(record)
    ordered = sorted(themes, key=lambda theme: not theme)
    others = "Others" if len(themes) > 1 else ""
    return tuple((_capitalised(figure_text(theme)) or others, tuple(themes[theme])) for theme in ordered)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
