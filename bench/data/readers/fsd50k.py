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
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

from bench.data.audio import probe_all
from bench.data.dataset import SPLITS, AudioError, AudioFolder, Clip, Dataset, Progress
from bench.errors import UserError, one_line

__all__ = ["OFFICIAL_CLASSES", "OFFICIAL_CLIPS", "FSDClass", "Verification", "audio_folder", "is_dataset",
           "load_classes", "read_dataset", "verify"]  # fmt: skip

# Of the whole data set, v1.0.
OFFICIAL_CLIPS = {"train": 36_796, "val": 4_170, "eval": 10_231}
OFFICIAL_CLASSES = 200
# train and val are parts of dev: they share a table and a folder of recordings
_SUBSETS = {"dev": ("train", "val"), "eval": ("eval",)}
_Found = tuple[list[Clip], list[str]]


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


def audio_folder(split: str) -> str:
    """Return the name of the folder that holds the recordings of a split, or of the subset dev (train and val)."""
    return "FSD50K.eval_audio" if split == "eval" else "FSD50K.dev_audio"


def is_dataset(folder: Path) -> bool:
    """Return whether a folder looks like this layout, if not a complete one."""
    return (folder / "FSD50K.ground_truth").is_dir()


def read_dataset(folder: Path, archived: Mapping[str, AudioFolder] | None = None) -> Dataset:
    """Read the ground truth of a data set in FSD50K's layout, whole or reduced. Opens no recording.

    `archived` are folders of recordings that are not in `folder` but in archives, by their names. Raises UserError if a
    folder, file, column or split is missing, or a file lists no clips or one twice.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should hold FSD50K.ground_truth, FSD50K.dev_audio, ...")
    labels = _read_vocabulary(folder / "FSD50K.ground_truth" / "vocabulary.csv")
    clips: list[Clip] = []
    problems: list[str] = []
    for subset in _SUBSETS:
        audio = (archived or {}).get(audio_folder(subset), folder / audio_folder(subset))
        found, wrong = _read_subset(folder, subset, audio, labels)
        clips += found
        problems += wrong
    for split in SPLITS:
        if all(clip.split != split for clip in clips):
            raise UserError(f"{folder}: no clips of split {split!r}; training, selection and test need one each")
    # classes that FSD50K lacks have no place in its hierarchy, and count as leaves
    known = {c.label: c.leaf for c in load_classes()}
    return Dataset(folder, labels, tuple(known.get(label, True) for label in labels), tuple(clips), tuple(problems))


@dataclass
class Verification:
    """What a folder holds, of usable recordings in each split, and everything that is wrong with it."""

    classes: int  # of the vocabulary
    clips: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    hours: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0.0))
    classes_used: dict[str, int] = field(default_factory=dict)  # by split
    broken: dict[str, str] = field(default_factory=dict)  # path: cause
    extra: list[str] = field(default_factory=list)  # files among the recordings that no table lists
    problems: list[str] = field(default_factory=list)  # labels that cannot be used

    @property
    def whole(self) -> bool:
        return self.clips == OFFICIAL_CLIPS and self.classes == OFFICIAL_CLASSES and not self.broken


def verify(folder: Path, progress: Progress = lambda *_: None) -> Verification:
    """Compare a folder with what its tables list, reading every recording's header; `progress` takes recordings."""
    dataset = read_dataset(folder)
    found = Verification(len(dataset.labels), problems=list(dataset.problems))
    for done, (clip, info) in enumerate(zip(dataset.clips, probe_all(dataset.clips), strict=True), start=1):
        progress(done, len(dataset.clips))
        if isinstance(info, AudioError):
            found.broken[_path(clip)] = str(info)
        else:
            found.clips[clip.split] += 1
            found.hours[clip.split] += info.seconds / 3600
    used = {(clip.split, label) for clip in dataset.clips for label in clip.labels}
    found.classes_used = {split: sum(s == split for s, _ in used) for split in SPLITS}
    listed = {_path(clip) for clip in dataset.clips}
    for subset in _SUBSETS:
        # no error, as the clips that are listed are unaffected, but a sign of a mixed-up folder
        names = sorted(f"{audio_folder(subset)}/{file.name}" for file in (folder / audio_folder(subset)).iterdir())
        found.extra += [name for name in names if name not in listed]
    return found


def _path(clip: Clip) -> str:
    return f"{audio_folder(clip.split)}/{clip.name}.wav"


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    table = _read_csv(path, header=None)
    # an index is a column of the targets, so that gaps or another order would mix up classes
    if table.shape[1] != 3 or table[0].tolist() != [str(i) for i in range(len(table))]:
        raise UserError(f"{path}: rows should be index,label,mid without a header, indices from 0")
    if twice := table.loc[table[1].duplicated(), 1].tolist():
        raise UserError(f"{path}: class {twice[0]} is listed twice")
    return tuple(table[1])


def _read_subset(folder: Path, subset: str, audio: AudioFolder, labels: tuple[str, ...]) -> _Found:
    """Read the clips of dev or eval, and a line for each label that cannot be used, so that all are named at once."""
    if not audio.is_dir():
        raise UserError(f"{audio}: no such folder; `bench data fetch` unpacks FSD50K's, from {audio.name}.zip")
    path = folder / "FSD50K.ground_truth" / f"{subset}.csv"
    table = _read_csv(path)
    columns = ["fname", "labels"] + (["split"] if subset == "dev" else [])
    for column in columns:
        if column not in table:
            raise UserError(f"{path}: no column {column!r}; the header should be {','.join(columns)}")
    if twice := table.loc[table["fname"].duplicated(), "fname"].tolist():
        raise UserError(f"{path}: clip {twice[0]} is listed twice")
    splits = table["split"] if subset == "dev" else ["eval"] * len(table)
    groups = _read_uploaders(folder / "FSD50K.metadata" / f"{subset}_clips_info_FSD50K.json")
    index = {label: i for i, label in enumerate(labels)}
    clips: list[Clip] = []
    problems: list[str] = []
    for name, text, split in zip(table["fname"], table["labels"], splits, strict=True):
        if split not in _SUBSETS[subset]:
            raise UserError(f"{path}: clip {name}: split is {split!r}, should be train or val")
        names = [label for label in text.split(",") if label]
        problems += [f"{path}: clip {name}: label {n!r} is not in vocabulary.csv" for n in names if n not in index]
        if not names:
            problems.append(f"{path}: clip {name} has no label")
        known = tuple(sorted(index[n] for n in set(names) if n in index))
        # FSD50K lists names without the suffix; tables made by others often have it
        name = name.removesuffix(".wav")
        clips.append(Clip(name, split, known, audio / f"{name}.wav", groups.get(name)))
    return clips, problems


def _read_csv(path: Path, header: int | None = 0) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file; it comes with FSD50K.ground_truth.zip")
    try:
        # text as it is: pandas would make numbers of names such as 007, and NaN of a class "None"
        table = pd.read_csv(path, dtype=str, keep_default_na=False, header=header, index_col=False)
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV: {one_line(error)}") from None
    if table.empty:
        raise UserError(f"{path}: lists nothing")
    return table


def _read_uploaders(path: Path) -> dict[str, str]:
    # the file may be missing, as nothing but the clips' groups depends on it
    if not path.is_file():
        return {}
    try:
        return {name: str(info["uploader"]) for name, info in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{path}: not the clip information of FSD50K; remove the file or fetch it again") from None
