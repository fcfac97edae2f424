"""One self-contained index.html: no network, no file beside it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.reporting.analysis import Analysis
from bench.reporting.notes import origin, reading_notes
from bench.reporting.systems import Run
from bench.reporting.tables.scores import Table, inferred_settings, unfinished


def page(analysis: Analysis, made: Sequence[Table], figures: Mapping[str, str], folder: Path) -> str:
    """Tables to sort and filter, figures, and of every run its settings, origin and history, as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    results = analysis.results
    sentence, commands = origin(results)
    return environment.get_template("page.html").render(
        title=results.title,
        tables=made,
        figures=[(name, caption, _data_uri(folder / f"{name}.svg")) for name, caption in figures.items()],
        notes=reading_notes(analysis),
        origin=sentence,
        commands=commands,
        inferred=inferred_settings(results),
        unfinished=unfinished(results),
        runs=[(run["folder"].name, _facts(run), history, _filters(run)) for run, history in _runs(analysis)],
    )


def _data_uri(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _runs(analysis: Analysis) -> list[tuple[Run, dict[str, Any]]]:
    """Every run with its history as rows of text."""
    return [
        (run, history.to_dict("split", index=False))
        for standing in analysis.standings
        for run, history in zip(standing.row.runs, standing.row.histories(), strict=True)
    ]


def _filters(run: Run) -> str | None:
    """The figure of `bench filters`, if it was called for this run."""
    path: Path = run["folder"] / "filters.svg"
    return _data_uri(path) if path.is_file() else None


def _facts(run: Run) -> dict[str, dict[str, str]]:
    """What run.json says, as sections of names and values."""
    spec, made = run["spec"], run["provenance"]
    sections = {
        "Metrics": run["metrics"] | {"val_map": run["val_map"], "best_update": run["best_update"]},
        "Cost": run["cost"],
        "Architecture": {"architecture": spec["architecture"]} | spec["config"],
        "Recipe": spec["recipe"] | {"seed": spec["seed"]},
        "Data": run["data"],
        "Origin": {k: v for k, v in made.items() if k not in ("versions", "source")}
        | made["source"]
        | made["versions"],
    }
    return {title: {name: _text(value) for name, value in facts.items()} for title, facts in sections.items()}


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
