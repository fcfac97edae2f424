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
