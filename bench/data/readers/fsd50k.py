"""Read a folder in FSD50K's layout, and report what is wrong with it.

FSD50K: Fonseca et al., "FSD50K: an open dataset of human-labeled sound events", 2022; doi:10.5281/zenodo.4060432.
    FSD50K.ground_truth/   vocabulary.csv (index,label,mid), dev.csv (fname,labels,mids,split), eval.csv
    FSD50K.metadata/       dev_clips_info_FSD50K.json, eval_clips_info_FSD50K.json: uploaders; may be missing
    FSD50K.dev_audio/      NAME.wav of the splits train and val
    FSD50K.eval_audio/     NAME.wav of the split eval
A reduced copy, or another data set in this layout with classes of its own, is as good.
"""

import csv
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from bench.data.audio import probe_all
from bench.data.dataset import SPLITS, AudioError, AudioFolder, Clip, Dataset, Progress
from bench.data.overlap import same_recordings, shared_groups
from bench.data.readers.tables import RecordingFolder, clip_name, read_rows, read_table, require_file, shown, unfit
from bench.errors import UserError

__all__ = ["OFFICIAL_CLASSES", "OFFICIAL_CLIPS", "FSDClass", "Verification", "audio_folder", "is_dataset",
           "is_official", "leaf_classes", "load_classes", "read_dataset", "verify"]  # fmt: skip

# Of the whole data set, v1.0.
OFFICIAL_CLIPS = {"train": 36_796, "val": 4_170, "eval": 10_231}
OFFICIAL_CLASSES = 200
# train and val are parts of dev: they share a table and a folder of recordings
_SUBSETS = {"dev": ("train", "val"), "eval": ("eval",)}
_FETCHED = "it comes with FSD50K.ground_truth.zip"
# How many lines of what is wrong are kept to be shown; all are counted.
_SHOWN = 10_000


@dataclass(frozen=True)
class FSDClass:
    """A class of FSD50K's vocabulary; its ancestors, from the root down, are in the vocabulary, too."""

    index: int
    label: str
    mid: str
    leaf: bool
    ancestors: tuple[str, ...]


@cache
def load_classes() -> tuple[FSDClass, ...]:
    """Return the 200 classes of FSD50K, in the order of its vocabulary."""
    # the hierarchy is not among FSD50K's files; how it was derived stands at the head of this one
    with (Path(__file__).parents[1] / "fsd50k_classes.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(line for line in file if not line.startswith("#"))
    return tuple(
        FSDClass(int(index), label, mid, leaf == "1", tuple(filter(None, ancestors.split(","))))
        for index, label, mid, leaf, ancestors in rows
    )


def leaf_classes(labels: Sequence[str]) -> tuple[bool, ...]:
    """Return whether each class is a leaf; those that FSD50K lacks have no place in its hierarchy, and count as one."""
    known = {c.label: c.leaf for c in load_classes()}
    return tuple(known.get(label, True) for label in labels)


def audio_folder(split: str) -> str:
    """Return the name of the folder that holds the recordings of a split, or of the subset dev (train and val)."""
    return "FSD50K.eval_audio" if split == "eval" else "FSD50K.dev_audio"


def is_official(clips: Mapping[str, int], classes: int) -> bool:
    """Return whether a data set with so many clips a split, and so many classes, is the whole of FSD50K."""
    return clips == OFFICIAL_CLIPS and classes == OFFICIAL_CLASSES


def is_dataset(folder: Path) -> bool:
    """Return whether a folder looks like this layout, if not a complete one."""
    return (folder / "FSD50K.ground_truth").is_dir()


def read_dataset(folder: Path, archived: Mapping[str, AudioFolder] | None = None) -> Dataset:
    """Read the ground truth of a data set in FSD50K's layout, whole or reduced. Opens no recording.

    `archived` are folders of recordings that are not in `folder` but in archives, by their names. Raises UserError with
    file and line if a folder, file, column or split is missing, if a line can't be understood in one way alone, or if a
    recording is listed twice, under whatever names; labels that can't be used are the data set's problems.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should hold FSD50K.ground_truth, FSD50K.dev_audio, ...")
    labels = _read_vocabulary(folder / "FSD50K.ground_truth" / "vocabulary.csv")
    subsets = [
        _Subset(folder, subset, (archived or {}).get(audio_folder(subset), folder / audio_folder(subset)), labels)
        for subset in _SUBSETS
    ]
    dev, eval_ = subsets
    for subset in subsets:
        subset.read()
    for name in sorted(eval_.names & dev.names):
        raise UserError(
            f"{eval_.table}, line {eval_.line(name)}: clip {name} is also in dev.csv, line {dev.line(name)}; a "
            "recording is for training or for test, and a name for one recording: remove or rename one"
        )
    _refuse_links_to_one_file(subsets)
    clips = (*dev.clips, *eval_.clips)
    for split in SPLITS:
        of_split = [clip for clip in clips if clip.split == split]
        if not of_split:
            raise UserError(f"{folder}: no clips of split {split!r}; training, selection and test need one each")
        if not any(clip.labels for clip in of_split) and not dev.problem_count + eval_.problem_count:
            raise UserError(f"{folder}: no clip of split {split!r} has a label; there is nothing to learn or to find")
    problems = (*dev.problems, *eval_.problems)[:_SHOWN]
    return Dataset(folder, labels, leaf_classes(labels), clips, problems, dev.problem_count + eval_.problem_count)


@dataclass
class Verification:
    """What a folder holds, of usable recordings in each split, and everything that is wrong with it."""

    classes: int  # of the vocabulary
    clips: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    hours: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0.0))
    negatives: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))  # clips without a label
    classes_used: dict[str, int] = field(default_factory=dict)  # by split
    broken: dict[str, str] = field(default_factory=dict)  # path: cause, of the first ones
    broken_count: int = 0
    extra: list[str] = field(default_factory=list)  # files among the recordings that no table lists, the first ones
    extra_count: int = 0
    same: list[list[str]] = field(default_factory=list)  # paths of recordings that are the same, in different splits
    uploaders: dict[str, int] = field(default_factory=dict)  # "all", and those in both of two splits: "train and eval"
    problems: list[str] = field(default_factory=list)  # labels that cannot be used, the first ones
    problem_count: int = 0

    @property
    def whole(self) -> bool:
        return is_official(self.clips, self.classes) and not self.broken


def verify(folder: Path, progress: Progress = lambda *_: None) -> Verification:
    """Compare a folder with what its tables list, reading every recording's header; `progress` takes recordings."""
    dataset = read_dataset(folder)
    found = Verification(len(dataset.labels), problems=list(dataset.problems), problem_count=dataset.problem_count)
    usable = []
    for done, (clip, info) in enumerate(zip(dataset.clips, probe_all(dataset.clips), strict=True), start=1):
        progress(done, len(dataset.clips))
        if isinstance(info, AudioError):
            found.broken_count += 1
            if found.broken_count <= _SHOWN:
                found.broken[_path(clip)] = str(info)
        else:
            usable.append(clip)
            found.clips[clip.split] += 1
            found.hours[clip.split] += info.seconds / 3600
            found.negatives[clip.split] += not clip.labels
    used = {(clip.split, label) for clip in dataset.clips for label in clip.labels}
    found.classes_used = {split: sum(s == split for s, _ in used) for split in SPLITS}
    found.same = [[_path(clip) for clip in clips] for clips in same_recordings(usable)]
    found.uploaders = shared_groups((clip.group, clip.split) for clip in usable)
    for subset in _SUBSETS:
        listed = {
            clip.file_name.partition("/")[0] for clip in dataset.clips if clip.folder.name == audio_folder(subset)
        }
        # no error, as the clips that are listed are unaffected, but a sign of a mixed-up folder
        names = sorted(set(os.listdir(folder / audio_folder(subset))) - listed)
        found.extra_count += len(names)
        found.extra += [f"{audio_folder(subset)}/{name}" for name in names[: _SHOWN - len(found.extra)]]
    return found


def _path(clip: Clip) -> str:
    return f"{audio_folder(clip.split)}/{clip.file_name}"


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    labels: dict[str, int] = {}
    for line, row in read_rows(path, _FETCHED):
        # an index is a column of the targets, so that gaps or another order would mix up classes
        if len(row) != 3 or row[0] != str(len(labels)):
            raise UserError(f"{path}, line {line}: rows should be index,label,mid without a header, indices from 0")
        label = row[1]
        if cause := unfit(label) or ("holds a comma, which stands between labels" if "," in label else ""):
            raise UserError(f"{path}, line {line}: class {shown(label)} {cause}")
        if not label:
            raise UserError(f"{path}, line {line}: class {row[0]} has no label")
        if label in labels:
            raise UserError(f"{path}, line {line}: class {label} is listed twice, first in line {labels[label]}")
        labels[label] = line
    if not labels:
        raise UserError(f"{path}: the file is empty")
    return tuple(labels)


class _Subset:
    """A table being read: dev.csv or eval.csv.

    Attributes:
        names: those of the clips so far.
        problems: a line for each label that cannot be used, so that many are named at once.
    """

    def __init__(self, folder: Path, name: str, audio: AudioFolder, labels: tuple[str, ...]) -> None:
        if not audio.is_dir():
            raise UserError(f"{audio}: no such folder; `bench data fetch` unpacks FSD50K's, from {audio.name}.zip")
        self.name, self.recordings = name, RecordingFolder(audio)
        self.table = folder / "FSD50K.ground_truth" / f"{name}.csv"
        self.metadata = folder / "FSD50K.metadata" / f"{name}_clips_info_FSD50K.json"
        self.index = {label: i for i, label in enumerate(labels)}
        self.clips: list[Clip] = []
        self.names: set[str] = set()
        # where each clip is listed; not by name, which for millions of clips would take more than all else
        self._lines = array("L")
        self.problems: list[str] = []
        self.problem_count = 0

    def read(self) -> None:
        in_dev = self.name == "dev"
        columns = ["fname", "labels"] + (["split"] if in_dev else [])
        groups = _read_uploaders(self.metadata)
        # few sets of labels are many clips'
        columns_of = lru_cache(maxsize=1 << 16)(self._columns_of)
        for line, (text, labels, *rest) in read_table(
            self.table, columns, ["mids"] if in_dev else ["split", "mids"], remedy=_FETCHED
        ):
            split, mids = rest
            name = self._name(line, text)
            split = self._split(line, name, split)
            known, wrong = columns_of(labels, mids if mids in self.index else "")
            for cause in wrong:
                self._note(f"{self._at(line, name)}: {cause}")
            try:
                file = self.recordings.find(name)
            except ValueError as error:
                raise UserError(f"{self._at(line, name)}: {error}") from None
            audio = self.recordings.folder
            self.clips.append(Clip(name, split, known, audio, file, groups.get(name)))
            self._lines.append(line)

    def line(self, name: str) -> int:
        """Return where a clip is listed."""
        return next(line for clip, line in zip(self.clips, self._lines, strict=True) if clip.name == name)

    def _at(self, line: int, name: str) -> str:
        return f"{self.table}, line {line}: clip {name}"

    def _note(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)

    def _name(self, line: int, text: str) -> str:
        try:
            name = clip_name(text)
        except ValueError as error:
            raise UserError(f"{self.table}, line {line}: fname {shown(text)}: {error}") from None
        if name in self.names:
            raise UserError(f"{self._at(line, name)} is listed twice, first in line {self.line(name)}; remove one")
        self.names.add(name)
        return name

    def _split(self, line: int, name: str, split: str) -> str:
        if self.name == "eval":
            if split not in ("", "eval", "test"):
                raise UserError(
                    f"{self._at(line, name)}: split is {shown(split)}, but all clips of this file are eval's"
                )
            return "eval"
        if split not in _SUBSETS["dev"]:
            raise UserError(f"{self._at(line, name)}: split is {shown(split)}, should be train or val")
        # one text for all clips
        return "train" if split == "train" else "val"

    def _columns_of(self, text: str, mid: str) -> tuple[tuple[int, ...], list[str]]:
        """Return the classes that a clip's labels name, ascending, and what is wrong with the others."""
        # without a label it is a negative of every class
        names = [name.strip() for name in text.split(",")] if text else []
        wrong = [f"label {shown(name)} is not in vocabulary.csv" for name in names if name and name not in self.index]
        if "" in names:
            wrong.append(f"labels {shown(text)} have an empty one between commas")
        if mid:
            wrong.append(f"mids is {mid!r}, a label; labels with a comma between them belong into quotes")
        return tuple(sorted({self.index[name] for name in names if name in self.index})), wrong


def _refuse_links_to_one_file(subsets: Sequence[_Subset]) -> None:
    """Raise UserError if two clips are one recording, through links between files or folders."""
    roots = {subset.recordings.real_path("") for subset in subsets}
    if len(roots) == len(subsets) and not any(subset.recordings.has_links for subset in subsets):
        return
    seen: dict[str, tuple[_Subset, Clip]] = {}
    for subset in subsets:
        for clip in subset.clips:
            if clip.is_missing or not isinstance(clip.folder, Path):
                continue
            first, other = seen.setdefault(subset.recordings.real_path(clip.file_name), (subset, clip))
            if other is not clip:
                raise UserError(
                    f"{subset.table}, line {subset.line(clip.name)}: clip {clip.name} is the same file as clip "
                    f"{other.name} of {first.table.name}, line {first.line(other.name)}, through a link; remove one"
                )


def _read_uploaders(path: Path) -> dict[str, str]:
    # the file may be missing, as nothing but the clips' groups depends on it
    if not os.path.lexists(path):
        return {}
    remedy = "remove the file or fetch it again"
    require_file(path, remedy)
    try:
        values = json.loads(path.read_text("utf-8"))
        groups: dict[str, str | None] = {}
        for name, info in values.items():
            # one name a clip, as in the tables
            if groups.setdefault(clip_name(name), group := _uploader(info)) != group:
                raise ValueError("a clip of two uploaders")
        return {name: group for name, group in groups.items() if group is not None}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise UserError(f"{path}: not the clip information of FSD50K; {remedy}") from None


def _uploader(info: Mapping[str, Any]) -> str | None:
    """Return who uploaded a clip, None if that is not known. Raises ValueError for what is no name."""
    uploader = info["uploader"]
    if uploader is None:
        return None
    if isinstance(uploader, bool) or not isinstance(uploader, str | int) or unfit(str(uploader)):
        raise ValueError("uploader")
    return str(uploader)
