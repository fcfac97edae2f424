"""The FSD50K folder: its layout, its classes, and what is wrong with a copy of it (doi:10.5281/zenodo.4060432)."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.data.audio import probe_all
from bench.data.dataset import SPLITS, AudioError, AudioFolder, Clip, Dataset, audio_folder
from bench.errors import UserError, one_line

# of the whole data set, v1.0
OFFICIAL_CLIPS = {"train": 36_796, "val": 4_170, "eval": 10_231}
OFFICIAL_CLASSES = 200


def read_dataset(folder: Path, archived: Mapping[str, AudioFolder] | None = None) -> Dataset:
    """Read the ground truth of a data set in FSD50K's layout, whole or reduced. Opens no recording.

    Args:
        archived: folders of recordings that are not in `folder` but in archives, by their names.

    Raises:
        UserError: a folder, file, column or split is missing, or a file lists no clips or one twice.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should hold FSD50K.ground_truth, FSD50K.dev_audio, ...")
    labels = _read_vocabulary(folder / "FSD50K.ground_truth" / "vocabulary.csv")
    clips: list[Clip] = []
    problems: list[str] = []
    for subset in ("dev", "eval"):
        audio = (archived or {}).get(audio_folder(subset), folder / audio_folder(subset))
        _read_subset(folder, subset, audio, labels, clips, problems)
    counts = Counter(clip.split for clip in clips)
    for split in SPLITS:
        if not counts[split]:
            raise UserError(f"{folder}: no clips of split {split!r}; training, selection and test need one each")
    return Dataset(folder, labels, tuple(clips), tuple(problems))


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    table = _read_csv(path, header=None)
    if table.shape[1] != 3 or table[0].tolist() != [str(i) for i in range(len(table))]:
        raise UserError(f"{path}: rows should be index,label,mid without a header, indices from 0")
    if twice := table.loc[table[1].duplicated(), 1].tolist():
        raise UserError(f"{path}: class {twice[0]} is listed twice")
    return tuple(table[1])


def _read_subset(
    folder: Path, subset: str, audio: AudioFolder, labels: tuple[str, ...], clips: list[Clip], problems: list[str]
) -> None:
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
    for name, text, split in zip(table["fname"], table["labels"], splits, strict=True):
        if split not in (("train", "val") if subset == "dev" else ("eval",)):
            raise UserError(f"{path}: clip {name}: split is {split!r}, should be train or val")
        names = [label for label in text.split(",") if label]
        problems += [f"{path}: clip {name}: label {n!r} is not in vocabulary.csv" for n in names if n not in index]
        if not names:
            problems.append(f"{path}: clip {name} has no label")
        known = tuple(sorted(index[n] for n in set(names) if n in index))
        name = name.removesuffix(".wav")
        clips.append(Clip(name, split, known, audio / f"{name}.wav", groups.get(name)))


def _read_csv(path: Path, header: int | None = 0) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file; it comes with FSD50K.ground_truth.zip")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, header=header, index_col=False)
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV: {one_line(error)}") from None
    if table.empty:
        raise UserError(f"{path}: lists nothing")
    return table


def _read_uploaders(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text("utf-8"))
        return {name: str(info["uploader"]) for name, info in entries.items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{path}: not the clip information of FSD50K; remove the file or fetch it again") from None


@dataclass
class Verification:
    """What a folder holds: clips and hours a split, and everything that is wrong with it."""

    classes: int
    clips: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    hours: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0.0))
    classes_used: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # path -> cause
    extra: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether it is all of FSD50K, rather than a reduced copy."""
        return self.clips == OFFICIAL_CLIPS and self.classes == OFFICIAL_CLASSES and not self.broken


def verify(folder: Path, progress: Callable[[float, float], None] = lambda done, total: None) -> Verification:
    """Compare a folder with what its CSVs list, reading every recording's header. Raises UserError."""
    dataset = read_dataset(folder)
    found = Verification(len(dataset.labels), problems=list(dataset.problems))
    for done, (clip, info) in enumerate(zip(dataset.clips, probe_all(dataset.clips), strict=True), start=1):
        progress(done, len(dataset.clips))
        if isinstance(info, AudioError):
            found.broken[clip.path] = str(info)
        else:
            found.clips[clip.split] += 1
            found.hours[clip.split] += info.seconds / 3600
    for split in SPLITS:
        used = {label for clip in dataset.clips if clip.split == split for label in clip.labels}
        found.classes_used[split] = len(used)
    listed = {clip.path for clip in dataset.clips}
    for subset in ("dev", "eval"):
        names = sorted(f"{audio_folder(subset)}/{file.name}" for file in (folder / audio_folder(subset)).iterdir())
        found.extra += [name for name in names if name not in listed]
    return found
