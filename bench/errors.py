"""The errors that the benchmark distinguishes, and how to show one in a line."""

__all__ = ["TrainingDiverged", "UserError", "one_line"]


class UserError(Exception):
    """Bad input. The message is one line: which file or field, what is wrong, how to fix it."""


class TrainingDiverged(Exception):
    """The loss or the scores of a run are no longer finite: a result of the run, not a mistake of the user."""


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks, so that it fits into a line of output."""
    return " ".join(str(error).split())
