"""What the files of a pack must hold to be one, and the hashes that bind them together.

Nothing that is trained on is taken on trust: whatever differs from what packing writes is a line with file and field.
All of it but the samples is compared with the manifest's hashes whenever a pack is opened.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.data.dataset import SPLITS
from bench.errors import one_line
from bench.schema import digest

__all__ = ["FORMAT", "Damaged", "SampleFile", "check_index", "clip_hash", "content_of", "dataset_digest",
           "fingerprint_digest", "open_samples", "read_index", "read_manifest"]  # fmt: skip

# A pack of another format is refused, as its samples may mean something else.
FORMAT = 1
# Bytes of the text that a clip may have in each column of the index, on average and beside a fixed part.
_TEXT = 1024
_FIXED = 1 << 20


class Damaged(Exception):
    """A pack is not what packing wrote; the message is file, field and cause."""


class _Manifest(BaseModel):
    """Fields that decide a number, or that commands print; later versions may write more of them."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    format: Literal[1]
    sample_rate: Annotated[int, Field(ge=1000)]
    source: str
    clips: dict[Literal["train", "val", "eval"], Annotated[int, Field(ge=1)]]
    hours: dict[Literal["train", "val", "eval"], float]
    left_out: dict[str, str]
    # older packs have no such field
    left_out_count: Annotated[int, Field(ge=0)] = 0
    levels: dict[str, list[str]] = {}
    plan: str = ""
    dataset: str
    fingerprint: str
    classes: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    leaf: list[bool]


@contextmanager
def _parsing(name: str) -> Iterator[None]:
    """Raise Damaged for whatever a library raises on odd bytes; faults of the disk, which the file outlives, pass."""
    try:
        yield
    except Damaged:
        raise
    except FileNotFoundError:
        raise Damaged(f"{name} is missing") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged(f"{name}: {one_line(error) or type(error).__name__}") from None


def _require_file(path: Path) -> None:
    # to open a pipe would wait for its other end for ever
    if path.exists() and not path.is_file():
        raise Damaged(f"{path.name} is not a plain file")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return manifest.json. Raises Damaged if a field is missing or no value of its kind."""
    _require_file(path)
    with _parsing(path.name):
        values: Any = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict):
            raise Damaged(f"{path.name}: not a JSON object")
        if (found := values.get("format", FORMAT)) != FORMAT:
            raise Damaged(f"{path.name}: format {found}, this version reads {FORMAT}")
        try:
            made = _Manifest.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise Damaged(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    _require(made.clips.keys() == set(SPLITS), path.name, "clips", f"should have {', '.join(SPLITS)}")
    _require(made.hours.keys() == set(SPLITS), path.name, "hours", f"should have {', '.join(SPLITS)}")
    _require(len(set(made.classes)) == len(made.classes), path.name, "classes", "one is there twice")
    _require(len(made.leaf) == len(made.classes), path.name, "leaf", f"{len(made.leaf)} of {len(made.classes)} classes")
    return values


def _require(holds: bool, file: str, field: str, cause: str) -> None:
    if not holds:
        raise Damaged(f"{file}: {field}: {cause}")


@dataclass(frozen=True)
class SampleFile:
    """A split's array: where its `length` int16 samples begin, in bytes."""

    path: Path
    offset: int
    length: int

    def mapped(self) -> npt.NDArray[np.int16]:
        return np.memmap(self.path, np.dtype("<i2"), "r", self.offset, (self.length,))


def open_samples(path: Path) -> SampleFile:
    """Return a split's array. Raises Damaged if it is not one dimension of int16, all of it there."""
    _require_file(path)
    with _parsing(path.name), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise Damaged(f"{path.name}: version {version} of the .npy format")
        shape, _, dtype = read[version](file)
        offset, size = file.tell(), os.fstat(file.fileno()).st_size
    _require(dtype == np.dtype("<i2"), path.name, "samples", f"should be int16, are {dtype}")
    _require(len(shape) == 1, path.name, "samples", f"should have one dimension, have shape {shape}")
    length = int(shape[0])
    _require(length > 0, path.name, "samples", "none")
    _require(size == offset + 2 * length, path.name, "samples", f"{size} bytes of {offset + 2 * length}")
    return SampleFile(path, offset, length)


# of the index: what each column may be
_TYPES = {
    "clip": pa.types.is_string,
    "split": pa.types.is_string,
    "start": pa.types.is_int64,
    "length": pa.types.is_int64,
    "seconds": pa.types.is_float64,
    "labels": lambda kind: _is_list(kind) and pa.types.is_int64(kind.value_type),
    # null: of no clip it is known
    "group": lambda kind: pa.types.is_string(kind) or pa.types.is_null(kind),
}


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) else kind


def read_index(path: Path, manifest: Mapping[str, Any], samples: Mapping[str, SampleFile]) -> pa.Table:
    """Return index.parquet, a row a clip.

    Raises Damaged if a column is missing or of another type, or if it holds more than the arrays have clips for: a few
    kilobytes of Parquet may inflate to any size.
    """
    name = path.name
    _require_file(path)
    with _parsing(name):
        # read by us, so that a fault of the disk is told from one of the file
        data = pa.BufferReader(path.read_bytes())
        file = pq.ParquetFile(data)
        _check_columns(file.schema_arrow, name)
        _check_size(file, manifest, samples, name)
        texts = [field.name for field in file.schema_arrow if pa.types.is_string(_plain(field.type))]
        # texts that repeat are stored once; they stay so until it is known what they take
        table = _decoded(pq.ParquetFile(data, read_dictionary=texts).read(), name)
        table.validate(full=True)
        # without what pandas has noted for itself, which may be damaged as well
        return table.replace_schema_metadata()


def _check_columns(schema: pa.Schema, name: str) -> None:
    # older packs have no hashes
    types = _TYPES | ({"hash": pa.types.is_string} if "hash" in schema.names else {})
    for column, is_right in types.items():
        at = schema.get_field_index(column)
        _require(at >= 0, name, column, "no such column, or twice")
        _require(is_right(_plain(schema.field(at).type)), name, column, f"should not be {schema.field(at).type}")


def _check_size(
    file: pq.ParquetFile, manifest: Mapping[str, Any], samples: Mapping[str, SampleFile], name: str
) -> None:
    rows, listed = file.metadata.num_rows, sum(manifest["clips"].values())
    _require(rows == listed, name, "rows", f"{rows}, but manifest.json counts {listed} clips")
    # every clip has at least a second
    fit = sum(file.length for file in samples.values()) // manifest["sample_rate"]
    _require(rows <= fit, name, "rows", f"{rows}, but the arrays have {fit} s")
    classes = len(manifest["classes"])
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    size = sum(abs(group.total_byte_size) for group in groups)
    _require(size <= _FIXED + rows * (_TEXT + 8 * classes), name, "size", f"{size} bytes for {rows} clips")
    # decodes into a buffer of fixed size; where a column's description is damaged, to ask for it ends the process
    file.scan_contents()
    for column in (group.column(i) for group in groups for i in range(group.num_columns)):
        _require(column.num_values <= rows * classes, name, column.path_in_schema, f"{column.num_values} values")


def _decoded(table: pa.Table, name: str) -> pa.Table:
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(i)
            size = sum(pc.sum(pc.binary_length(c.dictionary).take(c.indices)).as_py() or 0 for c in column.chunks)
            _require(size <= _FIXED + len(table) * _TEXT, name, field.name, f"{size} bytes for {len(table)} clips")
            table = table.set_column(i, field.name, column.cast(field.type.value_type))
    return table


def check_index(table: pa.Table, manifest: Mapping[str, Any], samples: Mapping[str, SampleFile], name: str) -> None:
    """Raise Damaged unless each clip has a place of its own in its split's array, and labels of the classes."""
    for column in _TYPES.keys() - {"group"}:
        _require(not table.column(column).null_count, name, column, "null")
    clips, splits = (np.array(table.column(c).to_pylist(), dtype=object) for c in ("clip", "split"))
    start, length, seconds = (table.column(column).to_numpy() for column in ("start", "length", "seconds"))
    rate = manifest["sample_rate"]
    _require(bool(np.isin(splits, SPLITS).all()), name, "split", f"should be one of {', '.join(SPLITS)}")
    keys = splits + "/" + clips
    _require(len(set(keys)) == len(keys), name, "clip", "one is there twice in its split")
    # dev's recordings are in one folder
    both = set(clips[splits == "train"]) & set(clips[splits == "val"])
    _require(not both, name, "clip", f"{min(both, default='')} is in train and in val")
    for split, file in samples.items():
        of = splits == split
        _require(of.sum() == manifest["clips"][split], name, "split", f"{of.sum()} clips of {split}, not as counted")
        _check_places(keys[of], start[of], length[of], file, name)
    wrong = ~(np.abs(np.maximum(seconds * rate, rate) - length) <= 1) | ~(seconds > 0)
    _require(not wrong.any(), name, "seconds", f"of {_first(keys[wrong])} do not fit its length at {rate} Hz")
    for split, hours in manifest["hours"].items():
        real = float(seconds[splits == split].sum()) / 3600
        _require(abs(real - hours) < 1e-3, "manifest.json", f"hours.{split}", f"{hours}, but the clips have {real:.4f}")
    _check_labels(table.column("labels").combine_chunks(), keys, len(manifest["classes"]), name)


def _first(keys: npt.NDArray[Any]) -> str:
    return str(keys[0]) if len(keys) else ""


def _check_places(keys: npt.NDArray[Any], start: Any, length: Any, file: SampleFile, name: str) -> None:
    # first each by itself, so that the sums below can't overflow
    outside = (start < 0) | (start > file.length) | (length < 1) | (length > file.length)
    outside |= start + length > file.length
    _require(not outside.any(), name, "start, length", f"{_first(keys[outside])} is not within {file.path.name}")
    order = np.argsort(start, kind="stable")
    ends = (start + length)[order]
    overlaps = ends[:-1] > start[order][1:]
    _require(not overlaps.any(), name, "start, length", f"{_first(keys[order][:-1][overlaps])} overlaps the next clip")


def _check_labels(labels: pa.Array, keys: npt.NDArray[Any], classes: int, name: str) -> None:
    values = labels.flatten()
    _require(not values.null_count, name, "labels", "null")
    columns, sizes = values.to_numpy(zero_copy_only=False), pc.list_value_length(labels).to_numpy(zero_copy_only=False)
    clip = np.repeat(np.arange(len(keys)), sizes)
    outside = (columns < 0) | (columns >= classes)
    if outside.any():
        first = int(np.argmax(outside))
        _require(False, name, "labels", f"{columns[first]} of {keys[clip[first]]}; the classes are 0 to {classes - 1}")
    # packing writes each once, in order
    again = (np.diff(columns.astype(np.int64)) <= 0) & (np.diff(clip) == 0)
    if again.any():
        _require(False, name, "labels", f"not ascending in {keys[clip[int(np.argmax(again))]]}")


# --- the hashes


def clip_hash(data: bytes) -> str:
    """Return the hash of a clip's samples, of their bytes: int16, little-endian."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def content_of(index: pd.DataFrame) -> list[Any]:
    """Return key, labels and group of each clip, in the order of the index, as they are hashed."""
    groups = index["group"].astype(object).where(index["group"].notna(), None)
    keys = index["split"] + "/" + index["clip"]
    return [[k, [int(c) for c in columns], g] for k, columns, g in zip(keys, index["labels"], groups, strict=True)]


def dataset_digest(classes: Sequence[str], content: list[Any]) -> str:
    """Return the hash of clips and labels, the same for packs of one data set at other sample rates."""
    return digest([classes, content])


def fingerprint_digest(sample_rate: int, classes: Sequence[str], content: list[Any], hashes: Iterable[str]) -> str:
    """Return the hash of clips, labels and samples; of no paths, times or file formats."""
    return digest([sample_rate, classes, content, list(hashes)])
