"""A suite's results on disk."""

import glob
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, TypeAdapter
from typing_extensions import TypedDict

from bench.data.pack import Pack
from bench.disk import write_json
from bench.errors import UserError
from bench.locks import hold, say
from bench.protocol.spec import RunSpec
from bench.protocol.task import Task
from bench.store.contrasts import PlannedContrast, read_contrasts
from bench.store.files import File, checked, damaged, read_json, read_table, write_table
from bench.store.format1 import is_format1, upgrade_search, upgrade_trial
from bench.store.labels import Labels
from bench.store.record import FORMAT
from bench.store.run_folder import RunFolder
from bench.store.search_record import SEARCH

__all__ = ["SEARCH_REMEDY", "Plan", "ResultsFolder"]

SEARCH_REMEDY = "restore it from a copy, or move it away and run the search again"


def _folder_name(name: str) -> str:
    """Refuse what would name another place than a folder in the results folder."""
    if name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        raise ValueError(f"{name!r} is no name of a run's folder")
    return name


class _PlanFile(TypedDict):
    title: str
    planned: list[Annotated[str, AfterValidator(_folder_name)]]


_PLAN = TypeAdapter(_PlanFile)
_GRID = TypeAdapter(dict[str, list[Any]])
_NAMES = TypeAdapter(dict[str, str])
_TRIALS = TypeAdapter(list[dict[str, Any]])


@dataclass(frozen=True)
class Plan:
    """suite.json: what a report should find in the folder."""

    title: str
    planned: tuple[str, ...] = ()
    # what the suite asks of all its entries together
    contrasts: tuple[PlannedContrast, ...] = ()
    # fields and the values of each that it crosses over its entries
    grid: Mapping[str, list[Any]] = field(default_factory=dict)
    # digest of a data set to its name, as packs have it
    sources: Mapping[str, str] = field(default_factory=dict)
    # entry to its theme, of those that have one
    themes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultsFolder:
    """The results of a suite: runs, labels of the eval split, plan, searches and reports."""

    path: Path

    labels_file = File("labels.npz")
    plan_file = File("suite.json")
    # what the searches came to, a line a trial, and all of each trial with its learning curve
    search_file = File("search.json")
    trials_table = File("trials.csv")
    trials_file = File("trials.json")
    # the best recipes as a suite; Optuna's studies, where no other storage is named
    best_suite = File("best.toml")
    search_database = File("search.db")
    # if `bench generate` was called with a pack: the real sound, as those in runs' folders; and what a tagger hears in
    # each, a line a class
    sound_file = File("real.wav")
    sound_figure = File("real.png")
    sound_record = File("real.json")
    heard_table = File("generated.csv")
    # what inputs of several lengths cost
    growth_table = File("growth.csv")
    # the whole report in one file
    page = File("index.html")
    # what MLflow knows the folder by
    identity_file = File("tracking.json")
    # what a process says that sends the folder there by itself, while it does, and if it fails
    tracking_log = File("tracking.log")

    # --- runs

    def within(self, name: str) -> "ResultsFolder":
        """Return the results of pre-trainings, which have another task: they lie within these."""
        return ResultsFolder(self.path / name)

    def run(self, spec: RunSpec) -> RunFolder:
        """Return the folder of a run, whether it exists or not; where it does not, format 1 may have the same run."""
        folder = RunFolder(self.path / spec.folder)
        if not folder.is_finished:
            # hashes changed with format 2
            for other in self._of_format1(spec):
                if other.is_finished and other.record().spec.hash == spec.hash:
                    return other
        return folder

    def unfinished_of_format1(self, spec: RunSpec) -> list[RunFolder]:
        """Return folders in which the entry and seed of a run were trained before format 2, and not to the end."""
        return [run for run in self._of_format1(spec) if run.checkpoint_file.is_file() and not run.is_finished]

    def _of_format1(self, spec: RunSpec) -> Iterator[RunFolder]:
        for path in sorted(self.path.glob(f"{glob.escape(spec.name)}-s{spec.seed}-????????")):
            folder = RunFolder(path)
            if path.name != spec.folder and (not folder.is_finished or folder.is_of_format1):
                yield folder

    def finished(self) -> list[RunFolder]:
        """Return all finished runs, by name."""
        return [RunFolder(path.parent) for path in sorted(self.path.glob("*/run.json"))]

    def failed(self) -> list[RunFolder]:
        """Return the runs that failed and were not done again since, of those planned where there is a plan."""
        folders = [RunFolder(path.parent) for path in sorted(self.path.glob("*/failed.json"))]
        planned = self.plan().planned if self.plan_file.exists() else None
        return [folder for folder in folders if folder.is_failed and (planned is None or folder.name in planned)]

    def find(self, name: str, *, finished: bool = True) -> RunFolder:
        """Return the one run whose folder's name begins like this: crnn-s0, or crnn. Raises UserError.

        Args:
            finished: whether only finished runs are looked at.
        """
        folders = [RunFolder(path) for path in sorted(self.path.glob(f"{glob.escape(name)}-*"))]
        found = [folder for folder in folders if (folder.is_finished if finished else folder.is_run)]
        if not found:
            what = "no finished run" if finished else "no run"
            raise UserError(f"{self.path / name}: {what}; give a run folder, such as runs/SUITE/RUN")
        if len(found) > 1:
            known = ", ".join(folder.name for folder in found[:5]) + (", ..." if len(found) > 5 else "")
            raise UserError(f"{self.path / name}: {len(found)} runs begin like this; name one of {known}")
        return found[0]

    # --- labels of the eval split, and the plan

    def labels(self) -> Labels:
        """Return what the runs were scored against. Raises UserError if the file is missing or damaged."""
        return Labels.read(self.labels_file)

    def add_labels(self, pack: Pack, task: Task) -> None:
        """Write labels.npz, once. Raises UserError if there is one of other data, or of another question about them."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock("labels"):
            if not self.labels_file.exists():
                Labels.of(pack, task).write(self.labels_file)
        self.check_labels(pack, task)

    def check_labels(self, pack: Pack, task: Task) -> None:
        """Raise UserError if there is a labels.npz of other data, or of another question about them."""
        if not self.labels_file.exists():
            return
        labels, asked = self.labels(), task.judged_on()
        if labels.dataset != pack.dataset:
            raise UserError(f"{self.path} holds runs on other data: choose another --out")
        for name in sorted(labels.judged_on.keys() | asked.keys()):
            if (before := labels.judged_on.get(name)) != (now := asked.get(name)):
                raise UserError(
                    f"{self.path} holds runs that are judged on {name}={before!r}, not {now!r}, so that nothing "
                    "compares them: choose another --out"
                )

    def plan(self) -> Plan:
        """Return what is planned; of a folder without suite.json that is its name and nothing."""
        if not self.plan_file.exists():
            return Plan(self.path.name)
        values = read_json(self.plan_file)
        plan = checked(_PLAN, values, self.plan_file)
        # older plans have none of these
        contrasts = read_contrasts(values.get("contrasts", []), self.plan_file)
        grid = checked(_GRID, values.get("grid", {}), self.plan_file, within="grid")
        sources, themes = (
            checked(_NAMES, values.get(key, {}), self.plan_file, within=key) for key in ("sources", "themes")
        )
        return Plan(plan["title"], tuple(plan["planned"]), contrasts, grid, sources, themes)

    def add_to_plan(
        self,
        title: str,
        planned: Sequence[str],
        contrasts: Sequence[PlannedContrast] = (),
        grid: Mapping[str, list[Any]] | None = None,
        *,
        sources: Mapping[str, str] | None = None,
        themes: Mapping[str, str] | None = None,
    ) -> None:
        """Add to what earlier commands planned here.

        Of contrasts of one name the last counts, and so of an entry's theme and of a data set's name. A grid over the
        same fields as before adds its values to theirs; over others it takes the place of that one.
        """
        with self.lock("suite"):
            before = self.plan()
            runs = tuple(dict.fromkeys([*before.planned, *planned]))
            by_name = {contrast.name: contrast for contrast in [*before.contrasts, *contrasts]}
            named = (dict(before.sources) | dict(sources or {}), dict(before.themes) | dict(themes or {}))
            self._write_plan(Plan(title, runs, tuple(by_name.values()), _joined(before.grid, grid or {}), *named))

    def unfinished(self) -> list[str]:
        """Return the names of planned runs that are not finished, failed ones included."""
        return [name for name in self.plan().planned if not RunFolder(self.path / name).is_finished]

    def forget(self, names: Collection[str]) -> None:
        """Take runs off the plan; what is in their folders stays."""
        with self.lock("suite"):
            plan = self.plan()
            self._write_plan(replace(plan, planned=tuple(name for name in plan.planned if name not in names)))

    def _write_plan(self, plan: Plan) -> None:
        contrasts = [contrast.record() for contrast in plan.contrasts]
        values = {"format": FORMAT, "title": plan.title, "planned": list(plan.planned), "contrasts": contrasts}
        named = {"grid": {**plan.grid}, "sources": {**plan.sources}, "themes": {**plan.themes}}
        write_json(self.plan_file, values | named)

    # --- searches

    def search(self) -> dict[str, Any] | None:
        """Return what the searches came to; None where there were none."""
        if not self.search_file.is_file():
            return None
        values = read_json(self.search_file, remedy=SEARCH_REMEDY)
        if is_format1(values):
            values = upgrade_search(values)
        return dict(checked(SEARCH, values, self.search_file, SEARCH_REMEDY))

    def trials(self) -> list[dict[str, Any]]:
        """Return all trials that a search was spent on, as run.json tells of a run."""
        if not self.trials_file.exists():
            return []
        values = read_json(self.trials_file, remedy=SEARCH_REMEDY)
        trials = checked(_TRIALS, values.get("trials"), self.trials_file, SEARCH_REMEDY, within="trials")
        if not is_format1(values):
            return trials
        try:
            return [upgrade_trial(trial) for trial in trials]
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(self.trials_file, f"a trial without {error}", SEARCH_REMEDY) from None

    def trial_lines(self) -> pd.DataFrame:
        """Return a line a trial."""
        numbers = ("trial", "val_score", "best_seen", "spent_seconds")
        columns = ("entry", "state", "default", *numbers)
        # `row` in format 1
        names = ("entry", "row")
        return read_table(self.trials_table, *columns, numbers=numbers, names=names, remedy=SEARCH_REMEDY)

    def write_search(self, search: dict[str, Any], lines: pd.DataFrame, trials: list[dict[str, Any]]) -> None:
        """Write the record of the searches; two workers may share a folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock("search"):
            write_table(self.trials_table, lines)
            write_json(self.trials_file, {"format": FORMAT, "trials": trials})
            write_json(self.search_file, {"format": FORMAT, **search})

    # --- reports and tracking

    def report_file(self, name: str) -> Path:
        """Return where a table or figure of the report lies: table.md, differences.csv, map_vs_parameters."""
        return self.path / name

    def identity(self) -> str:
        """Return what the folder is known by, wherever it is moved to: drawn once, kept in tracking.json."""
        with self.lock("identity"):
            if not self.identity_file.exists():
                write_json(self.identity_file, {"suite": uuid.uuid4().hex})
        return str(read_json(self.identity_file, "suite", remedy="remove it, and all is sent anew")["suite"])

    def lock(self, name: str, notice: Callable[[str], None] = say) -> AbstractContextManager[bool]:
        """Return a lock that other processes respect, by what is done: 'suite', 'search', 'report' or 'tracking'."""
        return hold(self.path / name, "being worked on", notice)


def _joined(before: Mapping[str, list[Any]], grid: Mapping[str, list[Any]]) -> Mapping[str, list[Any]]:
    if grid.keys() != before.keys():
        return grid or before
    return {name: [*old, *(value for value in grid[name] if value not in old)] for name, old in before.items()}
