"""What may be said of a suite, from Python as on the command line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

from pydantic import Field

from bench.api.console import shown
from bench.api.plugins import Paths, paths_of
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.runner.display import Display
from bench.runner.provenance import as_recorded
from bench.schema import Strict, validated
from bench.suites.plan import Selection
from bench.suites.space import Budget
from bench.suites.suite import Suite

__all__ = ["Options", "RunOptions", "results_folder"]

# of a smoke run
_QUICK = {"max_steps": 5, "evaluations": 1}
_QUICK_TRIALS = 2


class RunOptions(TypedDict, total=False):
    """Keyword arguments of `run`, `cost` and `search`: the options of `bench run`, with its defaults.

    Tracking is off unless it is asked for.
    """

    data: Paths
    """Packs, one for each sample rate that the suite needs; `demo` is the generated data set."""
    out: str | Path | None
    """The results folder; None is runs/SUITE."""
    only: str | Sequence[str]
    """Entries or architectures; empty takes all."""
    seeds: int | None
    """How many; None is the suite's number."""
    overrides: Mapping[str, Any]
    """Fields of the recipe, for all: {"max_steps": 300}."""
    device: str
    """"cpu", "cuda", "cuda:1", ..., or "auto": a GPU where there is one."""
    plugins: Paths
    """Python files with architectures or tasks."""
    quick: bool
    """A smoke run of 5 steps and one seed, in a folder of its own."""
    mixed: bool
    """Compare runs of different code all the same."""
    restart: bool
    """Begin anew where other code left a checkpoint, which is kept."""
    track: bool
    """Copy the results to MLflow."""
    trials: int | None
    """Of a search: finished trials for each entry; None is the suite's budget."""
    hours: float | None
    """Of a search: hours of compute for each entry, instead of trials."""
    storage: str | None
    """Of a search: the URL of a database; None is a file in the results folder."""
    heartbeat: int
    """Of a search, in seconds; a worker that is silent for three is dead."""
    dry_run: bool
    """Say what would run and what is finished; train and measure nothing."""
    display: Display | None
    """What shows progress; Display() is silent."""


def results_folder(folder: Path) -> Path:
    """Return a folder that results may be kept in, which need not exist. Raises UserError if it can't be one."""
    above = next(path for path in (folder, *folder.parents) if os.path.lexists(path) or path == path.parent)
    if not above.is_dir():
        raise UserError(f"{folder}: is no folder, and results need one: choose another --out")
    return folder


class _Numbers(Strict):
    seeds: Annotated[int, Field(gt=0)] | None = None
    heartbeat: Annotated[int, Field(gt=0, le=86_400)] = 10


@dataclass(frozen=True)
class Options:
    """RunOptions, checked, with defaults."""

    data: Sequence[Path] = ()
    out: Path | None = None
    only: Sequence[str] = ()
    seeds: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    plugins: Sequence[Path] = ()
    quick: bool = False
    mixed: bool = False
    restart: bool = False
    track: bool = False
    trials: int | None = None
    hours: float | None = None
    storage: str | None = None
    heartbeat: int = 10
    dry_run: bool = False
    display: Display = field(default_factory=lambda: shown(None))

    @classmethod
    def of(cls, given: RunOptions) -> "Options":
        """Return options as they were given: a single path or name is as good as a list of one. Raises UserError."""
        values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        for key in ("data", "plugins"):
            values[key] = paths_of(values.get(key, ()))
        if isinstance(values.get("only"), str):
            values["only"] = [values["only"]]
        if "out" in values:
            values["out"] = Path(values["out"])
        validated(_Numbers, {key: values[key] for key in _Numbers.model_fields.keys() & values.keys()}, "options")
        validated(Recipe, values.get("overrides", {}), "overrides")
        return cls(**values)

    @staticmethod
    def written(function: str, suite: str, given: RunOptions) -> str:
        """Return a call as Python, for the record."""
        values = {key: value for key, value in given.items() if key != "display" and value not in (None, False, [])}
        for key in {"data", "plugins", "out"} & values.keys():
            paths = [str(path) for path in paths_of(cast(Paths, values[key]))]
            values[key] = paths[0] if key == "out" else paths
        if "storage" in values:
            values["storage"] = as_recorded(str(values["storage"]), quote=str)
        return f"bench.{function}({', '.join([repr(suite), *(f'{key}={value!r}' for key, value in values.items())])})"

    @property
    def selection(self) -> Selection:
        """What the options take of a suite, and what they set otherwise."""
        if not self.quick:
            return Selection(self.only, self.seeds, self.overrides)
        return Selection(self.only, self.seeds or 1, {**_QUICK, **self.overrides})

    def folder(self, suite: str) -> Path:
        """Return the results folder of a suite. Raises UserError if it can't be one."""
        name = Path(suite).stem
        if not self.out and name.strip(".") == "":
            raise UserError(f"can't call a folder after {suite}: give --out")
        return results_folder(self.out or Path("runs") / f"{name}{'-quick' if self.quick else ''}")

    def budget(self, suite: Suite) -> Budget | None:
        """Return what each search may spend, None where there is none. Raises UserError for too many or no budgets."""
        given = {"trials": self.trials, "hours": self.hours}
        if not suite.space:
            if any(value is not None for value in given.values()):
                raise UserError(f"--trials and --hours: suite {suite.title!r} has no [space] to search")
            return None
        if None not in given.values():
            raise UserError("give either --trials or --hours, not both")
        if any(value is not None for value in given.values()):
            return validated(Budget, given, "--trials, --hours")
        if self.quick:
            return Budget(trials=_QUICK_TRIALS)
        if suite.budget is None:
            raise UserError(f"suite {suite.title!r} has no [budget]: give --trials N or --hours H")
        return suite.budget
