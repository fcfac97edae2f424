"""How well copies of recordings are found: of those planted in a data set, and among generated ones, where none are."""

import csv
import itertools
import os
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copy2, rmtree

import numpy as np
import numpy.typing as npt
import pandas as pd
import soundfile as sf

from bench.data.dataset import Clip
from bench.data.duplicates import Duplicate, find_duplicates
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.data.readers.fsd50k import audio_folder, read_dataset
from bench.data.synthetic.demo import write_demo
from bench.data.threads import in_threads
from benchmarks.turns import in_turns

__all__ = ["KINDS", "Found", "measure_found", "measure_time", "plant"]

Array = npt.NDArray[np.float64]
# Of the clips that are generated, a fifth is eval's.
_EVAL = 5


def _gain(decibels: float, x: Array) -> Array:
    """Make louder, and clip what is beyond full scale."""
    return np.clip(x * 10 ** (decibels / 20), -1, 1)


def _trim(start: float, end: float, x: Array) -> Array:
    """Cut these shares of a sound off."""
    return x[round(start * len(x)) : len(x) - round(end * len(x))]


_louder, _quieter = partial(_gain, 12), partial(_gain, -12)
_start, _end, _both = partial(_trim, 0.1, 0), partial(_trim, 0, 0.1), partial(_trim, 0.1, 0.1)
# what is done to the sound, one after the other, and whether it goes through MP3 then
KINDS: dict[str, tuple[Sequence[Callable[[Array], Array]], bool]] = {
    "+12 dB, clipped": ([_louder], False),
    "-12 dB": ([_quieter], False),
    "first tenth cut": ([_start], False),
    "last tenth cut": ([_end], False),
    "both tenths cut": ([_both], False),
    "MP3": ([], True),
    "+12 dB, both cut": ([_louder, _both], False),
    "-12 dB, MP3": ([_quieter], True),
    "+12 dB, MP3": ([_louder], True),
    "both cut, MP3": ([_both], True),
    "+12 dB, both cut, MP3": ([_louder, _both], True),
    "-12 dB, both cut, MP3": ([_quieter, _both], True),
}


@dataclass(frozen=True)
class Found:
    """What was found of planted copies, and beside them.

    Attributes:
        kinds: a row a kind: `kind`, `planted`, `found`.
        others: pairs that were not planted, with whether both clips are known to be one uploader's.
        clips: in all.
    """

    kinds: pd.DataFrame
    others: pd.DataFrame
    clips: int


def measure_found(data: Path, scratch: Path, copies: int) -> Found:
    """Plant so many copies of each kind into a data set, if it has the clips, and look for them in its pack."""
    planted = plant(data, scratch / "planted", copies)
    packed = pack(scratch / "planted", scratch / "planted-pack")
    pairs = find_duplicates(packed)
    listed = {frozenset((pair.first, pair.second)) for pair in pairs}
    rows = [[kind, frozenset((source, copy)) in listed] for copy, (source, kind) in planted.items()]
    kinds = pd.DataFrame(rows, columns=["kind", "found"]).groupby("kind", sort=False)["found"].agg(["size", "sum"])
    sources = {copy: source for copy, (source, _) in planted.items()}
    others = [p for p in pairs if sources.get(p.first, p.first) != sources.get(p.second, p.second)]
    return Found(
        kinds.reset_index().set_axis(["kind", "planted", "found"], axis=1), _table(packed, others), len(packed.index)
    )


def _table(packed: Pack, pairs: Sequence[Duplicate]) -> pd.DataFrame:
    group = dict(zip(packed.index["split"] + "/" + packed.index["clip"], packed.index["group"], strict=True))
    rows = [[p.first, p.second, p.correlation, p.exact, _same(group[p.first], group[p.second])] for p in pairs]
    return pd.DataFrame(rows, columns=["first", "second", "correlation", "exact", "same uploader"])


def _same(first: str | None, second: str | None) -> bool:
    return pd.notna(first) and first == second


def plant(data: Path, folder: Path, copies: int) -> dict[str, tuple[str, str]]:
    """Write a data set with copies of clips of train added to eval: return of each its source and its kind.

    Of a clip there is one copy at most, so that there are fewer of each kind where clips are few. Which are copied is
    drawn, the same for one data set every time. Needs ffmpeg.
    """
    dataset, rng = read_dataset(data), np.random.default_rng(0)
    for clip in dataset.clips:
        target = folder / audio_folder(clip.split) / clip.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(str(clip.recording)).resolve())
    truth, audio = folder / "FSD50K.ground_truth", folder / audio_folder("eval")
    truth.mkdir()
    for name in ("vocabulary", "dev", "eval"):
        copy2(data / "FSD50K.ground_truth" / f"{name}.csv", truth)
    of_train = [clip for clip in dataset.clips if clip.split == "train"]
    order = rng.permutation(len(of_train))[: copies * len(KINDS)]
    kinds = itertools.cycle(KINDS)
    chosen: list[tuple[Clip, str, str]] = [(of_train[i], next(kinds), f"copy_{i}") for i in order]

    def write(item: tuple[Clip, str, str]) -> None:
        clip, kind, name = item
        _write_copy(Path(str(clip.recording)), audio / f"{name}.wav", kind)

    with in_threads(write, chosen) as done:
        for _ in done:
            pass
    with (truth / "eval.csv").open("a", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        columns = _columns(data / "FSD50K.ground_truth" / "eval.csv")
        for clip, _, name in chosen:
            values = {"fname": name, "labels": ",".join(dataset.labels[k] for k in clip.labels)}
            rows.writerow([values.get(column, "") for column in columns])
    return {f"eval/{name}": (clip.key, kind) for clip, kind, name in chosen}


def _columns(table: Path) -> list[str]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        return [name.strip() for name in next(csv.reader(file))]


def _write_copy(source: Path, target: Path, kind: str) -> None:
    changes, is_compressed = KINDS[kind]
    x, rate = sf.read(source)
    for change in changes:
        x = change(x)
    sf.write(target, x, rate, subtype="PCM_16")
    if is_compressed:
        compressed, quiet = target.with_suffix(".mp3"), ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i"]
        subprocess.run([*quiet, target, "-b:a", "64k", compressed], check=True)
        subprocess.run([*quiet, compressed, target], check=True)
        os.unlink(compressed)


def measure_time(scratch: Path, clips: int, seconds: float = 60.0) -> pd.DataFrame:
    """Generate clips, no two of which are copies; pack them and look for copies in turns: pack, look, pack, look, ...

    Both are done once before, untimed, so that compiled code is there. Returns a row: `clips`, `hours`, `pairs` found,
    `turns` of each, `pack_seconds` and `duplicates_seconds` (medians), `ratio` (of duplicates to pack, median of those
    of the turns), `least_ratio` and `most_ratio`.
    """
    folder, packed = scratch / "generated", scratch / "generated-pack"
    write_demo(folder, dev_clips=clips - clips // _EVAL, eval_clips=clips // _EVAL)

    def packing() -> None:
        rmtree(packed, ignore_errors=True)
        pack(folder, packed)

    found: list[Duplicate] = []

    def finding() -> None:
        found[:] = find_duplicates(Pack(packed))

    turns = in_turns(packing, finding, seconds=seconds, least=5, most=9)
    hours = sum(Pack(packed).manifest["hours"].values())
    row = {
        "clips": clips,
        "hours": hours,
        "pairs": len(found),
        "turns": len(turns.ours),
        "pack_seconds": statistics.median(turns.other),
        "duplicates_seconds": statistics.median(turns.ours),
        "ratio": 1 / turns.ratio,
        "least_ratio": 1 / turns.ratios[-1],
        "most_ratio": 1 / turns.ratios[0],
    }
    return pd.DataFrame([row])
