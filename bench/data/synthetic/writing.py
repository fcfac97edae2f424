"""Write a generated data set in the layout of FSD50K: WAV files and tables, all of it or nothing."""

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

from bench.data.dataset import SPLITS, Progress
from bench.data.readers.fsd50k import audio_folder
from bench.data.synthetic.synthesis import RATE
from bench.data.threads import in_threads
from bench.disk import explain_full_disk, partial_path, refuse_odd, require_space
from bench.errors import UserError
from bench.locks import hold

__all__ = ["GeneratedClip", "GeneratedSet", "write_set"]

_LICENCE = "http://creativecommons.org/publicdomain/zero/1.0/"


@dataclass(frozen=True)
class GeneratedClip:
    """What the tables say of a clip; clips of one uploader, if there is one, are not independent of each other."""

    id: int
    split: str
    labels: Sequence[str]
    # in words, what is heard
    heard: Sequence[str]
    uploader: str | None


@dataclass(frozen=True)
class GeneratedSet:
    """A data set that is to be written."""

    # class, in the order of the targets' columns, to its id in AudioSet's ontology, '' where it has none
    classes: Mapping[str, str]
    # by ascending id
    clips: Sequence[GeneratedClip]
    # place of a clip -> its samples (n,) at 44.1 kHz, whatever was rendered before
    render: Callable[[int], NDArray[np.int16]]
    # on average, to know beforehand whether the disk has room
    bytes_per_clip: int


def write_set(
    folder: Path, generated: GeneratedSet, *, progress: Progress = lambda *_: None, notice: Callable[[str], None]
) -> None:
    """Write a generated set: all of it, or nothing. `progress` takes clips.

    The same set that is there already is left as it is. While another process writes one there, `notice` is told, and
    this one waits. Raises UserError if the folder holds anything else, or the disk is too small.
    """
    if folder.name in ("", ".."):
        raise UserError(f"{folder}: name a folder that the data set is to be, such as {folder / 'demo'}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with hold(folder, "being generated", notice):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            if _is_there(folder, generated):
                return
            raise UserError(f"{folder} exists and is not an empty folder: delete it or name another folder")
        require_space(folder, generated.bytes_per_clip * len(generated.clips))
        _write(folder.resolve(), generated, progress)


def _is_there(folder: Path, generated: GeneratedSet) -> bool:
    """Return whether a folder holds just this set: every recording, and the same tables."""
    with TemporaryDirectory() as temporary:
        _write_tables(expected := Path(temporary), generated)
        tables = {path.relative_to(expected): path.read_bytes() for path in expected.rglob("*") if path.is_file()}
    recordings = {Path(audio_folder(clip.split)) / f"{clip.id}.wav" for clip in generated.clips}
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return found == tables.keys() | recordings and all((folder / n).read_bytes() == tables[n] for n in tables)


def _write(whole: Path, generated: GeneratedSet, progress: Progress) -> None:
    partial = partial_path(whole)
    refuse_odd(partial, folder=True)
    if partial.exists() and (others := sorted(p.name for p in partial.iterdir() if not p.name.startswith("FSD50K."))):
        raise UserError(f"{partial}: holds {others[0]!r}, which no data set has; move it away")
    # of a call that was killed; there is nothing to resume, as the set is made in minutes
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with explain_full_disk(partial):
            _write_tables(partial, generated)
            _write_audio(partial, generated, progress)
            if whole.exists():
                whole.rmdir()
            # last: a folder of this name is whole
            partial.rename(whole)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_audio(folder: Path, generated: GeneratedSet, progress: Progress) -> None:
    def write(place: int) -> None:
        clip = generated.clips[place]
        # libsndfile does not say why it can't write a file; the system says it to us
        sound = io.BytesIO()
        soundfile.write(sound, generated.render(place), RATE, "PCM_16", format="WAV")
        (folder / audio_folder(clip.split) / f"{clip.id}.wav").write_bytes(sound.getvalue())

    for split in SPLITS:
        (folder / audio_folder(split)).mkdir(parents=True, exist_ok=True)
    with in_threads(write, range(len(generated.clips))) as results:
        for done, _ in enumerate(results, start=1):
            progress(done, len(generated.clips))


def _write_tables(folder: Path, generated: GeneratedSet) -> None:
    """Write the ground truth and the metadata of FSD50K, as far as it has a meaning here."""
    mids = generated.classes
    truth, metadata = folder / "FSD50K.ground_truth", folder / "FSD50K.metadata"
    truth.mkdir(parents=True)
    metadata.mkdir()
    pd.DataFrame([*mids.items()]).to_csv(truth / "vocabulary.csv", header=False, lineterminator="\n")
    for subset, columns in (("dev", ["fname", "labels", "mids", "split"]), ("eval", ["fname", "labels", "mids"])):
        listed = [clip for clip in generated.clips if (clip.split == "eval") == (subset == "eval")]
        rows = [
            [clip.id, ",".join(clip.labels), ",".join(mids[label] for label in clip.labels), clip.split]
            for clip in listed
        ]
        table = pd.DataFrame([row[: len(columns)] for row in rows], columns=columns)
        table.to_csv(truth / f"{subset}.csv", index=False, lineterminator="\n")
        text = json.dumps({str(clip.id): _clip_info(clip) for clip in listed}, indent=4) + "\n"
        (metadata / f"{subset}_clips_info_FSD50K.json").write_text(text, encoding="utf-8", newline="\n")


def _clip_info(clip: GeneratedClip) -> dict[str, Any]:
    heard = " and ".join(clip.heard)
    return {
        "title": f"{heard} {clip.id}.wav",
        "description": f"Generated: {heard}.",
        "tags": ["generated", *clip.heard],
        "license": _LICENCE,
        "uploader": clip.uploader,
    }
