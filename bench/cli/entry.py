"""How a command ends: a user's mistake is one line and exit code 2, never a traceback."""

import sys
from typing import NoReturn

import typer

from bench.errors import UserError

__all__ = ["run_app"]


def run_app(app: typer.Typer, name: str, arguments: list[str]) -> NoReturn:
    """Run a command line, or print the help of an empty one, and exit."""
    try:
        # typer turns Ctrl-C into 130, or passes it on, from release to release
        code = app(arguments or ["--help"], prog_name=name, standalone_mode=False)
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
        code = _fail(_explain(error, name))
    if code == 130:
        print("bench: stopped; the same command resumes from here", file=sys.stderr)
    sys.exit(code)


def _explain(error: Exception, name: str) -> str:
    """Return the line for a mistake that is known by its looks; raise what is no mistake of the user's."""
    # a slip in one of the architectures' files keeps the class out of reach
    if type(error).__name__ == "ConfigError":
        return str(error)
    # what click raises for a wrong command line; by its method, since some releases of typer bring their own click
    if hasattr(error, "format_message"):
        command = getattr(getattr(error, "ctx", None), "command_path", name)
        return f"{error.format_message()} (see {command} --help)"
    raise error


def _fail(message: str) -> int:
    print(f"bench: error: {message}", file=sys.stderr)
    return 2
