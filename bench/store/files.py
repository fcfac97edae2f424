"""Reading and writing files of a results folder: damage is one line with file and remedy, and no file is ever half."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.disk import partial_path
from bench.errors import UserError, one_line
from bench.store.format1 import upgrade_table

__all__ = ["REMEDY", "File", "damaged", "read_arrays", "read_json", "read_table", "write_arrays", "write_table"]

REMEDY = "remove it and run the suite again"


class File:
    """A file of a folder by its name: where `plan_file = File("suite.json")`, folder.plan_file is its path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: Any, owner: type) -> Path:
        return folder.path / self.name


def damaged(path: Path, reason: object, remedy: str = REMEDY) -> UserError:
    """Return the error for a file that can't be used."""
    return UserError(f"{path}: damaged ({one_line(reason) if isinstance(reason, Exception) else reason}); {remedy}")


@contextmanager
def _reading(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {remedy}") from None
    # ValueError: of json, of pandas
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise damaged(path, error, remedy) from None


def read_json(path: Path, *keys: str, remedy: str = REMEDY) -> dict[str, Any]:
    """Return a JSON object that has at least these keys. Raises UserError if the file holds anything else."""
    with _reading(path, remedy):
        value = json.loads(path.read_text("utf-8"))
    if not isinstance(value, dict):
        raise damaged(path, "not a JSON object", remedy)
    if lacks := [key for key in keys if key not in value]:
        raise damaged(path, f"without {', '.join(lacks)}", remedy)
    return value


def read_arrays(path: Path, *names: str, remedy: str = REMEDY) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of an .npz file by name. Raises UserError if the file or an array is missing, or damaged."""
    with _reading(path, remedy), path.open("rb") as opened, np.load(opened) as file:
        return {name: file[name] for name in names}


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an .npz file; the same arrays are the same bytes, since numpy dates what it zips 1980."""
    temporary = path.with_suffix(".partial.npz")
    np.savez_compressed(temporary, allow_pickle=False, **arrays)
    os.replace(temporary, path)


def read_table(path: Path, *columns: str, remedy: str = REMEDY) -> pd.DataFrame:
    """Return a CSV file that has at least these columns, under their names of today. Raises UserError otherwise."""
    with _reading(path, remedy):
        table = upgrade_table(pd.read_csv(path))
    if lacks := [column for column in columns if column not in table]:
        raise damaged(path, f"without {', '.join(lacks)}", remedy)
    return table


def write_table(path: Path, table: pd.DataFrame, **options: Any) -> None:
    """Write a CSV file."""
    temporary = partial_path(path)
    table.to_csv(temporary, index=False, lineterminator="\n", **options)
    os.replace(temporary, path)
