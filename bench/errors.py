"""What may go wrong by name, and how an error is told."""


class UserError(Exception):
    """Bad input. The message is one line: which file or field, what is wrong, how to mend it."""


class TrainingDiverged(Exception):
    """The loss or the scores of a run are no longer finite: a result of the run, not a mistake of the user."""


class NotTogether(Exception):
    """Runs that can't be trained at once; each by itself can."""


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())
