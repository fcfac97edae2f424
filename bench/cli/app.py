"""The `bench` command. Imports of a command stand in it, so that --help is instant."""

import sys
import warnings
from typing import Annotated, Any

import typer

from bench.cli import architectures, datasets, folders, generate, models, planning, results, suites, synth
from bench.cli.entry import run_app
from bench.cli.output import echo
from bench.renamed import OPTIONS
from bench.text import printable

__all__ = ["app", "main"]

app = typer.Typer(
    help="Convolutions or transformers? A benchmark of sound event tagging on FSD50K.",
    epilog="Exit codes: 0 done; 1 a run failed, or a check did not pass; 2 bad input; 130 stopped.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (suites, planning, results, folders, models, generate, architectures, synth):
    app.registered_commands += module.app.registered_commands
app.add_typer(datasets.app, name="data")
app.add_typer(results.tracking, name="track")
app.add_typer(folders.suites, name="suites")


def _print_version(wanted: bool) -> None:
    if wanted:
        import bench

        echo(f"bench {bench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the `bench` command."""
    _show_old_names()
    run_app(app, "bench", _with_address([*map(_current, sys.argv[1:])]))


def _with_address(arguments: list[str]) -> list[str]:
    """Give a --ray that stands alone its address: typer knows no option of which the value may be left out."""
    following = [*arguments[1:], "--"]
    pairs = zip(arguments, following, strict=False)
    return ["--ray=auto" if one == "--ray" and other.startswith("--") else one for one, other in pairs]


def _current(argument: str) -> str:
    """Return an argument of the command line with the name that its option has today."""
    option, equals, value = argument.partition("=")
    if option not in OPTIONS:
        return argument
    new = OPTIONS[option]
    echo(f"bench: warning: {option} is now {new}; the old name goes with the next release", err=True)
    return f"{new}{equals}{value}"


def _show_old_names() -> None:
    """Show warnings that are for users in one line, without the place in our code that found the old name."""
    default = warnings.showwarning

    def show(message: Any, category: Any, *place: Any, **more: Any) -> None:
        if issubclass(category, FutureWarning):
            echo(f"bench: warning: {message}", err=True)
        else:
            default(printable(str(message), lines=True), category, *place, **more)

    warnings.showwarning = show
    warnings.filterwarnings("default", category=FutureWarning, module=r"bench\.")
