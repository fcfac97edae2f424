"""What may be said of a suite, from Python as on the command line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, cast

from pydantic import Field

from bench.api.console import shown
from bench.api.folders import results_folder
from bench.api.plugins import Paths, paths_of
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.runner.display import Display
from bench.runner.executors.jobs import MAX_JOBS
from bench.runner.provenance import as_recorded
from bench.schema import Strict, validated
from bench.suites.plan import Selection
from bench.suites.space import Budget
from bench.suites.suite import Suite

__all__ = ["Options", "RunOptions", "searched_first"]

# of a resource of a node, what Ray counts in
_SMALLEST_SHARE = 1e-4
# of a smoke run
_QUICK = {"max_steps": 5, "evaluations": 1}
_QUICK_TRIALS = 2
# by one of which a search's budget is measured
_MEASURES = ("trials", "steps", "hours")


class RunOptions(TypedDict, total=False):
    """Keyword arguments of `run`, `cost` and `search`: the options of `bench run`, with its defaults.

    Tracking is off unless it is asked for.
    """

    data: Paths
    """Packs, one for each sample rate that the suite needs; `demo` and `pitch` are generated."""
    out: str | Path | None
    """The results folder; None is runs/SUITE."""
    only: str | Sequence[str]
    """Entries or architectures; empty takes all."""
    seeds: int | None
    """How many; None is the suite's number."""
    seed: int | None
    """This seed alone, instead of several."""
    part: str | None
    """Of these runs ENTRY-sSEED, and what scores its weights; planned are all, as other calls will do the others."""
    report: bool
    """Report the results; without, that is left to `report`."""
    overrides: Mapping[str, Any]
    """Fields of the recipe, for all: {"max_steps": 300}."""
    task_settings: Mapping[str, Any]
    """Settings of the suite's task, for all entries that have none of their own: {"context": 400}."""
    jobs: int | Literal["auto"]
    """How many processes of this machine train at the same time; "auto" is one a core, or one a GPU."""
    ray: str | None
    """Train on a Ray cluster: HOST:PORT, or "auto"."""
    cpus: float | None
    """Of a node of the cluster, for each run: cores; None is 1."""
    gpus: float | None
    """The same: GPUs, or a part of one; None is none."""
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
    steps: int | None
    """Of a search: steps of training for each entry, over all trials, instead of trials."""
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


def searched_first(suite: Suite) -> str:
    """Return why no run of a suite with a search space can be named."""
    return (
        f"suite {suite.title!r} has a [space], so that recipes are searched before there are runs: "
        "`bench search --export` writes a suite of the best ones, OUT/best.toml; name that one"
    )


def _jobs(given: object) -> int | Literal["auto"]:
    """Return how many processes were asked for, also in text. Raises UserError."""
    text = str(given)
    if text == "auto":
        return "auto"
    if isinstance(given, bool) or not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_JOBS:
        raise UserError(f"--jobs {text}: give a number of processes from 1 to {MAX_JOBS}, or auto")
    return int(text)


def _check_ray(given: Mapping[str, Any]) -> None:
    """Raise UserError for options that only go with --ray, or not with it."""
    shares = [name for name in ("cpus", "gpus") if name in given]
    if "ray" not in given:
        if shares:
            raise UserError(f"--{shares[0]}: is of runs on a Ray cluster; add --ray")
        return
    if "jobs" in given:
        raise UserError("give either --jobs or --ray, not both")
    _check_address(str(given["ray"]))
    for name in shares:
        if given[name] > 1 and given[name] % 1:
            raise UserError(f"--{name} {given[name]:g}: give a part of one, or a whole number")
        if 0 < given[name] < _SMALLEST_SHARE:
            raise UserError(f"--{name} {given[name]:g}: give at least {_SMALLEST_SHARE:g}, which is what Ray counts in")
    device, kind = given.get("device", "auto"), "cuda" if given.get("gpus") else "cpu"
    if device not in ("auto", kind):
        fix = "ask for GPUs by --gpus" if kind == "cpu" else "a run's device is its part of the node's GPUs"
        raise UserError(f"--device {device}: with --ray it would be {kind}; {fix}, and leave --device out")


def _check_address(address: str) -> None:
    """Raise UserError for what is no address of a cluster."""
    if not address.strip():
        raise UserError("--ray: the address is empty: give HOST:PORT, or leave it out")
    is_one = re.fullmatch(r"(?:\[[^\s\]]+\]|[^\s:/\[]+):([0-9]{1,5})", address)
    if address != "auto" and not (is_one and 0 < int(is_one[1]) < 2**16):
        fix = ", and start the command on a node of the cluster" if "://" in address else "; a suite goes before --ray"
        raise UserError(f"--ray {address}: give HOST:PORT{fix}")


class _Numbers(Strict):
    cpus: Annotated[float, Field(gt=0, le=10_000)] | None = None
    gpus: Annotated[float, Field(ge=0, le=1_000)] | None = None
    seeds: Annotated[int, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    heartbeat: Annotated[int, Field(gt=0, le=86_400)] = 10


@dataclass(frozen=True)
class Options:
    """RunOptions, checked, with defaults."""

    data: Sequence[Path] = ()
    out: Path | None = None
    only: Sequence[str] = ()
    seeds: int | None = None
    seed: int | None = None
    part: str | None = None
    report: bool = True
    overrides: Mapping[str, Any] = field(default_factory=dict)
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    jobs: int | Literal["auto"] = 1
    ray: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    device: str = "auto"
    plugins: Sequence[Path] = ()
    quick: bool = False
    mixed: bool = False
    restart: bool = False
    track: bool = False
    trials: int | None = None
    steps: int | None = None
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
        if "jobs" in values:
            values["jobs"] = _jobs(values["jobs"])
        if "out" in values:
            values["out"] = Path(values["out"])
        validated(_Numbers, {key: values[key] for key in _Numbers.model_fields.keys() & values.keys()}, "options")
        validated(Recipe, values.get("overrides", {}), "overrides")
        _check_ray(values)
        if {"seed", "seeds"} <= values.keys():
            raise UserError("give either --seed or --seeds, not both")
        return cls(**values)

    @staticmethod
    def written(function: str, suite: str, given: RunOptions) -> str:
        """Return a call as Python, for the record: that of all runs, whichever part of them this one takes."""
        left_out = ("display", "part", "report")
        # a seed of 0 is one
        values = {
            key: value
            for key, value in given.items()
            if key not in left_out and value not in (None, []) and value is not False
        }
        for key in {"data", "plugins", "out"} & values.keys():
            paths = [str(path) for path in paths_of(cast(Paths, values[key]))]
            values[key] = paths[0] if key == "out" else paths
        if "storage" in values:
            values["storage"] = as_recorded(str(values["storage"]), quote=str)
        return f"bench.{function}({', '.join([repr(suite), *(f'{key}={value!r}' for key, value in values.items())])})"

    @property
    def selection(self) -> Selection:
        """What the options take of a suite, and what they set otherwise."""
        seeds, overrides = self.seeds, self.overrides
        if self.quick:
            seeds, overrides = seeds or 1, {**_QUICK, **overrides}
        return Selection(self.only, seeds, overrides, self.task_settings, self.seed)

    def folder(self, suite: str) -> Path:
        """Return the results folder of a suite. Raises UserError if it can't be one."""
        name = Path(suite).stem
        if not self.out and name.strip(".") == "":
            raise UserError(f"can't call a folder after {suite}: give --out")
        return results_folder(self.out or Path("runs") / f"{name}{'-quick' if self.quick else ''}")

    def budget(self, suite: Suite) -> Budget | None:
        """Return what each search may spend, None where there is none. Raises UserError for too many or no budgets."""
        given = {name: getattr(self, name) for name in _MEASURES if getattr(self, name) is not None}
        options = "--trials, --steps and --hours"
        if not suite.space:
            if given:
                raise UserError(f"{options}: suite {suite.title!r} has no [space] to search")
            return None
        if single := [name for name in ("seed", "part") if getattr(self, name) is not None]:
            raise UserError(f"--{single[0]}: {searched_first(suite)}")
        if len(given) > 1:
            raise UserError(f"give only one of {options}")
        if not given and not self.quick:
            if suite.budget is None:
                raise UserError(f"suite {suite.title!r} has no [budget]: give --trials N, --steps N or --hours H")
            return suite.budget
        # how the winner is chosen is the suite's
        rest = suite.budget.model_dump(include={"finalists", "finalist_seeds"}) if suite.budget else {}
        return validated(Budget, rest | (given or {"trials": _QUICK_TRIALS}), options)
