"""A generated data set in the layout of FSD50K, to try the benchmark in minutes: WAV files and the official
tables, for 28 leaf classes and their ancestors. Scores on it say nothing about scores on FSD50K."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from bench.data.readers.fsd50k import FSDClass, load_classes
from bench.data.synthetic.synthesis import (
    RATE,
    SOUNDS,
    Array,
    Rng,
    band,
    coloured_noise,
    log_uniform,
    samples,
    total,
)
from bench.disk import partial_path, require_space
from bench.errors import UserError

SECONDS = (0.3, 6.0)
SNR_DB = (10, 40)
PEAK_DBFS = (-30, -1)
MIXTURES = 0.2  # share of clips with two sounds
VALIDATION = 0.2  # share of dev
IMBALANCE = 3  # how often the commonest class occurs for once of the rarest
ECHOES = 12
RECORDISTS = {"train": 10, "val": 4, "eval": 5}
FEWEST = -(-len(SOUNDS) // 2)  # clips of two sounds each that hold every class once
BYTES_PER_CLIP = 250_000  # on average, at 2.6 s
LICENSE = "http://creativecommons.org/publicdomain/zero/1.0/"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Recordist:
    """An uploader: room, microphone and background are the same in all of their clips."""

    name: str
    echoes: list[tuple[int, float]]  # delay in samples and gain of each early reflection
    limits: tuple[float, float]  # of the microphone's band, in Hz
    background: Array  # a recording of nothing in particular, longer than any clip


@dataclass(frozen=True)
class Clip:
    id: int
    split: str
    sounds: tuple[str, ...]
    recordist: Recordist


def write_demo(
    folder: Path,
    *,
    dev_clips: int = 700,
    eval_clips: int = 250,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Writes the demo set: all of it, or nothing. The same arguments give the same bytes."""
    check_sizes(dev_clips, eval_clips)
    check_vacant(folder)
    require_space(folder, BYTES_PER_CLIP * (dev_clips + eval_clips))
    whole = folder.resolve()
    partial = partial_path(whole)
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        clips = plan(dev_clips, eval_clips, seed)
        write_tables(partial, clips, load_classes())
        write_audio(partial, clips, seed, progress)
        if whole.exists():
            whole.rmdir()
        partial.rename(whole)
    except soundfile.LibsndfileError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{partial}: cannot write ({error}): is the disk full?") from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_sizes(dev_clips: int, eval_clips: int) -> None:
    if dev_clips < 2 * FEWEST or eval_clips < FEWEST:
        raise UserError(
            f"{dev_clips} dev and {eval_clips} eval clips cannot hold every class: "
            f"ask for at least {2 * FEWEST} dev and {FEWEST} eval clips"
        )


def check_vacant(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise UserError(f"{folder} exists and is not an empty folder: delete it or name another folder")


# The plan: who records what, and for which split


def plan(dev_clips: int, eval_clips: int, seed: int) -> list[Clip]:
    """All clips, by ID."""
    rng = np.random.default_rng([seed, 0])  # clips have the streams of their IDs, which start at 1
    val_clips = max(round(VALIDATION * dev_clips), FEWEST)
    sizes = {"train": dev_clips - val_clips, "val": val_clips, "eval": eval_clips}
    ids = iter(1 + rng.permutation(500_000)[: dev_clips + eval_clips])
    popularity = IMBALANCE ** -np.linspace(0, 1, len(SOUNDS))[rng.permutation(len(SOUNDS))]
    clips: list[Clip] = []
    number = 0
    for split, size in sizes.items():
        recordists = [recordist(rng, f"recordist_{number + i:02d}") for i in range(RECORDISTS[split])]
        number += len(recordists)
        for sounds in spread(rng, size, popularity):
            clips.append(Clip(int(next(ids)), split, sounds, recordists[rng.integers(len(recordists))]))
    return sorted(clips, key=lambda clip: clip.id)


def recordist(rng: Rng, name: str) -> Recordist:
    """The room is a tapped delay line, as for the early reflections in Moorer (1979)."""
    delays = rng.integers(1, samples(log_uniform(rng, 0.005, 0.08)), ECHOES)
    gains = rng.uniform(0, 0.5) * rng.uniform(-1, 1, ECHOES)
    limits = (log_uniform(rng, 30, 200), log_uniform(rng, 4000, 16_000))
    background = band(coloured_noise(rng, samples(2 * SECONDS[1]), float(rng.choice([0, 1, 2]))), *limits)
    return Recordist(name, list(zip(delays.tolist(), gains.tolist(), strict=True)), limits, background)


def spread(rng: Rng, clips: int, popularity: Array) -> list[tuple[str, ...]]:
    """The sounds of each clip. Every class occurs: where clips are few, more of them are mixtures."""
    extra = max(round((1 + MIXTURES) * clips), len(SOUNDS)) - len(SOUNDS)
    shares = np.cumsum(extra * popularity / popularity.sum())
    counts = 1 + np.diff(np.rint(shares), prepend=0).astype(int)
    deck = rng.permutation(np.repeat(sorted(SOUNDS), counts)).tolist()
    first, second = deck[:clips], deck[clips:]
    mixtures = [(a, b) if a != b else (a,) for a, b in zip(first, second, strict=False)]
    return mixtures + [(a,) for a in first[len(second) :]]


# Audio


def write_audio(folder: Path, clips: Sequence[Clip], seed: int, progress: Progress | None) -> None:
    """One WAV for each clip, several at a time: numpy and scipy release the lock in most of their loops."""

    def write(clip: Clip) -> None:
        path = audio_folder(folder, clip.split) / f"{clip.id}.wav"
        soundfile.write(path, render(clip, seed), RATE, "PCM_16")

    for split in RECORDISTS:
        audio_folder(folder, split).mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        futures = [pool.submit(write, clip) for clip in clips]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            if progress:
                progress(done, len(clips))
    finally:
        pool.shutdown(cancel_futures=True)


def audio_folder(folder: Path, split: str) -> Path:
    return folder / ("FSD50K.eval_audio" if split == "eval" else "FSD50K.dev_audio")


def render(clip: Clip, seed: int) -> NDArray[np.int16]:
    """The sounds of the clip as its recordist hears them, in their background noise."""
    rng = np.random.default_rng([seed, clip.id])
    shortest, longest = SECONDS
    n = samples(shortest + (longest - shortest) * rng.beta(1.1, 1.6))  # skewed to short, 2.6 s on average
    dry = total(decibels(rng.uniform(-6, 0)) * unit(SOUNDS[label](rng, n)) for label in clip.sounds)
    signal = band(reverberate(dry, clip.recordist), *clip.recordist.limits)
    start = rng.integers(len(clip.recordist.background) - n)
    background = clip.recordist.background[start : start + n]
    mix = unit(signal) + decibels(-rng.uniform(*SNR_DB)) * unit(background)
    peak = decibels(rng.uniform(*PEAK_DBFS)) / np.abs(mix).max()
    samples_16_bit: NDArray[np.int16] = np.rint(32_767 * peak * mix).astype(np.int16)
    return samples_16_bit


def reverberate(dry: Array, recordist: Recordist) -> Array:
    wet = dry.copy()
    for delay, gain in recordist.echoes:
        wet[delay:] += gain * dry[:-delay]
    return wet


def unit(x: Array) -> Array:
    """Scaled to a root mean square of one."""
    return x / float(np.sqrt(np.mean(x**2)))


def decibels(level: float) -> float:
    """The factor of amplitude that a level in dB stands for."""
    return float(10 ** (level / 20))


# Tables


def write_tables(folder: Path, clips: Sequence[Clip], classes: Iterable[FSDClass]) -> None:
    by_label = {entry.label: entry for entry in classes}
    truth, metadata = folder / "FSD50K.ground_truth", folder / "FSD50K.metadata"
    truth.mkdir(parents=True)
    metadata.mkdir()

    vocabulary = sorted(propagate(SOUNDS, by_label))
    rows = [[index, label, by_label[label].mid] for index, label in enumerate(vocabulary)]
    write_csv(truth / "vocabulary.csv", rows)

    dev = [clip for clip in clips if clip.split != "eval"]
    rows = [[*ground_truth(clip, by_label), clip.split] for clip in dev]
    write_csv(truth / "dev.csv", [["fname", "labels", "mids", "split"], *rows])
    write_json(metadata / "dev_clips_info_FSD50K.json", {str(clip.id): clip_info(clip) for clip in dev})

    test = [clip for clip in clips if clip.split == "eval"]
    rows = [ground_truth(clip, by_label) for clip in test]
    write_csv(truth / "eval.csv", [["fname", "labels", "mids"], *rows])
    write_json(metadata / "eval_clips_info_FSD50K.json", {str(clip.id): clip_info(clip) for clip in test})


def propagate(leaves: Iterable[str], by_label: Mapping[str, FSDClass]) -> list[str]:
    """The leaves, then their ancestors from the nearest up, each once: the order of FSD50K."""
    leaves = list(leaves)
    ancestors = [label for leaf in leaves for label in reversed(by_label[leaf].ancestors)]
    return list(dict.fromkeys(leaves + ancestors))


def ground_truth(clip: Clip, by_label: Mapping[str, FSDClass]) -> list[Any]:
    labels = propagate(clip.sounds, by_label)
    return [clip.id, ",".join(labels), ",".join(by_label[label].mid for label in labels)]


def clip_info(clip: Clip) -> dict[str, Any]:
    names = [label.replace("_", " ").lower() for label in clip.sounds]
    return {
        "title": f"{' and '.join(names)} {clip.id}.wav",
        "description": f"Generated: {' and '.join(names)}.",
        "tags": ["generated", *names],
        "license": LICENSE,
        "uploader": clip.recordist.name,
    }


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8", newline="\n")
