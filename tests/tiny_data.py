"""A data set of a few short clips in FSD50K's layout, for tests that break one: made in milliseconds."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

from bench.data.pack_format import clip_hash, content_of, dataset_digest, fingerprint_digest

__all__ = ["LABELS", "SIZES", "hash_anew", "rows_of", "tiny_data", "write_clip", "write_rows"]

LABELS = ("Bark", "Rain", "Siren")
SIZES = {"train": 6, "val": 3, "eval": 4}


def tiny_data(
    folder: Path,
    *,
    labels: Sequence[str] = LABELS,
    sizes: Mapping[str, int] = SIZES,
    seconds: float = 1.2,
    sample_rate: int = 16_000,
) -> Path:
    """Write a data set of `sizes` clips a split, and return its folder.

    Clips are called 1001, 1002, ... (train, then val, then eval); each is a tone of its class's frequency in noise, and
    no two are alike. The same arguments give the same bytes.
    """
    truth = folder / "FSD50K.ground_truth"
    truth.mkdir(parents=True)
    write_rows(truth / "vocabulary.csv", [[i, label, f"/m/{i}"] for i, label in enumerate(labels)])
    number = 1000
    for subset, splits in (("dev", ("train", "val")), ("eval", ("eval",))):
        audio = folder / f"FSD50K.{subset}_audio"
        audio.mkdir()
        rows = [["fname", "labels", "mids", "split"] if subset == "dev" else ["fname", "labels", "mids"]]
        for i, split in enumerate(name for name in splits for _ in range(sizes[name])):
            number, k = number + 1, i % len(labels)
            write_clip(audio / f"{number}.wav", 300 * (k + 1), number, seconds=seconds, sample_rate=sample_rate)
            rows.append([str(number), labels[k], f"/m/{k}", split][: len(rows[0])])
        write_rows(truth / f"{subset}.csv", rows)
    return folder


def write_clip(path: Path, frequency: float, seed: int, *, seconds: float = 1.2, sample_rate: int = 16_000) -> None:
    """Write a tone in noise: a mono WAV of 16 bits, unless the name says else."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    sf.write(path, 0.3 * np.sin(2 * np.pi * frequency * time) + 0.05 * noise, sample_rate)


def rows_of(path: Path) -> list[list[str]]:
    """Return the rows of a CSV, its header too."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV, quoted where it must be."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def hash_anew(pack: Path) -> None:
    """Make a changed pack a good one: put the hashes of its samples into its index, and of that into its manifest."""
    index, path = pd.read_parquet(pack / "index.parquet"), pack / "manifest.json"
    arrays = {split: np.load(pack / f"{split}.npy") for split in SIZES}
    places = zip(index["split"], index["start"], index["length"], strict=True)
    index["hash"] = [clip_hash(arrays[split][start : start + length].tobytes()) for split, start, length in places]
    index.to_parquet(pack / "index.parquet", index=False)
    values, content = json.loads(path.read_text("utf-8")), content_of(index)
    values["dataset"] = dataset_digest(values["classes"], content)
    values["fingerprint"] = fingerprint_digest(values["sample_rate"], values["classes"], content, index["hash"])
    path.write_text(json.dumps(values), "utf-8")
