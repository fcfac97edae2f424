"""The generated tones: which keys there are, that they sound at their pitch, and that a suite takes them by name."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.data.readers.fsd50k import read_dataset
from bench.data.synthetic.pitch import KEYS, frequency, plan, require_rate, write_pitch
from bench.data.synthetic.synthesis import RATE
from bench.errors import UserError

SIZES = {"train_clips": 2, "val_clips": 1, "eval_clips": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pitch") / "pitch"
    write_pitch(folder, **SIZES)
    return folder


def digest(folder: Path) -> str:
    tree = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        tree.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return tree.hexdigest()


def test_keys_are_those_of_a_piano() -> None:
    assert len(set(KEYS)) == 88
    assert (KEYS[0], KEYS[1], KEYS[3], KEYS[39], KEYS[40], KEYS[-1]) == ("A0", "A#0", "C1", "C4", "C#4", "C8")
    # to the cent: tables of equal temperament
    known = {"A0": 27.5, "C4": 261.626, "C#4": 277.183, "A4": 440.0, "B7": 3951.07, "C8": 4186.01}
    assert {key: round(frequency(KEYS.index(key)), 3) for key in known} == pytest.approx(known, rel=1e-5)


def test_every_key_is_in_every_split_and_no_voice_is_commoner() -> None:
    clips = plan({"train": 8, "val": 2, "eval": 2}, seed=0)
    assert Counter((clip.split, clip.key) for clip in clips) == {
        (split, key): size for split, size in (("train", 8), ("val", 2), ("eval", 2)) for key in range(88)
    }
    for split, of_voice in (("train", 176), ("val", 44), ("eval", 44)):
        assert set(Counter(clip.voice for clip in clips if clip.split == split).values()) == {of_voice}
    assert set(Counter((clip.key, clip.voice) for clip in clips if clip.split == "train").values()) == {2}


def test_the_tables_are_those_of_a_data_set(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert dataset.labels == KEYS
    assert Counter(clip.split for clip in dataset.clips) == {"train": 176, "val": 88, "eval": 88}
    assert all(len(clip.labels) == 1 for clip in dataset.clips)
    # clips are drawn independently of each other
    assert {clip.group for clip in dataset.clips} == {None}


def test_clips_sound_at_the_pitch_of_their_key_and_differ_in_level_and_length(folder: Path) -> None:
    """By the period after which a sound is most like itself: no voice's harmonics, or side bands, need be known."""
    peaks, lengths, right, heard = set(), set(), 0, 0
    for clip in read_dataset(folder).clips:
        sound, rate = soundfile.read(clip.recording, dtype="float64")
        assert (rate, sound.ndim) == (RATE, 1)
        assert 1 <= len(sound) / RATE <= 1.4
        peaks.add(round(20 * np.log10(np.abs(sound).max())))
        lengths.add(len(sound))
        period = RATE / frequency(clip.labels[0])
        # where a semitone is several samples, so that whole periods tell it from its neighbours
        if period > 60:
            heard += 1
            right += likeness(sound, period) > max(likeness(sound, period * 2 ** (d / 12)) for d in (-2, -1, 1, 2))
    assert -31 <= min(peaks) < -26
    assert -8 < max(peaks) <= -3
    assert len(lengths) > 300
    assert heard > 200
    # bells are not periodic: the fourth voice of four
    assert right / heard > 0.7


def likeness(sound: np.ndarray, period: float) -> float:
    """Return how a sound correlates with itself four periods later."""
    lag = round(4 * period)
    return float(np.corrcoef(sound[:-lag], sound[lag:])[0, 1])


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_pitch(folder, **SIZES)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "it is there already"
    fewest = {"train_clips": 1, "val_clips": 1, "eval_clips": 1}
    write_pitch(tmp_path / "one", **fewest)
    write_pitch(tmp_path / "again", **fewest)
    write_pitch(tmp_path / "other", **fewest, seed=1)
    assert digest(tmp_path / "one") == digest(tmp_path / "again") != digest(tmp_path / "other")
    with pytest.raises(UserError, match="is not an empty folder"):
        write_pitch(tmp_path / "one", **SIZES)


def test_a_split_without_clips_and_a_rate_without_the_highest_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="val_clips=0: every split needs at least one clip of each key"):
        write_pitch(tmp_path / "pitch", val_clips=0)
    require_rate(9_303)
    with pytest.raises(
        UserError, match=r"^pitch: C8 is 4,186 Hz, .* at 8000 Hz does not hold; take .* at least 9303 Hz$"
    ):
        require_rate(8_000)
    assert list(tmp_path.iterdir()) == []


def test_a_suite_takes_the_set_by_its_name_and_makes_it_where_it_is_missing(bench, small_suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write = write_pitch
    monkeypatch.setattr("bench.data.synthetic.pitch.write_pitch", lambda folder, **more: write(folder, **SIZES, **more))
    command = ("run", small_suite, "--only", "transformer_small", "--seeds", 1, "--data", "pitch", "--no-report")
    done = bench(*command, "--dry-run")
    assert "the pitch set is not made yet" in done.err
    assert bench(*command).code == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"pitch", "pitch-16000"}
    done = bench(*command)
    assert "1 of 1 runs were finished before" in done.err


def test_a_suite_at_a_low_rate_and_a_folder_of_the_same_name_are_told(bench, small_suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_suite.write_text("sample_rate = 8000\n" + small_suite.read_text())
    done = bench("run", small_suite, "--data", "pitch")
    assert (done.code, "C8 is 4,186 Hz" in done.err) == (2, True)
    assert not (tmp_path / "data").exists()
    (tmp_path / "pitch").mkdir()
    done = bench("run", small_suite, "--data", "pitch")
    assert (done.code, "pitch is no pack" in done.err) == (2, True)
