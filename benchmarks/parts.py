"""The pairs: each part of a benchmark's work, ours beside what one would otherwise write."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from functools import partial
from os import cpu_count
from pathlib import Path
from shutil import rmtree
from statistics import median

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr
import torch
from torch import nn

from architectures import Stepping, create, get_architecture, list_architectures
from bench.data.packing import pack
from bench.protocol.cuda_graphs import Step
from bench.protocol.evaluate import evaluation_batch_size
from bench.protocol.metrics import average_precision
from bench.protocol.optim import optimizer_of
from bench.protocol.precision import computes_bf16
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import step_of, train_step
from bench.runner.cost import count_macs
from bench.stats.bootstrap import Resampler, bootstrap
from bench.suites.suite import Entry, load_suite
from benchmarks import made, notes
from benchmarks.machine import synchronize
from benchmarks.roofline import count_bytes
from benchmarks.rows import Pair, Row, row
from benchmarks.setup import Setup
from benchmarks.turns import Turns, clock, in_turns

__all__ = ["PARTS", "random_scores"]

# 80.4 h of 40,966 clips
_DEV_SECONDS = 7.06
# a whole number of the bootstrap's blocks
_RESAMPLES = 512

_TASK = get_task("tagging")


def _data_path(setup: Setup) -> Iterator[Row]:
    """Read batches of recordings of FSD50K's mean length, of which the other decodes all for a second."""
    folder = made.recordings(setup.scratch / "mean", 0.1 if setup.quick else 0.5, seconds=_DEV_SECONDS)
    data = _TASK.data(pack(folder, setup.scratch / "mean-16000"), "train", Recipe(), setup.device)
    clips = notes.Clips(folder, 16_000)
    b, rounds = setup.batch_size, 50
    loader = notes.batches(clips, b, workers=2)
    # by the other; its workers prefetch 4 of them before its turn, which is to its good
    read = 12

    def ours() -> None:
        for step in range(rounds):
            synchronize(data.batch(data.draw(step, b, seed=0))[0])

    def other() -> None:
        for _ in range(read):
            next(loader)

    turns = in_turns(other, ours, seconds=2 * setup.seconds, pause=1.0).per_unit(read, rounds)
    # int16 copied, made floats, scaled in place
    copied = b * data.size * (2 * 2 + 2 + 4 + 2 * 4)
    share = copied / (setup.machine.copy_bytes * min(turns.ours))
    pair = Pair(
        "data path", f"batch {b}", "DataLoader, 2 workers, decoding", "a batch of seconds from the pack", target=200
    )
    yield row(pair, turns, f"{share:.0%} of a copy of memory")


def _packing(setup: Setup) -> Iterator[Row]:
    hours = 0.5 if setup.quick else 10
    folder = made.recordings(setup.scratch / "recordings", hours)
    files = sorted(folder.glob("FSD50K.*_audio/*.wav"))

    def other() -> None:
        with ThreadPoolExecutor(cpu_count()) as pool:
            list(pool.map(_decode, files))

    def ours() -> None:
        rmtree(setup.scratch / "packed", ignore_errors=True)
        pack(folder, setup.scratch / "packed")

    turns = in_turns(other, ours, seconds=2 * setup.seconds)
    speed = 3600 * hours / min(turns.ours)
    pair = Pair(
        "pack",
        f"{hours:g} h",
        "bare loop: decode and resample, all cores",
        "pack, checked, hashed and written",
        target=1.3,
        at_most=True,
    )
    yield row(pair, turns, f"{speed:,.0f} times real time")


def _resampling(setup: Setup) -> Iterator[Row]:
    """Decode a recording, and resample it from 44.1 to 16 kHz."""
    import torchaudio

    file = min(setup.dataset.glob("FSD50K.dev_audio/*.wav"))

    def by_torchaudio() -> object:
        x, rate = sf.read(file, dtype="float32")
        return torchaudio.transforms.Resample(rate, 16_000)(torch.from_numpy(x))

    others: dict[str, Callable[[], object]] = {"torchaudio, a new Resample each time": by_torchaudio}
    with suppress(ImportError):
        import librosa

        others["librosa"] = lambda: librosa.load(file, sr=16_000)
    ours = partial(_decode, file)
    for name, other in others.items():
        turns = in_turns(other, ours, seconds=setup.seconds / 2)
        speed = sf.info(file).duration / median(turns.ours)
        pair = Pair(f"resample, {name}", name, name, "soundfile and soxr")
        yield row(pair, turns, f"{speed:,.0f} times real time, one core")


def _decode(file: Path) -> int:
    """Decode and resample a recording as packing does; return how many samples it has at 16 kHz."""
    x, rate = sf.read(file, dtype="float32")
    return len(np.rint(soxr.resample(x, rate, 16_000, quality="HQ") * 32768).astype(np.int16))


def _training_step(setup: Setup) -> Iterator[Row]:
    """Train the same model on the same batch, which lies on the device."""
    for name in list_architectures(task="tagging", in_all_only=True):
        trained = _Trained(setup, name)
        x, y = trained.batch()
        turns = in_turns(partial(trained.other, x, y), partial(trained.ours, x, y), seconds=setup.seconds)
        yield trained.row("step", "same batch, fp32, eager Adam", turns)


def _training_loop(setup: Setup) -> Iterator[Row]:
    """Train with the data that a step needs; the transformers, whose steps are short.

    What the DataLoader's workers prefetch during our turn is to the other's good, and to our harm: a third of a turn.
    """
    clips = notes.Clips(setup.dataset, 16_000)
    data = setup.data()
    loader = notes.batches(clips, setup.batch_size, workers=2)
    steps = 12
    for name in list_architectures(task="tagging", in_all_only=True):
        if get_architecture(name).family != "transformer":
            continue
        trained = _Trained(setup, name, clips.classes)

        def other(trained: _Trained = trained) -> None:
            for _ in range(steps):
                x, y = next(loader)
                trained.other(x.to(setup.device), y.to(setup.device))

        def ours(trained: _Trained = trained) -> None:
            for step in range(steps):
                trained.ours(*data.batch(data.draw(step, setup.batch_size, seed=0)))

        turns = in_turns(other, ours, seconds=setup.seconds).per_unit(steps, steps)
        yield trained.row("loop", "DataLoader, 2 workers, and its loop", turns)


class _Trained:
    """An architecture, twice: trained in the other way, and as the demo suite asks."""

    def __init__(self, setup: Setup, name: str, classes: int = 200) -> None:
        self.setup, self.name, self.classes = setup, name, classes
        self.family = get_architecture(name).family
        self.recipe = _demo_recipe(name, setup.device)
        torch.manual_seed(0)
        self.first = create(name, num_classes=classes).to(setup.device).train()
        self.second = create(name, num_classes=classes).to(setup.device).train()
        self.adam = torch.optim.Adam(self.first.parameters(), lr=1e-4)
        self.adamw = optimizer_of(self.second, self.recipe)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return seconds of sound, with labels as rare as FSD50K's."""
        data = self.setup.data()
        x = data.waveforms(data.draw(0, self.setup.batch_size, seed=0))
        return x, (torch.rand(len(x), self.classes, device=self.setup.device) < 0.02).float()

    def other(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take a step in the other way."""
        synchronize(notes.step(self.first, self.adam, x, y))

    def ours(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Take a step in ours."""
        synchronize(train_step(self.second, self.adamw, x, y, _TASK, self.recipe))

    def row(self, part: str, other: str, turns: Turns) -> Row:
        """Return what turns say, with operations and bytes of a step."""
        x, y = self.batch()
        # backward is twice the forward
        flops = 3 * 2 * count_macs(create(self.name), torch.zeros(1, 16_000)) * len(x)
        peak = self.setup.machine.flops_bf16 if self.recipe.precision == "bf16" else self.setup.machine.flops_fp32
        share = flops / min(turns.ours) / peak
        target = 3.0 if self.family == "cnn" else 1.5
        pair = Pair(f"{part}, {self.family}s", self.name, other, f"{part}, {self.family}s, {self._how}", target=target)
        limit = f"{share:.0%} of a matrix product in {self.recipe.precision} ({self.name})"
        return row(pair, turns, limit, flops=flops, bytes=count_bytes(lambda: self.ours(x, y)))

    @property
    def _how(self) -> str:
        return self.recipe.precision + (", channels_last" if self.recipe.channels_last else "")


def _demo_recipe(name: str, device: torch.device) -> Recipe:
    """Return the recipe by which the demo suite trains an architecture on a device."""
    suite = load_suite("demo")
    recipe = suite.settings(Entry(name=name, architecture=name), get_architecture(name).family, {})[1]
    return recipe.settled(bf16=computes_bf16(device), loss=_TASK.losses[0])


def _variants(setup: Setup) -> Iterator[Row]:
    """Compare what pooling and averages at several scales cost beside the plain transformer."""
    plain = _Trained(setup, "transformer_large")
    x, y = plain.batch()
    macs = count_macs(create("transformer_large"), torch.zeros(1, 16_000))
    for name in ("transformer_pooled", "transformer_multiscale"):
        variant = _Trained(setup, name)
        turns = in_turns(partial(plain.ours, x, y), partial(variant.ours, x, y), seconds=setup.seconds)
        share = count_macs(create(name), torch.zeros(1, 16_000)) / macs
        pair = Pair(name, name, "the plain large one's step", f"{name}'s step", target=1.15, at_most=True)
        yield row(pair, turns, f"{share:.2f} of its multiply-accumulates")


def _evaluation(setup: Setup) -> Iterator[Row]:
    """Score a split, beside the forward passes that this takes."""
    for name in ("transformer_small", "vgg_like"):
        data = setup.data("val", clips=20 if setup.quick else 100)
        model = create(name, num_classes=data.targets.shape[1]).to(setup.device).eval()
        # for the memory layout
        optimizer_of(model, _demo_recipe(name, setup.device))
        ready = [data.waveforms(ids) for ids in data.in_order(evaluation_batch_size(setup.device))]

        def other(model: nn.Module = model, ready: list[torch.Tensor] = ready) -> None:
            with torch.inference_mode():
                for x in ready:
                    synchronize(model(x))

        turns = in_turns(other, partial(_TASK.score, model, data), seconds=setup.seconds)
        pair = Pair(
            "evaluation",
            name,
            "forward of the same chunks",
            "scores of a split, in one pass",
            target=1.1,
            at_most=True,
        )
        yield row(pair, turns, "the forward")


def random_scores(clips: int, classes: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Return random targets, of which every class has some, and scores."""
    rng = np.random.default_rng(0)
    targets = rng.random((clips, classes)) < 0.015
    targets[np.arange(classes) % clips, np.arange(classes)] = True
    return targets, rng.random((clips, classes), dtype=np.float32)


def _metrics(setup: Setup) -> Iterator[Row]:
    from sklearn.metrics import average_precision_score

    targets, scores = random_scores(10_231, 200)

    def by_sklearn() -> object:
        return average_precision_score(targets, scores, average=None)

    others: dict[str, Callable[[], object]] = {"scikit-learn": by_sklearn}
    with suppress(ImportError):
        from torchmetrics.functional.classification import multilabel_average_precision

        s, t = torch.from_numpy(scores), torch.from_numpy(targets).int()
        others["torchmetrics"] = lambda: multilabel_average_precision(s, t, 200, average="none").numpy()
    for name, other in others.items():
        apart = np.abs(np.asarray(other()) - average_precision(targets, scores)).max()
        turns = in_turns(other, lambda: average_precision(targets, scores), seconds=setup.seconds)
        sorting = clock(lambda: np.argsort(scores, axis=0)) / min(turns.ours)
        pair = Pair(f"mAP, {name}", f"10,231 x 200, {name}", name, "mAP", target=1.0)
        yield row(pair, turns, f"values apart by {apart:.0e}; sorting alone is {sorting:.0%} of it")


def _resamples(setup: Setup) -> Iterator[Row]:
    """Compute the same statistic on resamples: macro mAP, replicate by replicate."""
    from sklearn.metrics import average_precision_score

    targets, scores = random_scores(2_000, 200)
    leaf = np.ones(200, bool)
    ids = np.random.default_rng(0).integers(2_000, size=2_000)
    drawn = targets[ids].any(axis=0)

    def other() -> None:
        average_precision_score(targets[ids][:, drawn], scores[ids][:, drawn], average="macro")

    def ours() -> None:
        bootstrap({"one": {0: _TASK.statistic(targets, scores, leaf)}}, Resampler(2_000, resamples=_RESAMPLES))

    turns = in_turns(other, ours, seconds=setup.seconds).per_unit(1, _RESAMPLES)
    share = 2_000 * 200 / (setup.machine.copy_bytes * min(turns.ours))
    pair = Pair("bootstrap", "2,000 x 200", "scikit-learn, resample by resample", "a resample of the bootstrap")
    yield row(pair, turns, f"{share:.0%} of reading a byte a score at the speed of a copy")


def _start_up(setup: Setup) -> Iterator[Row]:
    del setup

    def python(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)

    turns = in_turns(python("-c", "pass"), python("-m", "bench", "--help"), seconds=4)
    seconds = sorted(turns.ours)[len(turns.ours) // 2]
    target = round(0.3 / sorted(turns.other)[len(turns.other) // 2], 1)
    pair = Pair("start-up", f"{min(turns.ours):.2f} s", "python -c pass", "bench --help", target=target, at_most=True)
    yield row(pair, turns, f"{seconds:.2f} s, of which Python {min(turns.other):.2f} s; target .3 s")


def _compiled(setup: Setup) -> Iterator[Row]:
    """Compile a step by torch.compile, and count what that takes to start."""
    if setup.quick:
        return
    for name in ("transformer_small", "transformer_large", "vgg_like"):
        plain, other = _Trained(setup, name), _Trained(setup, name)
        x, y = plain.batch()
        recipe = other.recipe.model_copy(update={"compile": "on"})
        step = step_of(other.second, other.adamw, _TASK, recipe, setup.device, recipe.max_steps)

        def compiled(step: Step = step, x: torch.Tensor = x, y: torch.Tensor = y) -> object:
            return synchronize(step(x, y))

        start = clock(compiled)
        turns = in_turns(partial(plain.ours, x, y), compiled, seconds=setup.seconds)
        saved = min(turns.other) - min(turns.ours)
        pays = f"pays after {start / saved:,.0f} steps" if saved > 0 else "never pays"
        yield row(Pair("compile", name, "our step", "our step, torch.compile"), turns, f"start {start:.0f} s: {pays}")


def _generation(setup: Setup) -> Iterator[Row]:
    """Predict the last samples of a context of 1,600, each by a full pass or by one step from what is cached."""
    context, steps = 1600, 10 if setup.quick else 100
    for name, target in (("sample_transformer_3", 20.0), ("wavenet_11", 10.0)):
        model = create(name).to(setup.device).eval()
        assert isinstance(model, Stepping)
        codes = torch.randint(256, (1, context), generator=torch.Generator().manual_seed(0)).to(setup.device)
        # a turn that takes the last steps alone: what precedes them is computed once, whichever way
        with torch.inference_mode():
            _, begun = model.begin(codes[:, : context - steps])

        def other(model: nn.Module = model, codes: torch.Tensor = codes) -> None:
            with torch.inference_mode():
                synchronize(model(codes))

        def ours(model: Stepping = model, codes: torch.Tensor = codes, begun: object = begun) -> None:
            state = deepcopy(begun)
            with torch.inference_mode():
                for code in codes[:, context - steps :].T:
                    logits, state = model.step(code, state)
                synchronize(logits)

        turns = in_turns(other, ours, seconds=setup.seconds).per_unit(1, steps)
        pair = Pair(f"generation, {name}", name, "a full pass", "a sample from what is cached", target=target)
        yield row(pair, turns, f"{1 / median(turns.ours):,.0f} samples a second")


PARTS: dict[str, Callable[[Setup], Iterator[Row]]] = {
    "data": _data_path,
    "resample": _resampling,
    "pack": _packing,
    "step": _training_step,
    "loop": _training_loop,
    "variants": _variants,
    "evaluation": _evaluation,
    "metrics": _metrics,
    "bootstrap": _resamples,
    "startup": _start_up,
    "compile": _compiled,
    "generation": _generation,
}
