"""Suites: run them, search recipes, say what they take."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bench.api.datasets import packs_of
from bench.api.plugins import device_of, load_plugins
from bench.api.results import report
from bench.data.pack import Pack
from bench.errors import UserError
from bench.reporting.figures.search import draw_search
from bench.reporting.tables.search import summary
from bench.runner import estimate as estimating
from bench.runner.display import Display
from bench.runner.estimate import Estimate, Remaining
from bench.runner.executor import LocalExecutor, Outcome
from bench.runner.preflight import check_checkpoints, check_runs, refuse_other_code
from bench.schema import validated
from bench.searching.record import SearchResult, export, write_record
from bench.searching.search import run_search, searches
from bench.searching.study import open_storage
from bench.store import ResultsFolder
from bench.suites.plan import Run, Selection, plan, sample_rates
from bench.suites.space import Budget
from bench.suites.suite import Suite, load_suite
from bench.tracking.process import WAIT_SECONDS, Tracker

__all__ = ["Options", "cost", "run", "search"]


@dataclass(frozen=True)
class Options:
    """What may be said of a suite, as with the options of `bench run` of these names, which its --help explains."""

    # packs, one for each sample rate that is needed; `demo` is the generated set
    data: Sequence[Path] = ()
    # None: runs/SUITE
    out: Path | None = None
    # entries or architectures; empty takes all
    only: Sequence[str] = ()
    # how many; None: the suite's number
    seeds: int | None = None
    # recipe fields, for all
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    plugins: Sequence[Path] = ()
    mixed: bool = False
    restart: bool = False
    track: bool = False
    # of each search: one of the two, or neither, which takes the suite's budget
    trials: int | None = None
    hours: float | None = None
    storage: str | None = None
    heartbeat: int = 10

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
        if suite.budget is None:
            raise UserError(f"suite {suite.title!r} has no [budget]: give --trials N or --hours H")
        return suite.budget


@dataclass(frozen=True)
class _Job:
    """A suite that is ready to be run: checked, with packs, folder and device."""

    suite: Suite
    options: Options
    budget: Budget | None
    packs: Sequence[Pack]
    results: ResultsFolder
    device: torch.device
    runs: list[Run]
    display: Display

    @classmethod
    def of(cls, suite: Suite, name: str, options: Options, display: Display) -> "_Job":
        budget = options.budget(suite)
        load_plugins(options.plugins)
        device = device_of(options.device)
        selection = Selection(options.only, options.seeds, options.overrides)
        # a wrong name should not wait for the demo set to be made
        rates = sample_rates(suite, selection)
        packs = packs_of(options.data or ([Path("demo")] if name == "demo" else []), rates, display)
        results = ResultsFolder(options.out or Path("runs") / Path(name).stem)
        runs = plan(suite, packs, results, selection, device)
        return cls(suite, options, budget, packs, results, device, runs, display)

    def tracker(self) -> Tracker:
        return Tracker(self.results.path, on=self.options.track, plugins=self.options.plugins)

    def preflight(self) -> None:
        if not self.options.mixed:
            refuse_other_code(self.runs, self.results)
        check_checkpoints(self.runs, self.results, restart=self.options.restart, display=self.display)
        check_runs(self.runs, self.results)

    def estimate(self, entries: Sequence[Remaining], seconds: float) -> list[Estimate]:
        with self.display.bar("measuring a few steps of each entry") as progress:
            return estimating.estimate(entries, self.device, seconds=seconds, progress=progress)

    def export(self, found: Sequence[SearchResult]) -> Suite:
        """Write the best recipes as a suite and return it."""
        export(self.results.best_suite, self.suite, found, self.options.seeds or self.suite.seeds)
        return load_suite(str(self.results.best_suite))


def run(suite: str = "demo", display: Display | None = None, **options: Any) -> Outcome:
    """Run a suite, by its name or the path of a TOML file, and report its results.

    What is finished is skipped, and what was interrupted resumes. With a search space, each entry's recipe is searched
    first, and default and best recipe are retrained. `options` are the fields of Options. Raises UserError if something
    is wrong with the suite, the data or the folder; nothing was trained.
    """
    job = _Job.of(load_suite(suite), suite, Options(**options), display or Display())
    with job.tracker() as tracker:
        if job.budget:
            job.preflight()
            best = job.export(_search(job, job.budget, tracker))
            job = replace(job, suite=best, runs=plan(best, job.packs, job.results, device=job.device))
        outcome = _run(job, tracker)
        if outcome.done or outcome.skipped:
            report(job.results.path, display=job.display, mixed=job.options.mixed)
        _finish(tracker, job.display)
    return outcome


def _run(job: _Job, tracker: Tracker) -> Outcome:
    job.preflight()
    job.results.add_labels(job.runs[0].pack, job.runs[0].task)
    job.results.add_to_plan(job.suite.title, [run.folder.name for run in job.runs])
    total = len(job.runs)
    job.display.notice(f"{job.suite.title}: {total} runs on {job.device}, results in {job.results.path}")
    # a line before a suite, unless that would take long beside the suite
    left = [entry for entry in estimating.remaining(job.runs) if entry.done]
    estimates = job.estimate(left, estimating.BRIEF) if estimating.worth_measuring(left) else []
    if not all(found.cause for found in estimates):
        job.display.notice(estimating.describe_runs(job.suite.title, estimates, job.device))
    with job.display as display:
        outcome = LocalExecutor(job.device, display)(job.runs, tracker.news)
    if outcome.skipped:
        job.display.notice(f"{len(outcome.skipped)} of {total} runs were finished before")
    return outcome


def _finish(tracker: Tracker, display: Display) -> None:
    if tracker.on:
        display.notice(f"tracking: sending what is new, for {WAIT_SECONDS:.0f} s at most")
    for line in tracker.finish(WAIT_SECONDS):
        display.notice(f"warning: {line}")


def cost(suite: str = "demo", display: Display | None = None, **options: Any) -> list[Estimate]:
    """Estimate how long a suite takes here by a few steps of each entry; options and errors are those of `run`."""
    job = _Job.of(load_suite(suite), suite, Options(**options), display or Display())
    left = estimating.remaining(job.runs)
    if job.budget:
        # the best recipe is retrained as often as the default one
        left = [replace(entry, done=2 * entry.done) for entry in left]
    elif not (left := [entry for entry in left if entry.done]):
        job.display.show(f"{job.suite.title}: all {len(job.runs)} runs are finished in {job.results.path}")
        return []
    estimates = job.estimate(left, estimating.THOROUGH)
    job.display.show(estimating.cost_table(job.suite.title, estimates, job.device, job.budget))
    return estimates


def search(
    suite: str = "tuned", display: Display | None = None, *, export_best: bool = False, **options: Any
) -> list[SearchResult]:
    """Search each entry's recipe for its score on val, within the same budget.

    Called again, it resumes; called elsewhere at the same time with the same storage, it joins in. `export_best` writes
    the best recipes as a suite, OUT/best.toml. Takes the fields of Options and raises UserError, as `run` does.
    """
    declared, given = load_suite(suite), Options(**{"seeds": 1, **options})
    if not declared.space:
        raise UserError(f"suite {declared.title!r} has no [space] to search")
    job = _Job.of(declared, suite, given, display or Display())
    assert job.budget is not None
    check_runs(job.runs, job.results)
    with job.tracker() as tracker:
        found = _search(job, job.budget, tracker)
        draw_search(job.results)
        job.display.show(summary(job.results.search() or {}))
        job.display.notice(f"on record: {job.results.search_file}, trials.csv, figures")
        if export_best:
            job.export(found)
            plugins = "".join(f" --plugin {shlex.quote(str(path))}" for path in given.plugins)
            job.display.notice(f"to retrain: bench run {job.results.best_suite} --data PACK{plugins}")
        _finish(tracker, job.display)
    return found


def _search(job: _Job, budget: Budget, tracker: Tracker) -> list[SearchResult]:
    """Search entry after entry until each has spent its budget; the record is written after each."""
    results = job.results
    planned = searches(job.runs, job.suite.space, job.suite.search_seed, job.options.overrides)
    results.path.mkdir(parents=True, exist_ok=True)
    storage = open_storage(job.options.storage or f"sqlite:///{results.search_database}", job.options.heartbeat)
    job.display.notice(f"{job.suite.title}: {len(planned)} searches, {budget} each, on {job.device}")
    # before the first searches in a folder; an hour's budget takes an hour
    if budget.trials is not None and not results.search_file.exists():
        entries = [replace(entry, done=budget.trials * (0,)) for entry in estimating.remaining(job.runs)]
        if estimating.worth_measuring(entries):
            job.display.notice(estimating.describe_trials(job.estimate(entries, estimating.BRIEF)))
    found = []
    try:
        with job.display as display:
            for each in planned:
                found.append(SearchResult.of(each, run_search(each, storage, budget, job.device, display), budget))
                write_record(results, job.suite, found)
                tracker.news()
    finally:
        storage.engine.dispose()
    return found
