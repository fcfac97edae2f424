"""bench report, compare, track."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import console, options

app = typer.Typer()
tracking = typer.Typer(help="Copy results to MLflow.", rich_markup_mode=None)


@app.command()
@options("resamples", "by_group", "mixed", "plugins")
def report(folder: Annotated[Path, typer.Argument(help="A results folder.")], **given: Any) -> None:
    """Write the tables (Markdown, CSV, LaTeX), figures and index.html of a results folder."""
    from bench.api import results

    results.report(folder, console(given.pop("plugins")), **given)


@app.command()
@options("resamples", "by_group", "mixed", "plugins")
def compare(
    first: Annotated[Path, typer.Argument(help="A run's folder, or RESULTS/ENTRY for all its seeds.")],
    second: Annotated[Path, typer.Argument(help="The same, of what it is compared with.")],
    classes: Annotated[Path | None, typer.Option(help="Write AP class by class to this CSV file.")] = None,
    **given: Any,
) -> None:
    """Say whether two runs, or two architectures, differ: paired, on the same clips."""
    from bench.api import results
    from bench.reporting.compare import describe

    display, sampling = console(given["plugins"]), results.Sampling(given["resamples"], given["by_group"])
    found = results.compare(first, second, sampling, display, mixed=given["mixed"])
    typer.echo(describe(found))
    if classes and found.classes:
        found.classes.table.to_csv(classes, index=False, lineterminator="\n")


@tracking.command()
@options("plugins")
def sync(folders: Annotated[list[Path], typer.Argument(help="Results folders.")], **given: Any) -> None:
    """Send what a tracking server lacks, each run once: to MLFLOW_TRACKING_URI, or a file beside the folder."""
    from bench.tracking.sync import sync

    display = console(given["plugins"])
    for folder in folders:
        with display.bar(f"sending {folder}") as progress:
            outcome = sync(folder, progress=progress)
        for line in outcome.warnings:
            display.notice(f"warning: {line}")
        typer.echo(f"{folder}: {len(outcome.sent)} runs sent, {outcome.there} are there: {outcome.server}")
