"""Notes of real instruments: the recordings in a SoundFont 2 file, as a data set in FSD50K's layout.

    python examples/soundfont_notes.py /usr/share/sounds/sf2/FluidR3_GM.sf2 data/notes
    bench data pack data/notes --out data/notes-16000

The file is that of Debian's package fluid-soundfont-gm, under the MIT licence; any other will do. A clip is one
recording at its own pitch, as the file holds it, with neither envelope nor effects. One that ends too soon is sustained
by its loop, where it has one. Classes are the families of General MIDI (piano, organ, strings, ...), as far as their
instruments were recorded, and an 'uploader' is an instrument. Each note of an instrument is taken once, so that neither
its other channel nor a softer touch of it is in another split, and no recording is taken for two instruments.

What is read of the format is what its specification (SoundFont Technical Specification 2.04, 2006) has in sections 6, 7
and 8.1. sf2utils, which reads it, too, needs modules that Python 3.13 no longer has.
"""

import csv
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import soundfile
import typer

from bench.cli.entry import run_app
from bench.data.readers.fsd50k import audio_folder
from bench.disk import explain_full_disk, partial_path
from bench.errors import UserError

# of General MIDI, eight programs each; those behind them are synthetic, or noises
FAMILIES = (
    "piano", "chromatic_percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe",
)  # fmt: skip
# programs among them that no instrument is recorded for: synthesised basses, strings, voices and brass, and the hit
_NOT_RECORDED = frozenset({38, 39, 50, 51, 54, 55, 62, 63})
_DRUMS = 128
# A clip lasts so many seconds: less only of a recording that has no loop, but then as long as a pack's shortest clip.
_LEAST, _MOST = 2.0, 4.0
_LEAST_WITHOUT_LOOP = 1.0
# what a loop sustains should be a recording, not one period of a wave
_LEAST_RECORDED = 0.75
# less has no high partials, so that at 16 kHz each sample would follow from those before it
_LEAST_RATE = 16_000
_SPLITS = {"train": 0.65, "val": 0.15, "eval": 0.2}

# tables of the list 'pdta', in section 7
_TABLES: dict[str, list[Any]] = {
    "phdr": [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("reserved", "<u4", 3)],
    "pbag": [("generator", "<u2"), ("modulator", "<u2")],
    "pgen": [("kind", "<u2"), ("amount", "<i2")],
    "inst": [("name", "S20"), ("bag", "<u2")],
    "ibag": [("generator", "<u2"), ("modulator", "<u2")],
    "igen": [("kind", "<u2"), ("amount", "<i2")],
    "shdr": [
        ("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"), ("loop_end", "<u4"),
        ("rate", "<u4"), ("key", "u1"), ("cents", "i1"), ("link", "<u2"), ("type", "<u2"),
    ],
}  # fmt: skip
# kinds of generators, in section 8.1.2
_INSTRUMENT, _SAMPLE, _MODES, _ROOT_KEY = 41, 53, 54, 58
# of addresses, in samples and in 32,768 samples
_OFFSETS = {"start": (0, 4), "end": (1, 12), "loop_start": (2, 45), "loop_end": (3, 50)}
# of a sample that is in the computer's ROM, and of one that is compressed, as in SF3
_ELSEWHERE, _COMPRESSED = 0x8000, 0x10

Samples = npt.NDArray[np.int16]
Table = npt.NDArray[Any]


@dataclass(frozen=True)
class SoundFont:
    """What a file holds: the samples of all recordings, one after the other, and the tables of section 7."""

    samples: Samples
    tables: Mapping[str, Table]
    info: Mapping[str, str]


@dataclass(frozen=True)
class Note:
    """A recording as an instrument plays it; addresses are places in the file's samples, the ends exclusive."""

    program: int
    instrument: str
    key: int  # MIDI's number of the pitch, 60 being middle C; 255 of one without
    name: str
    rate: int
    start: int
    end: int
    loop: tuple[int, int] | None

    @property
    def family(self) -> str:
        return FAMILIES[self.program // 8]

    @property
    def slug(self) -> str:
        """Return a name that any file system takes: flute_064."""
        return f"{'_'.join(re.findall('[a-z0-9]+', self.instrument.lower()))}_{self.key:03d}"

    @property
    def recorded(self) -> float:
        """Return how many seconds are a recording: up to the end of its loop, behind which nothing is played."""
        return ((self.loop[1] if self.loop else self.end) - self.start) / self.rate

    @property
    def seconds(self) -> float:
        """Return how long the clip is."""
        return min(max(self.recorded, _LEAST) if self.loop else self.recorded, _MOST)

    def play(self, samples: Samples) -> Samples:
        """Return the clip: the recording, and behind the end of its loop the loop again and again."""
        at = self.start + np.arange(round(self.seconds * self.rate))
        if self.loop:
            first, end = self.loop
            at = np.where(at < end, at, first + (at - first) % (end - first))
        return samples[at]


# --- the file


def read_soundfont(path: Path) -> SoundFont:
    """Read the tables of a SoundFont 2 file; its samples stay on the disk. Raises UserError if it is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; Debian's package fluid-soundfont-gm has one, in /usr/share/sounds/sf2")
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    if bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"sfbk":
        raise UserError(f"{path}: no SoundFont 2 file, which begins with RIFF and sfbk")
    chunks = {name: data[start:end] for name, start, end in _chunks(data, path)}
    if missing := [name for name in ("smpl", *_TABLES) if name not in chunks]:
        raise UserError(f"{path}: has no chunk {missing[0]!r}, which a SoundFont 2 file of recordings needs")
    tables = {}
    for name, fields in _TABLES.items():
        kind = np.dtype(fields)
        if len(chunks[name]) % kind.itemsize or not len(chunks[name]):
            raise UserError(f"{path}: chunk {name!r} has {len(chunks[name])} bytes, not a multiple of {kind.itemsize}")
        tables[name] = np.frombuffer(chunks[name].tobytes(), kind)
    texts: dict[str, str] = {name: _text(chunks[name].tobytes()) for name in ("INAM", "ICOP", "ICMT") if name in chunks}
    return SoundFont(chunks["smpl"][: len(chunks["smpl"]) // 2 * 2].view("<i2"), tables, texts)


def _chunks(data: npt.NDArray[np.uint8], path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, first byte and end of each chunk of a RIFF file, those within lists included."""
    start = 12
    while start + 8 <= len(data):
        name, size = bytes(data[start : start + 4]), int.from_bytes(bytes(data[start + 4 : start + 8]), "little")
        begin = start + 8
        if name == b"LIST":
            # what is in it follows
            start = begin + 4
            continue
        if begin + size > len(data):
            raise UserError(f"{path}: ends within its chunk {name.decode('latin-1')!r}: get the file again")
        yield name.decode("latin-1"), begin, begin + size
        # chunks begin at even places
        start = begin + size + size % 2


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("latin-1").strip()


# --- instruments


def find_notes(font: SoundFont) -> list[Note]:
    """Return a recording of each note of each instrument, the longest of it; no recording twice."""
    longest: dict[tuple[int, str, int], Note] = {}
    for note in _all_notes(font):
        place = note.program, note.instrument, note.key
        if place not in longest or note.recorded > longest[place].recorded:
            longest[place] = note
    taken: dict[bytes, Note] = {}
    for note in longest.values():
        # where they begin alike, loops alone differ
        beginning = font.samples[note.start : note.start + int(_LEAST_RECORDED * note.rate)].tobytes()
        taken.setdefault(beginning, note)
    return list(taken.values())


def _all_notes(font: SoundFont) -> Iterator[Note]:
    """Yield all usable recordings as instruments play them, variations (other banks) behind General MIDI's own."""
    presets, instruments = font.tables["phdr"], font.tables["inst"]
    # the last of each table says where the one before it ends
    for i in sorted(range(len(presets) - 1), key=lambda i: (presets["bank"][i], presets["program"][i], i)):
        program = int(presets["program"][i])
        if presets["bank"][i] == _DRUMS or program >= 8 * len(FAMILIES) or program in _NOT_RECORDED:
            continue
        for zone in _zones(font, "p", presets["bag"][i : i + 2]):
            # the first may be for all, and names none
            if (played := zone.get(_INSTRUMENT)) is None or (played & 0xFFFF) >= len(instruments) - 1:
                continue
            common: dict[int, int] = {}
            for number, own in enumerate(_zones(font, "i", instruments["bag"][played & 0xFFFF :][:2])):
                if _SAMPLE in own:
                    note = _note(font, program, _text(presets["name"][i]), common | own)
                    if note:
                        yield note
                elif not number:
                    common = own


def _zones(font: SoundFont, table: str, bags: Table) -> Iterator[dict[int, int]]:
    """Yield the generators of each zone of a preset ('p') or an instrument ('i'): kind to amount."""
    starts, generators = font.tables[f"{table}bag"]["generator"], font.tables[f"{table}gen"]
    for bag in range(int(bags[0]), min(int(bags[1]), len(starts) - 1)):
        yield dict(generators[starts[bag] : starts[bag + 1]].tolist())


def _note(font: SoundFont, program: int, instrument: str, zone: Mapping[int, int]) -> Note | None:
    """Return a zone's recording, or None if it is too short, too coarse, or not in the file."""
    headers, number = font.tables["shdr"], zone[_SAMPLE] & 0xFFFF
    if number >= len(headers) - 1:
        return None
    header = headers[number]
    at = {
        name: int(header[name]) + zone.get(fine, 0) + 32_768 * zone.get(coarse, 0)
        for name, (fine, coarse) in _OFFSETS.items()
    }
    # 1: a loop that goes on, 3: until the key is let go
    looped = zone.get(_MODES, 0) & 1 and at["start"] <= at["loop_start"] < at["loop_end"] <= at["end"]
    key = zone[_ROOT_KEY] if zone.get(_ROOT_KEY, -1) >= 0 else int(header["key"])
    loop = (at["loop_start"], at["loop_end"]) if looped else None
    rate = int(header["rate"])
    is_here = not header["type"] & (_ELSEWHERE | _COMPRESSED) and 0 <= at["start"] < at["end"] <= len(font.samples)
    if not is_here or rate < _LEAST_RATE:
        return None
    note = Note(program, instrument, key, _text(header["name"]), rate, at["start"], at["end"], loop)
    return note if note.recorded >= (_LEAST_RECORDED if loop else _LEAST_WITHOUT_LOOP) else None


# --- the data set


def choose(notes: Sequence[Note], most: int, seed: int) -> dict[str, list[Note]]:
    """Return by split up to `most` notes of each family, drawn by chance. Raises UserError if there are too few."""
    rng = np.random.default_rng(seed)
    chosen: dict[str, list[Note]] = {split: [] for split in _SPLITS}
    for family in FAMILIES:
        of_family = [note for note in notes if note.family == family]
        drawn = [of_family[i] for i in rng.permutation(len(of_family))[:most]]
        first, second = (round(len(drawn) * share) for share in (_SPLITS["train"], 1 - _SPLITS["eval"]))
        for split, part in zip(_SPLITS, (drawn[:first], drawn[first:second], drawn[second:]), strict=True):
            chosen[split] += part
    if empty := [split for split in _SPLITS if not chosen[split]]:
        raise UserError(f"{len(notes)} usable notes are too few: none is left for {empty[0]}")
    return chosen


def write_notes(font: SoundFont, folder: Path, chosen: Mapping[str, Sequence[Note]]) -> None:
    """Write a data set, all of it or nothing; the same notes give the same bytes. Raises UserError if it is there."""
    if folder.exists():
        raise UserError(f"{folder} exists: delete it, or name another folder")
    partial = partial_path(folder.resolve())
    numbers = count()
    # a number, since instruments of two banks may have one name
    clips = {split: [(f"{next(numbers):03d}_{note.slug}", note) for note in notes] for split, notes in chosen.items()}
    # of a call that was killed
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with explain_full_disk(partial):
            for split, named in clips.items():
                audio = partial / audio_folder(split)
                audio.mkdir(parents=True, exist_ok=True)
                for name, note in named:
                    soundfile.write(audio / f"{name}.wav", note.play(font.samples), note.rate, "PCM_16")
            _write_tables(partial, clips, " ".join(font.info.get(key, "") for key in ("ICOP", "ICMT")).strip())
            # last: a folder of this name is whole
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_tables(folder: Path, clips: Mapping[str, Sequence[tuple[str, Note]]], licence: str) -> None:
    """Write the ground truth, and the metadata with the instrument of each clip."""
    truth, metadata = folder / "FSD50K.ground_truth", folder / "FSD50K.metadata"
    for each in (truth, metadata):
        each.mkdir(exist_ok=True)
    used = sorted({note.family for named in clips.values() for _, note in named})
    _write_csv(truth / "vocabulary.csv", [[i, family, ""] for i, family in enumerate(used)])
    for subset, splits in (("dev", ("train", "val")), ("eval", ("eval",))):
        rows = [[name, note.family, split] for split in splits for name, note in clips[split]]
        _write_csv(truth / f"{subset}.csv", [["fname", "labels", "split"], *rows])
        info = {
            name: {"title": note.name, "uploader": note.instrument, "license": licence}
            for split in splits
            for name, note in clips[split]
        }
        text = json.dumps(info, indent=2) + "\n"
        (metadata / f"{subset}_clips_info_FSD50K.json").write_text(text, encoding="utf-8", newline="\n")


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    file: Annotated[Path, typer.Argument(help="The SoundFont 2 file.")],
    folder: Annotated[Path, typer.Argument(help="What is written; it must not be there.")],
    most: Annotated[int, typer.Option(min=1, help="Notes of each family.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another one draws others.")] = 0,
) -> None:
    """Write the notes of a SoundFont 2 file as a data set in FSD50K's layout."""
    font = read_soundfont(file)
    chosen = choose(find_notes(font), most, seed)
    write_notes(font, folder, chosen)
    for split, notes in chosen.items():
        seconds = sum(note.seconds for note in notes)
        looped = sum(max(note.seconds - note.recorded, 0) for note in notes)
        instruments = len({note.instrument for note in notes})
        typer.echo(
            f"{split}: {len(notes)} notes of {instruments} instruments, {seconds / 60:.1f} minutes, "
            f"{looped / seconds:.0%} of them loops"
        )


if __name__ == "__main__":
    run_app(app, "soundfont_notes.py", sys.argv[1:])
