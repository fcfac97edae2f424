"""The two ways in which a command ends badly."""


class UserError(Exception):
    """Bad input. The message is one line: which file or field, what is wrong, how to mend it."""


class TrainingDiverged(Exception):
    """The loss or the scores of a run are no longer finite: a result of the run, not a mistake of the user."""
