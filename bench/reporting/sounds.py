"""Sounds that runs have generated, and the real one beside them: as they lie in a results folder. No torch."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import Field, TypeAdapter

from bench.data.audio import spectrogram_of
from bench.disk import write_json
from bench.reporting.systems import Results, System
from bench.schema import Line, Strict
from bench.store import ResultsFolder, RunFolder
from bench.store.files import checked, damaged, read_json

__all__ = [
    "REAL", "FoundSound", "SoundRecord", "describe_heard", "found_sound", "heard_rows", "sounds_of", "way_of_all",
    "write_record",
]  # fmt: skip

# what the real sound is called beside the names of systems
REAL = "real"
# of a spectrogram, at most
_COLUMNS = 400


class SoundRecord(Strict):
    """What is written beside a sound: how it was made, and what a tagger hears in it."""

    # with seed; of the real one, the clip
    name: Line
    # what came before: a sentence's part, as 'after silence'
    prompt: Line
    # the three are null of the real one, and so is top_k without one
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_k: Annotated[int, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    # its name; class to score, the highest first
    tagger: Line | None = None
    heard: dict[Line, Annotated[float, Field(ge=0, le=1)]] = {}

    @property
    def how(self) -> str:
        """How it was made, for people: after silence, temperature 1, drawn with seed 0."""
        temperature = None if self.temperature is None else f"{self.temperature:g}"
        drawn = {"temperature": temperature, "top-k": self.top_k, "drawn with seed": self.seed}
        return ", ".join([self.prompt, *(f"{name} {value}" for name, value in drawn.items() if value is not None)])


_RECORD = TypeAdapter(SoundRecord)


@dataclass(frozen=True)
class FoundSound:
    """A sound and what is known of it."""

    path: Path
    record: SoundRecord
    wav: bytes
    # (n,) int16
    samples: npt.NDArray[np.int16]
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    @property
    def power(self) -> npt.NDArray[np.float64]:
        """Its spectrogram, as wide as a picture of several: (frequencies, columns)."""
        return spectrogram_of([self.samples], len(self.samples), self.sample_rate, _COLUMNS)


def write_record(folder: RunFolder | ResultsFolder, record: SoundRecord) -> None:
    """Write what is known of the sound of a run, or of the real one."""
    write_json(folder.sound_record, record.model_dump(mode="json"))


def found_sound(folder: RunFolder | ResultsFolder) -> FoundSound | None:
    """Return what `bench generate` has left in a folder; None where it was not called, or left half of it.

    Raises UserError for a damaged one.
    """
    path = folder.sound_file
    if not (path.is_file() and folder.sound_record.is_file()):
        return None
    remedy = f"remove it, or run `bench generate {folder.path}` again"
    record = checked(_RECORD, read_json(folder.sound_record, remedy=remedy), folder.sound_record, remedy)
    wav = path.read_bytes()
    try:
        samples, sample_rate = soundfile.read(io.BytesIO(wav), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError:
        raise damaged(path, "no sound", remedy) from None
    if not len(samples):
        raise damaged(path, "without samples", remedy)
    return FoundSound(path, record, wav, samples[:, 0], sample_rate)


def sounds_of(results: Results, systems: Iterable[System]) -> dict[str, FoundSound]:
    """Return the sounds in a results folder by name: the real one, then those of systems, of each its first seed's.

    Raises UserError for a damaged one.
    """
    found = {system.label: sound for system in systems if (sound := _first_sound(system))}
    # a real one alone is beside nothing
    real = found_sound(results.folder) if found else None
    return {REAL: real, **found} if real else found


def way_of_all(found: Mapping[str, FoundSound]) -> str:
    """Return how all generated ones were made, if alike; else ''."""
    ways = {sound.record.how for name, sound in found.items() if name != REAL}
    return ways.pop() if len(ways) == 1 else ""


def _first_sound(system: System) -> FoundSound | None:
    return next((sound for run in system.runs if (sound := found_sound(run.folder))), None)


def heard_rows(records: Iterable[SoundRecord]) -> list[dict[str, Any]]:
    """Return what taggers hear in sounds, a line a sound and class, the highest score first."""
    return [
        {"sound": record.name, "tagger": record.tagger, "class": label, "score": score}
        for record in records
        for label, score in record.heard.items()
    ]


def describe_heard(heard: Mapping[str, float]) -> str:
    """Return classes and scores in a line: Bark 0.53, Dog 0.41."""
    return ", ".join(f"{label} {score:.2f}" for label, score in heard.items())
