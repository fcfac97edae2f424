"""The `bench` command. Imports of a command stand in it, so that --help is instant."""

import sys
import warnings
from typing import Any

import typer

from bench.cli import architectures, datasets, models, results, suites
from bench.errors import UserError
from bench.renamed import OPTIONS

__all__ = ["app", "main"]

app = typer.Typer(
    help="Convolutions or transformers? A benchmark of sound event tagging on FSD50K.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (suites, results, models, architectures):
    app.registered_commands += module.app.registered_commands
app.add_typer(datasets.app, name="data")
app.add_typer(results.tracking, name="track")


def main() -> None:
    """Run a command: a user's mistake is one line and exit code 2, never a traceback."""
    _show_old_names()
    try:
        # typer turns Ctrl-C into 130, or passes it on, from release to release
        code = app([*map(_current, sys.argv[1:])] or ["--help"], prog_name="bench", standalone_mode=False)
    except UserError as error:
        code = _fail(str(error))
    except OSError as error:
        # not the system's, so not the user's either
        if error.errno is None:
            raise
        code = _fail(f"{error.filename or 'writing'}: {error.strerror}")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        code = _fail(_explain(error))
    if code == 130:
        print("bench: stopped; the same command resumes from here", file=sys.stderr)
    sys.exit(code)


def _explain(error: Exception) -> str:
    """Return the line for a mistake that is known by its looks; raise what is no mistake of the user's."""
    # a slip in one of the architectures' files keeps the class out of reach
    if type(error).__name__ == "ConfigError":
        return str(error)
    # what click raises for a wrong command line; by its method, since some releases of typer bring their own click
    if hasattr(error, "format_message"):
        command = getattr(getattr(error, "ctx", None), "command_path", "bench")
        return f"{error.format_message()} (see {command} --help)"
    raise error


def _fail(message: str) -> int:
    print(f"bench: error: {message}", file=sys.stderr)
    return 2


def _current(argument: str) -> str:
    """Return an argument of the command line with the name that its option has today."""
    option, equals, value = argument.partition("=")
    if option not in OPTIONS:
        return argument
    new = OPTIONS[option]
    print(f"bench: warning: {option} is now {new}; the old name goes with the next release", file=sys.stderr)
    return f"{new}{equals}{value}"


def _show_old_names() -> None:
    """Show warnings that are for users in one line, without the place in our code that found the old name."""
    default = warnings.showwarning

    def show(message: Any, category: Any, *place: Any, **more: Any) -> None:
        if issubclass(category, FutureWarning):
            print(f"bench: warning: {message}", file=sys.stderr)
        else:
            default(message, category, *place, **more)

    warnings.showwarning = show
    warnings.filterwarnings("default", category=FutureWarning, module=r"bench\.")
