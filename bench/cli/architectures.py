"""bench list, new, check."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import options
from bench.cli.output import echo, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from architectures import PublishedFigures
    from architectures._registry import Architecture

app = typer.Typer()
# of an architecture's name, or its task's at the head of a table
_LAYOUT = "{:34} {:12} {:>15} {:>11}  {}"


@app.command("list")
@options("as_json", "plugins")
def list_(**given: Any) -> None:
    """Show the registered architectures, by task."""
    from architectures import get_architecture, list_architectures
    from bench.api.plugins import load_plugins

    load_plugins(given["plugins"])
    if given["as_json"]:
        print_json([_document(name) for name in list_architectures()])
        return
    entries = [get_architecture(name) for name in list_architectures()]
    for task, of_task in groupby(entries, key=lambda entry: entry.task):
        shown = list(of_task)
        echo(_LAYOUT.format(task, "family", _heading(shown), "parameters", "source").rstrip())
        for entry in shown:
            paper, module = entry.published, entry.model.__module__ if entry.source else ""
            figures = (*_figures(paper), paper.source) if paper else ("", "", module)
            name = entry.name if entry.in_all else f"{entry.name} *"
            echo(_LAYOUT.format(name, entry.family, *figures).rstrip())
        echo("")
    echo("‡ is known second-hand, from somebody else's account of the paper, † inferred: docs/sources.md")
    echo("* runs only where it is named: bench run --only NAME; so does timm:MODEL, any of timm's models")


def _heading(entries: "Sequence[Architecture]") -> str:
    """Return what the published metric of a task's architectures is called, '' if none has any."""
    return next((f"published {entry.published.label}" for entry in entries if entry.published), "")


def _figures(paper: "PublishedFigures") -> tuple[str, str]:
    """Return the published metric and parameters, marked where they were not read in the paper itself."""
    from bench.reporting.marks import KINDS, symbols

    def marked(text: str, field: str) -> str:
        kinds = [kind.name for kind in KINDS if field in getattr(paper, kind.name)]
        return f"{text} {symbols(kinds)}".strip()

    return marked(f"{getattr(paper, paper.metric):.3f}", paper.metric), marked(
        f"{paper.parameters / 1e6:.2f}M", "parameters"
    )


def _document(name: str) -> dict[str, Any]:
    from architectures import get_architecture

    entry = get_architecture(name)
    return {
        "name": name,
        "task": entry.task,
        "family": entry.family,
        "in_all": entry.in_all,
        "config": asdict(entry.config),
        "published": asdict(entry.published) if entry.published else None,
        "documented": dict(entry.documented),
        "second_hand": dict(entry.second_hand),
        "inferred": dict(entry.inferred),
        "module": entry.model.__module__,
    }


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the architecture, and of its file.")],
    out: Annotated[Path, typer.Option(help="The file's folder.")] = Path(),
    task: Annotated[str, typer.Option(help="What it is for: codec, next_sample or tagging.")] = "tagging",
) -> None:
    """Write an architecture to begin with.

    A file that passes all checks, to be changed as you like.
    """
    from architectures import list_architectures
    from architectures.template import write_architecture

    path = write_architecture(name, out, list_architectures(), task)
    echo(f"{path}: an architecture to change as you like; then")
    echo(f"    bench check {path}")
    if task == "tagging":
        echo(f"    bench run demo --plugin {path}")


@app.command()
@options("plugins")
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Architectures, or files with some [default: all].")] = None,
    data: Annotated[Path | None, typer.Option(help="A pack: also overfit some of its train clips.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="How many train clips to overfit.")] = 64,
    **given: Any,
) -> None:
    """Check architectures against the contract.

    With --data also that they can learn at all. Exit code 1: one does not pass.
    """
    from architectures import get_architecture, list_architectures
    from architectures.checks import failed_checks
    from bench.api.plugins import load_plugins
    from bench.data.pack import Pack
    from bench.runner.overfit import overfit

    load_plugins(**given)
    of_files = load_plugins([Path(name) for name in names or [] if name.endswith(".py")])
    chosen = [name for name in names or [] if not name.endswith(".py")] + of_files
    failed, pack = False, Pack(data) if data else None
    for name in chosen or list_architectures():
        get_architecture(name)
        reasons = failed_checks(name)
        for text, reason in reasons.items():
            echo(f"{name}: {text}: {reason}")
        if not reasons:
            echo(f"{name}: passes all checks")
        failed |= bool(reasons)
        if pack and get_architecture(name).task != "tagging":
            echo(f"{name}: --data has clips to tag; what is for {get_architecture(name).task} is not trained on them")
        elif pack and not reasons:
            score = overfit(name, pack, clips)
            echo(f"{name}: mAP {score:.3f} on the {clips} clips it was trained on")
            failed |= score < 0.9
    if failed:
        raise typer.Exit(1)
