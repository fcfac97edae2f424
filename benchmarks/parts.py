"""The pairs: each part of a benchmark's work, ours beside what one would otherwise write."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import cpu_count
from pathlib import Path
from shutil import rmtree
from statistics import median

import numpy as np
import soundfile as sf
import soxr
import torch
from torch import nn

from architectures import create, get_architecture, list_architectures
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.protocol.batches import Chunks
from bench.protocol.cuda_graphs import Replayed
from bench.protocol.evaluate import CPU_BATCH_SIZE, score_clips
from bench.protocol.metrics import average_precision
from bench.protocol.precision import computes_bf16
from bench.protocol.recipe import Recipe
from bench.protocol.train import batches, optimizer_of, step, updates_of
from bench.runner.cost import count_macs
from bench.stats.bootstrap import BLOCK, Draws, bootstrap
from bench.suites.suite import Entry, load_suite
from benchmarks import made, notes
from benchmarks.machine import Machine, waited
from benchmarks.roofline import count_bytes
from benchmarks.rows import Row, row
from benchmarks.turns import Turns, clock, in_turns


@dataclass(frozen=True)
class Bench:
    """What the parts are measured on and with."""

    machine: Machine
    device: torch.device
    dataset: Path  # the generated recordings at 44.1 kHz
    pack: Path  # the same at 16 kHz
    scratch: Path
    quick: bool

    @property
    def seconds(self) -> float:
        """For a pair."""
        return 2.0 if self.quick else 12.0

    @property
    def batch_size(self) -> int:
        return 16 if self.quick else 64


DEV_SECONDS = 7.06  # 80.4 h of 40,966 clips


def data_path(bench: Bench) -> Iterator[Row]:
    """On recordings of FSD50K's mean length, of which the other decodes all for a second."""
    folder = made.recordings(bench.scratch / "mean", 0.1 if bench.quick else 0.5, seconds=DEV_SECONDS)
    data = Chunks(pack(folder, bench.scratch / "mean-16000"), "train", device=bench.device)
    clips = notes.Clips(folder, 16_000)
    b, rounds = bench.batch_size, 50
    loader = notes.batches(clips, b, workers=2)
    read = 12  # by the other; its workers prefetch 4 of them before its turn, which is to its good

    def ours() -> None:
        for update in range(rounds):
            waited(data.batch(data.draw(update, b, seed=0))[0])

    def other() -> None:
        for _ in range(read):
            next(loader)

    turns = per_unit(in_turns(other, ours, seconds=2 * bench.seconds, pause=1.0), read, rounds)
    copied = b * data.size * (2 * 2 + 2 + 4 + 2 * 4)  # int16 copied, made floats, scaled in place
    share = copied / (bench.machine.copy_bytes * min(turns.ours))
    yield row(
        "data path", f"batch {b}", "DataLoader, 2 workers, decoding", "a batch of seconds from the pack", turns,
        f"{share:.0%} of a copy of memory", target=200,
    )  # fmt: skip


def packing(bench: Bench) -> Iterator[Row]:
    hours = 0.5 if bench.quick else 10
    folder = made.recordings(bench.scratch / "recordings", hours)
    files = sorted(folder.glob("FSD50K.*_audio/*.wav"))

    def other() -> None:
        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(decode, files))

    def ours() -> None:
        rmtree(bench.scratch / "packed", ignore_errors=True)
        pack(folder, bench.scratch / "packed")

    turns = in_turns(other, ours, seconds=2 * bench.seconds)
    speed = 3600 * hours / min(turns.ours)
    yield row(
        "pack", f"{hours:g} h", "bare loop: decode and resample, all cores", "pack, checked, hashed and written", turns,
        f"{speed:,.0f} times real time", target=1.3, at_most=True,
    )  # fmt: skip


def resampling(bench: Bench) -> Iterator[Row]:
    """A recording, decoded and resampled from 44.1 to 16 kHz."""
    import torchaudio

    file = min(bench.dataset.glob("FSD50K.dev_audio/*.wav"))

    def by_torchaudio() -> object:
        x, rate = sf.read(file, dtype="float32")
        return torchaudio.transforms.Resample(rate, 16_000)(torch.from_numpy(x))

    others: dict[str, Callable[[], object]] = {"torchaudio, a new Resample each time": by_torchaudio}
    with suppress(ImportError):
        import librosa

        others["librosa"] = lambda: librosa.load(file, sr=16_000)
    ours = partial(decode, file)
    for name, other in others.items():
        turns = in_turns(other, ours, seconds=bench.seconds / 2)
        speed = sf.info(file).duration / median(turns.ours)
        yield row(
            "resample, " + name, name, name, "soundfile and soxr", turns, f"{speed:,.0f} times real time, one core"
        )


def decode(file: Path) -> int:
    """How many samples a recording has at 16 kHz, decoded and resampled as packing does."""
    x, rate = sf.read(file, dtype="float32")
    return len(np.rint(soxr.resample(x, rate, 16_000, quality="HQ") * 32768).astype(np.int16))


def training_step(bench: Bench) -> Iterator[Row]:
    """The same model and the same batch, which lies on the device."""
    for name in list_architectures(in_all_only=True):
        trained = Trained(bench, name)
        x, y = trained.batch()
        turns = in_turns(partial(trained.other, x, y), partial(trained.ours, x, y), seconds=bench.seconds)
        yield trained.row("step", "same batch, fp32, eager Adam", turns)


def training_loop(bench: Bench) -> Iterator[Row]:
    """The same with the data that it needs; for the transformers, whose updates are short.

    What the DataLoader's workers prefetch during our turn is to the other's good, and to our harm: a third of a turn.
    """
    clips = notes.Clips(bench.dataset, 16_000)
    data = Chunks(Pack(bench.pack), "train", device=bench.device)
    loader = notes.batches(clips, bench.batch_size, workers=2)
    updates = 12
    for name in list_architectures(in_all_only=True):
        if get_architecture(name).family != "transformer":
            continue
        trained = Trained(bench, name, clips.classes)

        def other(trained: Trained = trained) -> None:
            for _ in range(updates):
                x, y = next(loader)
                trained.other(x.to(bench.device), y.to(bench.device))

        def ours(trained: Trained = trained) -> None:
            for update in range(updates):
                trained.ours(*data.batch(data.draw(update, bench.batch_size, seed=0)))

        turns = per_unit(in_turns(other, ours, seconds=bench.seconds), updates, updates)
        yield trained.row("loop", "DataLoader, 2 workers, and its loop", turns)


class Trained:
    """A contestant, twice: trained in the other way, and as the demo suite asks."""

    def __init__(self, bench: Bench, name: str, classes: int = 200) -> None:
        self.bench, self.name, self.classes = bench, name, classes
        self.family = get_architecture(name).family
        self.recipe = demo_recipe(name, bench.device)
        torch.manual_seed(0)
        self.first = create(name, num_classes=classes).to(bench.device).train()
        self.second = create(name, num_classes=classes).to(bench.device).train()
        self.adam = torch.optim.Adam(self.first.parameters(), lr=1e-4)
        self.adamw = optimizer_of(self.second, self.recipe)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Seconds of sound, with labels as rare as FSD50K's."""
        data = Chunks(Pack(self.bench.pack), "train", device=self.bench.device)
        x = data.waveforms(data.draw(0, self.bench.batch_size, seed=0))
        return x, (torch.rand(len(x), self.classes, device=self.bench.device) < 0.02).float()

    def other(self, x: torch.Tensor, y: torch.Tensor) -> None:
        waited(notes.step(self.first, self.adam, x, y))

    def ours(self, x: torch.Tensor, y: torch.Tensor) -> None:
        waited(step(self.second, self.adamw, x, y, self.recipe))

    def row(self, part: str, other: str, turns: Turns) -> Row:
        x, y = self.batch()
        flops = 3 * 2 * count_macs(create(self.name), 16_000) * len(x)  # backward is twice the forward
        peak = self.bench.machine.flops_bf16 if self.recipe.precision == "bf16" else self.bench.machine.flops_fp32
        share = flops / min(turns.ours) / peak
        return row(
            f"{part}, {self.family}s", self.name, other, f"{part}, {self.family}s, {self.how}", turns,
            f"{share:.0%} of a matrix product in {self.recipe.precision} ({self.name})",
            target=3.0 if self.family == "cnn" else 1.5, flops=flops, bytes=count_bytes(lambda: self.ours(x, y)),
        )  # fmt: skip

    @property
    def how(self) -> str:
        return self.recipe.precision + (", channels_last" if self.recipe.channels_last else "")


def demo_recipe(name: str, device: torch.device) -> Recipe:
    suite = load_suite("demo")
    recipe = suite.settings(Entry(name=name, architecture=name), get_architecture(name).family, {})[1]
    return recipe.on(bf16=computes_bf16(device))


def variants(bench: Bench) -> Iterator[Row]:
    """What pooling and averages at several scales cost beside the plain transformer."""
    plain = Trained(bench, "transformer_large")
    x, y = plain.batch()
    macs = count_macs(create("transformer_large"), 16_000)
    for name in ("transformer_pooled", "transformer_multiscale"):
        variant = Trained(bench, name)
        turns = in_turns(partial(plain.ours, x, y), partial(variant.ours, x, y), seconds=bench.seconds)
        yield row(
            name, name, "the plain large one's step", f"{name}'s step", turns,
            f"{count_macs(create(name), 16_000) / macs:.2f} of its multiply-accumulates", target=1.15, at_most=True,
        )  # fmt: skip


SEEDS = 5


def seeds_at_once(bench: Bench) -> Iterator[Row]:
    """Five seeds of the small transformer as one stacked model, beside one seed."""
    recipe = demo_recipe("transformer_small", bench.device)
    data = Chunks(Pack(bench.pack), "train", device=bench.device)
    classes = data.targets.shape[1]

    def updates(count: int) -> Callable[[], object]:
        models = [create("transformer_small", num_classes=classes).to(bench.device).train() for _ in range(count)]
        update, *_ = updates_of(models, recipe, bench.device)
        own = recipe.model_copy(update={"batch_size": bench.batch_size})
        x, y = batches(data, own, range(count), 0)
        for _ in range(Replayed.EAGER + 1):
            update(x, y)
        return lambda: waited(update(x, y))

    turns = in_turns(updates(1), updates(SEEDS), seconds=bench.seconds)
    # a CPU is filled by one
    target = {"target": 2.0} if bench.device.type == "cuda" else {}
    yield row(
        "seeds", "transformer_small", "an update of one seed", f"an update of {SEEDS} seeds at once", turns,
        f"{SEEDS} times the arithmetic", at_most=True, **target,
    )  # fmt: skip


def evaluation(bench: Bench) -> Iterator[Row]:
    for name in ("transformer_small", "vgg_like"):
        chunks = Chunks(Pack(bench.pack), "val", device=bench.device, first_clips=20 if bench.quick else 100)
        model = create(name, num_classes=chunks.targets.shape[1]).to(bench.device).eval()
        optimizer_of(model, demo_recipe(name, bench.device))  # for the memory layout
        waiting = [chunks.waveforms(ids) for ids in chunks.in_order(CPU_BATCH_SIZE)]

        def other(model: nn.Module = model, waiting: list[torch.Tensor] = waiting) -> None:
            with torch.inference_mode():
                for x in waiting:
                    waited(model(x))

        turns = in_turns(other, partial(score_clips, model, chunks), seconds=bench.seconds)
        yield row(
            "evaluation", name, "forward of the same chunks", "scores of a split, in one pass", turns,
            "the forward", target=1.1, at_most=True,
        )  # fmt: skip


def made_scores(clips: int, classes: int, systems: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    """Random targets, of which every class has some, and scores."""
    rng = np.random.default_rng(0)
    targets = rng.random((clips, classes)) < 0.015
    targets[np.arange(classes) % clips, np.arange(classes)] = True
    return targets, [rng.random((clips, classes), dtype=np.float32) for _ in range(systems)]


def metrics(bench: Bench) -> Iterator[Row]:
    from sklearn.metrics import average_precision_score

    targets, (scores,) = made_scores(10_231, 200)

    def sklearn_ap() -> object:
        return average_precision_score(targets, scores, average=None)

    others: dict[str, Callable[[], object]] = {"scikit-learn": sklearn_ap}
    with suppress(ImportError):
        from torchmetrics.functional.classification import multilabel_average_precision

        s, t = torch.from_numpy(scores), torch.from_numpy(targets).int()
        others["torchmetrics"] = lambda: multilabel_average_precision(s, t, 200, average="none").numpy()
    for name, other in others.items():
        apart = np.abs(np.asarray(other()) - average_precision(targets, scores)).max()
        turns = in_turns(other, lambda: average_precision(targets, scores), seconds=bench.seconds)
        sorting = clock(lambda: np.argsort(scores, axis=0)) / min(turns.ours)
        yield row(
            f"mAP, {name}", f"10,231 x 200, {name}", name, "mAP", turns,
            f"values apart by {apart:.0e}; sorting alone is {sorting:.0%} of it", target=1.0,
        )  # fmt: skip


def draws(bench: Bench) -> Iterator[Row]:
    """The same statistic on the same draws: macro mAP, replicate by replicate."""
    from sklearn.metrics import average_precision_score

    targets, (scores,) = made_scores(2_000, 200)
    ids = np.random.default_rng(0).integers(2_000, size=2_000)
    drawn = targets[ids].any(axis=0)

    def other() -> None:
        average_precision_score(targets[ids][:, drawn], scores[ids][:, drawn], average="macro")

    def ours() -> None:
        bootstrap({"one": [scores]}, targets, np.ones(200, bool), Draws(2_000, resamples=2 * BLOCK))

    turns = per_unit(in_turns(other, ours, seconds=bench.seconds), 1, 2 * BLOCK)
    share = 2_000 * 200 / (bench.machine.copy_bytes * min(turns.ours))
    yield row(
        "bootstrap", "2,000 x 200", "scikit-learn, draw by draw", "a draw of the bootstrap", turns,
        f"{share:.0%} of reading a byte a score at the speed of a copy",
    )  # fmt: skip


def start_up(bench: Bench) -> Iterator[Row]:
    del bench

    def python(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)

    turns = in_turns(python("-c", "pass"), python("-m", "bench", "--help"), seconds=4)
    bare = min(turns.other)
    yield row(
        "start-up", f"{min(turns.ours):.2f} s", "python -c pass", "bench --help", turns,
        f"{sorted(turns.ours)[len(turns.ours) // 2]:.2f} s, of which Python {bare:.2f} s; target .3 s",
        target=round(0.3 / sorted(turns.other)[len(turns.other) // 2], 1), at_most=True,
    )  # fmt: skip


def compiled(bench: Bench) -> Iterator[Row]:
    """torch.compile, with what it takes to start."""
    if bench.quick:
        return
    for name in ("transformer_small", "transformer_large", "vgg_like"):
        plain, other = Trained(bench, name), Trained(bench, name)
        x, y = plain.batch()
        other.second = torch.compile(other.second)  # type: ignore[assignment]
        start = clock(partial(other.ours, x, y))
        turns = in_turns(partial(plain.ours, x, y), partial(other.ours, x, y), seconds=bench.seconds)
        saved = min(turns.other) - min(turns.ours)
        pays = f"pays after {start / saved:,.0f} updates" if saved > 0 else "never pays"
        yield row("compile", name, "our step", "our step, torch.compile", turns, f"start {start:.0f} s: {pays}")


def per_unit(turns: Turns, other: int, ours: int) -> Turns:
    """Seconds for one of the units that a turn does several of."""
    return Turns([s / other for s in turns.other], [s / ours for s in turns.ours])


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "data": data_path,
    "resample": resampling,
    "pack": packing,
    "step": training_step,
    "loop": training_loop,
    "variants": variants,
    "seeds": seeds_at_once,
    "evaluation": evaluation,
    "metrics": metrics,
    "bootstrap": draws,
    "startup": start_up,
    "compile": compiled,
}
