"""bench run, cost, growth, search."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.again import commands_of
from bench.cli.options import complete_suite, console, options
from bench.cli.output import echo, print_json
from bench.errors import UserError

app = typer.Typer()
# options of a suite that a single run has no use for
_OF_A_SUITE = (
    "only", "seeds", "seed", "part", "fields", "precision", "quick", "dry_run", "mixed", "restart", "trials", "steps",
    "hours", "storage", "jobs", "ray", "cpus", "gpus", "list_missing",
)  # fmt: skip


@app.command()
@options(
    "data", "out", "only", "seeds", "seed", "part", "fields", "precision", "device", "jobs", "ray", "cpus", "gpus",
    "quick", "dry_run", "mixed", "restart", "trials", "steps", "hours", "storage", "heartbeat", "track", "report",
    "plugins",
)  # fmt: skip
def run(
    suite: Annotated[
        str | None,
        typer.Argument(
            help="One of `bench suites`, or a TOML file [default: demo].",
            autocompletion=complete_suite,
            show_default=False,
        ),
    ] = None,
    reproduce: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Instead: train this finished run anew, in reproduce/, and compare the two."),
    ] = None,
    list_missing: Annotated[
        bool, typer.Option("--list-missing", help="Instead: print a command for each run that is not finished.")
    ] = False,
    **given: Any,
) -> None:
    """Run a suite; what is finished is skipped.

    Interrupted, the same command resumes. Exit code 1: a run failed, or was not reproduced.
    """
    if reproduce:
        _reproduce(reproduce, suite, {**given, "list_missing": list_missing})
        return
    suite = suite or "demo"
    given = _with_overrides(given, suite)
    if list_missing:
        _list_missing(suite, given)
        return
    from bench.api import runs

    display = console()
    outcome = runs.run(suite, display=display, **given)
    if outcome.failed:
        display.notice(f"failed: {', '.join(outcome.failed)}; the same command tries them again")
        raise typer.Exit(1)


@app.command()
@options(
    "data", "out", "only", "seeds", "seed", "fields", "precision", "device", "trials", "steps", "hours", "plugins",
    "as_json",
)  # fmt: skip
def cost(
    suite: Annotated[str, typer.Argument(help="As in bench run.", autocompletion=complete_suite)] = "demo",
    **given: Any,
) -> None:
    """Say how many hours a suite takes here.

    A few steps of each entry are measured; nothing of them is kept. Exit code 1: an entry could not be measured.
    """
    as_json, given = given.pop("as_json"), _with_overrides(given, suite)
    from bench.api import runs

    found = runs.cost(suite, display=console(), **given)
    if as_json:
        entries = found.table.to_dict("records")
        print_json({"suite": found.title, "device": found.device, "hours": found.hours, "entries": entries,
                    "failed": found.failed})  # fmt: skip
    else:
        echo(found, lines=True)
    if found.failed:
        raise typer.Exit(1)


@app.command()
@options("data", "out", "only", "device", "plugins", "as_json")
def growth(
    suite: Annotated[str, typer.Argument(help="As in bench run.", autocompletion=complete_suite)] = "long",
    seconds: Annotated[list[float], typer.Option(help="Length of a chunk; repeatable.")] = [1, 10, 30],  # noqa: B006
    **given: Any,
) -> None:
    """Say how the cost of a chunk grows with its length.

    Arithmetic, latency and memory; OUT/growth.csv and a figure. Exit code 1: some could not be measured.
    """
    from bench.suites.suite import suite_path

    # now, since all else has to wait for torch
    suite_path(suite)
    from bench.api import growing

    as_json = given.pop("as_json")
    found = growing.growth(suite, seconds=seconds, display=console(), **given)
    if as_json:
        print_json({"suite": found.title, "device": found.device, "points": found.table.to_dict("records"),
                    "failed": found.failed})  # fmt: skip
    else:
        echo(found, lines=True)
    if found.failed:
        raise typer.Exit(1)


@app.command()
@options(
    "data", "trials", "steps", "hours", "out", "storage", "device", "jobs", "ray", "cpus", "gpus", "heartbeat", "quick",
    "dry_run", "track", "plugins",
)  # fmt: skip
def search(
    names: Annotated[list[str] | None, typer.Argument(help="Architectures [default: all of the suite's].")] = None,
    suite: Annotated[
        str, typer.Option(help="Whose recipe and [space]: tuned, or a TOML file.", autocompletion=complete_suite)
    ] = "tuned",
    fields: Annotated[list[str], typer.Option("--set", help="train.FIELD=VALUE, not searched; repeatable.")] = [],  # noqa: B006
    export: Annotated[bool, typer.Option("--export", help="Write the best recipes as a suite, OUT/best.toml.")] = False,
    **given: Any,
) -> None:
    """Search each architecture's recipe within one budget.

    Scored on val; eval is not read. The same command resumes, or joins in from elsewhere.
    """
    given = _with_overrides({**given, "fields": fields, "only": names or []}, suite)
    from bench.api import runs

    echo(runs.search(suite, display=console(), export_best=export, **given).markdown, lines=True, nl=False)


def _list_missing(suite: str, given: dict[str, Any]) -> None:
    """Print a command a line for each run that is not finished; raise UserError for options that it can't have."""
    for name in ("dry_run", "part"):
        if given[name]:
            raise UserError(f"--list-missing: lists the runs, and trains none: leave --{name.replace('_', '-')} out")
    for name in ("jobs", "ray", "cpus", "gpus"):
        if given[name] is not None:
            raise UserError(f"--list-missing: each command trains one run, in its own process: leave --{name} out")
    from bench.api import runs

    display = console()
    parts = runs.missing(suite, display=display, **given)
    if not parts:
        display.notice(f"{suite}: no run is missing")
    for command in commands_of(parts):
        echo(command)


def _reproduce(run: Path, suite: str | None, given: dict[str, Any]) -> None:
    """Train a finished run anew, and say whether it is the same; raise UserError for options that would change it."""
    named = {"SUITE": suite, **{f"--{name.replace('_', '-')}": given[name] for name in _OF_A_SUITE}}
    # a seed of 0 is one
    given_here = [name for name, value in named.items() if value not in (None, []) and value is not False]
    if other := [name.replace("--fields", "--set") for name in given_here]:
        raise UserError(f"--reproduce {run}: settings and data are those of the run: leave {other[0]} out")
    from bench.api.reproduction import reproduce

    taken = {name: given[name] for name in ("data", "out", "device", "plugins")}
    found = reproduce(run, display=console(), **taken)
    echo(found, lines=True)
    if not found.is_reproduced:
        raise typer.Exit(1)


def _with_overrides(given: dict[str, Any], suite: str) -> dict[str, Any]:
    """Replace --set and --precision by the fields that they mean; raise UserError for these, or for no suite."""
    from bench.suites.suite import parse_overrides, parse_task_settings, suite_path

    # now, since all else has to wait for torch
    suite_path(suite)
    fields, precision = given.pop("fields"), given.pop("precision", None)
    of_task = [text for text in fields if text.lstrip().startswith("task_settings")]
    of_recipe = [text for text in fields if text not in of_task]
    recipe = parse_overrides(of_recipe + ([f"train.precision={precision}"] if precision else []))
    return given | {"overrides": recipe, "task_settings": parse_task_settings(of_task)}
