"""WAV files to one int16 array a split: decoded once, never again.

A pack is a folder:
    train.npy, val.npy, eval.npy   (samples,) int16, the clips of a split one after the other, mono
    index.parquet                  a row a clip: clip, split, start, length (samples), seconds, labels, group
    manifest.json                  classes, settings, counts, what was left out and why, fingerprints
Clips shorter than a second are stored repeated up to a second, so that every chunk is a plain slice.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import soundfile as sf
import soxr

from bench.config import digest
from bench.data.fsd50k import (
    OFFICIAL_CLASSES,
    OFFICIAL_CLIPS,
    SPLITS,
    AudioError,
    AudioFolder,
    AudioInfo,
    Clip,
    Dataset,
    Recording,
    file_name,
    probe_all,
    read_dataset,
)
from bench.disk import full_disk_told, partial_path, require_space
from bench.errors import UserError, one_line

FORMAT = 1
CHUNK_SECONDS = 1
Samples = npt.NDArray[np.int16]
Progress = Callable[[float, float], None]  # seconds of sound done, and in all


@dataclass(frozen=True)
class Slot:
    """Where in its split's array a clip goes."""

    clip: Clip
    start: int
    length: int
    seconds: float

    @property
    def key(self) -> str:
        return f"{self.clip.split}/{self.clip.name}"


class Pack:
    """An opened pack. Arrays are mapped, not read."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError if the folder is no pack, or an incomplete one."""
        self.folder = folder
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            hint = "is a data set, not a pack: run `bench data pack` on it" if _is_dataset(folder) else "is no pack"
            raise UserError(f"{folder} {hint} (no manifest.json)")
        try:
            self.manifest: dict[str, Any] = json.loads(manifest.read_text("utf-8"))
            if self.manifest["format"] != FORMAT:
                raise ValueError(f"format {self.manifest['format']}, this version reads {FORMAT}")
            self.sample_rate: int = self.manifest["sample_rate"]
            self.labels: list[str] = self.manifest["classes"]
            self.leaf = np.array(self.manifest["leaf"], dtype=bool)
            self.fingerprint: str = self.manifest["fingerprint"]
            self.dataset: str = self.manifest["dataset"]  # the same for packs of one data set at other rates
            self.index = pd.read_parquet(folder / "index.parquet")
            for split in SPLITS:
                if len(self.samples(split)) < (self.clips(split)["start"] + self.clips(split)["length"]).max():
                    raise ValueError(f"{split}.npy is too short")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{folder}: damaged pack ({one_line(error)}); remove the folder and pack again") from None

    def clips(self, split: str) -> pd.DataFrame:
        return self.index[self.index["split"] == split].reset_index(drop=True)

    def samples(self, split: str) -> Samples:
        """The split's array, mapped: what is read of it is the system's cache of the file, and no memory of ours."""
        samples: Samples = np.load(self.folder / f"{split}.npy", mmap_mode="r")
        return samples

    def targets(self, split: str) -> npt.NDArray[np.bool_]:
        """(clips, k): which labels each clip of the split has."""
        labels = self.clips(split)["labels"]
        targets = np.zeros((len(labels), len(self.labels)), dtype=bool)
        for row, columns in enumerate(labels):
            targets[row, columns] = True
        return targets

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """(k,): clips of the train split with each label."""
        counts: npt.NDArray[np.int64] = self.targets("train").sum(axis=0)
        return counts


def _is_dataset(folder: Path) -> bool:
    return (folder / "FSD50K.ground_truth").is_dir()


def pack(
    folder: Path,
    out: Path,
    *,
    sample_rate: int = 16_000,
    strict: bool = False,
    progress: Progress | None = None,
    archived: Mapping[str, AudioFolder] | None = None,
) -> Pack:
    """Decode, downmix and resample a data set in FSD50K's layout into a pack.

    Works on all cores, in memory that does not grow with the data set. Interrupted, it goes on from there when
    called again. Recordings that cannot be used are left out and listed in the manifest with their cause.

    Args:
        sample_rate: of the pack, in Hz.
        strict: raise for the first recording that cannot be used.
        archived: folders of recordings that are not in `folder` but in archives, by their names.

    Raises:
        UserError: the data set is unusable, `out` is taken, the disk is too small, or (strict) a recording is broken.
    """
    dataset = read_dataset(folder, archived)
    if dataset.problems:
        raise UserError(dataset.problems[0] + _and_more(dataset.problems))
    slots, broken = _lay_out(dataset, sample_rate)
    _refuse_broken(folder, broken if strict else {})
    plan = digest([FORMAT, sample_rate, dataset.labels, [_identity(slot) for slot in slots]])
    if (out / "manifest.json").is_file() and (made := Pack(out)).manifest.get("plan") == plan:
        _refuse_broken(folder, made.manifest["left_out"] if strict else {})
        return made
    refuse_taken(out)

    partial = partial_path(out)
    with full_disk_told(partial):
        journal = _prepare(partial, plan, slots)
        hashes = _decode_all(slots, partial, sample_rate, journal, progress)
        broken |= {key: value[1:] for key, value in hashes.items() if value.startswith("!")}
        _refuse_broken(folder, broken if strict else {})
        _finish(partial, dataset, sample_rate, plan, [s for s in slots if s.key not in broken], hashes, broken)
        if out.exists():
            out.rmdir()  # empty, as checked above
        partial.rename(out)
    return Pack(out)


def refuse_taken(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and holds something else: remove it or name another folder")


def _and_more(items: tuple[str, ...] | list[str]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""


def _refuse_broken(folder: Path, broken: dict[str, str]) -> None:
    for clip, cause in broken.items():
        raise UserError(f"{folder}: {clip}: {cause}" + _and_more(list(broken)))


def _lay_out(dataset: Dataset, sample_rate: int) -> tuple[list[Slot], dict[str, str]]:
    """A place for every recording whose header can be read, and the causes for the others."""
    slots: list[Slot] = []
    broken: dict[str, str] = {}
    ends = dict.fromkeys(SPLITS, 0)
    for clip, info in zip(dataset.clips, probe_all(dataset.clips), strict=True):
        if isinstance(info, AudioError):
            broken[f"{clip.split}/{clip.name}"] = str(info)
            continue
        length = max(resampled_length(info, sample_rate), CHUNK_SECONDS * sample_rate)
        slots.append(Slot(clip, ends[clip.split], length, info.seconds))
        ends[clip.split] += length
    for split, end in ends.items():
        if not end:
            first, cause = next(item for item in broken.items() if item[0].startswith(split))
            raise UserError(f"{dataset.folder}: not one usable recording in {split}; the first, {first}: {cause}")
    return slots, broken


def resampled_length(info: AudioInfo, sample_rate: int) -> int:
    return max(1, round(info.frames * sample_rate / info.sample_rate))


def _identity(slot: Slot) -> list[Any]:
    """What must be unchanged for a half-made pack to be gone on with."""
    stat = slot.clip.recording.stat()
    return [slot.key, slot.clip.labels, slot.clip.group, slot.length, stat.st_size, stat.st_mtime_ns]


def _prepare(partial: Path, plan: str, slots: list[Slot]) -> Path:
    """Empty arrays and an empty journal, or those of an interrupted call with the same plan."""
    journal = partial / f"journal-{plan[:16]}.tsv"
    if journal.exists():
        return journal
    shutil.rmtree(partial, ignore_errors=True)
    require_space(partial, 2 * sum(slot.length for slot in slots))
    partial.mkdir(parents=True)
    for split in SPLITS:
        length = sum(slot.length for slot in slots if slot.clip.split == split)
        np.lib.format.open_memmap(partial / f"{split}.npy", mode="w+", dtype=np.int16, shape=(length,))
    journal.touch()
    return journal


def _decode_all(
    slots: list[Slot], partial: Path, sample_rate: int, journal: Path, progress: Progress | None
) -> dict[str, str]:
    """Fill the arrays; returns each clip's hash, or its cause of failure after a '!'."""
    done = _read_journal(journal)
    todo = [slot for slot in slots if slot.key not in done]
    total = sum(slot.seconds for slot in slots)
    seconds = total - sum(slot.seconds for slot in todo)
    headers = {split: np.load(partial / f"{split}.npy", mmap_mode="r").offset for split in SPLITS}
    files = {split: os.open(partial / f"{split}.npy", os.O_WRONLY) for split in SPLITS}

    def work(slot: Slot) -> tuple[Slot, str]:
        try:
            samples = decode(slot.clip.recording, sample_rate, slot.length)
        except AudioError as error:
            return slot, f"!{error}"
        data = samples.astype("<i2", copy=False).tobytes()
        # written, not mapped: a full disk is then an error, not a crash, and memory stays flat
        _write_at(files[slot.clip.split], data, headers[slot.clip.split] + 2 * slot.start)
        return slot, hashlib.blake2b(data, digest_size=16).hexdigest()

    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    try:
        with journal.open("a", encoding="utf-8", newline="\n", buffering=1) as log:
            for future in as_completed([pool.submit(work, slot) for slot in todo]):
                slot, value = future.result()
                done[slot.key] = value
                log.write(f"{slot.key}\t{value}\n")
                seconds += slot.seconds
                if progress:
                    progress(seconds, total)
    finally:
        pool.shutdown(cancel_futures=True)
        for file in files.values():
            os.close(file)
    return done


def _read_journal(journal: Path) -> dict[str, str]:
    """What is done already; a last line that a killed process left unfinished is cut off."""
    text = journal.read_bytes().decode()
    whole = text[: text.rfind("\n") + 1]
    os.truncate(journal, len(whole.encode()))
    return dict(line.split("\t", 1) for line in whole.splitlines())


def _write_at(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def decode(recording: Recording, sample_rate: int, length: int) -> Samples:
    """A recording as `length` int16 samples, mono, at `sample_rate`; repeated if it is shorter.

    Raises:
        AudioError: it cannot be read, is shorter than its header says, or holds samples that are not finite.
    """
    try:
        with sf.SoundFile(file_name(recording) or io.BytesIO(recording.read_bytes())) as file:
            frames, rate = file.frames, file.samplerate
            # 16-bit recordings as they are: libsndfile takes longer to make floats of them than numpy
            x = file.read(dtype="int16" if file.subtype == "PCM_16" else "float32", always_2d=True)
    except OSError as error:
        raise AudioError(f"unreadable: {error.strerror}") from None
    except sf.LibsndfileError as error:
        raise AudioError(f"unreadable: {error.error_string.strip()}") from None
    if len(x) < frames or not len(x):
        raise AudioError(f"truncated: {len(x)} frames of {frames}")
    if x.dtype != np.int16 and not np.isfinite(x).all():
        raise AudioError("samples that are not finite")
    # one way for every format: floats in steps of 16 bits, so that 24-bit, float and stereo sources are rounded once
    mono = x[:, 0].astype(np.float32) if x.shape[1] == 1 else x.mean(axis=1, dtype=np.float32)
    if x.dtype != np.int16:
        mono *= 32768
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    np.rint(mono, out=mono)
    samples = np.clip(mono, -32768, 32767, out=mono).astype(np.int16)
    own_length = resampled_length(AudioInfo(frames, rate), sample_rate)
    # the resampler may end a sample early or late
    samples = np.pad(samples[:own_length], (0, max(0, own_length - len(samples))))
    return np.resize(samples, length)


def _finish(
    partial: Path,
    dataset: Dataset,
    sample_rate: int,
    plan: str,
    slots: list[Slot],
    hashes: dict[str, str],
    broken: dict[str, str],
) -> None:
    """Write index and manifest; last the manifest, without which a folder is no pack."""
    index = pd.DataFrame(
        {
            "clip": [s.clip.name for s in slots],
            "split": [s.clip.split for s in slots],
            "start": np.array([s.start for s in slots], dtype=np.int64),
            "length": np.array([s.length for s in slots], dtype=np.int64),
            "seconds": [s.seconds for s in slots],
            "labels": [list(s.clip.labels) for s in slots],
            "group": [s.clip.group for s in slots],
        }
    )
    index.to_parquet(partial / "index.parquet", index=False)
    content = [[s.key, s.clip.labels, s.clip.group] for s in slots]
    manifest = {
        "format": FORMAT,
        "sample_rate": sample_rate,
        "source": dataset.folder.name,
        "clips": {split: int((index["split"] == split).sum()) for split in SPLITS},
        "hours": {s: round(float(index.loc[index["split"] == s, "seconds"].sum()) / 3600, 4) for s in SPLITS},
        "left_out": broken,
        "plan": plan,
        "dataset": digest([dataset.labels, content]),
        "fingerprint": digest([sample_rate, dataset.labels, content, [hashes[s.key] for s in slots]]),
        "classes": list(dataset.labels),
        "leaf": dataset.leaf,
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    for journal in partial.glob("journal-*.tsv"):
        journal.unlink()


def summary(pack: Pack) -> dict[str, Any]:
    """What `bench data info` prints."""
    keys = ("sample_rate", "source", "clips", "hours", "left_out", "fingerprint")
    used = {split: f"{int(pack.targets(split).any(axis=0).sum())} of {len(pack.labels)}" for split in SPLITS}
    whole = pack.manifest["clips"] == OFFICIAL_CLIPS and len(pack.labels) == OFFICIAL_CLASSES
    size = sum(file.stat().st_size for file in pack.folder.iterdir())
    return {
        "folder": str(pack.folder),
        "whole of FSD50K": whole,
        **{key: pack.manifest[key] for key in keys},
        "classes": used,
        "gigabytes": round(size / 1e9, 3),
    }
