"""`python -m benchmarks`. Imports of a command stand in it, so that --help is instant."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.entry import run_app
from bench.cli.options import DeviceOption

__all__ = ["app", "main"]

_NAME = "python -m benchmarks"

app = typer.Typer(
    help="Measure the project itself: its speed on this machine, and its statistics where the truth is known.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def speed(
    quick: Annotated[bool, typer.Option("--quick", help="A first look, in three minutes.")] = False,
    only: Annotated[list[str], typer.Option(help="This part only; repeatable.")] = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/speed"),
    device: DeviceOption = "auto",
) -> None:
    """Measure this machine: each part of the work beside what one would otherwise write, and what holds it."""
    from bench.api.console import ConsoleDisplay
    from bench.api.datasets import DEMO, demo_pack
    from bench.api.plugins import device_of
    from benchmarks.run import Request, check_parts, measure_speed

    check_parts(only)
    chosen, display = device_of(device), ConsoleDisplay()
    request = Request(DEMO, demo_pack(16_000, display), chosen, only, quick)
    typer.echo(measure_speed(out, request, lambda part: display.notice(f"measuring: {part}")))


@app.command("gpu")
def on_gpu(
    only: Annotated[list[str], typer.Option(help="This part only; repeatable.")] = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/speed"),
    device: DeviceOption = "cuda",
) -> None:
    """Measure a GPU, in some seven minutes: steps in each precision, a suite's hours, what precision does to mAP."""
    from bench.api.console import ConsoleDisplay
    from bench.api.datasets import demo_pack
    from bench.api.plugins import device_of
    from bench.errors import UserError
    from benchmarks.gpu import PARTS, measure_gpu

    for name in only:
        if name not in PARTS:
            raise UserError(f"--only {name}: use one of {', '.join(PARTS)}")
    chosen, display = device_of(device), ConsoleDisplay()
    pack = demo_pack(16_000, display)
    typer.echo(measure_gpu(out, pack, chosen, only, lambda part: display.notice(f"measuring: {part}")))


@app.command("ray")
def on_ray(
    runs: Annotated[list[int], typer.Option(min=10, help="How many; repeatable.")] = [2_000, 10_000],  # noqa: B006
    nodes: Annotated[int, typer.Option(min=1, help="All on this machine.")] = 8,
    slots: Annotated[int, typer.Option(min=1, help="Of each node; each is a process, of 0.4 GB.")] = 8,
    seconds: Annotated[float, typer.Option(min=0, help="That a run sleeps.")] = 0.5,
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/speed"),
) -> None:
    """Measure thousands of runs that sleep on a Ray cluster: seconds a run, and the command's memory."""
    import torch

    from bench.api.console import ConsoleDisplay
    from benchmarks.cluster import measure_sleeping
    from benchmarks.machine import measure_machine

    display = ConsoleDisplay()
    slug = measure_machine(torch.device("cpu")).slug
    found = measure_sleeping(runs, nodes, slots, seconds, lambda part: display.notice(f"measuring: {part}"))
    out.mkdir(parents=True, exist_ok=True)
    found.to_csv(out / f"ray-{slug}.csv", index=False, float_format="%.4g", lineterminator="\n")
    typer.echo(found.to_string(index=False, float_format="{:.4g}".format))


@app.command("duplicates")
def find_copies(
    data: Annotated[Path, typer.Option(help="A data set; copies of its train clips are planted in a copy of it.")],
    copies: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 100,
    clips: Annotated[int, typer.Option(min=100, help="How many are generated, to be packed and compared.")] = 10_000,
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("results/duplicates"),
) -> None:
    """Measure how many copies are found (gain, trimmed, MP3), what else is, and how long it takes. Needs ffmpeg."""
    from tempfile import TemporaryDirectory

    from benchmarks.duplicates import measure_found, measure_time

    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix="scratch-") as scratch:
        found = measure_found(data, Path(scratch), copies)
        tables = {"found": found.kinds, "others": found.others}
        typer.echo(f"{found.clips} clips, {len(found.others)} pairs that were not planted")
        tables["time"] = measure_time(Path(scratch), clips)
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.4g", lineterminator="\n")
        typer.echo(f"\n{table.to_string(index=False, float_format='{:.4g}'.format)}")


@app.command("simulation")
def simulate(
    out: Annotated[Path, typer.Option(help="Each repeat's outcome; what is there is not done again.")] = Path(
        "runs/simulation"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Check the statistics where the truth is known, and write bench/stats/coverage.csv: two hours on two cores."""
    from bench.api.console import ConsoleDisplay
    from benchmarks import simulation
    from benchmarks.figures import coverage

    with ConsoleDisplay().bar("simulating") as progress:
        table = simulation.write_coverage(out, simulation.SCENARIOS, simulation.COVERAGE, workers, progress)
    coverage(table, simulation.FIGURE)


def main() -> None:
    """Run the benchmarks' command; a user's mistake is one line, as with `bench`."""
    run_app(app, _NAME, sys.argv[1:])


if __name__ == "__main__":
    main()
