"""bench data fetch, verify, info, pack, demo."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import JsonOption, console
from bench.cli.output import print_json
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.data.pack import Pack
    from bench.data.readers.fsd50k import Verification

app = typer.Typer(help="Look at, make and pack data sets.", rich_markup_mode=None)


@app.command()
def fetch(
    folder: Path,
    pack: Annotated[
        Path | None, typer.Option(help="Make this pack straight from the archives, and write no WAV.")
    ] = None,
    sample_rate: Annotated[int, typer.Option(min=1000, help="Of the pack, in Hz.")] = 16_000,
    delete_archives: Annotated[
        bool, typer.Option("--delete-archives", help="Delete them when all else is done; else they are kept.")
    ] = False,
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="BENCH_FSD50K_URL",
            help="URL of a folder with the files, or one with NAME for their names [default: Zenodo].",
        ),
    ] = None,
) -> None:
    """Download FSD50K (25 GB), check it, unpack or pack it.

    Interrupted, the same command resumes.
    """
    from bench.data.download.fetch import Fetch, exclusive
    from bench.data.download.fsd50k_files import ZENODO

    display = console()
    with exclusive(folder):
        fetching = Fetch(folder, source=mirror or ZENODO, out=pack, sample_rate=sample_rate)
        display.notice(fetching.summary())
        fetching.require_space()
        with display.bar(f"downloading to {folder}") as progress:
            fetching.download(progress, display.notice)
        for archive in fetching.to_unpack:
            with display.bar(f"unpacking {archive.name}") as progress:
                fetching.unpack(archive, progress)
        if pack and not fetching.is_packed:
            with display.bar(f"packing {folder} at {sample_rate} Hz") as progress:
                made = fetching.pack(progress)
            _report(made)
        if delete_archives:
            fetching.delete_archives()
    typer.echo(f"{pack or folder}: all there", err=True)


@app.command()
def verify(folder: Path, as_json: JsonOption = False) -> None:
    """Say what a data set holds, and what is wrong with it."""
    from bench.data.readers.fsd50k import verify

    with console().bar(f"reading {folder}") as progress:
        found = verify(folder, progress)
    if as_json:
        print_json({"folder": folder, "whole": found.whole, **asdict(found)})
    else:
        _describe(found)
    if found.problems:
        raise UserError(f"{folder}: labels to fix in the CSVs: {len(found.problems)}, listed above")
    if found.broken:
        count = len(found.broken)
        raise UserError(f"{folder}: unusable recordings: {count}, listed above; `bench data pack` leaves them out")


def _describe(found: "Verification") -> None:
    from bench.data.dataset import SPLITS
    from bench.data.readers.fsd50k import OFFICIAL_CLIPS

    for split in SPLITS:
        typer.echo(
            f"{split:5} {found.clips[split]:6} clips {found.hours[split]:7.2f} h "
            f"{found.classes_used[split]:4} of {found.classes} classes"
        )
    whole = ", ".join(f"{split} {clips}" for split, clips in OFFICIAL_CLIPS.items())
    typer.echo("the whole of FSD50K" if found.whole else f"a reduced copy or another data set (FSD50K: {whole})")
    for path, cause in found.broken.items():
        typer.echo(f"unusable: {path}: {cause}")
    for path in found.extra:
        typer.echo(f"extra: {path} is in no CSV")
    for problem in found.problems:
        typer.echo(f"label: {problem}")


@app.command()
def info(pack: Path, as_json: JsonOption = False) -> None:
    """Say what a pack holds."""
    from bench.data.pack import Pack, summary

    found = summary(Pack(pack))
    if as_json:
        print_json(found)
    else:
        for key, value in found.items():
            typer.echo(f"{key}: {value}")


@app.command("pack")
def pack_(
    folder: Path,
    out: Annotated[Path, typer.Option(help="The pack's folder.")],
    sample_rate: Annotated[int, typer.Option(min=1000, help="In Hz.")] = 16_000,
    strict: Annotated[bool, typer.Option(help="Fail at the first broken recording.")] = False,
) -> None:
    """Decode a data set once, into one array a split."""
    from bench.api.datasets import pack

    _report(pack(folder, out, sample_rate=sample_rate, strict=strict, display=console()))


@app.command()
def demo(folder: Path, seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0) -> None:
    """Write a generated data set in FSD50K's layout."""
    from bench.data.synthetic.demo import write_demo

    with console().bar(f"generating {folder}") as progress:
        write_demo(folder, seed=seed, progress=progress)


def _report(made: "Pack") -> None:
    from bench.api.datasets import describe_pack

    for clip, cause in made.manifest["left_out"].items():
        typer.echo(f"left out: {clip}: {cause}")
    typer.echo(describe_pack(made), err=True)
