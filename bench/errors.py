"""The errors that the benchmark distinguishes, and how to show one in a line."""

from bench.text import hide_secrets, printable

__all__ = ["MachineFault", "TrainingDiverged", "UserError", "one_line"]


class UserError(Exception):
    """Bad input. The message is one line: which file or field, what is wrong, how to fix it.

    Passwords in it are hidden, and what a name or a file holds can't act on a terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(hide_secrets(message)))


class MachineFault(UserError):
    """The machine gave out: a full disk, a quota, too few file handles. It would fail every run, and goes on later."""


class TrainingDiverged(Exception):
    """The loss or the scores of a run are no longer finite: a result of the run, not a mistake of the user."""


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks and passwords, so that it fits into a line of output."""
    return hide_secrets(" ".join(str(error).split()))
