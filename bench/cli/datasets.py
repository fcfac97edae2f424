"""bench data fetch, verify, info, pack, duplicates, demo, pitch."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import JsonOption, console
from bench.cli.output import echo, print_json
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
        with display.bar(f"checking what is in {folder}") as progress:
            fetching.check(progress)
        display.notice(fetching.summary())
        fetching.require_space()
        with display.bar(f"downloading to {folder}") as progress:
            fetching.download(progress, display.notice)
        for archive in fetching.to_unpack:
            with display.bar(f"unpacking {archive.name}") as progress:
                fetching.unpack(archive, progress, display.notice)
        if pack and not fetching.is_packed:
            with display.bar(f"packing {folder} at {sample_rate} Hz") as progress:
                made = fetching.pack(progress)
            _report(made)
        if delete_archives:
            fetching.delete_archives()
    echo(f"{pack or folder}: all there", err=True)


@app.command()
def verify(folder: Path, as_json: JsonOption = False) -> None:
    """Say what a data set holds, and what is wrong with it.

    Of a pack, all samples are compared with their hashes.
    """
    from bench.data.readers.fsd50k import verify

    if os.path.lexists(folder / "manifest.json"):
        _verify_pack(folder, as_json)
        return
    with console().bar(f"reading {folder}") as progress:
        found = verify(folder, progress)
    if as_json:
        print_json({"folder": folder, "whole": found.whole, **asdict(found)})
    else:
        _describe(found)
    if found.problems:
        raise UserError(f"{folder}: labels to fix in the CSVs: {found.problem_count}, listed above")
    if count := found.broken_count:
        raise UserError(f"{folder}: unusable recordings: {count}, listed above; `bench data pack` leaves them out")


def _describe(found: "Verification") -> None:
    from bench.api.datasets import describe_uploaders
    from bench.data.dataset import SPLITS
    from bench.data.readers.fsd50k import OFFICIAL_CLIPS

    for split in SPLITS:
        echo(
            f"{split:5} {found.clips[split]:6} clips {found.hours[split]:7.2f} h "
            f"{found.classes_used[split]:4} of {found.classes} classes"
        )
    whole = ", ".join(f"{split} {clips}" for split, clips in OFFICIAL_CLIPS.items())
    echo("the whole of FSD50K" if found.whole else f"a reduced copy or another data set (FSD50K: {whole})")
    if negatives := sum(found.negatives.values()):
        echo(f"clips without a label, negatives of every class: {negatives}")
    for path, cause in found.broken.items():
        echo(f"unusable: {path}: {cause}")
    _count_more("unusable", found.broken_count - len(found.broken))
    for path in found.extra:
        echo(f"extra: {path} is in no CSV")
    _count_more("extra", found.extra_count - len(found.extra))
    for paths in found.same:
        echo(f"same: {' = '.join(paths)}: one recording in several splits")
    if found.same:
        echo(f"recordings in several splits: {len(found.same)}")
    for line in describe_uploaders(found.uploaders):
        echo(line)
    for problem in found.problems:
        echo(f"label: {problem}")
    _count_more("label", found.problem_count - len(found.problems))


def _verify_pack(folder: Path, as_json: bool) -> None:
    from bench.data.pack import Pack, summary

    pack = Pack(folder)
    with console().bar(f"reading {folder}") as progress:
        pack.verify(progress)
    if as_json:
        print_json(summary(pack) | {"samples": "as packed"})
    else:
        _print_summary(pack)
        echo("all samples are those that were packed")


def _print_summary(pack: "Pack") -> None:
    from bench.api.datasets import describe_leaks
    from bench.data.pack import summary

    for key, value in summary(pack).items():
        # said below, in lines
        if key not in ("in several splits", "uploaders"):
            echo(f"{key}: {value}")
    for line in describe_leaks(pack):
        echo(line)


def _count_more(kind: str, count: int) -> None:
    if count:
        echo(f"{kind}: and {count} more")


@app.command()
def info(pack: Path, as_json: JsonOption = False) -> None:
    """Say what a pack holds."""
    from bench.data.pack import Pack, summary

    opened = Pack(pack)
    if as_json:
        print_json(summary(opened))
    else:
        _print_summary(opened)


@app.command("pack")
def pack_(
    folder: Path,
    out: Annotated[Path, typer.Option(help="The pack's folder.")],
    sample_rate: Annotated[int, typer.Option(min=1000, help="In Hz.")] = 16_000,
    strict: Annotated[bool, typer.Option(help="Fail at the first broken recording.")] = False,
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", help="Fail if a recording is in several splits; never of all of FSD50K.")
    ] = False,
) -> None:
    """Decode a data set once, into one array a split."""
    from bench.api.datasets import pack

    _report(pack(folder, out, sample_rate=sample_rate, strict=strict, no_duplicates=no_duplicates, display=console()))


@app.command()
def duplicates(
    pack: Path,
    csv: Annotated[Path | None, typer.Option(help="Write all pairs to this CSV file, those within splits too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find copies of recordings, also louder, cut or compressed.

    Pairs that are in two splits are listed, those within one are counted.
    """
    from bench.api import datasets
    from bench.store.files import write_table

    found = datasets.duplicates(pack, display=console())
    if csv:
        write_table(csv, found)
    if as_json:
        print_json({"pack": pack, "pairs": found.to_dict("records")})
    else:
        for line in datasets.describe_duplicates(pack, found):
            echo(line)


@app.command()
def demo(folder: Path, seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0) -> None:
    """Write a generated data set in FSD50K's layout."""
    from bench.data.synthetic.demo import write_demo

    display = console()
    with display.bar(f"generating {folder}") as progress:
        write_demo(folder, seed=seed, progress=progress, notice=display.notice)


@app.command()
def pitch(folder: Path, seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0) -> None:
    """Write generated tones of 88 keys in FSD50K's layout."""
    from bench.data.synthetic.pitch import write_pitch

    display = console()
    with display.bar(f"generating {folder}") as progress:
        write_pitch(folder, seed=seed, progress=progress, notice=display.notice)


def _report(made: "Pack") -> None:
    from bench.api.datasets import describe_leaks, describe_pack
    from bench.data.levels import NOTES

    for clip, cause in made.manifest["left_out"].items():
        echo(f"left out: {clip}: {cause}")
    _count_more("left out", made.left_out_count - len(made.manifest["left_out"]))
    for note, clips in made.levels.items():
        echo(f"{note}: {clips[0]}: {NOTES.get(note, '')}")
        _count_more(note, len(clips) - 1)
    for line in describe_leaks(made):
        echo(line)
    echo(describe_pack(made), err=True)
