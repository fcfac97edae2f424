"""How long a suite takes here: a few measured steps and chunks of each entry, times what is left; without metrics."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import torch

from bench.data.dataset import Progress
from bench.data.pack import Pack
from bench.errors import one_line
from bench.protocol.build import build
from bench.protocol.compiled import CompiledStep
from bench.protocol.cuda_graphs import RecordedStep
from bench.protocol.evaluate import evaluation_batch_size
from bench.protocol.frozen import set_training
from bench.protocol.optim import optimizer_of
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of
from bench.protocol.train import REPORT_EVERY, batch_of, step_of
from bench.runner.cost import CLIP_SECONDS, REPEATS
from bench.runner.memory import require_memory
from bench.runner.run import checkpoint_of
from bench.suites.plan import Run
from bench.suites.space import Budget

__all__ = ["BRIEF", "THOROUGH", "Cost", "Estimate", "Rates", "Remaining", "SuiteCost", "cost_of", "describe_runs",
           "describe_trials", "duration", "estimate", "measure", "remaining", "worth_measuring"]  # fmt: skip

# seconds of timed steps an entry, before a suite and for `bench cost`
BRIEF, THOROUGH = 0.7, 3.0
# steps: with fewer left, three of them are no small part
_WORTH = 100
# at most one in so many of a run's steps is timed, if that leaves two
_SHARE = 50


@dataclass(frozen=True)
class Remaining:
    """What is left of an entry of a suite: runs that differ by their seed only."""

    # of the first run
    spec: RunSpec
    pack: Pack
    # steps that each unfinished run has done
    done: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Those of training: none where the weights of another entry are scored."""
        return 0 if self.spec.rescores else sum(self.spec.recipe.max_steps - done for done in self.done)


@dataclass(frozen=True)
class Rates:
    """What an entry was measured to take, in seconds: NaN where it could not be measured."""

    # what a run begins with: reading data, making a model, a first step
    start: float = math.nan
    # what an entry's first run takes more: it says what a step and a clip cost, and compiles
    once: float = math.nan
    # one step, each time that it was taken
    steps: tuple[float, ...] = (math.nan,)
    # scoring one chunk
    chunk: float = math.nan
    val_chunks: int = 0
    eval_chunks: int = 0

    @property
    def step(self) -> float:
        """Seconds per step."""
        return statistics.median(self.steps)


class Cost(NamedTuple):
    """Seconds of a run: training, val as training goes, and what is before and after (eval twice, costs)."""

    training: float
    evaluation: float
    rest: float

    @property
    def total(self) -> float:
        return sum(self)


def cost_of(recipe: Recipe, rates: Rates, done: int = 0) -> Cost:
    """Return what a run of `recipe` takes after `done` of its steps, if it does not stop early."""
    evaluations = sum(step > done for step in recipe.evaluation_steps())
    return Cost(
        (recipe.max_steps - done) * rates.step,
        evaluations * rates.val_chunks * rates.chunk,
        rates.start + rates.once + 2 * rates.eval_chunks * rates.chunk,
    )


@dataclass(frozen=True)
class Estimate:
    """An entry and what it was measured to take, or else the cause why it could not be."""

    left: Remaining
    rates: Rates = Rates()
    cause: str = ""

    @property
    def name(self) -> str:
        return self.left.spec.name

    def cost(self, done: int = 0) -> Cost:
        """Return what a run takes after `done` of its steps."""
        cost = cost_of(self.left.spec.recipe, self.rates, done)
        if not self.left.spec.rescores:
            return cost
        return cost._replace(training=0.0, evaluation=self.rates.val_chunks * self.rates.chunk)

    @property
    def run(self) -> Cost:
        """One run, from its beginning."""
        return self.cost()

    @property
    def trial(self) -> float:
        """Seconds of a search's trial that is not pruned; it does not read eval."""
        return self.run.training + self.run.evaluation

    @property
    def seconds(self) -> float:
        """Seconds of everything that is left."""
        runs = [self.cost(done).total for done in self.left.done]
        return sum(runs) - max(0, len(runs) - 1) * self.rates.once

    def searching(self, budget: Budget | None) -> float:
        """Seconds of the entry's search, and of the trainings that choose its winner."""
        if budget is None:
            return 0.0
        trials = budget.full_trials(self.left.spec.recipe.max_steps)
        return 3600 * (budget.hours or 0.0) + (trials + budget.retrainings) * self.trial


def remaining(runs: Sequence[Run]) -> list[Remaining]:
    """Return the entries of a plan, with what is not finished of each."""
    entries: dict[str, Remaining] = {}
    for run in runs:
        known = entries.setdefault(run.spec.name, Remaining(run.spec, run.pack, ()))
        if not run.folder.is_finished:
            entries[run.spec.name] = replace(known, done=(*known.done, checkpoint_of(run).step()))
    return list(entries.values())


def worth_measuring(entries: Sequence[Remaining]) -> bool:
    """Return whether an estimate is short beside what it estimates."""
    return any(entry.steps >= _WORTH for entry in entries)


def estimate(
    entries: Sequence[Remaining], device: torch.device, *, seconds: float, progress: Progress = lambda *_: None
) -> list[Estimate]:
    """Measure each entry for some `seconds`: a failure stops nothing, and the runs that follow find no trace."""
    fp32_means_fp32()
    estimates = []
    for place, entry in enumerate(entries):
        progress(place, len(entries))
        try:
            estimates.append(Estimate(entry, measure(entry, device, seconds)))
        except Exception as error:
            estimates.append(Estimate(entry, cause=f"{type(error).__name__}: {one_line(error)}"))
        if device.type == "cuda":
            # by what is free, a run decides where its data lie
            torch.cuda.empty_cache()
    progress(len(entries), len(entries))
    return estimates


def measure(entry: Remaining, device: torch.device, seconds: float) -> Rates:
    """Train as a run does, but only for some `seconds`, and score some chunks of val."""
    spec, task = entry.spec, task_of(entry.spec)
    # whether compiled steps pay is found out by compiling them, which takes minutes
    recipe = spec.recipe.model_copy(update={"compile": "off"}) if spec.recipe.compile == "auto" else spec.recipe
    require_memory(spec, entry.pack, device)
    # an accelerator works behind the program's back; the training loop waits for it every so many steps
    at_once = 1 if device.type == "cpu" else REPORT_EVERY
    most = recipe.max_steps // _SHARE // at_once
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        started = time.perf_counter()
        data, val = (task.data(entry.pack, split, recipe, device) for split in ("train", "val"))
        read = time.perf_counter() - started
        model = build(spec, device)
        set_training(model, recipe)
        step = step_of(model, optimizer_of(model, recipe), task, recipe, device, recipe.max_steps)
        numbers = itertools.count()

        def train(steps: int) -> None:
            for number in itertools.islice(numbers, steps):
                loss = step(*batch_of(data, recipe, spec.seed, number))
            # waits for the device
            loss.item()

        train(1 if device.type == "cpu" else RecordedStep.EAGER + 1)
        compilation = step.seconds if isinstance(step, CompiledStep) else 0.0
        first = time.perf_counter() - started - read - compilation
        steps = timed(lambda: train(at_once), seconds, most)
        some = val.head(at_once * evaluation_batch_size(device))
        scoring = timed(lambda: task.score(model, some), seconds / 2, most)
    # of two the faster: the first one finds nothing prepared
    chunk = statistics.median_low(scoring) / len(some)
    return Rates(
        start=read + first,
        # other seeds are compiled from what the first one leaves, in some seconds
        once=compilation + first + (1 + REPEATS) * task.passes(recipe, CLIP_SECONDS, entry.pack.sample_rate) * chunk,
        steps=tuple(taken / at_once for taken in steps),
        chunk=chunk,
        val_chunks=len(val),
        eval_chunks=len(task.data(entry.pack, "eval", recipe)),
    )


def timed(work: Callable[[], object], seconds: float, most: int) -> list[float]:
    """Return how long `work` takes, each time of at most `most` until `seconds` are spent, and twice in any case."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < most and sum(taken) < seconds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


def describe_runs(title: str, estimates: Sequence[Estimate], device: torch.device) -> str:
    """Return a line on what is left, in all and entry by entry."""
    known = [e for e in estimates if not e.cause]
    at_most = "at most" if _may_end_sooner(known) else "about"
    each = ", ".join(f"{e.name} {duration(e.seconds)}" for e in estimates)
    return f"{title}: {_runs(estimates)}, {at_most} {duration(sum(e.seconds for e in known))} on {device} ({each})"


def describe_trials(estimates: Sequence[Estimate]) -> str:
    """Return a line on what a trial of each entry's search takes."""
    return f"a trial that is not pruned takes about: {', '.join(f'{e.name} {duration(e.trial)}' for e in estimates)}"


@dataclass(frozen=True, repr=False)
class SuiteCost:
    """How long what is left of a suite takes on a device; where each entry is searched first, that is in it, too."""

    title: str
    estimates: tuple[Estimate, ...]
    device: str
    budget: Budget | None = None

    @property
    def known(self) -> list[Estimate]:
        return [e for e in self.estimates if not e.cause]

    @property
    def failed(self) -> dict[str, str]:
        """Entries that could not be measured, and why."""
        return {e.name: e.cause for e in self.estimates if e.cause}

    @property
    def hours(self) -> float:
        """All that is left, without what could not be measured."""
        return sum(e.searching(self.budget) + e.seconds for e in self.known) / 3600

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row an entry: seconds a step (median), of a run and its parts, runs left, seconds of search and in all."""
        return pd.DataFrame([self._record(e) for e in self.known])

    def _record(self, found: Estimate) -> dict[str, Any]:
        seconds = {f"{name}_seconds": value for name, value in found.run._asdict().items()}
        return {
            "entry": found.name,
            "step_seconds": found.rates.step,
            **seconds,
            "run_seconds": found.run.total,
            "runs_left": len(found.left.done),
            "search_seconds": found.searching(self.budget),
            "total_seconds": found.searching(self.budget) + found.seconds,
        }

    def __repr__(self) -> str:
        failed = [f"{name}: could not be measured: {cause}" for name, cause in self.failed.items()]
        if not self.estimates:
            return f"{self.title}: all runs are finished"
        if not self.known:
            return "\n".join(failed)
        cells = pd.DataFrame([_cells(e, self.budget) for e in self.known], index=[e.name for e in self.known])
        fewest = min(len(e.rates.steps) for e in self.known)
        lines = [
            cells.to_string(),
            *failed,
            f"{self.title}: {self._what}, {self.hours:.3g} h on {self.device} with nothing else running",
            f"s per step: median and range of {fewest} measurements or more; evaluation: of val; "
            "rest: how a run begins and ends, with eval scored twice",
        ]
        if _may_end_sooner(self.known):
            lines.append("early stopping may end runs sooner")
        if self.device.startswith("cuda") and any(e.left.spec.recipe.compile == "auto" for e in self.known):
            lines.append("steps as they are; where compile is auto, runs take compiled ones if these are faster")
        if self.budget:
            lines.append("pruned trials end sooner; a best recipe is taken to need as long as the default one")
        return "\n".join(lines)

    @property
    def _what(self) -> str:
        searches = f"{len(self.known)} searches of {self.budget}, then " if self.budget else ""
        return searches + _runs(self.known)

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False, border=0, float_format="{:.3g}".format))


def _cells(found: Estimate, budget: Budget | None) -> dict[str, str]:
    rates, run, search = found.rates, found.run, found.searching(budget)
    return {
        "s per step": f"{rates.step:.4f} ({min(rates.steps):.4f} to {max(rates.steps):.4f})",
        "chunks/s": f"{found.left.spec.recipe.batch_size / rates.step:.0f}",
        **{name: duration(seconds) for name, seconds in run._asdict().items()},
        "a run": duration(run.total),
        "runs left": str(len(found.left.done)),
        **({"a trial": duration(found.trial), "search": duration(search)} if budget else {}),
        "in all": duration(search + found.seconds),
    }


def _runs(estimates: Sequence[Estimate]) -> str:
    runs = sum(len(found.left.done) for found in estimates)
    return f"{runs} run{'s' * (runs != 1)} left"


def _may_end_sooner(estimates: Sequence[Estimate]) -> bool:
    return any(found.left.spec.recipe.early_stop for found in estimates)


def duration(seconds: float) -> str:
    """Return a time with as many digits as an estimate is good for: 45 s, 6.1 min, 2.0 h, 130 h, unknown."""
    if math.isnan(seconds):
        return "unknown"
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.{1 if seconds < 10 * length else 0}f} {unit}"
    return f"{seconds:.0f} s"
