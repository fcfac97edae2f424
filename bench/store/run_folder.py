"""One run on disk."""

import os
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError

from bench.disk import partial_path, write_json
from bench.errors import UserError, one_line
from bench.protocol.spec import RunSpec
from bench.store.files import File, damaged, read_arrays, read_json, read_table, write_arrays, write_table
from bench.store.format1 import is_format1, upgrade_run
from bench.store.record import FORMAT, RunRecord

__all__ = ["RunFolder"]

_REMEDY = "remove the folder and run the suite again"
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
    def has_filters(self) -> bool:
        return self.filters_table.is_file()

    def record(self) -> RunRecord:
        """Return the finished run. Raises UserError if it is not finished, damaged, or written by a later version."""
        if not self.is_finished:
            raise UserError(f"{self.path}: no finished run (no run.json); give a run folder, such as runs/SUITE/RUN")
        values = read_json(self.record_file, remedy=_REMEDY)
        try:
            if is_format1(values):
                values = upgrade_run(values)
            elif (number := values["format"]) > FORMAT:
                reads = f"format {number}, this version reads up to {FORMAT}; use the version that wrote it"
                raise UserError(f"{self.record_file}: {reads}")
            return RunRecord.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = f"{type(error).__name__}: {one_line(error)}"
        raise damaged(self.record_file, reason, _REMEDY)

    def failure(self) -> dict[str, Any]:
        """Return spec, error and traceback of a run that failed."""
        return read_json(self.failure_file, "spec", "error")

    def scores(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return each eval clip's scores. Raises UserError if they are missing, damaged, or not of this shape."""
        scores: npt.NDArray[np.float32] = read_arrays(self.scores_file, "scores", remedy=_REMEDY)["scores"]
        if scores.shape != shape:
            raise damaged(self.scores_file, f"scores of shape {scores.shape}, but labels.npz has {shape}", _REMEDY)
        return scores

    def history(self) -> pd.DataFrame:
        """Return a line an evaluation on val: step, learning_rate, loss, val_score, seconds."""
        return read_table(self.history_file, "step", "val_score", remedy=_REMEDY)

    def write(self, record: RunRecord, history: pd.DataFrame, scores: npt.NDArray[np.float32], weights: bytes) -> None:
        """Write a finished run, run.json last, and remove what it no longer needs."""
        write_table(self.history_file, history)
        write_arrays(self.scores_file, {"scores": scores})
        self.weights_file.write_bytes(weights)
        write_json(self.record_file, record.model_dump(mode="json"))
        self.clean_up()

    def write_source(self, text: bytes) -> None:
        """Keep the text of the file that the architecture is from."""
        temporary = partial_path(self.source_file)
        temporary.write_bytes(text)
        os.replace(temporary, self.source_file)

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
