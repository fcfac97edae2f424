"""examples/soundfont_notes.py, on small SoundFont 2 files that are written here."""

import importlib.util
import json
import struct
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from bench.data.readers.fsd50k import read_dataset
from bench.errors import UserError

ROOT = Path(__file__).parent.parent
RATE = 16_000
# kinds of generators, and of samples
INSTRUMENT, SAMPLE, MODES, ROOT_KEY = 41, 53, 54, 58
MONO, RIGHT, LEFT = 1, 2, 4


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("soundfont_notes", ROOT / "examples/soundfont_notes.py")
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


# --- a writer of SoundFont 2 files


class Writer:
    """Collects recordings and instruments, and writes a file of them."""

    def __init__(self):
        self.samples = np.zeros(0, np.int16)
        self.headers = []
        self.presets = []

    def record(self, name, samples, loop=(0, 0), *, rate=RATE, kind=MONO):
        """Add a recording; `loop` counts from its beginning. Return its number."""
        start = len(self.samples)
        # 46 zeros stand behind each, section 6.1
        self.samples = np.concatenate([self.samples, samples, np.zeros(46, np.int16)])
        places = start, start + len(samples), start + loop[0], start + loop[1]
        self.headers.append(struct.pack("<20s5IBbHH", name.encode(), *places, rate, 60, 0, 0, kind))
        return len(self.headers) - 1

    def instrument(self, program, name, zones, bank=0):
        """Add an instrument, and a preset that plays it; zones are {kind of generator: amount}."""
        self.presets.append((program, bank, name, zones))

    def write(self, path):
        phdr, pbag, pgen, inst, ibag, igen = (b"" for _ in range(6))
        for i, (program, bank, name, zones) in enumerate(self.presets):
            phdr += struct.pack("<20sHHH3I", name.encode(), program, bank, i, 0, 0, 0)
            pbag += struct.pack("<HH", i, 0)
            pgen += struct.pack("<Hh", INSTRUMENT, i)
            inst += struct.pack("<20sH", name.encode(), len(ibag) // 4)
            for zone in zones:
                ibag += struct.pack("<HH", len(igen) // 4, 0)
                igen += b"".join(struct.pack("<Hh", *generator) for generator in zone.items())
        count = len(self.presets)
        # each table ends with an entry that says where the last one does
        tables = {
            "phdr": phdr + struct.pack("<20sHHH3I", b"EOP", 0, 0, count, 0, 0, 0),
            "pbag": pbag + struct.pack("<HH", count, 0),
            "pgen": pgen + bytes(4),
            "inst": inst + struct.pack("<20sH", b"EOI", len(ibag) // 4),
            "ibag": ibag + struct.pack("<HH", len(igen) // 4, 0),
            "igen": igen + bytes(4),
            "shdr": b"".join(self.headers) + struct.pack("<20s5IBbHH", b"EOS", *[0] * 9),
        }
        info = chunk("INAM", b"odd\0") + chunk("ICOP", b"Nobody 2026\0") + chunk("ICMT", b"MIT\0")
        body = b"sfbk" + chunk("LIST", b"INFO" + info)
        body += chunk("LIST", b"sdta" + chunk("smpl", self.samples.astype("<i2").tobytes()))
        body += chunk("LIST", b"pdta" + b"".join(chunk(name, table) for name, table in tables.items()))
        path.write_bytes(chunk("RIFF", body))
        return path


def chunk(name, body):
    return name.encode() + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def noise(seconds, seed, rate=RATE):
    return np.random.default_rng(seed).integers(-9000, 9000, int(seconds * rate)).astype(np.int16)


def read(example, writer, path):
    """Return the font and its notes by the names of their recordings."""
    font = example.read_soundfont(writer.write(path))
    return font, {note.name: note for note in example.find_notes(font)}


# --- notes


def test_a_recording_lasts_by_its_loop_and_one_without_as_long_as_it_is(example, tmp_path):
    writer = Writer()
    first, loop = noise(1.5, 0), (RATE, RATE + 3000)
    long, struck = noise(5, 1), noise(1.25, 2)
    # behind a loop nothing is played
    writer.instrument(73, "Flute", [{ROOT_KEY: 72, MODES: 1, SAMPLE: writer.record("A", first, loop)}])
    writer.instrument(0, "Piano", [{ROOT_KEY: 60, MODES: 3, SAMPLE: writer.record("B", long, (0, 70_000))}])
    writer.instrument(12, "Marimba", [{ROOT_KEY: 40, SAMPLE: writer.record("C", struck, (100, 200))}])
    font, notes = read(example, writer, tmp_path / "a.sf2")
    cycle = first[loop[0] : loop[1]]
    expected = np.concatenate([first[: loop[1]], np.tile(cycle, 20)])[: 2 * RATE]
    assert np.array_equal(notes["A"].play(font.samples), expected)
    assert np.array_equal(notes["B"].play(font.samples), long[: 4 * RATE])
    assert np.array_equal(notes["C"].play(font.samples), struck)
    assert {name: (note.family, note.key) for name, note in notes.items()} == {
        "A": ("pipe", 72), "B": ("piano", 60), "C": ("chromatic_percussion", 40),
    }  # fmt: skip


def test_a_note_is_taken_once_and_a_recording_for_one_instrument(example, tmp_path):
    writer = Writer()
    loud, shared = noise(2, 3), noise(2.5, 4)
    left, right = (
        writer.record(f"E{side}", noise(2.2 + i, 5 + i), kind=(LEFT, RIGHT)[i]) for i, side in enumerate("LR")
    )
    zones = [{MODES: 0}, {ROOT_KEY: 40, SAMPLE: writer.record("soft", loud[: RATE + 1])}]
    zones += [{ROOT_KEY: 40, SAMPLE: writer.record("loud", loud)}, {ROOT_KEY: 52, SAMPLE: left}]
    writer.instrument(24, "Nylon", [*zones, {ROOT_KEY: 52, SAMPLE: right}])
    writer.instrument(41, "Viola", [{ROOT_KEY: 60, SAMPLE: writer.record("V", shared)}])
    # the same sound, at another place of the file and with other addresses
    writer.instrument(42, "Cello", [{ROOT_KEY: 48, SAMPLE: writer.record("V2", shared[:30_000])}])
    # a variation stands behind General MIDI's own instruments
    writer.instrument(0, "Variation", [{ROOT_KEY: 60, SAMPLE: 5}], bank=8)
    _, notes = read(example, writer, tmp_path / "a.sf2")
    assert {name: note.instrument for name, note in notes.items()} == {"loud": "Nylon", "ER": "Nylon", "V": "Viola"}


def test_what_is_no_note_is_left_out(example, tmp_path):
    writer = Writer()
    recordings = {
        "short": writer.record("short", noise(0.9, 0)),
        "one period": writer.record("one period", noise(0.5, 1), (7900, 8000)),
        "coarse": writer.record("coarse", noise(3, 2, 11_025), rate=11_025),
        "ROM": writer.record("ROM", noise(3, 3), kind=0x8001),
    }
    zones = [{ROOT_KEY: 40 + i, MODES: int(name == "one period"), SAMPLE: number}
             for i, (name, number) in enumerate(recordings.items())]  # fmt: skip
    good = writer.record("good", noise(3, 4))
    writer.instrument(65, "Sax", [*zones, {SAMPLE: 99}, {SAMPLE: good}])
    writer.instrument(38, "Synth bass", [{SAMPLE: writer.record("synthetic", noise(3, 5))}])
    writer.instrument(81, "Lead", [{SAMPLE: writer.record("lead", noise(3, 6))}])
    writer.instrument(0, "Kit", [{SAMPLE: writer.record("drum", noise(3, 7))}], bank=128)
    _, notes = read(example, writer, tmp_path / "a.sf2")
    assert set(notes) == {"good"}


def test_offsets_move_a_recording_and_its_loop(example, tmp_path):
    writer = Writer()
    sound = noise(4, 8)
    zone = {0: 1000, 4: 1, 1: -500, 2: 7, 3: 9, MODES: 1, SAMPLE: writer.record("A", sound, (50_000, 60_000))}
    writer.instrument(16, "Organ", [zone])
    _, notes = read(example, writer, tmp_path / "a.sf2")
    assert (notes["A"].start, notes["A"].end) == (33_768, 63_500)
    assert notes["A"].loop == (50_007, 60_009)


# --- the data set


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory):
    """Two instruments of ten notes, one of four."""
    writer = Writer()
    for program, name, keys in ((0, "Grand Piano", 10), (40, "Violin", 10), (56, "Trumpet", 4)):
        zones = [{ROOT_KEY: 50 + i, SAMPLE: writer.record(f"{name} {i}", noise(1, 100 * program + i))}
                 for i in range(keys)]  # fmt: skip
        writer.instrument(program, name, zones)
    return writer.write(tmp_path_factory.mktemp("font") / "orchestra.sf2")


def test_the_data_set_can_be_read_and_has_each_recording_in_one_split(example, orchestra, tmp_path):
    result = CliRunner().invoke(example.app, [str(orchestra), str(tmp_path / "notes"), "--most", "8"])
    assert result.exit_code == 0, result.output
    assert "train: 13 notes of 3 instruments" in result.output
    dataset = read_dataset(tmp_path / "notes")
    assert dataset.labels == ("brass", "piano", "strings")
    clips = Counter((clip.split, dataset.labels[clip.labels[0]]) for clip in dataset.clips)
    assert {split: [clips[split, label] for label in dataset.labels] for split in ("train", "val", "eval")} == {
        "train": [3, 5, 5], "val": [0, 1, 1], "eval": [1, 2, 2],
    }  # fmt: skip
    assert {clip.group for clip in dataset.clips} == {"Grand Piano", "Violin", "Trumpet"}
    sounds = {soundfile.read(clip.folder / clip.file_name, dtype="int16")[0].tobytes() for clip in dataset.clips}
    assert len(sounds) == len(dataset.clips) == 20
    info = json.loads((tmp_path / "notes/FSD50K.metadata/eval_clips_info_FSD50K.json").read_text())
    assert {clip["license"] for clip in info.values()} == {"Nobody 2026 MIT"}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(example, orchestra, tmp_path):
    font = example.read_soundfont(orchestra)
    notes = example.find_notes(font)
    found = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        example.write_notes(font, tmp_path / folder, example.choose(notes, 8, seed))
        files = sorted(path for path in (tmp_path / folder).rglob("*") if path.is_file())
        found.append({path.relative_to(tmp_path / folder): path.read_bytes() for path in files})
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda raw: b"", "no SoundFont 2 file"),
        (lambda raw: b"RIFF" + raw[4:8] + b"WAVE" + raw[12:], "no SoundFont 2 file"),
        (lambda raw: raw[:-100], "ends within its chunk 'shdr'"),
        (lambda raw: raw[: len(raw) // 2], "ends within its chunk 'smpl'"),
        (lambda raw: raw.replace(b"shdr", b"xhdr"), "no chunk 'shdr'"),
    ],
)
def test_a_damaged_file_is_one_line(example, orchestra, tmp_path, damage, told):
    file = tmp_path / "bad.sf2"
    file.write_bytes(damage(orchestra.read_bytes()))
    with pytest.raises(UserError, match=told) as raised:
        example.read_soundfont(file)
    assert "\n" not in str(raised.value)
    assert str(file) in str(raised.value)


def test_mistakes_are_told(example, orchestra, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        example.read_soundfont(tmp_path / "none.sf2")
    font = example.read_soundfont(orchestra)
    notes = example.find_notes(font)
    with pytest.raises(UserError, match="too few: none is left for val"):
        example.choose(notes, 1, 0)
    with pytest.raises(UserError, match="exists: delete it"):
        example.write_notes(font, tmp_path, example.choose(notes, 8, 0))
    assert not list(tmp_path.iterdir())
