"""The table, as Markdown to read and as CSV to compute with."""

import csv
import io
import json
from collections import defaultdict
from typing import Any

from bench.report.results import Results, Row

COLUMNS = (
    "architecture", "mAP", "leaf mAP", "untrained mAP", "parameters", "train s", "samples/s",
    "published mAP", "published parameters",
)  # fmt: skip


def markdown_table(results: Results) -> str:
    """The table with all that is needed to read it rightly: chance, protocol, and what was inferred."""
    cells = [[_name(row), *_measured(row), *_published(row)] for row in results.rows]
    lines = [f"# {results.title}", "", _line(COLUMNS), _line(["---"] + ["---:"] * (len(COLUMNS) - 1))]
    lines += [_line(row) for row in cells]
    lines += ["", *_notes(results), *_inferred(results), *_unfinished(results)]
    return "\n".join(lines).rstrip() + "\n"


def csv_table(results: Results) -> str:
    """A line a row; numbers unrounded."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_record(results, results.rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(results, row) for row in results.rows)
    return text.getvalue()


def _record(results: Results, row: Row) -> dict[str, Any]:
    metrics = ("map", "leaf_map", "auc", "dprime_of_mean_auc", "mean_dprime", "lwlrap")
    published = row.published or {}
    return {
        "architecture": row.label,
        "family": row.first["family"],
        "seeds": len(row.runs),
        **{name: row.mean("metrics", name) for name in metrics},
        "map_sd": row.spread("metrics", "map"),
        "untrained_map": row.mean("untrained", "map"),
        "chance_map": results.chance_map,
        "parameters": row.first["cost"]["parameters"],
        "train_seconds": row.mean("cost", "train_seconds"),
        "samples_per_second": row.mean("cost", "samples_per_second"),
        "published_map": published.get("map"),
        "published_parameters": published.get("parameters"),
        "published_source": published.get("source"),
    }


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _name(row: Row) -> str:
    return f"{row.label} (I)" if row.first["spec"]["inferred"] else row.label


def _measured(row: Row) -> list[str]:
    return [
        _score(row, "metrics", "map"),
        _score(row, "metrics", "leaf_map"),
        _score(row, "untrained", "map"),
        f"{row.first['cost']['parameters']:,}",
        f"{row.mean('cost', 'train_seconds'):.0f}",
        f"{row.mean('cost', 'samples_per_second'):.0f}",
    ]


def _score(row: Row, table: str, key: str) -> str:
    spread = row.spread(table, key)
    return f"{row.mean(table, key):.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def _published(row: Row) -> list[str]:
    if not row.published:
        return ["", ""]
    return [f"{row.published['map']:.3f}", f"{row.published['parameters'] / 1e6:.2f}M"]


def _notes(results: Results) -> list[str]:
    first = results.rows[0].first
    seeds = sorted({len(row.runs) for row in results.rows})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    spread = "mean ± standard deviation over seeds" if seeds[-1] > 1 else "one seed: no claim about a difference"
    left_out = first["metrics"]["classes_left_out"]
    notes = [
        f"mAP is the macro mean over {first['metrics']['classes_scored']} classes on eval"
        + (f" ({left_out} without positives left out)" if left_out else "")
        + f"; seeds a row: {count} ({spread}).",
        f"Chance (exact expectation of random scores): {results.chance_map:.3f}. 'Untrained' is each contestant as its"
        " seed draws it.",
        "Published figures were obtained on all of FSD50K, with 200 outputs, under other protocols, and are no"
        " reference for these runs: sample rate, training and selection differ from row to row.",
        *(f"{row.label}: {row.published['note']}." for row in results.rows if row.published and row.published["note"]),
    ]  # fmt: skip
    notes += _made_differently(results)
    devices = ", ".join(sorted({run["provenance"]["device"] for run in results.runs}))
    commits = ", ".join(sorted({_commit(run["provenance"]) for run in results.runs}))
    notes.append(f"Measured on {devices}, commit {commits}, by:")
    commands = sorted({run["provenance"]["command"] for run in results.runs})
    return ["\n\n".join(notes), "", *(f"    {command}" for command in commands), ""]


def _made_differently(results: Results) -> list[str]:
    """A caution where numbers in one table come from different code, versions or machines."""
    made = [run["provenance"] for run in results.runs]
    kinds = {
        "versions of the training or evaluation code": {json.dumps(p["source"]["referee"]) for p in made},
        "sets of package versions": {json.dumps(p["versions"], sort_keys=True) for p in made},
        "devices": {p["device"] for p in made},
    }
    differ = [f"{len(values)} {kind}" for kind, values in kinds.items() if len(values) > 1]
    return [f"**Caution: these runs were made with {' and '.join(differ)}.**"] if differ else []


def _commit(provenance: dict[str, Any]) -> str:
    commit = (provenance["commit"] or "unknown")[:10]
    return f"{commit} with uncommitted changes" if provenance["dirty"] else commit


def _inferred(results: Results) -> list[str]:
    """One line for each inferred setting, with the rows it holds for."""
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in results.rows:
        for name, reason in row.first["spec"]["inferred"].items():
            rows[name, _setting(row, name), reason].append(row.label)
    if not rows:
        return []
    lines = [f"- `{name} = {value}`: {reason} ({', '.join(of)})" for (name, value, reason), of in rows.items()]
    return ["(I) Inferred, since no source documents it:", "", *lines, ""]


def _setting(row: Row, name: str) -> str:
    spec = row.first["spec"]
    return str(spec["recipe"][name.removeprefix("train.")] if name.startswith("train.") else spec["config"][name])


def _unfinished(results: Results) -> list[str]:
    lines = [f"- failed: {name} (see failed.json in its folder)" for name in results.failed]
    lines += [f"- missing: {name}" for name in results.missing]
    return ["Not in the table:", "", *lines] if lines else []
