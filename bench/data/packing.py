"""Make a pack: decode a data set once, so that no training ever decodes it again.

While it is made, a pack is a folder PACK.partial: arrays of their final size, filled in any order, and a journal with a
line for each recording that is done, `KEY<tab>HASH` or `KEY<tab>!CAUSE`, from which the same call resumes. A pack is a
function of its data set and sample rate alone, whatever interrupted it and however many cores worked on it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.data.audio import decode, packed_length, probe_all
from bench.data.dataset import SPLITS, AudioError, AudioFolder, Clip, Dataset, Progress
from bench.data.pack import FORMAT, Pack
from bench.data.readers.fsd50k import read_dataset
from bench.data.threads import in_threads
from bench.disk import explain_full_disk, partial_path, require_space
from bench.errors import UserError
from bench.schema import digest

__all__ = ["pack", "refuse_taken"]


def pack(
    folder: Path,
    out: Path,
    *,
    sample_rate: int = 16_000,
    strict: bool = False,
    progress: Progress = lambda *_: None,
    archived: Mapping[str, AudioFolder] | None = None,
) -> Pack:
    """Decode, downmix and resample a data set in FSD50K's layout into a pack.

    Works on all cores, in memory that does not grow with the data set. Interrupted, it resumes when called again.
    Recordings that cannot be used are left out and listed in the manifest with their cause. `progress` takes seconds of
    sound; `archived` are folders of recordings that are not in `folder` but in archives, by their names. Raises
    UserError if the data set is unusable, `out` is taken, the disk is too small, or (strict) a recording is broken.
    """
    dataset = read_dataset(folder, archived)
    if dataset.problems:
        raise UserError(dataset.problems[0] + _and_more(dataset.problems))
    # headers only: nothing is decoded before it is known that it has to be, and that there is space for it
    layout = _lay_out(dataset, sample_rate)
    _refuse_broken(folder, layout.broken if strict else {})
    plan = layout.plan()
    # a pack of another plan, or one whose manifest has none, is refused below rather than taken for this one
    if (out / "manifest.json").is_file() and (made := Pack(out)).manifest.get("plan") == plan:
        _refuse_broken(folder, made.manifest["left_out"] if strict else {})
        return made
    refuse_taken(out)
    partial = partial_path(out)
    with explain_full_disk(partial):
        journal = _prepare(partial, plan, layout.slots)
        hashes = _decode_all(layout, partial, journal, progress)
        broken = layout.broken | {key: value[1:] for key, value in hashes.items() if value.startswith("!")}
        _refuse_broken(folder, broken if strict else {})
        _finish(partial, layout, plan, hashes, broken)
        # it is empty, as checked above; a folder cannot be renamed onto another on every system
        if out.exists():
            out.rmdir()
        partial.rename(out)
    return Pack(out)


def refuse_taken(out: Path) -> None:
    """Raise UserError if `out` is a file or a folder that holds anything, so that nothing is ever overwritten."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and holds something else: remove it or name another folder")


@dataclass(frozen=True)
class _Slot:
    clip: Clip
    start: int  # the first of its `length` samples in its split's array
    length: int
    seconds: float  # its real length


@dataclass(frozen=True)
class _Layout:
    dataset: Dataset
    sample_rate: int
    slots: list[_Slot]
    broken: dict[str, str]  # those that have no place: key: cause

    def plan(self) -> str:
        """Return a hash of all that must be unchanged for a half-made pack to be resumed."""
        # size and time stand for a recording's bytes: to hash them would take as long as to read them all
        stats = [(slot.clip, slot.length, slot.clip.recording.stat()) for slot in self.slots]
        parts = [[c.key, c.labels, c.group, length, s.st_size, s.st_mtime_ns] for c, length, s in stats]
        return digest([FORMAT, self.sample_rate, self.dataset.labels, parts])


def _lay_out(dataset: Dataset, sample_rate: int) -> _Layout:
    """Assign a slot to every recording whose header can be read, so that the threads can write in any order."""
    slots: list[_Slot] = []
    broken: dict[str, str] = {}
    ends = dict.fromkeys(SPLITS, 0)
    for clip, info in zip(dataset.clips, probe_all(dataset.clips), strict=True):
        if isinstance(info, AudioError):
            broken[clip.key] = str(info)
        else:
            slots.append(_Slot(clip, ends[clip.split], packed_length(info, sample_rate), info.seconds))
            ends[clip.split] += slots[-1].length
    for split, end in ends.items():
        if not end:
            first, cause = next(item for item in broken.items() if item[0].startswith(split))
            raise UserError(f"{dataset.folder}: not one usable recording in {split}; the first, {first}: {cause}")
    return _Layout(dataset, sample_rate, slots, broken)


def _refuse_broken(folder: Path, broken: dict[str, str]) -> None:
    for clip, cause in broken.items():
        raise UserError(f"{folder}: {clip}: {cause}" + _and_more(list(broken)))


def _and_more(items: tuple[str, ...] | list[str]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""


def _prepare(partial: Path, plan: str, slots: list[_Slot]) -> Path:
    """Return the journal that an interrupted call with the same plan left, or an empty one beside empty arrays."""
    journal = partial / f"journal-{plan[:16]}.tsv"
    if journal.exists():
        return journal
    shutil.rmtree(partial, ignore_errors=True)
    # two bytes a sample; the arrays are created as holes, so that the system would not notice in time
    require_space(partial, 2 * sum(slot.length for slot in slots))
    partial.mkdir(parents=True)
    for split in SPLITS:
        length = sum(slot.length for slot in slots if slot.clip.split == split)
        np.lib.format.open_memmap(partial / f"{split}.npy", mode="w+", dtype=np.int16, shape=(length,))
    # last: a folder without it was not prepared to the end
    journal.touch()
    return journal


def _decode_all(layout: _Layout, partial: Path, journal: Path, progress: Progress) -> dict[str, str]:
    """Fill the arrays with what the journal does not list yet; return all that it lists then, by the clips' keys."""
    # without a last line that a killed process left unfinished
    complete, end, _ = journal.read_bytes().rpartition(b"\n")
    os.truncate(journal, len(complete + end))
    done = dict(line.split("\t", 1) for line in complete.decode().splitlines())
    # failures are not tried again: the plan changes with a recording's size or time, and the journal with it
    todo = [slot for slot in layout.slots if slot.clip.key not in done]
    total = sum(slot.seconds for slot in layout.slots)
    seconds = total - sum(slot.seconds for slot in todo)
    headers = {split: np.load(partial / f"{split}.npy", mmap_mode="r").offset for split in SPLITS}
    files = {split: os.open(partial / f"{split}.npy", os.O_WRONLY) for split in SPLITS}

    def work(slot: _Slot) -> tuple[_Slot, str]:
        try:
            samples = decode(slot.clip.recording, layout.sample_rate, slot.length)
        except AudioError as error:
            return slot, f"!{error}"
        data = samples.astype("<i2", copy=False).tobytes()
        # written, not mapped: a full disk is then an error, not a crash, and memory stays flat
        _write_at(files[slot.clip.split], data, headers[slot.clip.split] + 2 * slot.start)
        return slot, hashlib.blake2b(data, digest_size=16).hexdigest()

    try:
        # a line a write, and only after the samples: a process that is killed loses what was in the works, no more
        with journal.open("a", encoding="utf-8", newline="\n", buffering=1) as log, in_threads(work, todo) as results:
            for slot, value in results:
                done[slot.clip.key] = value
                log.write(f"{slot.clip.key}\t{value}\n")
                seconds += slot.seconds
                progress(seconds, total)
    finally:
        for file in files.values():
            os.close(file)
    return done


def _write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of `data`: a single pwrite may write less. It moves no file position that threads would share."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _finish(partial: Path, layout: _Layout, plan: str, hashes: dict[str, str], broken: dict[str, str]) -> None:
    """Write the index and, last, the manifest: a folder without it is no pack."""
    dataset, slots = layout.dataset, [slot for slot in layout.slots if slot.clip.key not in broken]
    clips = [slot.clip for slot in slots]
    rows = [(s.clip.name, s.clip.split, s.start, s.length, s.seconds, list(s.clip.labels), s.clip.group) for s in slots]
    index = pd.DataFrame(rows, columns=["clip", "split", "start", "length", "seconds", "labels", "group"])
    index.to_parquet(partial / "index.parquet", index=False)
    # the fingerprint is made of what decides a number, and of no paths, times or file formats
    content = [[clip.key, clip.labels, clip.group] for clip in clips]
    manifest = {
        "format": FORMAT,
        "sample_rate": layout.sample_rate,
        "source": dataset.folder.name,
        "clips": {split: int((index["split"] == split).sum()) for split in SPLITS},
        "hours": {s: round(float(index.loc[index["split"] == s, "seconds"].sum()) / 3600, 4) for s in SPLITS},
        "left_out": broken,
        "plan": plan,
        "dataset": digest([dataset.labels, content]),
        "fingerprint": digest([layout.sample_rate, dataset.labels, content, [hashes[clip.key] for clip in clips]]),
        "classes": list(dataset.labels),
        "leaf": list(dataset.leaf),
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    for journal in partial.glob("journal-*.tsv"):
        journal.unlink()
