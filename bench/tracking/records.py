"""What MLflow should know of a results folder, read from its files alone. Knows neither mlflow nor torch."""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bench.errors import UserError, one_line

# of a folder's files those that say something to a reader: settings, tables, figures, the page; no arrays, no weights
SUFFIXES = {".json", ".md", ".csv", ".tex", ".html", ".png", ".svg", ".pdf"}
IDENTITY = "tracking.json"
TRIALS = "trials.json"


class Point(NamedTuple):
    name: str
    value: float
    update: int
    seconds: float  # since the run's start


@dataclass(frozen=True)
class Record:
    """A run or trial that has ended."""

    name: str  # of its folder, from the results folder on; of a trial, search/ROW/NUMBER
    folder: Path | None  # a trial has none
    content: dict[str, Any]  # run.json or failed.json, or a trial's part of trials.json
    digest: str  # of that: run again, it is another one
    ended: float  # seconds since 1970

    @property
    def status(self) -> str:
        """In MLflow's words."""
        if self.content.get("error"):
            return "FAILED"
        return "KILLED" if self.content.get("state") == "pruned" else "FINISHED"

    @property
    def files(self) -> list[Path]:
        return readable_files(self.folder) if self.folder else []

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.content["spec"]
        return spec

    @cached_property
    def started(self) -> float:
        date = self.content.get("provenance", {}).get("date")
        return datetime.fromisoformat(date).timestamp() if date else self.ended

    def params(self) -> dict[str, str]:
        """All settings, flat; text as it is, anything else as JSON, so that its type can be read back."""
        spec = self.spec
        values = {"architecture": spec["architecture"], "seed": spec["seed"]}
        values |= flat("config", spec["config"]) | flat("train", spec["recipe"])
        return {name: _text(value) for name, value in values.items()}

    def points(self) -> Iterator[Point]:
        """What was measured on val by update, then once at the end."""
        for row in self._history():
            for name in row.keys() - {"update"}:
                yield Point(str(name), float(row[name]), int(row["update"]), float(row.get("seconds", 0)))
        measured = flat("eval", self.content.get("metrics", {})) | flat("cost", self.content.get("cost", {}))
        measured |= {"best_val_map": self.content.get("val_map"), "chance_map": self.content.get("chance_map")}
        update = self.content.get("best_update", 0)
        for name, value in measured.items():
            if isinstance(value, int | float):
                yield Point(name, float(value), update, self.ended - self.started)

    def _history(self) -> list[dict[Any, Any]]:
        if self.folder is None:
            return list(self.content["history"])
        path = self.folder / "history.csv"
        return pd.read_csv(path).to_dict("records") if path.is_file() else []

    def tags(self) -> dict[str, str]:
        spec, data, made = self.spec, self.content.get("data", {}), self.content.get("provenance", {})
        tags = {
            "architecture": spec["architecture"],
            "family": self.content.get("family"),
            "hash": self.content.get("hash"),
            "dataset": data.get("dataset"),
            "fingerprint": spec["pack"],
            **{name: made.get(name) for name in ("commit", "dirty", "command", "device")},
            **{name: self.content.get(name) for name in ("study", "state", "error")},
        }
        return {name: _text(value) for name, value in tags.items() if value is not None}


def read_records(folder: Path) -> dict[str, Record]:
    """Every run and trial below a results folder that has finished or failed, by name.

    Raises:
        UserError: there is no such folder, none in it, or one is damaged.
    """
    paths = {path.parent: path for name in ("failed.json", "run.json") for path in sorted(folder.rglob(name))}
    if not paths and not (folder / TRIALS).exists():
        raise UserError(f"{folder}: no run in it; `bench run` makes them")
    runs = [
        _record(path, path.parent.relative_to(folder).as_posix(), path.parent, read_object(path, "spec"))
        for path in paths.values()
    ]
    return {record.name: record for record in [*runs, *_read_trials(folder / TRIALS)]}


def _read_trials(path: Path) -> Iterator[Record]:
    if not path.exists():
        return
    for values in read_object(path, "trials")["trials"]:
        try:
            name = f"search/{values['spec']['name']}/{values['number']}"
        except (KeyError, TypeError):
            raise UserError(f"{path}: damaged (a trial without spec or number); run the search again") from None
        yield _record(path, name, None, values)


def _record(path: Path, name: str, folder: Path | None, values: dict[str, Any]) -> Record:
    """A record, with what makes it unfit said at once, and of which file."""
    ended = path.stat().st_mtime
    try:
        if "date" in values.get("provenance", {}):  # a file's time is lost where it is copied
            took = values.get("cost", {}).get("seconds", 0)
            ended = datetime.fromisoformat(values["provenance"]["date"]).timestamp() + took
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        record = Record(name, folder, values, digest, ended)
        record.params(), record.tags(), list(record.points())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{path}: damaged ({what}); remove it and run the suite again") from None
    return record


def read_object(path: Path, key: str) -> dict[str, Any]:
    """A JSON object that holds `key`. Raises UserError for anything else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); remove it and run the suite again") from None
    if not isinstance(value, dict) or key not in value:
        raise UserError(f"{path}: damaged (no object with {key}); remove it and run the suite again")
    return value


def identity(folder: Path) -> str:
    """What a results folder is known by, wherever it is moved to: drawn once, kept in tracking.json."""
    path = folder / IDENTITY
    if not path.exists():
        path.write_text(json.dumps({"suite": uuid.uuid4().hex}) + "\n", "utf-8")
    return str(read_object(path, "suite")["suite"])


def readable_files(folder: Path) -> list[Path]:
    """What is sent of a folder, as it is."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES and path.name != IDENTITY]


def files_digest(paths: Sequence[Path]) -> str:
    """Of names and contents."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as one level of dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(f"{prefix}.{name}", value) if isinstance(value, dict) else {f"{prefix}.{name}": value}
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
