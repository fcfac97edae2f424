"""bench report, compare, track."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import console, options
from bench.cli.output import echo, print_json

if TYPE_CHECKING:
    from bench.reporting.compare import Comparison
    from bench.reporting.report import Report

app = typer.Typer()
tracking = typer.Typer(help="Copy results to MLflow.", rich_markup_mode=None)


@app.command()
@options("resamples", "by_group", "margin", "mixed", "as_json", "plugins")
def report(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    columns: Annotated[
        list[str], typer.Option(metavar="NAME,...", help="Columns of the LaTeX table of scores; repeatable.")
    ] = [],  # noqa: B006
    **given: Any,
) -> None:
    """Write a results folder's tables and figures.

    Tables as Markdown, CSV and LaTeX, figures as SVG, PDF and PNG, and index.html, which holds all of it.
    """
    from bench.api import results

    as_json, display = given.pop("as_json"), console(given.pop("plugins"))
    made = results.report(folder, columns=columns, display=display, **given)
    if as_json:
        print_json(_report_document(made))
    else:
        echo(made.markdown, lines=True)


def _report_document(made: "Report") -> dict[str, Any]:
    tables = {name: table.records for name, table in made.tables.items() if name not in ("cost", "published")}
    return {"folder": made.folder, **tables, "figures": {name: figure.png for name, figure in made.figures.items()}}


@app.command()
@options("resamples", "by_group", "margin", "mixed", "as_json", "plugins")
def compare(
    first: Annotated[Path, typer.Argument(help="A run's folder, or RESULTS/ENTRY for all its seeds.")],
    second: Annotated[Path, typer.Argument(help="The same, of what it is compared with.")],
    classes: Annotated[Path | None, typer.Option(help="Write AP class by class to this CSV file.")] = None,
    **given: Any,
) -> None:
    """Say whether two runs or two entries differ.

    Paired, on the same clips; an entry stands for all its seeds.
    """
    from bench.api import results
    from bench.disk import refuse_target
    from bench.reporting.compare import describe
    from bench.store.files import write_table

    as_json, display = given.pop("as_json"), console(given.pop("plugins"))
    if classes is not None:
        # before clips are resampled
        refuse_target(classes)
    found = results.compare(first, second, display=display, **given)
    if classes is not None and found.classes is not None:
        write_table(classes, found.classes)
    if as_json:
        print_json(_comparison_document(found))
    else:
        echo(describe(found), lines=True)


def _comparison_document(found: "Comparison") -> dict[str, Any]:
    sides = {"first": found.first, "second": found.second}
    by_class = found.classes.to_dict("records") if found.classes is not None else None
    return {
        **{side: {"name": system.label, "seeds": len(system.runs)} for side, system in sides.items()},
        "generalises_to": found.generalises_to,
        "metrics": found.metrics.to_dict("records"),
        "classes": by_class,
    }


@tracking.command()
@options("plugins")
def sync(folders: Annotated[list[Path], typer.Argument(help="Results folders.")], **given: Any) -> None:
    """Send what a tracking server lacks.

    Each run once: to MLFLOW_TRACKING_URI, or a file beside the folder.
    """
    from bench.tracking.sync import sync

    display = console(given["plugins"])
    for folder in folders:
        with display.bar(f"sending {folder}") as progress:
            outcome = sync(folder, progress=progress)
        for line in outcome.warnings:
            display.notice(f"warning: {line}")
        echo(f"{folder}: {len(outcome.sent)} runs sent, {outcome.there} are there: {outcome.server}")
