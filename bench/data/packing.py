"""Decode a data set once, into a pack."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.data.audio import CHUNK_SECONDS, decode, probe_all, resampled_length
from bench.data.dataset import SPLITS, AudioError, AudioFolder, Clip, Dataset
from bench.data.pack import FORMAT, Pack, Progress
from bench.data.readers.fsd50k import read_dataset
from bench.disk import explain_full_disk, partial_path, require_space
from bench.errors import UserError
from bench.schema import digest


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
    with explain_full_disk(partial):
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
