"""The commands: parse, call, print. No logic; imports stand where they are used, so that --help is instant."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import UserError

app = typer.Typer(
    help="Convolutions or transformers? A benchmark of sound event tagging on FSD50K.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Look at, make and pack data sets.", rich_markup_mode=None)
app.add_typer(data, name="data")
track = typer.Typer(help="Copy results to MLflow.", rich_markup_mode=None)
app.add_typer(track, name="track")

DataOption = Annotated[
    list[Path], typer.Option("--data", help="A pack, one for each sample rate needed; or demo, the generated set.")
]
WithOption = Annotated[
    list[Path], typer.Option("--with", help="A Python file with architectures of your own; repeatable.")
]
ResamplesOption = Annotated[int, typer.Option(min=100, help="Bootstrap draws.")]
TrackOption = Annotated[
    bool, typer.Option("--track/--no-track", envvar="BENCH_TRACK", help="Copy the results to MLflow.")
]
GroupOption = Annotated[bool, typer.Option("--by-group", help="Draw whole uploaders instead of clips.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")]
TrialsOption = Annotated[int | None, typer.Option(min=1, help="Search: finished trials for each.")]
HoursOption = Annotated[float | None, typer.Option(help="Search: hours of compute for each, over all workers.")]
StorageOption = Annotated[str | None, typer.Option(help="Search: URL of a database [default: OUT/search.db].")]
HeartbeatOption = Annotated[int, typer.Option(min=1, help="Search: seconds; a worker silent for three is dead.")]
MixedOption = Annotated[bool, typer.Option("--mixed", help="Compare runs of different code all the same.")]


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="demo, controlled, paper, tuned, ablations, or a TOML file.")] = "demo",
    data: DataOption = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Results folder [default: results/SUITE].")] = None,
    only: Annotated[list[str], typer.Option(help="Run this architecture only; repeatable.")] = [],  # noqa: B006
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, from 0.")] = None,
    sets: Annotated[list[str], typer.Option("--set", help="train.FIELD=VALUE, for all; repeatable.")] = [],  # noqa: B006
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or auto, for all.")] = None,
    device: DeviceOption = "auto",
    mixed: MixedOption = False,
    trials: TrialsOption = None,
    hours: HoursOption = None,
    storage: StorageOption = None,
    heartbeat: HeartbeatOption = 10,
    track: TrackOption = True,
    own: WithOption = [],  # noqa: B006
    together: Annotated[
        int | None,
        typer.Option(min=1, help="Seeds of a row trained at once [default: all of a transformer's on a GPU, else 1]."),
    ] = None,
) -> None:
    """Run a suite: what is finished is skipped; interrupted, the same command goes on."""
    from bench.api import SearchOptions, run_command

    sets = sets + ([f"train.precision={precision}"] if precision else [])
    options = SearchOptions(trials, hours, storage, heartbeat)
    run_command(suite, data, out, only, seeds, sets, device, mixed, track, options, own, together)


@app.command()
def cost(
    suite: Annotated[str, typer.Argument(help="As in bench run.")] = "demo",
    data: DataOption = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="Results folder, for what is finished [default: results/SUITE].")
    ] = None,
    only: Annotated[list[str], typer.Option(help="This architecture only; repeatable.")] = [],  # noqa: B006
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, from 0.")] = None,
    sets: Annotated[list[str], typer.Option("--set", help="train.FIELD=VALUE, for all; repeatable.")] = [],  # noqa: B006
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or auto, for all.")] = None,
    device: DeviceOption = "auto",
    trials: TrialsOption = None,
    hours: HoursOption = None,
    own: WithOption = [],  # noqa: B006
) -> None:
    """Say how many hours a suite takes here, by a few measured updates of each row; nothing of them is kept."""
    from bench.api import SearchOptions, cost_command

    sets = sets + ([f"train.precision={precision}"] if precision else [])
    cost_command(suite, data, out, only, seeds, sets, device, SearchOptions(trials, hours), own)


@app.command()
def search(
    names: Annotated[list[str] | None, typer.Argument(help="Architectures [default: all of the suite's].")] = None,
    data: DataOption = [],  # noqa: B006
    trials: TrialsOption = None,
    hours: HoursOption = None,
    out: Annotated[Path | None, typer.Option(help="Results folder [default: results/SUITE].")] = None,
    sets: Annotated[list[str], typer.Option("--set", help="train.FIELD=VALUE, not searched; repeatable.")] = [],  # noqa: B006
    storage: StorageOption = None,
    suite: Annotated[str, typer.Option(help="Whose recipe and [space]: tuned, or a TOML file.")] = "tuned",
    export: Annotated[bool, typer.Option("--export", help="Write the best recipes as a suite, OUT/best.toml.")] = False,
    device: DeviceOption = "auto",
    heartbeat: HeartbeatOption = 10,
    track: TrackOption = True,
    own: WithOption = [],  # noqa: B006
) -> None:
    """Search each contestant's recipe for val mAP, within the same budget; the same command goes on, or joins in."""
    from bench.api import SearchOptions, search_command

    options = SearchOptions(trials, hours, storage, heartbeat)
    search_command(suite, names or [], data, out, sets, device, options, export, track, own)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A results folder.")],
    resamples: ResamplesOption = 10_000,
    by_group: GroupOption = False,
    mixed: MixedOption = False,
) -> None:
    """Write the tables (Markdown, CSV, LaTeX), figures and index.html of a results folder."""
    from bench.api import report_command

    report_command(folder, resamples, by_group, mixed)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run's folder, or RESULTS/ARCHITECTURE for all its seeds.")],
    second: Annotated[Path, typer.Argument(help="The same, of what it is compared with.")],
    classes: Annotated[Path | None, typer.Option(help="Write AP class by class to this CSV file.")] = None,
    resamples: ResamplesOption = 10_000,
    by_group: GroupOption = False,
    mixed: MixedOption = False,
) -> None:
    """Say whether two runs, or two architectures, differ: paired, on the same clips."""
    from bench.api import compare_command

    compare_command(first, second, classes, resamples, by_group, mixed)


@app.command()
def filters(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights.")],
    data: Annotated[Path | None, typer.Option(help="The run's pack: also count filters that never fire.")] = None,
    own: WithOption = [],  # noqa: B006
) -> None:
    """Show what a learned front end listens to: filters.csv and figures in the run's folder."""
    from bench.api import filters_command

    filters_command(run, data, own)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, with its weights; or RESULTS/ARCHITECTURE[-sSEED].")],
    files: Annotated[list[Path], typer.Argument(help="WAV, FLAC, OGG, MP3, ...: of any length and sample rate.")],
    top: Annotated[int, typer.Option(min=1, help="How many tags to show.")] = 5,
    csv: Annotated[Path | None, typer.Option(help="Write all tags' scores over time to this CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw spectrogram and tags over time into this folder, as STEM.png.")
    ] = None,
    device: DeviceOption = "auto",
    own: WithOption = [],  # noqa: B006
) -> None:
    """Say what a trained model hears in sound files; a broken one is named, and the others are done."""
    from bench.api import predict_command

    predict_command(run, files, top, csv, plot, device, own)


@app.command()
def speed(
    quick: Annotated[bool, typer.Option("--quick", help="A look, in minutes: smaller batches, fewer turns.")] = False,
    only: Annotated[list[str], typer.Option(help="This part only; repeatable.")] = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/speed"),
    device: DeviceOption = "auto",
) -> None:
    """Measure this machine: every part beside what one would otherwise write, in turns, and beside its limits."""
    from bench.api import speed_command

    speed_command(quick, only, out, device)


@app.command("list")
def list_(own: WithOption = []) -> None:  # noqa: B006
    """Show the registered architectures."""
    from bench.api import list_command

    list_command(own)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the architecture, and of its file.")],
    out: Annotated[Path, typer.Option(help="The file's folder.")] = Path(),
) -> None:
    """Write an architecture of your own to begin with: a file that keeps the contract."""
    from bench.api import new_command

    new_command(name, out)


@app.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Architectures, or files with some of your own [default: all].")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A pack: also overfit some of its train clips.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="How many train clips to overfit.")] = 64,
    own: WithOption = [],  # noqa: B006
) -> None:
    """Check architectures against the contract; with --data, also that they can learn at all."""
    from bench.api import check_command

    check_command(names or [], data, clips, own)


@data.command()
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
    """Download FSD50K (25 GB), check and unpack it, or pack it; interrupted, the same command goes on."""
    from bench.api import fetch_command

    fetch_command(folder, pack, sample_rate, delete_archives, mirror)


@data.command()
def verify(folder: Path) -> None:
    """Say what a folder in FSD50K's layout holds, and what is wrong with it."""
    from bench.api import verify_command

    verify_command(folder)


@data.command()
def info(pack: Path) -> None:
    """Say what a pack holds."""
    from bench.api import info_command

    info_command(pack)


@data.command()
def pack(
    folder: Path,
    out: Annotated[Path, typer.Option(help="The pack's folder.")],
    sample_rate: Annotated[int, typer.Option(min=1000, help="In Hz.")] = 16_000,
    strict: Annotated[bool, typer.Option(help="Fail at the first broken recording.")] = False,
) -> None:
    """Decode a data set once: WAV files to one array a split."""
    from bench.api import pack_command

    pack_command(folder, out, sample_rate, strict)


@data.command()
def demo(folder: Path, seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0) -> None:
    """Write a generated data set in FSD50K's layout."""
    from bench.api import demo_command

    demo_command(folder, seed)


@track.command()
def sync(
    folders: Annotated[list[Path], typer.Argument(help="Results folders.")],
    own: WithOption = [],  # noqa: B006
) -> None:
    """Send what a tracking server lacks, each run once: to MLFLOW_TRACKING_URI, or a file beside the folder."""
    from bench.api import track_sync_command

    track_sync_command(folders, own)


def main() -> None:
    """The `bench` command: a user's mistake is one line and exit code 2, never a traceback."""
    try:
        # typer turns Ctrl-C into 130, or passes it on, from release to release
        code = app(sys.argv[1:] or ["--help"], prog_name="bench", standalone_mode=False)
    except UserError as error:
        code = _fail(str(error))
    except OSError as error:
        if error.errno is None:  # not the system's, so not the user's either
            raise
        code = _fail(f"{error.filename or 'writing'}: {error.strerror}")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # what click raises for a wrong command line; by its method, since some releases of typer bring their own click
        if not hasattr(error, "format_message"):
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "bench")
        code = _fail(f"{error.format_message()} (see {command} --help)")
    if code == 130:
        print("bench: stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(code)


def _fail(message: str) -> int:
    print(f"bench: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
