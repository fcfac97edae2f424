"""What a parent run shows of its results folder: every system's scores, the report's first tables, where they are from.

Read from the folder alone. Knows neither mlflow nor torch.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.errors import UserError
from bench.reporting.basis import seed_counts
from bench.reporting.systems import Results, System, load_results
from bench.store import ResultsFolder
from bench.text import hide_secrets

__all__ = ["Overview", "read_overview"]

# what MLflow takes in a metric's name; a slash there begins a group of the run's page
_NO_NAME = re.compile(r"[^\w.\- :]")
# characters of a name, and of a tag as older databases keep it
_NAME_LENGTH, _TEXT_LENGTH = 200, 5000
_CUT = "\n\n(cut; `table.md`, among the artifacts, has all of it)"


@dataclass(frozen=True)
class Overview:
    """Numbers by name (METRIC/SYSTEM), tags, and a description in Markdown, '' where there is no report yet."""

    scores: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""


def read_overview(results: ResultsFolder) -> Overview:
    """Return what there is to show: no scores of runs that no report could be made of, whatever is wrong with them."""
    description = _description(results)
    try:
        found = load_results(results.path, mixed=True)
    except UserError:
        return Overview(description=description)
    return Overview(_scores(found.systems), _tags(found), description)


def _scores(systems: Sequence[System]) -> dict[str, float]:
    """Return the metrics on eval, means over seeds, by METRIC/SYSTEM; the best system first."""
    task, names = systems[0].task, _names([system.label for system in systems])
    ranked = sorted(zip(systems, names, strict=True), key=lambda pair: task.primary.key(pair[0].score))
    found = {
        f"{metric.name}/{name}": system.mean("metrics", metric.name)
        for metric in task.metrics
        for system, name in ranked
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _names(labels: Sequence[str]) -> list[str]:
    """Return labels as MLflow takes them; where two become one, or one is too long, they are numbered."""
    names: list[str] = []
    for number, label in enumerate(labels, start=1):
        name = _NO_NAME.sub("_", label)[:_NAME_LENGTH].strip(" .") or "_"
        names.append(f"{name} {number}" if name in names or len(label) > _NAME_LENGTH else name)
    return names


def _tags(found: Results) -> dict[str, str]:
    """Return what parents are filtered by; of several commits or packs all, of which a run has one each."""
    records = [run.record for run in found.runs]
    commits = {record.provenance.commit for record in records} - {None}
    packs = {record.spec.pack for record in records}
    # of two data sets, which only --mixed compares, the tag has both
    datasets = sorted({record.dataset for record in records})
    tags = {
        "title": found.title,
        "task": found.task.name,
        "data": ", ".join(_data_name(found, dataset) for dataset in datasets),
        "dataset": ", ".join(datasets),
        "fingerprint": ", ".join(sorted(packs)),
        "commit": ", ".join(sorted(map(str, commits))),
        "dirty": json.dumps(any(record.provenance.dirty for record in records)),
        "systems": str(len(found.systems)),
        "seeds": seed_counts(found),
    }
    return {name: hide_secrets(value)[:_TEXT_LENGTH] for name, value in tags.items() if value}


def _data_name(found: Results, dataset: str) -> str:
    """Return what a data set is called, or how its digest begins."""
    try:
        if found.labels.is_fsd50k and found.labels.dataset == dataset:
            return "FSD50K"
    # a clone may lack labels.npz, of which a report would speak
    except UserError:
        pass
    return found.sources.get(dataset) or dataset[:16]


def _description(results: ResultsFolder) -> str:
    """Return the beginning of the report's table.md, as much as fits: whole sections, or at least whole lines."""
    path = results.report_file("table.md")
    if not path.is_file():
        return ""
    text = hide_secrets(path.read_text("utf-8", errors="replace")).strip()
    # the title is the run's name already
    if text.startswith("# "):
        text = text.partition("\n")[2].strip()
    if len(text) <= _TEXT_LENGTH:
        return text
    start = text[: _TEXT_LENGTH - len(_CUT)]
    # the first section may be all that there is room for, or more
    last = start.rfind("\n## ")
    return start[: last if "## " in start[:last] else start.rfind("\n")].rstrip() + _CUT
