"""Make a pack: decode a data set once, so that no training ever decodes it again.

While it is made, a pack is a folder PACK.partial, from which the same call resumes. A pack is a function of its data
set and sample rate alone, whatever interrupted it and however many cores worked on it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.data.audio import packed_length, probe_all
from bench.data.dataset import SPLITS, AudioError, AudioFolder, Dataset, Progress
from bench.data.filling import Done, Slot, fill, prepare
from bench.data.levels import NOTES
from bench.data.overlap import across_splits
from bench.data.pack import FORMAT, Pack
from bench.data.pack_format import content_of, dataset_digest, fingerprint_digest
from bench.data.readers.fsd50k import is_official, read_dataset
from bench.disk import explain_full_disk, partial_path, sync_folder, whole_file, write_json
from bench.errors import UserError
from bench.locks import hold, say
from bench.schema import digest

__all__ = ["pack", "refuse_taken", "require_possible"]

# Of packs, in Hz: far above what any recording has, a second of sound would take gigabytes.
_MIN_RATE, _MAX_RATE = 1_000, 1_000_000

# How many recordings that have no place are named with their cause: a table may list millions that are not there.
_NAMED = 100_000


def pack(
    folder: Path,
    out: Path,
    *,
    sample_rate: int = 16_000,
    strict: bool = False,
    no_duplicates: bool = False,
    progress: Progress = lambda *_: None,
    archived: Mapping[str, AudioFolder] | None = None,
    notice: Callable[[str], None] = say,
) -> Pack:
    """Decode, downmix and resample a data set in FSD50K's layout into a pack.

    Works on all cores, in memory that does not grow with the data set. Interrupted, it resumes when called again.
    Recordings that cannot be used are left out and listed in the manifest with their cause. `progress` takes seconds of
    sound; `archived` are folders of recordings that are not in `folder` but in archives, by their names; `notice` is
    told if another process has to be waited for, which makes a pack there. Raises UserError if the data set is
    unusable, `out` is taken, the disk is too small, (strict) a recording is broken, or (no_duplicates) one is in
    several splits, unless the data set is FSD50K, whole: `notice` is told that.
    """
    require_possible(out, sample_rate)
    dataset = read_dataset(folder, archived)
    dataset.refuse_problems()
    # headers only: nothing is decoded before it is known that it has to be, and that there is space for it
    layout = _lay_out(dataset, sample_rate)
    if strict:
        _refuse_broken(folder, layout.broken, len(layout.broken) + layout.unnamed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with hold(out, "being packed", notice):
        return _make(out, layout, _Refused(folder, layout, strict, no_duplicates, notice), progress)


def _make(out: Path, layout: "_Layout", refused: "_Refused", progress: Progress) -> Pack:
    plan, partial = layout.plan(), partial_path(out)
    # a pack of another plan, or one whose manifest has none, is refused below rather than taken for this one
    if (out / "manifest.json").is_file() and (made := Pack(out)).manifest.get("plan") == plan:
        if refused.duplicates and made.copied_eval_clips is None:
            raise UserError(f"{out}: an older pack, which does not tell copies: move it away and pack again")
        refused.check(made.manifest["left_out"], made.left_out_count, made.overlap())
        return made
    refuse_taken(out)
    with explain_full_disk(partial):
        journal = prepare(partial, plan, layout.slots)
        done = fill(partial, layout.slots, layout.sample_rate, journal, progress)
        broken = layout.broken | {key: value.cause for key, value in done.items() if value.cause}
        refused.check(broken, len(broken), layout.same(done))
        layout.require_clips(broken)
        _finish(partial, layout, plan, done, broken)
        # it is empty, as checked above; a folder cannot be renamed onto another on every system
        if out.exists():
            out.rmdir()
        partial.rename(out)
        sync_folder(out.parent)
    return Pack(out)


def require_possible(out: Path, sample_rate: int) -> None:
    """Raise UserError if no pack can be called `out` or have this sample rate, in Hz."""
    if out.name in ("", ".."):
        raise UserError(f"--out {str(out)!r}: name a folder that the pack is to be, such as {out / 'pack'}")
    if not _MIN_RATE <= sample_rate <= _MAX_RATE:
        raise UserError(f"a sample rate of {sample_rate} Hz: {_MIN_RATE:,} to {_MAX_RATE:,} are possible")


def refuse_taken(out: Path) -> None:
    """Raise UserError if `out` is a file or a folder that holds anything, so that nothing is ever overwritten."""
    # no folder can be renamed to it, which would show when all is packed
    if out.is_symlink():
        raise UserError(f"{out} is a symbolic link: remove it or name the folder itself")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and holds something else: remove it or name another folder")


@dataclass(frozen=True)
class _Layout:
    dataset: Dataset
    sample_rate: int
    slots: list[Slot]
    broken: dict[str, str]  # those that have no place: key: cause, of the first ones
    unnamed: int  # how many more there are

    def require_clips(self, broken: Mapping[str, str]) -> None:
        """Raise UserError if of some split all recordings are broken, or all that have a label."""
        left = [slot.clip for slot in self.slots if slot.clip.key not in broken]
        for split in SPLITS:
            if not any(clip.labels for clip in left if clip.split == split):
                what = "with a label " if any(clip.split == split for clip in left) else ""
                first, cause = next((item for item in broken.items() if item[0].startswith(split)), (split, "missing"))
                where = f"{self.dataset.folder}: not one usable recording {what}in {split}"
                raise UserError(f"{where}; the first, {first}: {cause}")

    @property
    def is_official(self) -> bool:
        """Whether the tables list all of FSD50K."""
        listed = {split: sum(clip.split == split for clip in self.dataset.clips) for split in SPLITS}
        return is_official(listed, len(self.dataset.labels))

    def same(self, done: Mapping[str, Done]) -> list[list[str]]:
        """Return the keys of clips that are the same, to the sample, in several splits."""
        usable = [slot.clip for slot in self.slots if not done[slot.clip.key].cause]
        return across_splits((done[clip.key].hash, clip.split, clip.key) for clip in usable)

    def plan(self) -> str:
        """Return a hash of all that must be unchanged for a half-made pack to be resumed."""
        # size and time stand for a recording's bytes: to hash them would take as long as to read them all
        stats = [(slot.clip, slot.length, slot.clip.recording.stat()) for slot in self.slots]
        parts = [[c.key, c.labels, c.group, length, s.st_size, s.st_mtime_ns] for c, length, s in stats]
        return digest([FORMAT, self.sample_rate, self.dataset.labels, parts])


def _lay_out(dataset: Dataset, sample_rate: int) -> _Layout:
    """Assign a slot to every recording whose header can be read, so that the threads can write in any order."""
    slots: list[Slot] = []
    broken: dict[str, str] = {}
    ends, unnamed = dict.fromkeys(SPLITS, 0), 0
    for clip, info in zip(dataset.clips, probe_all(dataset.clips), strict=True):
        if isinstance(info, AudioError):
            if len(broken) < _NAMED:
                broken[clip.key] = str(info)
            else:
                unnamed += 1
        else:
            slots.append(Slot(clip, info, ends[clip.split], packed_length(info, sample_rate)))
            ends[clip.split] += slots[-1].length
    layout = _Layout(dataset, sample_rate, slots, broken, unnamed)
    layout.require_clips(broken)
    return layout


@dataclass(frozen=True)
class _Refused:
    """What a pack must not have."""

    folder: Path
    layout: _Layout
    broken: bool
    duplicates: bool
    notice: Callable[[str], None]

    def check(self, broken: Mapping[str, str], count: int, same: Sequence[Sequence[str]]) -> None:
        """Raise UserError for broken recordings (key: cause, of the first), or ones that are in several splits."""
        if self.broken:
            _refuse_broken(self.folder, broken, count)
        if not (self.duplicates and same):
            return
        first = f"{' = '.join(same[0])}" + (f" (and {len(same) - 1} more)" if len(same) > 1 else "")
        if not self.layout.is_official:
            raise UserError(
                f"{self.folder}: recordings in several splits: {first}; remove all but one of each from the tables, or "
                "pack without --no-duplicates"
            )
        self.notice(f"{self.folder}: recordings in several splits: {first}; the official release is packed as it is")


def _refuse_broken(folder: Path, broken: Mapping[str, str], count: int) -> None:
    for clip, cause in broken.items():
        raise UserError(f"{folder}: {clip}: {cause}" + (f" (and {count - 1} more)" if count > 1 else ""))


def _finish(partial: Path, layout: _Layout, plan: str, done: dict[str, Done], broken: dict[str, str]) -> None:
    """Write the index and, last, the manifest: a folder without it is no pack."""
    dataset, slots = layout.dataset, [slot for slot in layout.slots if slot.clip.key not in broken]
    clips = [slot.clip for slot in slots]
    rows = [
        (s.clip.name, s.clip.split, s.start, s.length, s.info.seconds, list(s.clip.labels), s.clip.group) for s in slots
    ]
    index = pd.DataFrame(rows, columns=["clip", "split", "start", "length", "seconds", "labels", "group"])
    index["hash"] = [done[clip.key].hash for clip in clips]
    # opened by us: Arrow takes no names that are not UTF-8
    with whole_file(partial / "index.parquet") as temporary, temporary.open("wb") as file:
        index.to_parquet(file, index=False)
    content = content_of(index)
    manifest = {
        "format": FORMAT,
        "sample_rate": layout.sample_rate,
        "source": dataset.folder.name,
        "clips": {split: int((index["split"] == split).sum()) for split in SPLITS},
        "hours": {s: round(float(index.loc[index["split"] == s, "seconds"].sum()) / 3600, 4) for s in SPLITS},
        "left_out": broken,
        "left_out_count": len(broken) + layout.unnamed,
        # what 16 bits in mono lost of those that are in it
        "levels": {note: [clip.key for clip in clips if note in done[clip.key].notes] for note in NOTES},
        "plan": plan,
        "dataset": dataset_digest(dataset.labels, content),
        "fingerprint": fingerprint_digest(layout.sample_rate, dataset.labels, content, index["hash"]),
        "classes": list(dataset.labels),
        "leaf": list(dataset.leaf),
    }
    write_json(partial / "manifest.json", manifest)
    for journal in partial.glob("journal-*"):
        journal.unlink()
    sync_folder(partial)
