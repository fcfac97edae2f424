"""What a GPU makes of it: one script, of some seven minutes, for whoever has one at hand.

Training steps as tutorials write them and as we take them, in each precision; where their time goes; evaluation; what
`bench cost controlled` takes on a pack of FSD50K's size, and the hours that it foretells; and whether TF32 and bf16 are
equivalent to fp32 on the generated set. What is slow on the host (compilation, many short runs) is done first, at once
by several processes, and what is timed then has the machine to itself.
"""

import math
import os
import re
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from architectures import create, get_architecture, list_architectures
from bench.api.results import report
from bench.api.runs import cost
from bench.data.pack import Pack
from bench.disk import write_json
from bench.errors import one_line
from bench.protocol.compiled import CompiledStep
from bench.protocol.cuda_graphs import CudaGraphs, Step
from bench.protocol.evaluate import evaluation_batch_size
from bench.protocol.optim import optimizer_of
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import step_of
from bench.runner.display import Display
from bench.runner.estimate import SuiteCost
from bench.runner.executors import LocalExecutor
from bench.runner.runs import run_all
from bench.store import ResultsFolder
from bench.suites.plan import plan
from bench.suites.suite import Entry, load_suite
from benchmarks import made, notes
from benchmarks.machine import measure_machine

__all__ = ["PARTS", "measure_gpu", "write_gpu"]

PARTS = ("steps", "cost", "precision")

_TASK = get_task("tagging")
_SUITE = Path(__file__).with_name("precision.toml")
# FSD50K's clips, and the mean seconds of its dev split
_CLIPS, _SECONDS = {"train": 36_796, "val": 4_170, "eval": 10_231}, 7.06
_CLASSES = 200
# seconds for a compilation, several of which go on at once
_PATIENCE = 170
# of `controlled`
_SEEDS, _STEPS = 5, 100_000
# kernels by what they do, the first that fits
_KINDS = {
    "products": r"conv|gemm|xmma|cutlass|wgrad|dgrad|fmha|flash|RNN|GRU|fft",
    "optimiser": r"FusedOptimizer|FusedAdam|multi_tensor_apply",
    "norms": r"batch_norm|layer_norm|LayerNorm|triton_red|triton_per",
    "casts and copies": r"copy|Copy|nchwToNhwc|nhwcToNchw|_to_copy",
}


@dataclass(frozen=True)
class _Way:
    """A way to take a training step, by its column."""

    name: str
    precision: str
    compile: str = "off"


_WAYS = (_Way("fp32", "fp32"), _Way("tf32", "tf32"), _Way("bf16", "bf16"), _Way("compiled", "bf16", "on"))


def measure_gpu(
    out: Path,
    pack: Path,
    device: torch.device,
    only: Sequence[str],
    progress: Callable[[str], None],
    batch_size: int = 64,
) -> str:
    """Measure parts on a GPU into `out`, and return the table.

    Args:
        pack: the generated set at 16 kHz.
        only: names of parts; all, if there are none.
        progress: called with what is measured next.
    """
    machine = measure_machine(device)
    out = out / f"gpu-{machine.slug}"
    out.mkdir(parents=True, exist_ok=True)
    parts = [part for part in PARTS if not only or part in only]
    write_json(out / "machine.json", machine.as_dict())
    with TemporaryDirectory(prefix="bench-gpu-") as scratch, _compiled_into(Path(scratch)):
        compilations: dict[str, float] = {}
        with ProcessPoolExecutor(16, mp_context=get_context("spawn")) as pool:
            begun: list[Future[Any]] = []
            if "precision" in parts:
                folder = out / "precision"
                progress(f"precisions, runs into {folder}")
                _plan_precisions(folder, pack, device)
                begun += [pool.submit(_run_precisions, folder, pack, device, part, 3) for part in range(3)]
            if "steps" in parts:
                progress("compilation, all at once")
                # the one that takes longest first
                names = sorted(
                    list_architectures(task="tagging", in_all_only=True), key=lambda each: each != "densenet121"
                )
                found = {each: pool.submit(_compile, each, device, batch_size) for each in names}
                compilations = {each: _result(future, progress) for each, future in found.items()}
                progress(f"compiled in seconds: {compilations}")
            for future in begun:
                _result(future, progress)
        if "steps" in parts:
            rows = []
            for each in list_architectures(task="tagging", in_all_only=True):
                progress(f"steps of {each}")
                rows.append({"architecture": each, **_steps(each, device, batch_size, compilations[each], progress)})
                # whole at any time
                pd.DataFrame(rows).to_csv(out / "steps.csv", index=False, float_format="%.5g")
        if "cost" in parts:
            progress("bench cost controlled")
            _write_cost(out, Path(scratch), device)
        if "precision" in parts:
            progress("the report on precisions")
            report(out / "precision")
    return write_gpu(out)


def _result(future: "Future[Any]", progress: Callable[[str], None]) -> Any:
    try:
        return future.result()
    # one of eight should not take the others with it
    except Exception as error:
        progress(f"failed: {type(error).__name__}: {one_line(error)[:300]}")
        return float("nan")


@contextmanager
def _compiled_into(folder: Path) -> Iterator[None]:
    """Keep what is compiled in a folder: processes hand it on to each other by it."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCHINDUCTOR_CACHE_DIR"]
        else:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


# --- training steps


def _recipe(name: str, way: _Way, batch_size: int) -> Recipe:
    """Return the recipe of `controlled`, in this way."""
    suite = load_suite("controlled")
    recipe = suite.settings(Entry(name=name, architecture=name), get_architecture(name).family, {})[1]
    values = {"precision": way.precision, "compile": way.compile, "batch_size": batch_size, "loss": _TASK.losses[0]}
    return recipe.model_copy(update=values)


def _model(name: str, recipe: Recipe, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return create(name, num_classes=_CLASSES).to(device).to(memory_format=layout).train()


def _batch(device: torch.device, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return seconds of noise, with labels as rare as FSD50K's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, 16_000, generator=generator).mul(0.1)
    return x.to(device), (torch.rand(batch_size, _CLASSES, generator=generator) < 0.02).float().to(device)


def _step(name: str, way: _Way, device: torch.device, batch_size: int, notice: Callable[[str], None]) -> Step:
    recipe = _recipe(name, way, batch_size)
    model = _model(name, recipe, device)
    return step_of(model, optimizer_of(model, recipe), _TASK, recipe, device, recipe.max_steps, notice)


def _compile(name: str, device: torch.device, batch_size: int) -> float:
    """Compile an architecture's step in a process of its own; return the seconds that it took."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "12" if name == "densenet121" else "2"
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_PATIENCE)
    fp32_means_fp32()
    step = _step(name, _WAYS[-1], device, batch_size, _refuse)
    step(*_batch(device, batch_size))
    signal.alarm(0)
    assert isinstance(step, CompiledStep)
    return round(step.seconds, 1)


def _give_up(*_: object) -> None:
    raise TimeoutError(f"not compiled within {_PATIENCE} s")


def _refuse(line: str) -> None:
    raise RuntimeError(line)


def _steps(
    name: str, device: torch.device, batch_size: int, compilation: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Return the milliseconds of a step in each way, by turns; of a forward pass of evaluation, and what kernels do."""
    fp32_means_fp32()
    x, y = _batch(device, batch_size)
    model = _model(name, _recipe(name, _WAYS[0], batch_size), device)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    works: dict[str, Callable[[], object]] = {"eager": partial(notes.step, model, adam, x, y)}
    found: dict[str, Any] = {}
    for way in _WAYS:
        if way.compile == "on" and math.isnan(compilation):
            continue
        try:
            step = _step(name, way, device, batch_size, partial(_note, found, way.name))
            # warmed up, recorded and compiled
            for _ in range(6):
                step(x, y)
            works[way.name] = partial(step, x, y)
        except Exception as error:
            progress(f"{name}, {way.name}: {type(error).__name__}: {one_line(error)[:300]}")
    found |= {f"{way}_ms": 1e3 * seconds for way, seconds in _by_turns(works, 0.08, rounds=6).items()}
    found["compile_seconds"] = compilation
    for profiled in {"bf16", "compiled"} & works.keys() if device.type == "cuda" else ():
        found |= _kernels(profiled, works[profiled])
    return found | _evaluation(name, device)


def _note(found: dict[str, Any], way: str, line: str) -> None:
    found[f"{way}_note"] = line


def _by_turns(works: dict[str, Callable[[], object]], seconds: float, rounds: int) -> dict[str, float]:
    """Return the median seconds of each, timed in turns of about so many seconds."""
    counts = dict.fromkeys(works, 1)
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-1, rounds):
        for name, work in works.items():
            _wait()
            started = time.perf_counter()
            for _ in range(counts[name]):
                work()
            _wait()
            each = (time.perf_counter() - started) / counts[name]
            if turn < 0:
                counts[name] = max(1, min(200, round(seconds / each)))
            else:
                taken[name].append(each)
    return {name: median(values) for name, values in taken.items()}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _kernels(way: str, work: Callable[[], object]) -> dict[str, float]:
    """Return how many kernels a step has, and which shares of their time go where."""
    steps = 5
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(steps):
            work()
        _wait()
    taken: Counter[str] = Counter()
    count = 0
    for event in profile.events():
        if event.device_type == DeviceType.CUDA:
            kind = next((kind for kind, names in _KINDS.items() if re.search(names, event.name)), "element-wise")
            taken[kind] += event.device_time
            count += 1
    whole = sum(taken.values())
    return {f"{way}_kernels": count / steps} | {f"{way}_{kind}": value / whole for kind, value in taken.items()}


def _evaluation(name: str, device: torch.device) -> dict[str, float]:
    """Return the milliseconds of a forward pass of evaluation, as it is and recorded."""
    model = _model(name, _recipe(name, _WAYS[0], 1), device).eval()
    x = torch.randn(evaluation_batch_size(device), 16_000, device=device).mul(0.1)
    with torch.inference_mode():
        works: dict[str, Callable[[], object]] = {"evaluation": lambda: model(x)}
        if device.type == "cuda":
            graphs = CudaGraphs()
            graphs.warm_up(lambda: model(x))
            works["evaluation_recorded"] = graphs.record(lambda: model(x))[0]
        return {f"{way}_ms": 1e3 * seconds for way, seconds in _by_turns(works, 0.05, rounds=5).items()}


# --- a whole suite


def _write_cost(out: Path, scratch: Path, device: torch.device) -> None:
    """Time `bench cost controlled` on a pack of FSD50K's size, and keep what it says."""
    pack = made.silent_pack(scratch / "fsd50k", clips=_CLIPS, seconds=_SECONDS)
    started = time.perf_counter()
    found: SuiteCost = cost("controlled", data=pack, device=str(device), display=Display())
    seconds = time.perf_counter() - started
    found.table.to_csv(out / "cost.csv", index=False, float_format="%.5g")
    write_json(out / "cost.json", {"seconds": round(seconds, 1), "hours": found.hours, "failed": found.failed})


# --- precisions


def _plan_precisions(folder: Path, pack: Path, device: torch.device) -> None:
    suite, results = load_suite(str(_SUITE)), ResultsFolder(folder)
    runs = plan(suite, [Pack(pack)], results, device=device)
    results.add_labels(runs[0].pack, runs[0].task)
    results.add_to_plan(suite.title, [run.folder.name for run in runs])


def _run_precisions(folder: Path, pack: Path, device: torch.device, part: int, parts: int) -> None:
    """Train every so-manieth run, in a process of its own."""
    torch.set_num_threads(1)
    with warnings.catch_warnings(action="ignore"):
        runs = plan(load_suite(str(_SUITE)), [Pack(pack)], ResultsFolder(folder), device=device)
        run_all(runs[part::parts], LocalExecutor(device), Display())


# --- the table


def write_gpu(out: Path) -> str:
    """Write and return the table of what was measured."""
    machine = pd.read_json(out / "machine.json", typ="series")
    text = f"On one {machine['name']}, torch {machine['torch']}"
    if (path := out / "steps.csv").exists():
        steps = pd.read_csv(path).set_index("architecture")
        text += f":\n\n{_steps_table(steps)}\n"
        if (path := out / "cost.csv").exists():
            text += f"\n{_hours_table(steps, pd.read_csv(path).set_index('entry'))}\n"
    if (path := out / "precision" / "differences.csv").exists():
        text += f"\n{_precision_table(pd.read_csv(path))}\n"
    (out / "table.md").write_text(text, "utf-8")
    return text


def _steps_table(steps: pd.DataFrame) -> str:
    lines = [
        "| ms a step of 64 s | eager, fp32 | fp32 | TF32 | bf16 | bf16, compiled | times | compilation |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in steps.iterrows():
        best = min(value for way in _WAYS if (value := row.get(f"{way.name}_ms", math.nan)) > 0)
        cells = [f"{row.get(f'{way}_ms', math.nan):.3g}" for way in ("eager", *(way.name for way in _WAYS))]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {row['eager_ms'] / best:.1f} | {row['compile_seconds']:.0f} s |"
        )
    return "\n".join(lines)


def _hours_table(steps: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Return the hours of `controlled` in each way: steps as measured here, all else as `bench cost` says."""
    lines = [
        "| hours of `controlled` | training | evaluation | all else | in all |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    training, evaluation = (_SEEDS * costs[f"{part}_seconds"].sum() / 3600 for part in ("training", "evaluation"))
    rest = costs["total_seconds"].sum() / 3600 - training - evaluation
    for way in ("eager", *(way.name for way in _WAYS)):
        training = _SEEDS * _STEPS * steps[f"{way}_ms"].sum() / 1e3 / 3600
        if way == "compiled":
            training += steps["compile_seconds"].sum() / 3600
        cells = (training, evaluation, rest, training + evaluation + rest)
        lines.append(f"| {way} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    return "\n".join(lines)


def _precision_table(differences: pd.DataFrame) -> str:
    """Return what each architecture loses beside fp32, and whether it is equivalent within .01 mAP."""
    lines = ["| mAP less that in fp32 | TF32 | | bf16 | |", "| --- | ---: | --- | ---: | --- |"]
    by_pair = {(row["first"], row["second"]): row for _, row in differences.iterrows()}
    for name in list_architectures(task="tagging", in_all_only=True):
        cells = []
        for precision in ("tf32", "bf16"):
            pair = (f"{name}-precision_{precision}", f"{name}-precision_fp32")
            row, sign = (by_pair[pair], 1) if pair in by_pair else (by_pair[pair[::-1]], -1)
            low, high = sorted((sign * row["map_low"], sign * row["map_high"]))
            cells += [f"{sign * row['map']:+.3f} ({low:+.3f} to {high:+.3f})", str(row["map_equivalence"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
