"""bench predict, filters, attention, gallery."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import JsonOption, console, options
from bench.cli.output import echo, print_json
from bench.errors import UserError

app = typer.Typer()


@app.command()
@options("plugins")
def filters(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights.")],
    beside: Annotated[Path | None, typer.Argument(help="Another one: compare the two.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The run's pack, or demo or pitch: also count filters that never fire.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Of two runs: the folder for CSV and figures [default: front_ends].")
    ] = None,
    **given: Any,
) -> None:
    """Show what a learned front end listens to.

    filters.csv and figures are written to the run's folder; of two runs one table and one figure to another one.
    """
    from bench.api import models
    from bench.reporting.filters import describe

    if beside is None:
        if out:
            raise UserError(f"--out {out}: is for two runs; what is measured of one is written to its folder")
        echo(describe(models.filters(run, data, display=console(), **given)), lines=True)
        return
    if data:
        raise UserError(f"--data {data}: is for one run; give it to `bench filters {run}` first, then compare the two")
    made = models.compare_filters(run, beside, out or "front_ends", **given)
    echo(made.text, lines=True)
    echo(f"{made.png}, as .svg and .pdf, and {made.csv.name}", err=True)


@app.command()
@options("plugins")
def attention(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights; or RESULTS/ENTRY[-sSEED].")],
    file: Annotated[Path, typer.Argument(help="A sound file; ffmpeg reads m4a, mp4, webm.")],
    second: Annotated[float, typer.Option(help="Where in the file the chunk begins that the model hears.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="The folder for CSV and figures [default: the run's].")] = None,
    as_json: JsonOption = False,
    **given: Any,
) -> None:
    """Show where each block and head of an audio transformer looks.

    On a sound, under its spectrogram: attention.csv and figures are written to the run's folder.
    """
    from bench.api import models

    made = models.attention(run, file, second=second, out=out, **given)
    if as_json:
        files = {"csv": made.csv, "png": made.png}
        print_json({"run": run, "file": file, "second": second, **files, "heads": made.table.to_dict("records")})
        return
    echo(made.text, lines=True)
    echo(f"{made.png}, as .svg and .pdf, and {made.csv.name}", err=True)


@app.command()
@options("device", "plugins")
def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights; or RESULTS/ENTRY[-sSEED].")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Sound files, or folders of them; ffmpeg reads m4a, mp4, webm.")
    ] = None,
    hardest: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Instead of FILES: eval clips that the run gets most wrong of this class."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="With --hardest: how many missed, and how many false alarms.")] = 6,
    data: Annotated[
        Path | None, typer.Option(help="With --hardest and --plot: the run's pack, or demo or pitch.")
    ] = None,
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
    if hardest is not None:
        if files or csv:
            raise UserError(
                f"--hardest {hardest}: takes no {'FILES' if files else '--csv'}; its clips are those of eval"
            )
        _show_hardest(run, hardest, as_json=as_json, count=count, data=data, top=top, plot=plot, **given)
    elif not files:
        raise UserError("FILES: none named; name sound files or folders of them, or a class with --hardest")
    elif data:
        raise UserError(f"--data {data}: is for --hardest; FILES need no pack")
    else:
        _show_files(run, files, as_json=as_json, top=top, csv=csv, plot=plot, **given)


def _show_files(run: Path, files: list[Path], *, as_json: bool, top: int, csv: Path | None, **options: Any) -> None:
    from bench.api import models
    from bench.data.dataset import AudioError
    from bench.inspect.scores import unfinished
    from bench.reporting.tags import as_document, describe

    display, model = console(), None
    documents, errors = [], []
    try:
        for file, result in models.iterate_tags(run, files, display, top=top, csv=csv, **options):
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


def _show_hardest(run: Path, label: str, *, as_json: bool, plot: Path | None, **options: Any) -> None:
    from bench.api import folders, models
    from bench.inspect.hardest import describe_hardest

    found = models.hardest(run, label, plot=plot, display=console(), **options)
    if as_json:
        print_json({"run": run, "class": label, "clips": found.to_dict("records")})
        return
    spec = folders.find_run(run).record().spec
    echo(describe_hardest(label, f"{spec.name}, seed {spec.seed}", found), lines=True)
    if plot:
        echo(f"{plot}: {len(found)} figures", err=True)


@app.command()
def gallery(
    pack: Annotated[Path, typer.Argument(help="A pack; or demo or pitch, which are generated.")],
    split: Annotated[str, typer.Option(help="train, val or eval.")] = "train",
    out: Annotated[Path, typer.Option(help="The folder for gallery.pdf, .csv and a PNG a page.")] = Path("gallery"),
    as_json: JsonOption = False,
) -> None:
    """Draw what a data set sounds like: a typical clip a class.

    As spectrograms: of each class a clip with no other label, or the fewest, and of a usual length.
    """
    from bench.api import datasets

    display = console()
    made = datasets.gallery(pack, out, split=split, display=display)
    if made.absent:
        display.notice(f"no clip of {split}: {', '.join(made.absent)}")
    if as_json:
        files = {"pdf": made.pdf, "csv": made.csv, "pngs": made.pngs}
        print_json({"pack": pack, "split": split, **files, "classes": made.table.to_dict("records")})
    else:
        pages = f"{len(made.pngs)} page{'s' * (len(made.pngs) != 1)}"
        echo(f"{made.pdf}: {len(made.table)} classes, {pages}; {made.csv.name} names the clips")
