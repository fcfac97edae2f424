"""Reading and writing files of a results folder: damage is one line with file and remedy, and no file is ever half."""

import io
import json
import math
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_numeric_dtype
from pydantic import TypeAdapter, ValidationError

from bench.disk import whole_file
from bench.errors import UserError, one_line
from bench.store.format1 import upgrade_table
from bench.text import csv_cell, csv_value, printable

__all__ = [
    "REMEDY", "File", "checked", "damaged", "read_arrays", "read_json", "read_table", "write_arrays", "write_table",
    "write_text",
]  # fmt: skip

Value = TypeVar("Value")

REMEDY = "restore it from a copy, or move it away and run the suite again"
_MISSING = "restore it from a copy, or run the suite again, which keeps finished runs"
# of JSON; what is nested deeper overflows the stack of whatever walks it
_DEEPEST = 100
# Arrays may unpack to this many bytes, or to this many times their file: labels, which are nearly all 0, reach 60.
_BYTES, _TIMES = 64 << 20, 200


class File:
    """A file of a folder by its name: where `plan_file = File("suite.json")`, folder.plan_file is its path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: Any, owner: type) -> Path:
        return folder.path / self.name


def damaged(path: Path, reason: object, remedy: str = REMEDY) -> UserError:
    """Return the error for a file that can't be used."""
    text = one_line(reason) if isinstance(reason, Exception) else str(reason)
    return UserError(f"{path}: damaged ({printable(text)}); {remedy}")


@contextmanager
def _reading(path: Path, remedy: str) -> Iterator[io.BytesIO]:
    """Read a file; whatever is wrong with it is UserError, only the machine's own faults pass as they are."""
    try:
        # to open a pipe, or a device, may wait for ever
        if not stat.S_ISREG(path.stat().st_mode):
            raise damaged(path, "not a plain file", remedy)
        # all of it before any of it is parsed: zipfile takes a disk that fails for damage to the archive
        yield io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {_MISSING if remedy == REMEDY else remedy}") from None
    except (UserError, OSError):
        raise
    except RecursionError:
        raise damaged(path, "nested too deeply", remedy) from None
    # json, zipfile, numpy and pandas raise nearly everything over bytes that are not theirs
    except Exception as error:
        raise damaged(path, error if str(error) else type(error).__name__, remedy) from None


def read_json(path: Path, *keys: str, remedy: str = REMEDY) -> dict[str, Any]:
    """Return a JSON object that has at least these keys. Raises UserError if the file holds anything else."""
    with _reading(path, remedy) as file:
        value = json.loads(file.read().decode("utf-8"))
    if not isinstance(value, dict):
        raise damaged(path, "not a JSON object", remedy)
    if _is_deeper(value, _DEEPEST):
        raise damaged(path, "nested too deeply", remedy)
    if lacks := [key for key in keys if key not in value]:
        raise damaged(path, f"without {', '.join(lacks)}", remedy)
    return value


def checked(
    kind: TypeAdapter[Value],
    values: object,
    path: Path,
    remedy: str = REMEDY,
    *,
    within: str = "",
    called: Callable[[str], str] = str,
) -> Value:
    """Return values of a file as what they should be. Raises UserError that names the first key that is wrong.

    Args:
        within: The key that they are under.
        called: Takes a key's name, and returns what the file calls it.
    """
    try:
        return kind.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
    keys = [*filter(None, [within]), *map(str, first["loc"])]
    reason = "missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
    # without keys, it is several of them together that are wrong
    where = [".".join([called(keys[0]), *keys[1:]])] if keys else []
    raise damaged(path, ": ".join([*where, reason]), remedy)


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            item
            for outer in layer
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
        if not layer:
            return False
    return True


def read_arrays(
    path: Path, *names: str, optional: Collection[str] = (), remedy: str = REMEDY
) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of an .npz file by name. Raises UserError if the file or an array is missing, or damaged.

    What they would take in memory is read first: a small file may claim any size.

    Args:
        optional: The names of more arrays, which are returned if they are there.
    """
    with _reading(path, remedy) as file, ZipFile(file) as archive:
        names = (*names, *(name for name in optional if f"{name}.npy" in archive.namelist()))
        sizes = [_declared(archive, name) for name in names]
        if sum(sizes) > max(_BYTES, _TIMES * len(file.getbuffer())):
            raise ValueError(f"its arrays would take {sum(sizes) / 1e9:.1f} GB")
        return {name: _read_array(archive, name) for name in names}


def _declared(archive: ZipFile, name: str) -> int:
    """Return the bytes of an array, by its header."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name}: an array of version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{name}: no plain array")
    return math.prod(shape) * dtype.itemsize


def _read_array(archive: ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        # at its end the archive compares the checksum
        if member.read(1):
            raise ValueError(f"{name}: longer than it says")
    return array


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an .npz file; the same arrays are the same bytes, since numpy dates what it zips 1980."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_table(
    path: Path, *columns: str, numbers: Collection[str] = (), names: Collection[str] = (), remedy: str = REMEDY
) -> pd.DataFrame:
    """Return a CSV file that has at least these columns, under their names of today. Raises UserError otherwise.

    Args:
        numbers: The columns of which every cell is a number, or empty.
        names: The columns of text as it stands, in which 1 or NA is a name and no cell is empty; old names too.
    """
    with _reading(path, remedy) as file:
        read = pd.read_csv(file, low_memory=False)
        if names:
            file.seek(0)
            exact = pd.read_csv(file, usecols=lambda name: name in names, dtype=str, keep_default_na=False)
            read = read.assign(**{str(name): exact[name].fillna("") for name in exact})
        table = _each_text(upgrade_table(read), csv_value)
    if lacks := [column for column in columns if column not in table]:
        raise damaged(path, f"without {', '.join(lacks)}", remedy)
    if texts := [name for name in numbers if not (table[name].isna().all() or is_numeric_dtype(table[name]))]:
        raise damaged(path, f"{texts[0]}: not all numbers", remedy)
    if empty := [name for name in names if name in table and (table[name] == "").any()]:
        raise damaged(path, f"{empty[0]}: missing", remedy)
    return table


def write_table(path: Path, table: pd.DataFrame, **options: Any) -> None:
    """Write a CSV file, of which no cell is a formula to a spreadsheet."""
    with whole_file(path) as temporary:
        _each_text(table, csv_cell).to_csv(temporary, index=False, lineterminator="\n", **options)


def _each_text(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """Return a table with its columns of text changed, cell by cell."""
    texts = [name for name in table if not is_numeric_dtype(table[name])]
    return table.assign(**{str(name): table[name].map(change) for name in texts}) if texts else table


def write_text(path: Path, text: str) -> None:
    """Write a file of text, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8")
