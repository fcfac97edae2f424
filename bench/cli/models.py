"""bench predict, filters."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import JsonOption, console, options
from bench.cli.output import echo, print_json

app = typer.Typer()


@app.command()
@options("plugins")
def filters(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights.")],
    data: Annotated[Path | None, typer.Option(help="The run's pack: also count filters that never fire.")] = None,
    **given: Any,
) -> None:
    """Show what a learned front end listens to.

    filters.csv and figures are written to the run's folder.
    """
    from bench.api import models
    from bench.reporting.filters import describe

    echo(describe(models.filters(run, data, **given)), lines=True)


@app.command()
@options("device", "plugins")
def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights; or RESULTS/ENTRY[-sSEED].")],
    files: Annotated[list[Path], typer.Argument(help="Sound files, or folders of them; ffmpeg reads m4a, mp4, webm.")],
    top: Annotated[int, typer.Option(min=1, help="How many tags to show.")] = 5,
    csv: Annotated[Path | None, typer.Option(help="Write all tags' scores over time to this CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw spectrogram and tags over time into this folder, as STEM.png.")
    ] = None,
    as_json: JsonOption = False,
    **given: Any,
) -> None:
    """Say what a trained model hears in sound files.

    A broken one is named, and the others are done; with --csv, the same command resumes. Exit code 2: some were broken.
    """
    from bench.api import models
    from bench.data.dataset import AudioError
    from bench.inspect.scores import unfinished
    from bench.reporting.tags import as_document, describe

    display, model = console(), None
    documents, errors = [], []
    try:
        for file, result in models.iterate_tags(run, files, display, top=top, csv=csv, plot=plot, **given):
            if isinstance(result, AudioError):
                display.notice(f"bench: error: {file}: {result}")
                errors.append({"file": file, "error": str(result)})
            elif as_json:
                model = result.model
                documents.append(as_document(result, top))
            else:
                echo(describe(result, top), lines=True)
    except KeyboardInterrupt:
        if csv and (left := unfinished(csv)):
            display.notice(left)
        raise
    if as_json:
        print_json({"run": run, "model": model, "files": documents, "errors": errors})
    if errors:
        raise typer.Exit(2)
