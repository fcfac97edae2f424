"""How a command ends: a user's mistake is one line and exit code 2, never a traceback."""

import sys
import traceback
from types import TracebackType
from typing import NoReturn

import typer

from bench.cli.output import echo, flush
from bench.disk import machine_fault
from bench.errors import UserError, one_line

__all__ = ["run_app"]

# commands that keep what they have done when they are stopped
_RESUMING = (("run",), ("search",), ("merge",), ("data", "fetch"), ("data", "pack"), ("track", "sync"))


def run_app(app: typer.Typer, name: str, arguments: list[str]) -> NoReturn:
    """Run a command line, or print the help of an empty one, and exit."""
    _take_any_text()
    try:
        # typer turns Ctrl-C into 130, or passes it on, from release to release
        code = app(arguments or ["--help"], prog_name=name, standalone_mode=False)
        # a full disk or a closed pipe is met here, where it can be told
        flush()
    except (KeyboardInterrupt, typer.Abort) as error:
        # typer takes the end of any file for the end of what a user types
        cause = error.__cause__
        code = _fail(f"a file ends too early ({one_line(cause)})") if isinstance(cause, EOFError) else 130
    except Exception as error:
        code = _fail(_explain(error, name))
    if code == 130:
        echo(f"bench: stopped{'; the same command resumes from here' * _resumes(arguments)}", err=True)
    sys.exit(code)


def _resumes(arguments: list[str]) -> bool:
    """Return whether a command keeps what it has done so far: of the others it would be no true word."""
    if arguments[:1] == ["predict"]:
        return any(argument.partition("=")[0] == "--csv" for argument in arguments)
    return any(tuple(arguments[: len(command)]) == command for command in _RESUMING)


def _explain(error: Exception, name: str) -> str:
    """Return the line for a user's mistake or a fault of the machine; raise what is neither."""
    if fault := machine_fault(error):
        return str(fault)
    # a slip in one of the architectures' files keeps the class ConfigError out of reach
    if isinstance(error, UserError) or type(error).__name__ == "ConfigError":
        return str(error)
    # without a number it is not the system's, so not the user's either
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'writing'}: {error.strerror}"
    # what click raises for a wrong command line; by its method, since some releases of typer bring their own click
    if hasattr(error, "format_message"):
        command = getattr(getattr(error, "ctx", None), "command_path", name)
        return f"{error.format_message()} (see {command} --help)"
    # only now, since typer sets another
    sys.excepthook = _show_traceback
    raise error


def _fail(message: str) -> int:
    echo(f"bench: error: {message}", err=True)
    return 2


def _take_any_text() -> None:
    """Have no character, of a name or of our own, be a reason to fail, whatever the terminal can show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _show_traceback(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    echo("".join(traceback.format_exception(kind, error, place)), err=True, lines=True, nl=False)
