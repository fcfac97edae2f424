"""How long a suite takes on this machine: a few updates and evaluation batches of each row, times what is left to do.

Left out is what is small beside that: checkpoints and metrics.
"""

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from architectures import get_architecture
from bench.data.pack import Pack
from bench.errors import one_line
from bench.protocol.batches import Chunks, chunks_of
from bench.protocol.build import build, fp32_means_fp32
from bench.protocol.cuda_graphs import Replayed
from bench.protocol.evaluate import ACCELERATOR_BATCH_SIZE, CPU_BATCH_SIZE, score_clips
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.train import REPORT_EVERY, batches, updates_of
from bench.runner.cost import CLIP_SECONDS, REPEATS
from bench.runner.provenance import code
from bench.runner.run import finished
from bench.schema import digest
from bench.suites.space import Budget

BRIEF, THOROUGH = 0.7, 5.0  # seconds of timed updates a row, before a suite and for `bench cost`
WORTH = 100  # updates: with fewer left, three of them are no small part
SHARE = 50  # at most one in so many of a run's updates is timed, if that leaves two


@dataclass(frozen=True)
class Row:
    """What is left of a row of a suite: runs that differ by their seed only."""

    spec: RunSpec  # of its first run
    pack: Pack
    done: tuple[int, ...]  # updates that each unfinished run has done

    @property
    def updates(self) -> int:
        """Left, over all runs."""
        return sum(self.spec.recipe.updates - done for done in self.done)


@dataclass(frozen=True)
class Rates:
    """What a row was measured to take."""

    start: float  # seconds for what a run begins with: reading data, making a model, a first update
    updates: tuple[float, ...]  # seconds per update, each time that it was taken
    chunk: float  # seconds to score one chunk
    val_chunks: int
    eval_chunks: int

    @property
    def update(self) -> float:
        return statistics.median(self.updates)


class Cost(NamedTuple):
    """Seconds of a run."""

    training: float
    evaluation: float  # of val, as training goes on
    rest: float  # beginning and end, eval with and without training, latency

    @property
    def total(self) -> float:
        return sum(self)


def cost_of(recipe: Recipe, rates: Rates, done: int = 0) -> Cost:
    """What a run of `recipe` takes after `done` of its updates, if it does not stop early."""
    evaluations = sum(update > done for update in recipe.evaluation_updates())
    rest_chunks = 2 * rates.eval_chunks + (1 + REPEATS) * recipe.test_chunks(CLIP_SECONDS)
    return Cost(
        (recipe.updates - done) * rates.update,
        evaluations * rates.val_chunks * rates.chunk,
        rates.start + rest_chunks * rates.chunk,
    )


@dataclass(frozen=True)
class Forecast:
    """A row and what it was measured to take, or else why it could not be."""

    row: Row
    rates: Rates | None
    cause: str = ""

    @property
    def run(self) -> Cost:
        """One run, from its beginning."""
        assert self.rates is not None
        return cost_of(self.row.spec.recipe, self.rates)

    @property
    def trial(self) -> float:
        """Seconds of a search's trial that is not pruned; it does not read eval."""
        return self.run.training + self.run.evaluation

    @property
    def seconds(self) -> float:
        """Of all that is left."""
        assert self.rates is not None
        return sum(cost_of(self.row.spec.recipe, self.rates, done).total for done in self.row.done)


def rows_of(runs: Sequence[tuple[RunSpec, Pack]], out: Path) -> list[Row]:
    """The rows of a plan, with what `out` lacks of each."""
    rows: dict[str, Row] = {}
    for spec, pack in runs:
        row = rows.get(spec.name) or Row(spec, pack, ())
        left = () if finished(out / spec.folder) else (_updates_done(spec, out / spec.folder / "checkpoint.pt"),)
        rows[spec.name] = Row(row.spec, row.pack, row.done + left)
    return list(rows.values())


def _updates_done(spec: RunSpec, checkpoint: Path) -> int:
    """By a run that was interrupted and that this code would go on with."""
    if not checkpoint.is_file():
        return 0
    source = code(get_architecture(spec.architecture).model.__module__)["source"]
    try:
        values = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return int(values["state"]["update"]) if values["code"] == digest(source) else 0
    except Exception:  # torch raises nearly anything for a damaged file
        return 0


def worth_measuring(rows: Sequence[Row]) -> bool:
    """Whether a forecast is short beside what it tells of."""
    return any(row.updates >= WORTH for row in rows)


def forecast(
    rows: Sequence[Row],
    device: torch.device,
    *,
    seconds: float,
    progress: Callable[[float, float], None] = lambda done, of: None,
) -> list[Forecast]:
    """Measure row after row, each for some `seconds`; one that fails is no reason to stop.

    Leaves no trace in the runs that follow: the random state is as before, and so is an accelerator's free memory.
    """
    fp32_means_fp32()
    forecasts = []
    for place, row in enumerate(rows):
        progress(place, len(rows))
        try:
            forecasts.append(Forecast(row, measure(row, device, seconds)))
        except Exception as error:
            forecasts.append(Forecast(row, None, f"{type(error).__name__}: {one_line(error)}"))
        if device.type == "cuda":
            torch.cuda.empty_cache()  # by what is free, a run decides where its data lie
    progress(len(rows), len(rows))
    return forecasts


def measure(row: Row, device: torch.device, seconds: float) -> Rates:
    """Train as a run does, but only for some `seconds`, and score some chunks of val."""
    spec, recipe = row.spec, row.spec.recipe
    # an accelerator works behind the program's back; the training loop waits for it every so many updates
    together = 1 if device.type == "cpu" else REPORT_EVERY
    most = recipe.updates // SHARE // together
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        started = time.perf_counter()
        data, val = (chunks_of(row.pack, split, recipe, device) for split in ("train", "val"))
        read = time.perf_counter() - started
        model = build(spec, device)
        model.train()
        update, *_ = updates_of([model], recipe, device)
        numbers = itertools.count()

        def train(updates: int) -> None:
            for number in itertools.islice(numbers, updates):
                loss = update(*batches(data, recipe, [spec.seed], number))
            loss.item()  # waits for the device

        train(1 if device.type == "cpu" else Replayed.EAGER + 1)
        first = time.perf_counter() - started - read
        updates = timed(lambda: train(together), seconds, most)

        size = CPU_BATCH_SIZE if device.type == "cpu" else ACCELERATOR_BATCH_SIZE
        some = _first(val, together * size)
        scoring = timed(lambda: score_clips(model, some), seconds / 2, most)
    return Rates(
        start=read + 2 * first,  # a run makes its model twice more, and one more update, to say what they cost
        updates=tuple(taken / together for taken in updates),
        chunk=statistics.median_low(scoring) / len(some),  # of two the faster: the first one finds nothing prepared
        val_chunks=len(val),
        eval_chunks=len(chunks_of(row.pack, "eval", recipe)),
    )


def timed(work: Callable[[], object], seconds: float, most: int) -> list[float]:
    """How long `work` takes, each time of at most `most` until `seconds` are spent, and twice in any case."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < most and sum(taken) < seconds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


def _first(chunks: Chunks, count: int) -> Chunks:
    """The first of the chunks, on the same samples."""
    some = copy.copy(chunks)
    some.clip, some.start = chunks.clip[:count], chunks.start[:count]
    return some


def line(title: str, forecasts: Sequence[Forecast], device: torch.device) -> str:
    """What is left, in all and row by row."""
    known = _known(forecasts)
    about = "at most" if _may_end_sooner(known) else "about"
    each = ", ".join(f"{f.row.spec.name} {duration(f.seconds) if f.rates else 'unknown'}" for f in forecasts)
    return f"{title}: {_runs(forecasts)}, {about} {duration(sum(f.seconds for f in known))} on {device} ({each})"


def trial_line(forecasts: Sequence[Forecast]) -> str:
    """What a trial of each row's search takes."""
    each = (f"{f.row.spec.name} {duration(f.trial) if f.rates else 'unknown'}" for f in forecasts)
    return f"a trial that is not pruned takes about: {', '.join(each)}"


def table(title: str, forecasts: Sequence[Forecast], device: torch.device, budget: Budget | None = None) -> str:
    """A line a row, and the sum in hours; where each row is searched first, that is in it, too."""
    known = _known(forecasts)
    failed = [f"{f.row.spec.name}: could not be measured: {f.cause}" for f in forecasts if not f.rates]
    if not known:
        return "\n".join(failed)
    cells = pd.DataFrame([_cells(f, budget) for f in known], index=[f.row.spec.name for f in known])
    what = f"{len(known)} searches of {budget}, then {_runs(known)}" if budget else _runs(known)
    hours = sum(_search_seconds(f, budget) + f.seconds for f in known) / 3600
    counts = [len(f.rates.updates) for f in known if f.rates]
    lines = [
        cells.to_string(),
        *failed,
        f"{title}: {what}, {hours:.3g} h on {device} with nothing else running",
        f"s per update: median and range of {min(counts)} measurements or more; evaluation: of val; "
        "rest: how a run begins and ends, with eval scored twice",
    ]
    if _may_end_sooner(known):
        lines.append("early stopping may end runs sooner")
    if budget:
        lines.append("pruned trials end sooner; a best recipe is taken to need as long as the default one")
    return "\n".join(lines)


def _cells(forecast: Forecast, budget: Budget | None) -> dict[str, str]:
    rates, run, search = forecast.rates, forecast.run, _search_seconds(forecast, budget)
    assert rates is not None
    return {
        "s per update": f"{rates.update:.4f} ({min(rates.updates):.4f} to {max(rates.updates):.4f})",
        "chunks/s": f"{forecast.row.spec.recipe.batch_size / rates.update:.0f}",
        "training": duration(run.training),
        "evaluation": duration(run.evaluation),
        "rest": duration(run.rest),
        "a run": duration(run.total),
        "runs left": str(len(forecast.row.done)),
        **({"a trial": duration(forecast.trial), "search": duration(search)} if budget else {}),
        "in all": duration(search + forecast.seconds),
    }


def _search_seconds(forecast: Forecast, budget: Budget | None) -> float:
    if budget is None:
        return 0.0
    return 3600 * budget.hours if budget.hours else (budget.trials or 0) * forecast.trial


def _known(forecasts: Sequence[Forecast]) -> list[Forecast]:
    return [f for f in forecasts if f.rates]


def _runs(forecasts: Sequence[Forecast]) -> str:
    runs = sum(len(f.row.done) for f in forecasts)
    return f"{runs} run{'s' * (runs != 1)} left"


def _may_end_sooner(forecasts: Sequence[Forecast]) -> bool:
    return any(f.row.spec.recipe.early_stop for f in forecasts)


def duration(seconds: float) -> str:
    """With as many digits as a forecast is good for: 45 s, 6.1 min, 2.0 h, 130 h."""
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.{1 if seconds < 10 * length else 0}f} {unit}"
    return f"{seconds:.0f} s"
