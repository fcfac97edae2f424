"""bench run, cost, search."""

from typing import Annotated, Any

import typer

from bench.cli.options import console, options

app = typer.Typer()


@app.command()
@options(
    "data", "out", "only", "seeds", "fields", "precision", "device", "mixed", "restart",
    "trials", "hours", "storage", "heartbeat", "track", "plugins",
)  # fmt: skip
def run(
    suite: Annotated[str, typer.Argument(help="demo, controlled, paper, tuned, ablations, or a TOML file.")] = "demo",
    **given: Any,
) -> None:
    """Run a suite: what is finished is skipped; interrupted, the same command resumes."""
    given = _with_overrides(given)
    from bench.api import runs

    display = console()
    outcome = runs.run(suite, display, **given)
    if outcome.failed:
        display.notice(f"failed: {', '.join(outcome.failed)}; the same command tries them again")
        raise typer.Exit(1)


@app.command()
@options("data", "out", "only", "seeds", "fields", "precision", "device", "trials", "hours", "plugins")
def cost(suite: Annotated[str, typer.Argument(help="As in bench run.")] = "demo", **given: Any) -> None:
    """Say how many hours a suite takes here, by a few measured steps of each entry; nothing of them is kept."""
    given = _with_overrides(given)
    from bench.api import runs

    if any(found.cause for found in runs.cost(suite, console(), **given)):
        raise typer.Exit(1)


@app.command()
@options("data", "trials", "hours", "out", "storage", "device", "heartbeat", "track", "plugins")
def search(
    names: Annotated[list[str] | None, typer.Argument(help="Architectures [default: all of the suite's].")] = None,
    suite: Annotated[str, typer.Option(help="Whose recipe and [space]: tuned, or a TOML file.")] = "tuned",
    fields: Annotated[list[str], typer.Option("--set", help="train.FIELD=VALUE, not searched; repeatable.")] = [],  # noqa: B006
    export: Annotated[bool, typer.Option("--export", help="Write the best recipes as a suite, OUT/best.toml.")] = False,
    **given: Any,
) -> None:
    """Search each architecture's recipe on val, within the same budget; the same command resumes, or joins in."""
    given = _with_overrides({**given, "fields": fields, "only": names or []})
    from bench.api import runs

    runs.search(suite, console(), export_best=export, **given)


def _with_overrides(given: dict[str, Any]) -> dict[str, Any]:
    """Replace --set and --precision by the recipe fields that they mean."""
    from bench.suites.suite import parse_overrides

    fields, precision = given.pop("fields"), given.pop("precision", None)
    return given | {"overrides": parse_overrides(fields + ([f"train.precision={precision}"] if precision else []))}
