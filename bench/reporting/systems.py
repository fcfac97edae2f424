"""A results folder as rows: runs that differ in nothing but the seed."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import UserError
from bench.stats.bootstrap import Bools, Floats

Run = dict[str, Any]  # run.json, and under "folder" where it stands
Search = dict[str, Any]  # search.json


@dataclass(frozen=True)
class Row:
    """All seeds of one architecture under one recipe."""

    label: str
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return str(self.first["spec"]["name"])

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def base(self) -> str:
        """The name of the row that this one is to be compared with; '' if it is no ablation."""
        return str(self.first["spec"].get("base", ""))

    @property
    def settings(self) -> dict[str, Any]:
        """All fields of recipe (as train.FIELD) and config."""
        spec = self.first["spec"]
        return {f"train.{k}": v for k, v in spec["recipe"].items()} | dict(spec["config"])

    @property
    def published(self) -> dict[str, Any] | None:
        """Of the architecture as it was published, so not of an ablation of it."""
        published: dict[str, Any] | None = self.first["published"]
        return None if self.first["spec"].get("base") else published

    def values(self, table: str, key: str) -> list[float]:
        return [run[table][key] for run in self.runs]

    def mean(self, table: str, key: str) -> float:
        return fmean(self.values(table, key))

    def spread(self, table: str, key: str) -> float | None:
        """Standard deviation over seeds, with n - 1; None for a single one."""
        return stdev(values) if len(values := self.values(table, key)) > 1 else None

    def scores(self) -> list[Floats]:
        """Of each seed, (clips, k). Raises UserError for a missing or damaged file."""
        return [_arrays(run["folder"] / "scores.npz", "scores")["scores"] for run in self.runs]

    def histories(self) -> list[pd.DataFrame]:
        """Of each seed, a line an evaluation: update, learning_rate, loss, val_map, seconds."""
        return [pd.read_csv(run["folder"] / "history.csv") for run in self.runs]


@dataclass(frozen=True)
class Labels:
    """labels.npz: the eval split as a report needs it."""

    dataset: str
    clips: list[str]
    groups: list[str]  # '' where it is not known
    classes: list[str]
    leaf: Bools
    targets: Bools  # (clips, k)
    train_counts: npt.NDArray[np.int64]

    @property
    def is_fsd50k(self) -> bool:
        return self.targets.shape == (10_231, 200)


@dataclass(frozen=True)
class Results:
    folder: Path
    title: str
    rows: tuple[Row, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]  # planned, neither finished nor failed
    mixed: tuple[str, ...]  # why these runs should not be compared; empty where they may

    @cached_property
    def labels(self) -> Labels:
        return load_labels(self.folder)

    @cached_property
    def chance_map(self) -> float:
        return float(self.rows[0].first["chance_map"])

    @cached_property
    def search(self) -> Search | None:
        return load_search(self.folder)

    @property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.runs]


def load_results(folder: Path, *, mixed: bool = False) -> Results:
    """Read every finished run of a folder.

    Raises:
        UserError: there is none, one is damaged, or (without `mixed`) they are of different data or code.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `bench run` makes one")
    runs = [load_run(path.parent) for path in sorted(folder.glob("*/run.json"))]
    if not runs:
        raise UserError(f"{folder}: no finished run in it; `bench run` makes them")
    declared = _read(folder / "suite.json", "title", "planned") if (folder / "suite.json").exists() else {}
    title, planned = declared.get("title", folder.name), declared.get("planned", [])
    failed = tuple(path.parent.name for path in sorted(folder.glob("*/failed.json")))
    done = {path.parent.name for path in folder.glob("*/run.json")} | set(failed)
    missing = tuple(name for name in planned if name not in done)
    rows = _group(runs, planned)
    reasons = different_origins(rows)
    if reasons and not mixed:
        raise UserError(
            f"{folder}: not compared: {'; '.join(reasons)}. Remove the older runs' folders and run the suite again, "
            "or say --mixed to compare them all the same"
        )
    return Results(folder, title, rows, failed, missing, reasons)


def load_run(folder: Path) -> Run:
    """A finished run. Raises UserError if it is damaged."""
    return _read(folder / "run.json", "spec", "metrics", "cost", "data", "provenance") | {"folder": folder}


def load_search(folder: Path) -> Search | None:
    """What the searches of a results folder found; None where there were none. Raises UserError if it is damaged."""
    path = folder / "search.json"
    return _read(path, "title", "budget", "space", "rows") if path.is_file() else None


def load_labels(folder: Path) -> Labels:
    """Of a results folder. Raises UserError if the file is missing or damaged."""
    arrays = _arrays(folder / "labels.npz", "dataset", "clips", "groups", "classes", "leaf", "targets", "train_counts")
    clips, groups, classes = ([str(value) for value in arrays[name]] for name in ("clips", "groups", "classes"))
    leaf, targets, counts = arrays["leaf"], arrays["targets"], arrays["train_counts"]
    return Labels(str(arrays["dataset"]), clips, groups, classes, leaf, targets, counts)


def different_origins(rows: Sequence[Row]) -> tuple[str, ...]:
    """Why the numbers of these rows do not belong side by side."""
    reasons = _differing("different data", rows, lambda run: run["data"]["dataset"])
    reasons += _differing("different training or evaluation code", rows, _referee)
    for row in rows:
        reasons += _differing(f"different code of {row.label}", [row], _contestant)
    return tuple(reasons)


def _referee(run: Run) -> str:
    return str(run["provenance"]["source"]["referee"])


def _contestant(run: Run) -> str:
    return str(run["provenance"]["source"]["contestant"])


def _differing(what: str, rows: Sequence[Row], of: Callable[[Run], str]) -> list[str]:
    """One example each of what the runs differ in."""
    examples: dict[str, str] = {}
    for row in rows:
        for run in row.runs:
            examples.setdefault(of(run), run["folder"].name)
    if len(examples) < 2:
        return []
    return [f"{what}: " + ", ".join(f"{name} ({value[:8]})" for value, name in examples.items())]


def _arrays(path: Path, *names: str) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise UserError(f"{path}: missing; remove the run's folder and run the suite again") from None
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: damaged ({error}); remove it and run the suite again") from None


def _read(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object with at least these keys. Raises UserError for anything else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); remove it and run the suite again") from None
    if not isinstance(value, dict) or not all(isinstance(value.get(key), dict | list | str) for key in keys):
        raise UserError(f"{path}: damaged (not an object with {', '.join(keys)}); remove it and run the suite again")
    return value


def _group(runs: list[Run], planned: list[str]) -> tuple[Row, ...]:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        spec = {k: v for k, v in run["spec"].items() if k not in ("seed", "inferred", "base", "question")}
        groups[json.dumps(spec, sort_keys=True)].append(run)
    same_name: dict[str, list[list[Run]]] = defaultdict(list)
    for group in groups.values():
        same_name[group[0]["spec"]["name"]].append(sorted(group, key=lambda run: run["spec"]["seed"]))
    rows = [
        Row(label, tuple(g)) for name, gs in same_name.items() for label, g in zip(_labels(name, gs), gs, strict=True)
    ]
    return tuple(sorted(rows, key=_order(planned)))


def _labels(name: str, groups: list[list[Run]]) -> list[str]:
    """The name, and where several rows have the same one, what they differ in."""
    flat = [_flat(group[0]["spec"]) for group in groups]
    differing = [key for key in flat[0] if len({json.dumps(f.get(key)) for f in flat}) > 1]
    return [f"{name} ({', '.join(f'{key}={f.get(key)}' for key in differing)})" if differing else name for f in flat]


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    return (
        {f"train.{k}": v for k, v in spec["recipe"].items()}
        | dict(spec["config"])
        | {
            "pack": spec["pack"][:8],
            "source": spec.get("source", "")[:8],  # of an architecture from outside
        }
    )


def _order(planned: list[str]) -> Callable[[Row], tuple[int, str]]:
    """As the suite lists them, others behind."""
    place: dict[str, int] = {}
    for number, folder in enumerate(planned):
        place.setdefault(folder.rsplit("-s", 1)[0], number)
    return lambda row: (place.get(row.name, len(planned)), row.label)
