"""One run on disk."""

import hashlib
import json
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_numeric_dtype
from pydantic import BaseModel, TypeAdapter

from bench.disk import write_bytes, write_json
from bench.errors import UserError, one_line
from bench.protocol.spec import RunSpec
from bench.schema import LATER, Strict
from bench.store.files import File, checked, damaged, read_arrays, read_json, read_table, write_arrays, write_table
from bench.store.format1 import is_format1, name_of_format1, upgrade_run
from bench.store.record import FORMAT, RunRecord

__all__ = ["RunFolder", "digest_of_scores"]

_REMEDY = "restore it from a copy, or move the run's folder away and run the suite again"
_SCORES = "restore it from a copy; it has to be the one that the run wrote"
# the first format that has a number
_FIRST = 2
# what older runs lack, beside the fields that are marked as later
_LATER = {"scores", "second_hand", "inferred", "base", "question"}
_RECORD = TypeAdapter(RunRecord)
# JSON may hold these, and no hash can be made of them
_SURROGATE = re.compile("[\ud800-\udfff]")
# ENTRY-sSEED-HASH
_NAME = re.compile(r".+-s\d+-[0-9a-f]{8}")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, SUITE/ENTRY-sSEED-HASH: no result without its run.json, written last and atomically."""

    path: Path

    # settings, metrics, cost, provenance; or why the run failed
    record_file = File("run.json")
    failure_file = File("failed.json")
    # a line an evaluation on val, each eval clip's scores, and the weights that were kept, which git leaves out
    history_file = File("history.csv")
    scores_file = File("scores.npz")
    weights_file = File("model.safetensors")
    # all that training needs to resume, while it is not finished
    checkpoint_file = File("checkpoint.pt")
    # of an architecture from a file of the user's: its text, which is run only where it is named (--plugin)
    source_file = File("source.py")
    # if `bench filters` was called: a line a filter of the first layer, their responses, and figures (no suffix here)
    filters_table = File("filters.csv")
    filters_arrays = File("filters.npz")
    filters_figure = File("filters")
    # if `bench attention` was called: a line a block and head, and figures (no suffix here)
    attention_table = File("attention.csv")
    attention_figure = File("attention")
    # if `bench generate` was called: the sound, its spectrogram, how it was made and what a tagger hears in it
    sound_file = File("generated.wav")
    sound_figure = File("generated.png")
    sound_record = File("generated.json")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_finished(self) -> bool:
        return self.record_file.is_file()

    @property
    def is_failed(self) -> bool:
        """Whether the run failed and was not done again since."""
        return self.failure_file.is_file() and not self.is_finished

    @property
    def is_run(self) -> bool:
        """Whether this is the folder of a run, however far it is."""
        named_like_one = _NAME.fullmatch(self.path.resolve().name) is not None
        return self.path.is_dir() and (named_like_one or self.is_finished or self.is_failed)

    @property
    def is_of_format1(self) -> bool:
        """Whether a finished run was made before format 2, when hashes were others."""
        return is_format1(read_json(self.record_file, remedy=_REMEDY))

    @property
    def has_filters(self) -> bool:
        return self.filters_table.is_file()

    def record(self) -> RunRecord:
        """Return the finished run. Raises UserError if it is not finished, damaged, or written by a later version."""
        if not self.record_file.exists():
            raise UserError(f"{self.path}: no finished run (no run.json); give a run folder, such as runs/SUITE/RUN")
        values = read_json(self.record_file, remedy=_REMEDY)
        called: Callable[[str], str] = str
        # one of format 2 whose number is lost has names that format 1 had not
        if old := is_format1(values) and "val_score" not in values:
            values, called = upgrade_run(values), name_of_format1
        if type(number := values.get("format")) is not int or number < _FIRST:
            raise damaged(self.record_file, "format: missing, or no version", _REMEDY)
        if number > FORMAT:
            reads = f"format {number}, this version reads up to {FORMAT}; use the version that wrote it"
            raise UserError(f"{self.record_file}: {reads}")
        if _SURROGATE.search(json.dumps(values.get("spec"), ensure_ascii=False)):
            raise damaged(self.record_file, "spec: half of a surrogate pair, which is no character", _REMEDY)
        for name in _lacks(RunRecord, values, inner=not old):
            raise damaged(self.record_file, f"{called(name)}: missing", _REMEDY)
        return checked(_RECORD, values, self.record_file, _REMEDY, called=called)

    def failure(self) -> dict[str, Any]:
        """Return spec, error and traceback of a run that failed."""
        return read_json(self.failure_file, "spec", "error")

    def scores(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return each eval clip's scores.

        Raises UserError if they are missing, damaged, not of this shape, or not all finite.
        """
        scores: npt.NDArray[np.float32] = read_arrays(self.scores_file, "scores", remedy=_SCORES)["scores"]
        if scores.shape != shape:
            reason = f"scores of shape {scores.shape}, but labels.npz has {shape}: one of the two is of other clips"
            raise damaged(self.scores_file, reason, "restore the right one from a copy")
        if scores.dtype.newbyteorder("=") not in (np.float32, np.float64):
            raise damaged(self.scores_file, f"scores of type {scores.dtype}, not float32", _SCORES)
        if count := int(np.count_nonzero(~np.isfinite(scores))):
            raise damaged(self.scores_file, f"{count:,} of {scores.size:,} scores are not finite", _SCORES)
        return scores.astype(scores.dtype.newbyteorder("="), copy=False)

    def history(self) -> pd.DataFrame:
        """Return a line an evaluation on val: step, learning_rate, loss, val_score, seconds.

        Raises UserError if it is missing or damaged, which includes anything but numbers.
        """
        table = read_table(self.history_file, "step", "val_score", remedy=_REMEDY)
        if texts := [name for name in table if not is_numeric_dtype(table[name])]:
            raise damaged(self.history_file, f"{texts[0]}: not all numbers", _REMEDY)
        if table.empty or table["step"].isna().any():
            raise damaged(self.history_file, "step: missing", _REMEDY)
        return table

    def write_weights(self, weights: bytes) -> None:
        """Write the weights that were kept: as soon as they are trained, whatever becomes of what follows."""
        write_bytes(self.weights_file, weights)

    def write(
        self, record: RunRecord, history: pd.DataFrame, scores: npt.NDArray[np.float32], weights: bytes | None = None
    ) -> None:
        """Write a finished run, run.json last, and remove what it no longer needs; weights unless they are written."""
        write_table(self.history_file, history)
        write_arrays(self.scores_file, {"scores": scores})
        if weights is not None:
            self.write_weights(weights)
        written = record.model_copy(update={"scores": digest_of_scores(scores)})
        write_json(self.record_file, written.model_dump(mode="json"))
        self.clean_up()

    def write_source(self, text: bytes) -> None:
        """Keep the text of the file that the architecture is from."""
        write_bytes(self.source_file, text)

    def write_failure(self, spec: RunSpec, error: Exception) -> None:
        """Record why a run failed, with its traceback."""
        values = {
            "format": FORMAT,
            "spec": spec.model_dump(mode="json"),
            "error": f"{type(error).__name__}: {one_line(error)}".removesuffix(": "),
            "traceback": "".join(traceback.format_exception(error)),
        }
        write_json(self.failure_file, values)

    def clean_up(self) -> None:
        """Remove what a finished run no longer needs."""
        self.failure_file.unlink(missing_ok=True)
        self.checkpoint_file.unlink(missing_ok=True)


def digest_of_scores(scores: npt.NDArray[np.floating]) -> str:
    """Return a digest of scores (clips, k), the same however their file is packed."""
    return hashlib.sha256(np.ascontiguousarray(scores, np.float32).tobytes()).hexdigest()


def _lacks(model: type[BaseModel], values: Mapping[str, Any], *, inner: bool) -> Iterator[str]:
    """Yield the dotted names that a file lacks: a default is for who makes a record, here it would be a guess.

    Args:
        inner: Whether models within the model are looked into; those of format 1 had fewer fields.
    """
    for name, field in model.model_fields.items():
        part, value = field.annotation, values.get(name)
        if name not in values:
            if name not in _LATER and LATER not in field.metadata:
                yield name
        elif inner and isinstance(part, type) and issubclass(part, Strict) and isinstance(value, Mapping):
            yield from (f"{name}.{lacking}" for lacking in _lacks(part, value, inner=True))
