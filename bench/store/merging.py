"""Copies from one results folder to another: a run is there as a whole, or it is no result."""

import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.disk import whole_file
from bench.errors import UserError
from bench.store.results_folder import ResultsFolder
from bench.store.run_folder import RunFolder

__all__ = ["copy_labels", "copy_run", "copy_search", "copy_weights", "differing_search", "other_file", "run_files"]


def run_files(run: RunFolder) -> list[Path]:
    """Return the files of a finished run, run.json last: all in its folder but what served to train it.

    Raises UserError for a link: what it leads to may be no part of the run.
    """
    left_out = (run.failure_file.name, run.record_file.name)
    found = [path for path in sorted(run.path.iterdir()) if _is_kept(path) and path.name not in left_out]
    for path in (*found, run.record_file):
        if path.is_symlink():
            raise UserError(f"{path}: is a link: put the file itself into its place, or move it away")
    return [path for path in found if path.is_file()] + [run.record_file]


def _is_kept(path: Path) -> bool:
    """Return whether a file is no lock, checkpoint, or half of a file."""
    return not (path.name.startswith((".", "checkpoint")) or path.suffix == ".partial")


def other_file(first: RunFolder, second: RunFolder) -> str:
    """Return the name of a file in which two copies of a run differ; '' if they are one and the same.

    What else is in its folder follows from these, but for dates and seconds. A file that only one copy has is no
    difference: git leaves weights out.
    """
    written = ("scores_file", "weights_file", "source_file")
    return _first_other((getattr(first, name), getattr(second, name)) for name in written)


def differing_search(first: ResultsFolder, second: ResultsFolder) -> str:
    """Return the name of a file in which the records of two folders' searches differ; '' if they are the same."""
    return _first_other(zip(_search_files(first), _search_files(second), strict=True))


def _first_other(pairs: Iterator[tuple[Path, Path]]) -> str:
    for one, other in pairs:
        if one.is_file() and other.is_file() and not filecmp.cmp(one, other, shallow=False):
            return one.name
    return ""


def _search_files(results: ResultsFolder) -> list[Path]:
    # search.json last: without it there was no search
    return [results.trials_table, results.trials_file, results.best_suite, results.search_file]


def copy_run(run: RunFolder, to: RunFolder) -> None:
    """Copy a finished run, run.json last, and remove what a training that it takes the place of has left."""
    to.path.mkdir(parents=True, exist_ok=True)
    for path in run_files(run):
        _copy(path, to.path / path.name)
    to.clean_up()


def copy_weights(run: RunFolder, to: RunFolder) -> None:
    """Copy a run's weights to another copy of it that has none, as where git has left them out."""
    if run.weights_file.is_file() and not to.weights_file.exists():
        _copy(run.weights_file, to.weights_file)


def copy_labels(results: ResultsFolder, to: ResultsFolder) -> None:
    """Copy labels.npz, unless there is one."""
    with to.lock("labels"):
        if not to.labels_file.exists():
            _copy(results.labels_file, to.labels_file)


def copy_search(results: ResultsFolder, to: ResultsFolder) -> None:
    """Copy the record of a folder's searches, unless there is one; a database stays where it is."""
    with to.lock("search"):
        if not to.search_file.exists():
            for path, copy in zip(_search_files(results), _search_files(to), strict=True):
                if path.is_file():
                    _copy(path, copy)


def _copy(path: Path, copy: Path) -> None:
    with whole_file(copy) as temporary:
        shutil.copyfile(path, temporary)
