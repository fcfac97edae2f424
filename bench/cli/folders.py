"""bench show, forget, merge, suites."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import complete_suite, console, options
from bench.cli.output import echo, print_json

app = typer.Typer()
suites = typer.Typer(help="List the suites, or show one.", rich_markup_mode=None)


@app.command()
@options("as_json", "plugins")
def show(
    run: Annotated[Path, typer.Argument(help="A run's folder, or how its name begins: RESULTS/ENTRY[-sSEED].")],
    **given: Any,
) -> None:
    """Show one run: settings, metrics, cost and origin.

    Of one that is not finished, why it failed or how far it is.
    """
    from bench.api import folders
    from bench.api.plugins import load_plugins

    load_plugins(given["plugins"])
    found = folders.show(run)
    if given["as_json"]:
        print_json(found)
    else:
        echo(folders.describe_run(found), lines=True)


@app.command()
def forget(
    entries: Annotated[list[Path], typer.Argument(help="RESULTS/ENTRY, or RESULTS/RUN for a single run.")],
) -> None:
    """Take an entry off the plan of a results folder.

    Its unfinished and failed runs are then not missed by reports; finished ones stay, and nothing is deleted.
    """
    from bench.api import folders

    for found in folders.forget(*entries):
        echo(f"{found.folder}: no longer planned: {', '.join(found.runs)}")
        if found.finished:
            stay = f"finished, and stay: {', '.join(found.finished)}; to be rid of them remove their folders"
            echo(f"{found.folder}: {stay}", err=True)


@app.command()
@options("mixed", "plugins")
def merge(
    out: Annotated[Path, typer.Argument(help="The results folder that all goes into, new or not.")],
    folders: Annotated[
        list[Path], typer.Argument(help="Results folders that the runs are taken from.", metavar="FROM...")
    ],
    **given: Any,
) -> None:
    """Join results folders, of several machines or people.

    Finished runs are copied, with plan, contrasts and the record of a search; the same run twice is one. Other data or
    code are refused, before anything is written.
    """
    display = console(given.pop("plugins"))
    from bench.api import merging

    for found in merging.merge(out, *folders, display=display, **given):
        echo(f"{found.folder}: {len(found.copied)} runs copied, {len(found.there)} were there already")


@suites.callback(invoke_without_command=True)
def list_(context: typer.Context) -> None:
    """List the suites that come with the project, or show one."""
    if context.invoked_subcommand:
        return
    from bench.api import folders

    layout = "{:12} {:>8} {:>6}  {}"
    echo(layout.format("suite", "entries", "seeds", ""))
    for suite in folders.list_suites():
        echo(layout.format(suite.name, suite.entries, suite.seeds, suite.description))


@suites.command("show")
def show_suite(
    name: Annotated[
        str, typer.Argument(help="One that comes with the project, or a TOML file.", autocompletion=complete_suite)
    ],
) -> None:
    """Print a suite as it is declared, to read, or to copy and change."""
    from bench.api import folders

    echo(folders.suite_text(name), lines=True, nl=False)
