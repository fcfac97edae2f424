"""Finished runs that other runs are built on: found by their folder, or by how its name begins."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.protocol.task import Task, TrainedRun
from bench.store.results_folder import ResultsFolder
from bench.store.run_folder import RunFolder

__all__ = ["digest_of_weights", "find_trained"]

# ENTRY-sSEED-HASH, without a folder before it
_NAME = re.compile(r"[^/]+-s\d+-[0-9a-f]{8}")


def find_trained(task: Task, values: Mapping[str, Any], where: str) -> TrainedRun | None:
    """Return the run that the task's setting names, as `bench show` takes one: runs/SUITE/ENTRY-sSEED, or the folder.

    None for a task without such a setting, and for a run's name alone, if there is no folder of that name here: what
    its model made may be at hand all the same. Raises UserError for a run that is not there, not finished, of another
    task, or without weights.
    """
    if task.built_on is None or not isinstance(name := values.get(task.built_on[0]), str) or not name:
        return None
    setting, of_task = task.built_on
    folder, where = RunFolder(Path(name)), f"{where}, {setting}"
    if not folder.path.is_dir():
        if _NAME.fullmatch(name):
            return None
        try:
            folder = ResultsFolder(folder.path.parent).find(folder.path.name)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    spec = folder.record().spec
    if spec.task != of_task:
        raise UserError(f"{where}: {folder.path} is a run of task {spec.task}: give one of task {of_task}")
    if not folder.weights_file.is_file():
        gone = "has no weights (they stay on the machine that trained, git does not keep them)"
        raise UserError(f"{where}: {folder.path} {gone}: make that run again")
    return TrainedRun(folder.path.absolute(), spec, digest_of_weights(folder))


def digest_of_weights(folder: RunFolder) -> str:
    """Return a digest of a run's weights: 16 hex digits."""
    with folder.weights_file.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
