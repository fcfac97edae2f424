"""bench predict, filters."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import console, options

app = typer.Typer()


@app.command()
@options("plugins")
def filters(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights.")],
    data: Annotated[Path | None, typer.Option(help="The run's pack: also count filters that never fire.")] = None,
    **given: Any,
) -> None:
    """Show what a learned front end listens to: filters.csv and figures in the run's folder."""
    from bench.api import models
    from bench.reporting.filters import describe

    typer.echo(describe(models.filters(run, data, **given)))


@app.command()
@options("device", "plugins")
def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights; or RESULTS/ENTRY[-sSEED].")],
    files: Annotated[list[Path], typer.Argument(help="WAV, FLAC, OGG, MP3, ...: of any length and sample rate.")],
    top: Annotated[int, typer.Option(min=1, help="How many tags to show.")] = 5,
    csv: Annotated[Path | None, typer.Option(help="Write all tags' scores over time to this CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw spectrogram and tags over time into this folder, as STEM.png.")
    ] = None,
    **given: Any,
) -> None:
    """Say what a trained model hears in sound files; a broken one is named, and the others are done."""
    from bench.api import models

    if models.predict(run, files, console(), top=top, csv=csv, plot=plot, **given) < len(set(files)):
        raise typer.Exit(2)
