"""What a model heard in a sound file: as lines of text and as a table."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.errors import UserError
from bench.text import printable

Floats = npt.NDArray[np.floating[Any]]

__all__ = ["SOFTWARE", "Tags", "as_document", "as_frame", "clock", "describe", "figure_paths"]

# of a terminal, for the scores over time
_COLUMNS = 60
# of a score, from 0 to 1
_HEIGHTS = " ▁▂▃▄▅▆▇█"
# is written into the figures
SOFTWARE = "bench predict"


@dataclass(frozen=True)
class Tags:
    """A file's scores, chunk by chunk."""

    file: Path
    model: str
    # of the file
    seconds: float
    # seconds from one chunk to the next; the last one ends with the file
    hop: float
    classes: Sequence[str]
    # (chunks,) s
    starts: Floats
    # (chunks, k)
    scores: Floats
    # seconds
    chunk: float = 1.0
    # (k,), where the whole file's scores are not the mean over chunks
    of_clip: Floats | None = None
    # what was done with a file shorter than that: the recipe's `short_clips`
    short_clips: str = "repeat"
    # the class that was asked for, which is shown before the top tags; those that a clip of a data set is labelled with
    asked: int | None = None
    labels: frozenset[int] = frozenset()

    @cached_property
    def clip(self) -> Floats:
        """Scores of the whole file, as an evaluation has them: (k,)."""
        return np.asarray(self.scores.mean(axis=0)) if self.of_clip is None else self.of_clip

    def top(self, count: int) -> list[int]:
        """Return the classes with the highest scores, the highest first, behind the one that was asked for."""
        found = [int(k) for k in np.argsort(-self.clip, kind="stable")[:count]]
        return found if self.asked is None else [self.asked, *(k for k in found if k != self.asked)][:count]

    @property
    def length(self) -> str:
        fills = self.short_clips == "zeros"
        # what is shorter than a second is repeated in packs, however short a chunk is
        least = self.chunk if fills else max(1, self.chunk)
        if self.seconds < least:
            how = "filled up with zeros" if fills else "repeated"
            return f"{self.seconds:.2f} s, {how} to {'one second' if least == 1 else f'{least:g} s'}"
        return f"{self.seconds:.1f} s" if self.seconds < 60 else clock(self.seconds)


def clock(seconds: float) -> str:
    """Return a time as 1:02 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(tags: Tags, count: int) -> str:
    """Return the top tags, a line each: the score, and of several chunks the scores over time and their peak."""
    top, chunks = tags.top(count), len(tags.starts)
    group = -(-chunks // _COLUMNS)  # chunks a column
    width = max(len(tags.classes[k]) for k in top)
    name = printable(str(tags.file))
    lines = [f"{name}: {tags.length}" + (f"; a column is {group * tags.hop:g} s" if chunks > 1 else "")]
    for k in top:
        lines.append(f"  {tags.classes[k]:{width}} {tags.clip[k]:.2f}")
        if chunks > 1:
            scores = tags.scores[:, k]
            columns = np.maximum.reduceat(scores, np.arange(0, chunks, group))
            heights = "".join(_HEIGHTS[round(8 * float(score))] for score in columns)
            peak = int(scores.argmax())
            lines[-1] += f" |{heights}| peak {scores[peak]:.2f} at {clock(tags.starts[peak])}"
    return "\n".join(lines)


def as_document(tags: Tags, count: int) -> dict[str, Any]:
    """Return a file's name, its seconds and the scores of its top tags, the highest first, to be written as JSON."""
    top = {tags.classes[k]: round(float(tags.clip[k]), 6) for k in tags.top(count)}
    return {"file": str(tags.file), "seconds": tags.seconds, "tags": top}


def as_frame(tags: Tags, name: str, *, over_time: bool = False) -> pd.DataFrame:
    """Return a file's scores, a column a class, under `name`: one row, or of each chunk (by its first second) a row."""
    if over_time:
        index: pd.Index = pd.MultiIndex.from_product([[name], tags.starts], names=["file", "second"])
    else:
        index = pd.Index([name], name="file")
    return pd.DataFrame(tags.scores if over_time else tags.clip[None], index, columns=list(tags.classes))


def figure_paths(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Return each file's figure: FOLDER/STEM.png, or of files with one stem, as much of the path as tells them apart.

    siren.mp3 and siren.ogg become siren.mp3.png and siren.ogg.png; a/siren.mp3 and b/siren.mp3 become a-siren.mp3.png
    and b-siren.mp3.png. Raises UserError where that is not enough, or for a picture of other origin.
    """
    names = {file: file.stem for file in files}
    parts = {file: Path(os.path.abspath(file)).parts[1:] for file in names}
    taken = _taken(names)
    for depth in range(1, 1 + max(map(len, parts.values()), default=0)):
        names |= {file: "-".join(parts[file][-depth:]) for file, name in names.items() if taken[name.casefold()] > 1}
        taken = _taken(names)
    for file, name in names.items():
        if taken[name.casefold()] > 1:
            raise UserError(f"{file}: another file would have its figure, {name}.png, too; draw them into two folders")
        _refuse_foreign(folder / f"{name}.png", SOFTWARE)
    return {file: folder / f"{name}.png" for file, name in names.items()}


def _taken(names: dict[Path, str]) -> Counter[str]:
    """Count the files of each name, as a file system does that does not tell A from a."""
    return Counter(name.casefold() for name in names.values())


def _refuse_foreign(path: Path, mark: str) -> None:
    """Raise UserError if there is a file that does not begin as this command's do, with `mark` in its first bytes."""
    if path.exists():
        with path.open("rb") as file:
            if mark.encode() not in file.read(200):
                raise UserError(f"{path}: exists, and is not from `bench predict`; remove it or name another place")
