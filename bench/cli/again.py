"""The command line that this process was called by, once more for each part of its work."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.text import hide_secrets, printable

__all__ = ["commands_of"]

_LIST = "--list-missing"
# each command has the last of these, wherever one was given
_REPORTS = ("--report", "--no-report")


def commands_of(parts: Sequence[str]) -> list[str]:
    """Return a command for each part, as a shell reads it: this one without --list-missing, with the part at its end.

    All other words are as they were given, so that no option is forgotten. Raises UserError for a word that can't be
    printed as it is.
    """
    words = [*_program(), *sys.argv[1:]]
    if odd := [word for word in words if printable(hide_secrets(word)) != word]:
        reason = "has a password, or a character that can't be shown, and so no place in a list of commands"
        raise UserError(f"{_LIST}: {odd[0]}: {reason}; leave it out, or rename it")
    words = [word for word in words if word not in (_LIST, *_REPORTS)]
    # after which there are no options
    end = words.index("--") if "--" in words else len(words)
    return [shlex.join([*words[:end], "--part", part, "--no-report", *words[end:]]) for part in parts]


def _program() -> list[str]:
    """Return how this program was called: by a name that the shell finds, by a path, or as a module of Python's."""
    program = sys.argv[0]
    if Path(program).name == "__main__.py":
        return [sys.executable, "-m", "bench"]
    return [Path(program).name if shutil.which(Path(program).name) == program else program]
