"""Suites: run them, search recipes, say what they take."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import torch

from bench.api.cluster import node_device, ray_executor
from bench.api.datasets import missing_sets, packs_of
from bench.api.options import Options, RunOptions, searched_first
from bench.api.plugins import device_of, load_plugins
from bench.api.results import report
from bench.data.pack import Pack
from bench.errors import UserError
from bench.protocol.task import Task
from bench.reporting.figures.search import draw_search
from bench.reporting.report import Report
from bench.reporting.tables.search import summary
from bench.runner import estimate as estimating
from bench.runner.display import Display
from bench.runner.estimate import Estimate, Remaining, SuiteCost
from bench.runner.executors import Executor, LocalExecutor
from bench.runner.executors.base import computing_with
from bench.runner.executors.jobs import MAX_JOBS, JobsExecutor, spread
from bench.runner.preflight import check_checkpoints, check_runs, refuse_other_code
from bench.runner.provenance import python_call
from bench.runner.run import checkpoint_of
from bench.runner.runs import Outcome, costs_of, run_all
from bench.runner.weights import load_trained
from bench.schema import digest
from bench.searching.finals import run_finals
from bench.searching.record import SearchResult, export, write_record
from bench.searching.search import Search, run_search, searches, trials_spent
from bench.searching.study import open_storage
from bench.store import ResultsFolder
from bench.suites.plan import Run, by_results, check_name, contrasts, entries, plan, run_names, sample_rates, themes
from bench.suites.space import Budget
from bench.suites.suite import Suite, load_suite
from bench.tracking.process import WAIT_SECONDS, Tracker

__all__ = ["SearchOutcome", "SuiteCost", "SuiteOutcome", "cost", "missing", "run", "search"]


@dataclass(frozen=True)
class SuiteOutcome:
    """What became of a suite; it shows its report in a notebook."""

    # of the results
    folder: Path
    # names of run folders: all, and of them those that finished now, had been finished before, and failed
    planned: list[str]
    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    # None if no run is finished, of a dry run, and where none was asked for
    report: Report | None = field(default=None, repr=False)

    def _repr_html_(self) -> str:
        counts = f"runs done: {len(self.done)}, finished before: {len(self.skipped)}, failed: {len(self.failed)}"
        return f"<p>{counts}</p>" + (self.report._repr_html_() if self.report else "")


@dataclass(frozen=True)
class SearchOutcome:
    """What searches came to: of each its trials, default and best; on record in `folder`."""

    folder: Path
    results: list[SearchResult] = field(repr=False)
    # a line a search, as Markdown
    markdown: str = ""

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial: entry, state, val_score, seconds, steps and the values of what was searched."""
        return ResultsFolder(self.folder).trial_lines()


@dataclass(frozen=True)
class _Job:
    """A suite that is ready to be run: checked, with packs, folder and device."""

    suite: Suite
    options: Options
    budget: Budget | None
    packs: Sequence[Pack]
    results: ResultsFolder
    device: torch.device
    # all runs that a report should find in the end
    planned: list[Run]

    @classmethod
    def of(cls, suite: Suite, name: str, options: Options) -> "_Job":
        budget = options.budget(suite)
        load_plugins(_plugins(suite, options))
        device = node_device(options.gpus) if options.ray is not None else device_of(options.device)
        # a wrong name should not wait for a generated set to be made
        rates = sample_rates(suite, options.selection)
        packs = packs_of(_data(name, options), rates, options.display)
        results = ResultsFolder(options.folder(name))
        planned = plan(suite, packs, results, options.selection, device)
        if options.part is not None:
            check_name(options.part, suite, run_names(suite, options.selection))
            _require_weights(_part(options.part, planned))
        return cls(suite, options, budget, packs, results, device, planned)

    @property
    def runs(self) -> list[Run]:
        """Those that are done here: all that are planned, or the one that was named, and what needs its weights."""
        part, chosen = self.options.part, dict[str, Run]()
        for run in self.planned:
            if part in (None, run.name) or (run.follows and run.follows.name in chosen):
                chosen[run.name] = run
        return [*chosen.values()]

    @property
    def folders(self) -> dict[ResultsFolder, list[Run]]:
        """The runs that are done here, by the results that they belong to."""
        return by_results(self.runs)

    @property
    def display(self) -> Display:
        return self.options.display

    def tracker(self) -> Tracker:
        # nothing that should be kept comes of a smoke run
        on = self.options.track and not self.options.quick
        return Tracker(self.results.path, on=on, plugins=_plugins(self.suite, self.options))

    @property
    def left(self) -> int:
        """How many runs there are to do, from here on to the end of a search's best recipes."""
        left = sum(not run.folder.is_finished for run in self.runs)
        # the best recipe is retrained as often as the default one
        return 2 * left if self.budget else left

    @property
    def trials(self) -> int:
        """How many trials there may be at once."""
        return max(self.budget.trials or MAX_JOBS, self.budget.retrainings) if self.budget else 0

    def executor(self, most: int) -> Executor:
        """Return what does so many pieces of work; it starts when it is first needed."""
        # where there is nothing to do, there is no need of a cluster
        if self.options.ray is not None and most:
            return ray_executor(self.options, self.results.path, _plugins(self.suite, self.options), most)
        devices = spread(self.device, self.options.jobs, most)
        if len(devices) == 1:
            return LocalExecutor(self.device)
        threads = max(1, torch.get_num_threads() // len(devices))
        return JobsExecutor(devices, threads, partial(load_plugins, _plugins(self.suite, self.options)))

    def preflight(self) -> None:
        for results, runs in self.folders.items():
            results.check_labels(runs[0].pack, runs[0].task)
            if not self.options.mixed:
                refuse_other_code(runs, results)
            check_checkpoints(runs, results, restart=self.options.restart, display=self.display)
        check_runs(self.runs, self.results, self.device)

    def prepare(self) -> None:
        """Make what the runs' data are made of, of tasks that need something for it."""
        load = partial(load_trained, device=self.device)
        asked = dict[tuple[str, str, str], Run]()
        for run in self.runs:
            if type(run.task).prepare is not Task.prepare and not run.folder.is_finished:
                # what is made is the same for all seeds and models
                asked.setdefault((run.spec.pack, run.spec.task, digest(run.spec.task_settings)), run)
        for run in asked.values():
            with self.display.bar(f"what {run.spec.name} learns from") as progress:
                run.task.prepare(run.pack, run.built_on, load, progress, device=self.device)

    def estimate(self, entries: Sequence[Remaining], seconds: float) -> list[Estimate]:
        with self.display.bar("measuring a few steps of each entry") as progress:
            return estimating.estimate(entries, self.device, seconds=seconds, progress=progress)

    def costs(self, executor: Executor) -> Mapping[str, Mapping[str, Any]]:
        """Return what `run_all` may be told that entries cost."""
        with self.display.bar("measuring what each entry costs") as progress:
            return costs_of(self.runs, executor, progress)

    def export(self, found: Sequence[SearchResult]) -> Suite:
        """Write the best recipes as a suite and return it."""
        export(self.results.best_suite, self.suite, found, self.options.selection.seeds or self.suite.seeds)
        return load_suite(str(self.results.best_suite))

    def searches(self) -> list[Search]:
        return searches(self.runs, self.suite.space, self.suite.search_seed, self.options.selection.overrides)

    def storage(self) -> str | Path:
        return self.options.storage or self.results.search_database


def _part(name: str, planned: Sequence[Run]) -> Run:
    """Return the run of this name. Raises UserError for a pre-training that nobody needs any more."""
    for run in planned:
        if run.name == name:
            return run
    entry = name.rsplit("-s", 1)[0]
    raise UserError(f"--part {name}: all that starts from it is finished: --only {entry} trains it all the same")


def _require_weights(run: Run) -> None:
    """Raise UserError for a run that needs the weights of another one which has none yet."""
    if run.follows and not run.folder.is_finished and not run.follows.folder.is_finished:
        trained, how = run.follows.name, "scores" if run.rescored else "starts from"
        raise UserError(
            f"--part {run.name}: {how} the weights of {trained}, which is not finished: say --part {trained}, and "
            "both are done"
        )


def _data(name: str, options: Options) -> Sequence[Path]:
    return options.data or ([Path("demo")] if name == "demo" else [])


def _plugins(suite: Suite, options: Options) -> list[Path]:
    return [*suite.plugins, *options.plugins]


def _missing_sets(suite: Suite, name: str, options: Options) -> str:
    """Return which generated sets have still to be made, at the rates of the suite's entries, which may be plugins'."""
    load_plugins(_plugins(suite, options))
    return " and ".join(missing_sets(_data(name, options), sample_rates(suite, options.selection)))


def run(suite: str = "demo", **options: Unpack[RunOptions]) -> SuiteOutcome:
    """Run a suite, by its name or the path of a TOML file, and report its results.

    What is finished is skipped, and what was interrupted resumes. With a search space, each entry's recipe is searched
    first, and default and best recipe are retrained. The keyword arguments are those of RunOptions. Raises UserError if
    something is wrong with the suite, the data or the folder; nothing was trained. A run that fails stops no other.
    """
    declared, given = load_suite(suite), Options.of(options)
    if given.dry_run:
        return _dry_run(declared, suite, given)
    job = _Job.of(declared, suite, given)
    with (
        python_call(Options.written("run", suite, options)),
        job.tracker() as tracker,
        job.executor(max(job.left, job.trials)) as executor,
    ):
        if job.budget:
            job.preflight()
            best = job.export(_search(job, job.budget, executor, tracker))
            job = replace(job, suite=best, planned=plan(best, job.packs, job.results, device=job.device))
        outcome, made = _run(job, executor, tracker), None
        # of pre-trainings alone there is nothing to compare
        if given.report and job.results.finished() and (outcome.done or outcome.skipped):
            made = report(job.results.path, display=job.display, mixed=job.options.mixed)
            job.display.reported(made.markdown)
        _finish(tracker, job.display)
    names = [each.folder.name for each in job.runs]
    return SuiteOutcome(job.results.path, names, outcome.done, outcome.skipped, outcome.failed, made)


def _run(job: _Job, executor: Executor, tracker: Tracker) -> Outcome:
    job.preflight()
    job.prepare()
    for results, (first, *_) in job.folders.items():
        results.add_labels(first.pack, first.task)
    _add_to_plans(job)
    total = len(job.runs)
    runs = f"{total} run{'s' * (total != 1)}"
    job.display.notice(f"{job.suite.title}: {runs} on {executor.where}, results in {job.results.path}")
    # a line before a suite, unless that would take long beside the suite
    left = [entry for entry in estimating.remaining(job.runs) if entry.done]
    with computing_with(executor.threads):
        estimates = job.estimate(left, estimating.BRIEF) if estimating.worth_measuring(left) else []
    costs = job.costs(executor)
    if not all(found.cause for found in estimates):
        for line in estimating.describe_runs(job.suite.title, estimates, job.device).splitlines():
            job.display.notice(line)
        if executor.slots > 1:
            job.display.notice(_at_once(estimates, executor.slots))
    with job.display as display:
        outcome = run_all(_fastest_first(job.runs, estimates), executor, display, tracker.news, costs)
    if outcome.skipped:
        job.display.notice(f"{len(outcome.skipped)} of {total} runs were finished before")
    return outcome


def _add_to_plans(job: _Job) -> None:
    """Note in each of the folders what a report should find there."""
    sources = {pack.dataset: str(pack.manifest["source"]) for pack in job.packs}
    planned = by_results(job.planned)
    # the suite's, too, where pre-trainings alone are done: by its plan theirs are known to lie within it
    for results in {job.results: None, **job.folders}:
        names = [run.folder.name for run in planned.get(results, [])]
        if results == job.results:
            declared = {"sources": sources, "themes": themes(job.suite)}
            results.add_to_plan(job.suite.title, names, contrasts(job.suite), job.suite.grid, **declared)
        else:
            results.add_to_plan(f"{job.suite.title}, {results.path.name}", names, sources=sources)


def _at_once(estimates: Sequence[Estimate], slots: int) -> str:
    """Return a line on what is left where several runs are under way at the same time."""
    known = [found for found in estimates if not found.cause]
    slots = min(slots, sum(len(found.left.done) for found in known))
    seconds = sum(found.seconds for found in known) / slots
    return f"about {estimating.duration(seconds)} with {slots} at once, if none slows another down"


def _fastest_first(runs: Sequence[Run], estimates: Sequence[Estimate]) -> list[Run]:
    """Return runs seed by seed, of each seed the fastest first, so that there is soon something to see."""
    seconds = {found.name: found.run.total for found in estimates if not found.cause}
    # what needs the weights of a run stays behind it
    return sorted(runs, key=lambda run: (run.spec.seed, seconds.get(_first(run).spec.name, 0.0)))


def _first(run: Run) -> Run:
    """Return the run that has to be done first, so that this one can be."""
    return _first(run.follows) if run.follows else run


def _dry_run(suite: Suite, name: str, options: Options) -> SuiteOutcome:
    """Say of each run what would become of it; nothing is written."""
    options.budget(suite)
    results = ResultsFolder(options.folder(name))
    if unmade := _missing_sets(suite, name, options):
        # without data runs have no hash, and so no folder
        names = [entry.name for entry in entries(suite, options.only)]
        if options.part is not None:
            check_name(options.part, suite, run_names(suite, options.selection))
            names = [options.part]
        options.display.notice(f"{suite.title}: the {unmade} set is not made yet; all would run: {', '.join(names)}")
        return SuiteOutcome(results.path, names)
    job = _Job.of(suite, name, options)
    for each in job.runs:
        options.display.notice(f"{each.folder.name}: {_state(each)}")
    finished = [each.folder.name for each in job.runs if each.folder.is_finished]
    left = len(job.runs) - len(finished)
    searching = f"{len(job.searches())} searches of {job.budget} each, and then " if job.budget else ""
    options.display.notice(f"{suite.title}: {searching}{left} of {len(job.runs)} runs would run on {job.device}")
    return SuiteOutcome(results.path, [each.folder.name for each in job.runs], skipped=finished)


def _state(run: Run) -> str:
    """Return what would become of a run, in words."""
    if run.folder.is_finished:
        return "finished"
    if run.rescored:
        return f"would be scored from {run.rescored.folder.weights_file}"
    if step := checkpoint_of(run).step():
        return f"would resume at step {step} of {run.spec.recipe.max_steps}"
    steps = f"{run.spec.recipe.max_steps} steps" + (f" from {run.init.folder.weights_file}" if run.init else "")
    return f"failed before, would run again, {steps}" if run.folder.failure_file.is_file() else f"would run, {steps}"


def missing(suite: str = "demo", **options: Unpack[RunOptions]) -> list[str]:
    """Return the runs of a suite that are not finished, each as `run` takes it as a `part`: ENTRY-sSEED.

    One that needs the weights of another is done with that one, and named where that one is finished.
    Nothing is written. Called somewhere else, at the same time if need be, `run(suite, part=..., report=False)` with
    the same options does one of them each; then `report` says what `run(suite)` would have said. Raises UserError as
    `run`, and for a suite with a search space, whose runs are not known yet.
    """
    declared, given = load_suite(suite), Options.of(options)
    if declared.space:
        raise UserError(searched_first(declared))
    if _missing_sets(declared, suite, given):
        # what was never there nothing was trained on
        return run_names(declared, given.selection, trained=True)
    job = _Job.of(declared, suite, given)
    if not given.mixed:
        for results, runs in job.folders.items():
            refuse_other_code(runs, results)
    left = [run for run in job.runs if not run.folder.is_finished]
    return [run.name for run in left if not run.follows or run.follows.folder.is_finished]


def _finish(tracker: Tracker, display: Display) -> None:
    if tracker.on:
        display.notice(f"copying the results to {tracker.server}, for {WAIT_SECONDS:.0f} s at most (--no-track: not)")
    for line in tracker.finish(WAIT_SECONDS):
        display.notice(f"warning: {line}")


def cost(suite: str = "demo", **options: Unpack[RunOptions]) -> SuiteCost:
    """Estimate how long a suite takes here by a few steps of each entry; options and errors are those of `run`."""
    job = _Job.of(load_suite(suite), suite, Options.of(options))
    job.prepare()
    left = estimating.remaining(job.runs)
    if job.budget:
        # the best recipe is retrained as often as the default one
        left = [replace(entry, done=2 * entry.done) for entry in left]
    else:
        left = [entry for entry in left if entry.done]
    estimates = job.estimate(left, estimating.THOROUGH) if left else []
    return SuiteCost(job.suite.title, tuple(estimates), str(job.device), job.budget)


def search(suite: str = "tuned", *, export_best: bool = False, **options: Unpack[RunOptions]) -> SearchOutcome:
    """Search each entry's recipe for its score on val, within the same budget.

    Called again, it resumes; called elsewhere at the same time with the same storage, it joins in. `export_best` writes
    the best recipes as a suite, OUT/best.toml. Takes the keyword arguments of RunOptions; raises UserError as `run`.
    """
    declared, given = load_suite(suite), Options.of(options)
    given = replace(given, seeds=given.seeds or 1)
    if not declared.space:
        raise UserError(f"suite {declared.title!r} has no [space] to search")
    if given.dry_run and (unmade := _missing_sets(declared, suite, given)):
        given.display.notice(f"{declared.title}: the {unmade} set is not made yet, so nothing was searched on it")
        return SearchOutcome(given.folder(suite), [])
    job = _Job.of(declared, suite, given)
    assert job.budget is not None
    if given.dry_run:
        return _dry_search(job, job.budget)
    check_runs(job.runs, job.results, job.device)
    with (
        python_call(Options.written("search", suite, options)),
        job.tracker() as tracker,
        job.executor(job.trials) as executor,
    ):
        found = _search(job, job.budget, executor, tracker)
        draw_search(job.results)
        job.display.notice(f"on record: {job.results.search_file}, trials.csv, figures")
        if export_best:
            job.export(found)
            plugins = "".join(f" --plugin {shlex.quote(str(path))}" for path in tracker.plugins)
            job.display.notice(f"to retrain: bench run {job.results.best_suite} --data PACK{plugins}")
        _finish(tracker, job.display)
    return SearchOutcome(job.results.path, found, summary(job.results.search() or {}))


def _dry_search(job: _Job, budget: Budget) -> SearchOutcome:
    """Say how far each search is; nothing is written."""
    is_new = job.options.storage is None and not job.results.search_database.exists()
    storage = None if is_new else open_storage(job.storage(), job.options.heartbeat)
    for each in job.searches():
        spent = trials_spent(each, storage, job.results.trials()) if storage else 0
        job.display.notice(f"{each.spec.name}: {spent} trials on record, of a budget of {budget}")
    return SearchOutcome(job.results.path, [])


def _search(job: _Job, budget: Budget, executor: Executor, tracker: Tracker) -> list[SearchResult]:
    """Search entry after entry until each has spent its budget; the record is written after each."""
    results, planned = job.results, job.searches()
    results.path.mkdir(parents=True, exist_ok=True)
    storage, recorded = open_storage(job.storage(), job.options.heartbeat), results.trials()
    # what is wrong with the last one's is said before the first one trains
    for each in planned:
        trials_spent(each, storage, recorded)
    job.prepare()
    job.display.notice(f"{job.suite.title}: {len(planned)} searches, {budget} each, on {executor.where}")
    # before the first searches in a folder; an hour's budget takes an hour
    if budget.hours is None and not results.search_file.exists():
        left = estimating.remaining(job.runs)
        trials = [math.ceil(budget.full_trials(entry.spec.recipe.max_steps)) for entry in left]
        entries = [replace(entry, done=count * (0,)) for entry, count in zip(left, trials, strict=True)]
        if estimating.worth_measuring(entries):
            with computing_with(executor.threads):
                estimates = job.estimate(entries, estimating.BRIEF)
            for line in estimating.describe_trials(estimates).splitlines():
                job.display.notice(line)
    found = []
    try:
        with job.display as display:
            for each in planned:
                study = run_search(each, storage, budget, executor, display)
                finalists = run_finals(each, study, storage, budget, executor, display, recorded)
                found.append(SearchResult.of(each, study, budget, finalists))
                write_record(results, job.suite, found)
                tracker.news()
    finally:
        storage.engine.dispose()
    return found
