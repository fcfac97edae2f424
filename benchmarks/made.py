"""Data sets and packs of any size, made for measuring: noise and silence, in the real layouts. No torch."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

from bench.data.dataset import SPLITS
from bench.data.pack import FORMAT
from bench.data.pack_format import clip_hash, content_of, dataset_digest, fingerprint_digest
from bench.disk import require_space

__all__ = ["recordings", "silent_pack"]

_RATE = 44_100


def recordings(folder: Path, hours: float, seconds: float = 15.0) -> Path:
    """Write a data set in FSD50K's layout: noise of so many seconds a recording at 44.1 kHz, 16 bits; ten classes."""
    if (folder / "FSD50K.ground_truth" / "eval.csv").exists():
        return folder
    count = max(10, round(hours * 3600 / seconds))
    require_space(folder, 2 * _RATE * seconds * count)
    rng = np.random.default_rng(0)
    noise = (3000 * rng.standard_normal(round(_RATE * (seconds + 10)))).astype(np.int16)
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number in range(count):
        split = {0: "eval", 1: "val"}.get(number % 10, "train")
        audio = folder / ("FSD50K.eval_audio" if split == "eval" else "FSD50K.dev_audio")
        audio.mkdir(parents=True, exist_ok=True)
        start = int(rng.integers(_RATE * 10))
        sf.write(audio / f"{number}.wav", noise[start : start + round(_RATE * seconds)], _RATE, subtype="PCM_16")
        listed[split].append(f"{number},Class_{number % 10},/m/{number % 10}")
    truth = folder / "FSD50K.ground_truth"
    truth.mkdir()
    (truth / "vocabulary.csv").write_text("".join(f"{k},Class_{k},/m/{k}\n" for k in range(10)))
    dev = [f"{line},{split}" for split in ("train", "val") for line in listed[split]]
    (truth / "dev.csv").write_text("\n".join(["fname,labels,mids,split", *dev]) + "\n")
    (truth / "eval.csv").write_text("\n".join(["fname,labels,mids", *listed["eval"]]) + "\n")
    return folder


def silent_pack(
    folder: Path, *, clips: int | Mapping[str, int], classes: int = 200, seconds: float = 1.0, rate: int = 16_000
) -> Path:
    """Write a pack of silence.

    Its arrays are holes in the disk, so that it may be larger than memory, and take no time. Where `clips` is a number,
    it is the train split's, and val and eval have a tenth of it each.
    """
    if not isinstance(clips, Mapping):
        clips = {"train": clips, **dict.fromkeys(("val", "eval"), max(classes, clips // 10))}
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    length = round(seconds * rate)
    parts = []
    for split in SPLITS:
        count = clips[split]
        np.lib.format.open_memmap(folder / f"{split}.npy", mode="w+", dtype=np.int16, shape=(count * length,))
        parts.append(
            pd.DataFrame(
                {
                    "clip": [f"{split}{i}" for i in range(count)],
                    "split": split,
                    "start": length * np.arange(count, dtype=np.int64),
                    "length": np.int64(length),
                    "seconds": float(seconds),
                    "labels": [sorted({i % classes, int(k)}) for i, k in enumerate(rng.integers(classes, size=count))],
                    "group": None,
                }
            )
        )
    index = pd.concat(parts, ignore_index=True)
    index.to_parquet(folder / "index.parquet", index=False)
    names = [f"class {k}" for k in range(classes)]
    content, silence = content_of(index), clip_hash(bytes(2 * length))
    manifest = {
        "format": FORMAT,
        "sample_rate": rate,
        "source": "silence",
        "clips": {split: int((index["split"] == split).sum()) for split in SPLITS},
        "hours": {split: float(index.loc[index["split"] == split, "seconds"].sum()) / 3600 for split in SPLITS},
        "left_out": {},
        "dataset": dataset_digest(names, content),
        "fingerprint": fingerprint_digest(rate, names, content, [silence] * len(index)),
        "classes": names,
        "leaf": [True] * classes,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
