"""What MLflow should know of a results folder, read from its files alone. Knows neither mlflow nor torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.errors import UserError, one_line
from bench.store import ResultsFolder, RunFolder
from bench.store.files import damaged
from bench.text import hide_secrets

__all__ = ["Record", "has_records", "read_records", "readable_files"]

# of a folder's files those that say something to a reader: settings, tables, figures, the page; no arrays, no weights
_SUFFIXES = {".json", ".md", ".csv", ".tex", ".html", ".png", ".svg", ".pdf"}


@dataclass(frozen=True)
class Record:
    """A run or trial that has ended; times are seconds since 1970."""

    # of its folder; of a trial, which has no folder, search/ENTRY/NUMBER, trained anew search/ENTRY/NUMBER-sSEED
    name: str
    folder: RunFolder | None
    # run.json or failed.json, or a trial's part of trials.json; run again, its digest is another one
    content: dict[str, Any]
    digest: str
    started: float
    ended: float

    @property
    def status(self) -> str:
        """In MLflow's words."""
        if self.content.get("error"):
            return "FAILED"
        return "KILLED" if self.content.get("state") == "pruned" else "FINISHED"

    @property
    def spec(self) -> dict[str, Any]:
        return self.content["spec"]

    def params(self) -> dict[str, str]:
        """Return all settings, flat; text as it is, anything else as JSON, so that its type can be read back."""
        values = {name: self.spec[name] for name in ("architecture", "seed")}
        values |= _flat("config", self.spec["config"]) | _flat("train", self.spec["recipe"])
        return {name: _text(value) for name, value in values.items()}

    def points(self) -> Iterator[tuple[str, float, int, float]]:
        """Yield name, value, step and seconds since the start of what was measured step by step, then at the end."""
        for line in self._history():
            for name in line.keys() - {"step"}:
                yield str(name), float(line[name]), int(line["step"]), float(line.get("seconds", 0))
        measured = {"best_val_score": self.content.get("val_score")}
        for prefix, part in (("eval", "metrics"), ("cost", "cost"), ("floor", "floors")):
            measured |= _flat(prefix, self.content.get(part, {}))
        for name, value in measured.items():
            if isinstance(value, int | float):
                yield name, float(value), self.content.get("best_step", 0), self.ended - self.started

    def _history(self) -> list[dict[Any, Any]]:
        if self.folder is None:
            return list(self.content["history"])
        return self.folder.history().to_dict("records") if self.folder.history_file.is_file() else []

    def tags(self) -> dict[str, str]:
        """Return what runs are filtered by."""
        spec, data, made = self.spec, self.content.get("data", {}), self.content.get("provenance", {})
        tags = {
            "architecture": spec["architecture"],
            "task": spec.get("task"),
            "dataset": data.get("dataset"),
            "fingerprint": spec["pack"],
            **{name: made.get(name) for name in ("commit", "dirty", "command", "device")},
            **{name: self.content.get(name) for name in ("family", "hash", "study", "state", "error")},
        }
        # earlier versions kept some passwords in commands
        return {name: hide_secrets(_text(value)) for name, value in tags.items() if value is not None}


def has_records(results: ResultsFolder) -> bool:
    """Return whether a run or trial has ended in a folder."""
    return bool(results.finished() or results.failed() or results.trials())


def read_records(results: ResultsFolder) -> dict[str, Record]:
    """Return every ended run and trial by name; UserError if there is no such folder, none in it, or one is damaged."""
    finished, failed, trials = results.finished(), results.failed(), results.trials()
    if not finished and not failed and not trials:
        raise UserError(f"{results.path}: no run in it; `bench run` makes them")
    found = [_record(folder.record_file, folder.name, folder, folder.record().model_dump()) for folder in finished]
    found += [_record(folder.failure_file, folder.name, folder, folder.failure()) for folder in failed]
    for trial in trials:
        try:
            seed = f"-s{trial['spec']['seed']}" if "retrains" in trial else ""
            name = f"search/{trial['spec']['name']}/{trial.get('retrains', trial['number'])}{seed}"
        except (KeyError, TypeError):
            raise damaged(results.trials_file, "a trial without spec or number") from None
        found.append(_record(results.trials_file, name, None, trial))
    return {record.name: record for record in found}


def _record(path: Path, name: str, folder: RunFolder | None, values: dict[str, Any]) -> Record:
    """Return a record, with what makes it unfit said at once, and of which file."""
    started = ended = path.stat().st_mtime
    try:
        # a file's time is lost where it is copied
        if "date" in values.get("provenance", {}):
            started = datetime.fromisoformat(values["provenance"]["date"]).timestamp()
            ended = started + values.get("cost", {}).get("seconds", 0)
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        record = Record(name, folder, values, digest, started, ended)
        record.params(), record.tags(), list(record.points())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"{type(error).__name__}: {one_line(error)}") from None
    return record


def readable_files(folder: Path) -> list[Path]:
    """Return what is sent of a folder, as it is."""
    found = (path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES and path.is_file())
    return [path for path in found if path.name != "tracking.json"]


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings as one level of dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(f"{prefix}.{name}", value) if isinstance(value, dict) else {f"{prefix}.{name}": value}
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
