"""A pack: a data set that is decoded already, one int16 array a split.

A pack is a folder:
    train.npy, val.npy, eval.npy   (samples,) int16, the clips of a split one after the other, mono
    index.parquet                  a row a clip: clip, split, start, length (samples), seconds, labels, group
    manifest.json                  classes, settings, counts, what was left out and why, fingerprints
Clips shorter than a second are stored repeated up to a second.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.audio import Samples
from bench.data.dataset import SPLITS
from bench.data.readers.fsd50k import OFFICIAL_CLASSES, OFFICIAL_CLIPS, is_dataset
from bench.errors import UserError, one_line

__all__ = ["FORMAT", "Pack", "summary"]

# Of the files above. A pack of another format is refused, as its samples may mean something else.
FORMAT = 1


class Pack:
    """An opened pack. Its arrays are mapped, not read.

    Attributes:
        labels: class names, in the order of the targets' columns.
        leaf: (k,) bool, whether each class is a leaf of the hierarchy.
        fingerprint: a hash of clips, labels and samples; runs can be compared if theirs is the same.
        dataset: a hash of clips and labels, the same for packs of one data set at other sample rates.
    """

    def __init__(self, folder: Path) -> None:
        """Open a pack. Raises UserError if the folder is none, or a damaged one."""
        self.folder = folder
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            hint = "is a data set, not a pack: run `bench data pack` on it" if is_dataset(folder) else "is no pack"
            raise UserError(f"{folder} {hint} (no manifest.json)")
        try:
            self.manifest: dict[str, Any] = json.loads(manifest.read_text("utf-8"))
            if self.manifest["format"] != FORMAT:
                raise ValueError(f"format {self.manifest['format']}, this version reads {FORMAT}")
            self.sample_rate: int = self.manifest["sample_rate"]
            self.labels: list[str] = self.manifest["classes"]
            self.leaf = np.array(self.manifest["leaf"], dtype=bool)
            self.fingerprint: str = self.manifest["fingerprint"]
            self.dataset: str = self.manifest["dataset"]
            self.index = pd.read_parquet(folder / "index.parquet")
            # an array that was cut off in copying would otherwise fail hours later, in the batch that needs its end
            for split in SPLITS:
                if len(self.samples(split)) < self.clips(split)[["start", "length"]].sum(axis=1).max():
                    raise ValueError(f"{split}.npy is too short")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{folder}: damaged pack ({one_line(error)}); remove the folder and pack again") from None

    def clips(self, split: str) -> pd.DataFrame:
        """Return the index of a split, numbered from 0."""
        return self.index[self.index["split"] == split].reset_index(drop=True)

    def samples(self, split: str) -> Samples:
        """Map a split's array: what is read is the system's cache of the file, shared by all processes."""
        return np.load(self.folder / f"{split}.npy", mmap_mode="r")

    def targets(self, split: str) -> npt.NDArray[np.bool_]:
        """Return (clips, k): which labels each clip of the split has."""
        labels = self.clips(split)["labels"]
        targets = np.zeros((len(labels), len(self.labels)), dtype=bool)
        for clip, columns in enumerate(labels):
            targets[clip, columns] = True
        return targets

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """Return (k,): how many clips of the train split have each label."""
        return self.targets("train").sum(axis=0)


def summary(pack: Pack) -> dict[str, Any]:
    """Return what `bench data info` prints, by name."""
    keys = ("sample_rate", "source", "clips", "hours", "left_out", "fingerprint")
    whole = pack.manifest["clips"] == OFFICIAL_CLIPS and len(pack.labels) == OFFICIAL_CLASSES
    values = {"folder": str(pack.folder), "whole of FSD50K": whole} | {key: pack.manifest[key] for key in keys}
    # a reduced copy may have no clip of a class in some split
    used = {split: f"{int(pack.targets(split).any(axis=0).sum())} of {len(pack.labels)}" for split in SPLITS}
    size = sum(file.stat().st_size for file in pack.folder.iterdir())
    return values | {"classes": used, "gigabytes": round(size / 1e9, 3)}
