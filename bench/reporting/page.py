"""One self-contained index.html: no network, no file beside it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.reporting.analysis import Analysis
from bench.reporting.marks import KINDS, footnotes
from bench.reporting.notes import origin, reading_notes
from bench.reporting.systems import FinishedRun
from bench.reporting.tables.scores import unfinished
from bench.reporting.tables.table import Table
from bench.store import RunRecord
from bench.text import printable

__all__ = ["data_uri", "page"]


def page(analysis: Analysis, made: Sequence[Table], figures: Mapping[str, str]) -> str:
    """Return tables, drawn `figures` (name to caption), and of every run its settings, origin and history, as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_shown,
    )  # fmt: skip
    results = analysis.results
    sentence, commands = origin(results)
    drawn = [(name, caption, data_uri(results.folder.report_file(f"{name}.svg"))) for name, caption in figures.items()]
    return environment.get_template("page.html").render(
        title=results.title,
        tables=made,
        figures=drawn,
        notes=reading_notes(analysis),
        origin=sentence,
        commands=commands,
        marked=[(kind, notes) for kind in KINDS if (notes := footnotes(results, kind))],
        unfinished=unfinished(results),
        runs=[_run(run) for standing in analysis.standings for run in standing.system.runs],
    )


def _shown(value: object) -> object:
    """Return a text without what would act, in a browser or an editor; autoescape does what is HTML's."""
    return printable(value, lines=True) if isinstance(value, str) else value


def data_uri(path: Path) -> str:
    """Return an SVG file as a URI that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _run(run: FinishedRun) -> tuple[str, dict[str, dict[str, str]], dict[str, Any], str | None]:
    """Return a run's folder, facts, history, and the figure of `bench filters`, if it was called for this run."""
    filters = run.folder.filters_figure.with_suffix(".svg")
    history = run.folder.history().to_dict("split", index=False)
    return run.folder.name, _facts(run.record), history, data_uri(filters) if filters.is_file() else None


def _facts(record: RunRecord) -> dict[str, dict[str, str]]:
    spec, made = record.spec, record.provenance.model_dump()
    source, versions = made.pop("source"), made.pop("versions")
    sections = {
        "Metrics": record.metrics | {"val_score": record.val_score, "best_step": record.best_step},
        "Cost": record.cost,
        "Architecture": {"architecture": spec.architecture} | spec.config,
        "Recipe": {"task": spec.task} | spec.recipe.model_dump(mode="json") | {"seed": spec.seed},
        "Data": record.data,
        "Origin": made | source | versions,
    }
    return {
        title: {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in facts.items()}
        for title, facts in sections.items()
    }
