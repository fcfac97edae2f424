"""How time and memory grow: with clips, classes, the length of a clip, the batch, and the hours that are packed.

Every point is measured in a process of its own, so that its peak of memory is its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import made

# what grows: all values, and those of a quick look; the unit; what is timed
POINTS: dict[str, tuple[tuple[float, ...], tuple[float, ...], str, str]] = {
    "clips": ((1_000, 5_000, 20_000, 50_000), (1_000, 10_000), "train clips", "open a pack, draw 100 batches"),
    "scored": ((1_000, 5_000, 20_000, 50_000), (1_000, 10_000), "clips", "all metrics of 200 classes"),
    "classes": ((20, 100, 200, 500), (20, 200), "classes", "all metrics and 512 bootstrap draws, 2,000 clips"),
    "seconds": ((1, 3, 10, 30), (1, 10), "seconds a clip", "score 50 clips with the small transformer"),
    "batch": ((8, 16, 32, 64, 128), (8, 32), "chunks", "an update of the small transformer"),
    "hours": ((0.25, 1, 4), (0.1, 0.4), "hours", "pack recordings of 44.1 kHz"),
}


def measure_growth(quick: bool, progress: Callable[[str], None]) -> pd.DataFrame:
    """(points, what / value / unit / work / seconds / megabytes)."""
    rows = []
    for what, (every, few, unit, work) in POINTS.items():
        for value in few if quick else every:
            progress(f"growth with {unit}: {value:g}")
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.growth", what, str(value)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            rows.append({"what": what, "value": value, "unit": unit, "work": work} | json.loads(done.stdout))
    return pd.DataFrame(rows)


def exponent(points: pd.DataFrame, column: str) -> float:
    """Of the power law through the two largest points: 1 is linear. What is fixed weighs least there."""
    a, b = (points.sort_values("value").iloc[i] for i in (-2, -1))
    return float(np.log(b[column] / a[column]) / np.log(b["value"] / a["value"]))


def _point(what: str, value: float, folder: Path) -> dict[str, float]:
    work = {"clips": _clips, "scored": _scored, "classes": _classes, "seconds": _seconds, "batch": _batch}.get(what)
    run = _hours(value, folder) if work is None else work(int(value), folder)
    seconds = []
    for _ in range(1 if what == "hours" else 4):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds), "megabytes": _megabytes()}


def _megabytes() -> float:
    """The process's peak."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process was forked from
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _clips(count: int, folder: Path) -> Callable[[], object]:
    from bench.data.pack import Pack
    from bench.protocol.batches import Chunks

    made.silent_pack(folder / "pack", clips=count)

    def run() -> None:
        data = Chunks(Pack(folder / "pack"), "train")
        for update in range(100):
            data.batch(data.draw(update, 64, seed=0))

    return run


def _scored(clips: int, _: Path) -> Callable[[], object]:
    from bench.protocol.metrics import evaluate
    from benchmarks.parts import made_scores

    targets, (scores,) = made_scores(clips, 200)
    return lambda: evaluate(targets, scores, np.ones(200, bool))


def _classes(classes: int, _: Path) -> Callable[[], object]:
    from bench.protocol.metrics import evaluate
    from bench.stats.bootstrap import Draws, bootstrap
    from benchmarks.parts import made_scores

    targets, (scores,) = made_scores(2_000, classes)

    def run() -> None:
        evaluate(targets, scores, np.ones(classes, bool))
        bootstrap({"one": [scores]}, targets, np.ones(classes, bool), Draws(2_000, resamples=512))

    return run


def _seconds(seconds: int, folder: Path) -> Callable[[], object]:
    from architectures import create
    from bench.data.pack import Pack
    from bench.protocol.batches import Chunks
    from bench.protocol.evaluate import score_clips

    made.silent_pack(folder / "pack", clips=50, classes=20, seconds=seconds)
    chunks = Chunks(Pack(folder / "pack"), "train")
    model = create("transformer_small", num_classes=20)
    return lambda: score_clips(model, chunks)


def _batch(batch_size: int, _: Path) -> Callable[[], object]:
    import torch

    from architectures import create
    from bench.protocol.recipe import Recipe
    from bench.protocol.train import optimizer_of, step

    recipe = Recipe(batch_size=batch_size)
    model = create("transformer_small").train()
    optimizer = optimizer_of(model, recipe)
    x, y = 0.1 * torch.randn(batch_size, 16_000), torch.zeros(batch_size, 200)
    return lambda: step(model, optimizer, x, y, recipe)


def _hours(hours: float, folder: Path) -> Callable[[], object]:
    from bench.data.packing import pack

    recordings = made.recordings(folder / "recordings", hours)
    return lambda: pack(recordings, folder / "packed")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(_point(sys.argv[1], float(sys.argv[2]), Path(scratch))))
