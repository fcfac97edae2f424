"""A pack: a data set that is decoded already, one int16 array a split.

A pack is a folder:
    train.npy, val.npy, eval.npy   (samples,) int16, the clips of a split one after the other, mono
    index.parquet                  a row a clip: clip, split, start, length (samples), seconds, labels, group, hash
    manifest.json                  classes, settings, counts, what was left out and why, fingerprints
Clips shorter than a second are stored repeated up to a second. `hash` is that of a clip's samples; packs that were made
before it was stored are as good.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.audio import Samples
from bench.data.dataset import SPLITS, Progress
from bench.data.overlap import across_splits, shared_groups
from bench.data.pack_format import (
    FORMAT,
    Damaged,
    check_index,
    clip_hash,
    content_of,
    dataset_digest,
    fingerprint_digest,
    open_samples,
    read_index,
    read_manifest,
)
from bench.data.readers.fsd50k import is_dataset, is_official, leaf_classes
from bench.data.threads import in_threads
from bench.disk import machine_fault
from bench.errors import UserError

__all__ = ["FORMAT", "Pack", "summary"]

# Bytes of samples that are compared with their hash whenever a pack is opened: a tenth of a second.
_SMALL = 1 << 26
# Of larger packs, clips of which that is done: of a pack that was zeroed or swapped, any would do.
_SOME = 64


class Pack:
    """An opened pack. Its arrays are mapped, not read.

    Attributes:
        labels: class names, in the order of the targets' columns.
        leaf: (k,) bool, whether each class is a leaf of the hierarchy.
        fingerprint: a hash of clips, labels and samples; runs can be compared if theirs is the same.
        dataset: a hash of clips and labels, the same for packs of one data set at other sample rates.
    """

    def __init__(self, folder: Path) -> None:
        """Open a pack, and compare it with its hashes: all but its samples, and of these all, if they are few, or some.

        Raises UserError if the folder is none, or a damaged one.
        """
        self.folder = folder
        manifest = folder / "manifest.json"
        if not os.path.lexists(manifest):
            hint = "is a data set, not a pack: run `bench data pack` on it" if is_dataset(folder) else "is no pack"
            raise UserError(f"{folder} {hint} (no manifest.json)")
        with self._explained():
            self._open(manifest)
            if sum(2 * file.length for file in self._files.values()) <= _SMALL:
                self._compare_samples(range(len(self.index)))
            elif "hash" in self.index:
                self._compare_samples(sorted({*np.linspace(0, len(self.index) - 1, _SOME).astype(int).tolist()}))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as where it is and what it holds; it is opened where it arrives, once a process."""
        return _arrived, (self.folder.absolute(), self.fingerprint)

    def _open(self, manifest: Path) -> None:
        self.manifest: dict[str, Any] = read_manifest(manifest)
        self.sample_rate: int = self.manifest["sample_rate"]
        self.labels: list[str] = self.manifest["classes"]
        self.leaf = np.array(self.manifest["leaf"], dtype=bool)
        self.fingerprint: str = self.manifest["fingerprint"]
        self.dataset: str = self.manifest["dataset"]
        # an array that was cut off in copying would otherwise fail hours later, in the batch that needs its end
        self._files = {split: open_samples(self.folder / f"{split}.npy") for split in SPLITS}
        table = read_index(self.folder / "index.parquet", self.manifest, self._files)
        check_index(table, self.manifest, self._files, "index.parquet")
        self.index: pd.DataFrame = table.to_pandas()
        if tuple(self.leaf) != leaf_classes(self.labels):
            raise Damaged("manifest.json: leaf: not as in FSD50K's hierarchy")
        if dataset_digest(self.labels, content_of(self.index)) != self.dataset:
            raise Damaged("manifest.json: dataset: not the hash of its classes and of index.parquet's clips and labels")
        if "hash" in self.index and self._fingerprint(self.index["hash"]) != self.fingerprint:
            raise Damaged("manifest.json: fingerprint: not the hash of index.parquet")

    @property
    def left_out_count(self) -> int:
        """How many recordings could not be used; of very many the manifest names the first ones."""
        return int(self.manifest.get("left_out_count", len(self.manifest["left_out"])))

    @property
    def levels(self) -> dict[str, list[str]]:
        """The keys of clips by what was lost of them (levels.NOTES); older packs do not say it."""
        found: dict[str, list[str]] = self.manifest.get("levels", {})
        return {note: clips for note, clips in found.items() if clips}

    def clips(self, split: str) -> pd.DataFrame:
        """Return the index of a split, numbered from 0."""
        return self.index[self.index["split"] == split].reset_index(drop=True)

    def samples(self, split: str) -> Samples:
        """Map a split's array: what is read is the system's cache of the file, shared by all processes."""
        return self._files[split].mapped()

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

    def verify(self, progress: Progress = lambda *_: None) -> None:
        """Compare all samples with their hash; `progress` takes clips. Raises UserError if they are other ones."""
        with self._explained():
            self._compare_samples(range(len(self.index)), progress)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Damaged as error:
            raise UserError(f"{self.folder}: damaged pack ({error}); move the folder away and pack again") from None
        except OSError as error:
            # the pack is not to blame, and not to be removed
            cause = machine_fault(error, self.folder)
            raise cause or UserError(
                f"{error.filename or self.folder}: {error.strerror}; run the command again"
            ) from None

    def _compare_samples(self, chosen: Sequence[int], progress: Progress = lambda *_: None) -> None:
        rows = [*zip(self.index["split"], self.index["start"], self.index["length"], strict=True)]

        def work(i: int) -> tuple[int, str]:
            split, start, length = rows[i]
            # read, not mapped: a failing disk is then an error, not a crash
            return i, clip_hash(_read_at(files[split], 2 * length, self._files[split].offset + 2 * start))

        hashes: dict[int, str] = {}
        with ExitStack() as stack:
            files = {s: stack.enter_context(file.path.open("rb")).fileno() for s, file in self._files.items()}
            # closed after the threads have ended
            for done, (i, value) in enumerate(stack.enter_context(in_threads(work, chosen)), start=1):
                hashes[i] = value
                progress(done, len(chosen))
        if "hash" in self.index:
            expected = self.index["hash"].tolist()
            for i in chosen:
                if hashes[i] != expected[i]:
                    split, name = self.index.loc[i, ["split", "clip"]]
                    raise Damaged(f"{split}.npy: samples of clip {name}: not those that were packed")
        # in older packs, only all of them together have a hash
        elif self._fingerprint(hashes[i] for i in chosen) != self.fingerprint:
            raise Damaged("manifest.json: fingerprint: samples are not those that were packed")

    def _fingerprint(self, hashes: Iterable[str]) -> str:
        return fingerprint_digest(self.sample_rate, self.labels, content_of(self.index), hashes)

    def overlap(self) -> list[list[str]]:
        """Return the keys of clips that are the same, to the sample, in several splits; none of older packs."""
        if "hash" not in self.index:
            return []
        index = self.index
        return across_splits(zip(index["hash"], index["split"], index["split"] + "/" + index["clip"], strict=True))

    @cached_property
    def copied_eval_clips(self) -> int | None:
        """How many clips of eval are, to the sample, in train or val, too; None of older packs."""
        if "hash" not in self.index:
            return None
        return sum(key.startswith("eval/") for keys in self.overlap() for key in keys)

    def uploaders(self) -> dict[str, int]:
        """Return how many uploaders there are ("all") and are in both of two splits ("train and eval"), if known."""
        groups = self.index["group"].astype(object).where(self.index["group"].notna(), None)
        return shared_groups(zip(groups, self.index["split"], strict=True))


@cache
def _arrived(folder: Path, fingerprint: str) -> Pack:
    """Open the pack that another process has sent; UserError if that folder holds none, or another one."""
    found = Pack(folder)
    if found.fingerprint != fingerprint:
        raise UserError(
            f"{folder}: holds a pack with fingerprint {found.fingerprint[:16]}, the command has opened one with "
            f"{fingerprint[:16]}: have the same pack there"
        )
    return found


def _read_at(file: int, size: int, offset: int) -> bytes:
    """Read `size` bytes: a single pread may read less. Fewer at the end of the file, which the hash shows."""
    parts = []
    while size and (part := os.pread(file, size, offset)):
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


def summary(pack: Pack) -> dict[str, Any]:
    """Return what `bench data info` prints, by name."""
    keys = ("sample_rate", "source", "clips", "hours", "left_out", "fingerprint")
    whole = is_official(pack.manifest["clips"], len(pack.labels))
    values = {"folder": str(pack.folder), "whole of FSD50K": whole} | {key: pack.manifest[key] for key in keys}
    targets = {split: pack.targets(split) for split in SPLITS}
    # a reduced copy may have no clip of a class in some split
    used = {split: f"{int(found.any(axis=0).sum())} of {len(pack.labels)}" for split, found in targets.items()}
    negatives = {split: int((~found.any(axis=1)).sum()) for split, found in targets.items()}
    size = sum(file.stat().st_size for file in pack.folder.iterdir())
    levels = {note: len(clips) for note, clips in pack.levels.items()}
    values |= {"levels": levels, "classes": used, "negatives": negatives}
    values |= {"in several splits": pack.overlap(), "uploaders": pack.uploaders()}
    return values | {"gigabytes": round(size / 1e9, 3)}
