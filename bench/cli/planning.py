"""bench plan."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import complete_suite, console, options
from bench.cli.output import echo, print_json

app = typer.Typer()


@app.command()
@options("seeds", "resamples", "by_group", "mixed", "plugins", "as_json")
def plan(
    suite: Annotated[str, typer.Argument(help="As in bench run.", autocompletion=complete_suite)],
    difference: Annotated[float, typer.Option(help="To be found, in the metric's unit: .01.")],
    power: Annotated[float, typer.Option(help="The chance to find it.")] = 0.8,
    pilot: Annotated[Path | None, typer.Option(help="A results folder whose systems share three seeds.")] = None,
    seed_sd: Annotated[float | None, typer.Option(help="Instead: of the difference, over seeds.")] = None,
    clip_sd: Annotated[float | None, typer.Option(help="Instead: of the difference, over draws of clips.")] = None,
    clips: Annotated[int | None, typer.Option(help="How many eval has [default: the pilot's].")] = None,
    **given: Any,
) -> None:
    """Say how many seeds, clips and hours a suite needs.

    So that a true difference is called significant with a chance of .8, by a pilot's variances or by stated ones.
    """
    from bench.suites.suite import suite_path

    # now, since all else has to wait for torch
    suite_path(suite)
    from bench.api import planning

    as_json, display = given.pop("as_json"), console(given.pop("plugins"))
    found = planning.plan(
        suite, difference, pilot=pilot, seed_sd=seed_sd, clip_sd=clip_sd, clips=clips, power=power, display=display,
        **given,
    )  # fmt: skip
    if as_json:
        asked = {**vars(found.question), "metric": found.label}
        notes = {"hours_per_seed": found.hours, "notes": found.notes}
        print_json({"suite": found.title, **asked, **notes, "table": found.records})
    else:
        echo(found, lines=True)
