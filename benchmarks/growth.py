"""How time and memory grow: with clips, classes, the length of a clip, the batch, and the hours that are packed.

Every point is measured in a process of its own, `python -m benchmarks.growth WHAT VALUE`, so that its peak of memory is
its own. What a point needs is imported by it alone, for the same reason.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import made

__all__ = ["POINTS", "Growth", "exponent", "measure_growth"]

_ROOT = Path(__file__).parents[1]
# points of a power law: through two there is always one
_LEAST = 3


@dataclass(frozen=True)
class Growth:
    """What grows.

    Attributes:
        full: the values that are measured.
        quick: those of a first look.
        unit: of the values.
        work: what is timed.
    """

    full: tuple[float, ...]
    quick: tuple[float, ...]
    unit: str
    work: str


POINTS = {
    "clips": Growth((1_000, 5_000, 20_000, 50_000), (1_000, 10_000), "train clips", "open a pack, draw 100 batches"),
    "scored": Growth((1_000, 5_000, 20_000, 50_000), (1_000, 10_000), "clips", "all metrics of 200 classes"),
    "classes": Growth(
        (20, 100, 200, 500), (20, 200), "classes", "all metrics and 512 bootstrap resamples, 2,000 clips"
    ),
    "seconds": Growth((1, 3, 10, 30), (1, 10), "seconds a clip", "score 50 clips with the small transformer"),
    "batch": Growth((8, 16, 32, 64, 128), (8, 32), "chunks", "a step of the small transformer"),
    "hours": Growth((0.25, 1, 4), (0.1, 0.4), "hours", "pack recordings of 44.1 kHz"),
}


def measure_growth(quick: bool, progress: Callable[[str], None]) -> pd.DataFrame:
    """Return (points, what / value / unit / work / seconds / megabytes)."""
    points = []
    for what, growth in POINTS.items():
        for value in growth.quick if quick else growth.full:
            progress(f"growth with {growth.unit}: {value:g}")
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.growth", what, str(value)],
                capture_output=True, text=True, check=True, cwd=_ROOT,
            )  # fmt: skip
            point = {"what": what, "value": value, "unit": growth.unit, "work": growth.work}
            points.append(point | json.loads(done.stdout))
    return pd.DataFrame(points)


def exponent(points: pd.DataFrame, column: str) -> float:
    """Return the exponent of the power law that is nearest to the three largest points (least squares of logarithms).

    Where what is fixed weighs least: 1 is linear. NaN of fewer points.
    """
    largest = points.sort_values("value").tail(_LEAST)
    if len(largest) < _LEAST:
        return math.nan
    return float(np.polyfit(np.log(largest["value"]), np.log(largest[column]), 1)[0])


def _point(what: str, value: float, folder: Path) -> dict[str, float]:
    work = _hours(value, folder) if what == "hours" else _PREPARE[what](int(value), folder)
    seconds = []
    for _ in range(1 if what == "hours" else 4):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "megabytes": _megabytes()}


def _megabytes() -> float:
    """Return the process's peak of memory."""
    status = Path("/proc/self/status")
    # getrusage would count what the process was forked from
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _clips(count: int, folder: Path) -> Callable[[], object]:
    from bench.data.pack import Pack
    from bench.protocol.recipe import Recipe
    from bench.protocol.task import get_task

    made.silent_pack(folder / "pack", clips=count)

    def work() -> None:
        data = get_task("tagging").data(Pack(folder / "pack"), "train", Recipe())
        for step in range(100):
            data.batch(data.draw(step, 64, seed=0))

    return work


def _scored(clips: int, _: Path) -> Callable[[], object]:
    from bench.protocol.metrics import evaluate
    from benchmarks.parts import random_scores

    targets, scores = random_scores(clips, 200)
    return lambda: evaluate(targets, scores, np.ones(200, bool))


def _classes(classes: int, _: Path) -> Callable[[], object]:
    from bench.protocol.task import get_task
    from bench.stats.bootstrap import Resampler, bootstrap
    from benchmarks.parts import random_scores

    task, leaf = get_task("tagging"), np.ones(classes, bool)
    targets, scores = random_scores(2_000, classes)

    def work() -> None:
        task.evaluate(targets, scores, leaf)
        bootstrap({"one": {0: task.statistic(targets, scores, leaf)}}, Resampler(2_000, resamples=512))

    return work


def _seconds(seconds: int, folder: Path) -> Callable[[], object]:
    from architectures import create
    from bench.data.pack import Pack
    from bench.protocol.recipe import Recipe
    from bench.protocol.task import get_task

    made.silent_pack(folder / "pack", clips=50, classes=20, seconds=seconds)
    task = get_task("tagging")
    data = task.data(Pack(folder / "pack"), "train", Recipe())
    model = create("transformer_small", num_classes=20)
    return lambda: task.score(model, data)


def _batch(batch_size: int, _: Path) -> Callable[[], object]:
    import torch

    from architectures import create
    from bench.protocol.optim import optimizer_of
    from bench.protocol.recipe import Recipe
    from bench.protocol.task import get_task
    from bench.protocol.train import train_step

    task, recipe = get_task("tagging"), Recipe(batch_size=batch_size, loss="bce")
    model = create("transformer_small").train()
    optimizer = optimizer_of(model, recipe)
    x, y = 0.1 * torch.randn(batch_size, 16_000), torch.zeros(batch_size, 200)
    return lambda: train_step(model, optimizer, x, y, task, recipe)


def _hours(hours: float, folder: Path) -> Callable[[], object]:
    from bench.data.packing import pack

    recordings = made.recordings(folder / "recordings", hours)
    return lambda: pack(recordings, folder / "packed")


# what does the work for a value, after what is not timed
_PREPARE: dict[str, Callable[[int, Path], Callable[[], object]]] = {
    "clips": _clips,
    "scored": _scored,
    "classes": _classes,
    "seconds": _seconds,
    "batch": _batch,
}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(_point(sys.argv[1], float(sys.argv[2]), Path(scratch))))
