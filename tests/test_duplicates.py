"""Copies of recordings are found, however they were changed, and nothing else is."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

import bench as api
from bench.data import duplicates
from bench.data.dataset import SPLITS
from bench.data.duplicates import find_duplicates
from bench.data.fingerprint import FLIPS, HASHED, Match, Words, match, sound, words
from bench.data.packing import pack
from bench.data.synthetic.synthesis import RATE, SOUNDS
from bench.runner.display import Display
from benchmarks.duplicates import KINDS, measure_found
from tests.conftest import needs
from tests.tiny_data import rows_of, tiny_data, write_rows


def generated(name: str, seed: int, seconds: float = 1.0) -> np.ndarray:
    x = SOUNDS[name](np.random.default_rng(seed), round(seconds * RATE))
    return 0.2 * x / np.abs(x).max()


def data_of(folder: Path, sounds: dict[str, np.ndarray], rate: int = RATE) -> Path:
    """Write a data set of these sounds, by SPLIT/NAME, beside one clip of noise in each split."""
    tiny_data(folder, sizes={"train": 1, "val": 1, "eval": 1})
    tables = {subset: rows_of(folder / "FSD50K.ground_truth" / f"{subset}.csv") for subset in ("dev", "eval")}
    for key, x in sounds.items():
        split, name = key.split("/")
        subset = "eval" if split == "eval" else "dev"
        sf.write(folder / f"FSD50K.{subset}_audio" / f"{name}.wav", x, rate)
        tables[subset].append([name, "Bark", "", split][: len(tables[subset][0])])
    for subset, rows in tables.items():
        write_rows(folder / "FSD50K.ground_truth" / f"{subset}.csv", rows)
    return folder


def found_among(folder: Path, sounds: dict[str, np.ndarray], sample_rate: int = 16_000) -> list[tuple[str, str]]:
    packed = pack(data_of(folder / "data", sounds), folder / "pack", sample_rate=sample_rate)
    return [(pair.first, pair.second) for pair in find_duplicates(packed)]


PLAIN = [kind for kind, (_, is_compressed) in KINDS.items() if not is_compressed]


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("sample_rate", [16_000, 22_050])
def test_a_changed_copy_is_found(kind, sample_rate, tmp_path):
    sounds = {f"train/{name}": generated(name, 1) for name in ("Stream", "Church_bell", "Siren")}
    for key, x in list(sounds.items()):
        for change in KINDS[kind][0]:
            x = change(x)
        sounds[key.replace("train/", "eval/copy_of_")] = x
    expected = [(key, key.replace("train/", "eval/copy_of_")) for key in sounds if key.startswith("train/")]
    assert found_among(tmp_path, sounds, sample_rate) == expected


@pytest.mark.slow
def test_planted_copies_are_found_and_nothing_else(dataset, tmp_path):
    """Of every kind, MP3 included, among generated clips of .3 to 4 s."""
    needs("ffmpeg")
    found = measure_found(dataset, tmp_path, copies=5)
    assert list(found.kinds["kind"]) == list(KINDS)
    assert found.kinds["planted"].tolist() == [5] * len(KINDS)
    assert found.kinds["found"].sum() >= 0.95 * found.kinds["planted"].sum(), found.kinds
    assert found.others.empty
    assert found.clips == 120 + 5 * len(KINDS)


@pytest.mark.parametrize("seconds", [0.3, 0.5])
def test_copies_of_short_clips_are_found_by_what_is_not_repeated(seconds, tmp_path):
    sounds = {f"train/{name}": generated(name, 2, seconds) for name in ("Stream", "Church_bell", "Siren")}
    cut = round(0.1 * seconds * RATE)
    sounds |= {key.replace("train/", "eval/cut_"): 3 * x[cut:-cut] for key, x in sounds.items()}
    assert len(found_among(tmp_path, sounds)) == 3


def test_other_sounds_of_the_same_classes_are_no_copies(tmp_path):
    sounds = {f"{split}/{name}_{split}": generated(name, i) for name in SOUNDS for i, split in enumerate(SPLITS)}
    assert found_among(tmp_path, sounds) == []


def test_tones_noise_and_silence_are_no_copies_of_each_other(tmp_path):
    time, rng = np.arange(RATE) / RATE, np.random.default_rng(0)
    sounds = {f"train/tone{f}": 0.3 * np.sin(2 * np.pi * f * time) for f in (220, 230, 440, 1000, 3000)}
    sounds |= {f"eval/noise{i}": 0.1 * rng.standard_normal(RATE) for i in range(5)}
    sounds |= {f"val/faint{i}": rng.integers(-1, 2, RATE) / 32_768 for i in range(2)} | {"val/silence": np.zeros(RATE)}
    # hum is no recording: that both have it says nothing
    sounds |= {f"eval/hum{i}": 0.3 * np.sin(100 * np.pi * time) + 0.02 * rng.standard_normal(RATE) for i in range(3)}
    assert found_among(tmp_path, sounds) == []


def test_exact_copies_are_in_pairs_with_the_first_and_with_what_is_like_it(tmp_path):
    x, y = generated("Stream", 3), generated("Siren", 3)
    sounds = {"train/a": x, "train/other": y, "val/b": x, "eval/c": x, "eval/near": 0.5 * x[4_410:]}
    packed = pack(data_of(tmp_path / "data", sounds), tmp_path / "pack")
    found = find_duplicates(packed)
    assert [(pair.first, pair.second, pair.exact) for pair in found] == [
        ("train/a", "val/b", True),
        ("train/a", "eval/c", True),
        ("train/a", "eval/near", False),
        ("val/b", "eval/near", False),
        ("eval/c", "eval/near", False),
    ]
    assert [pair.across for pair in found] == [True, True, True, True, False]
    assert found[0].correlation == 1
    assert found[2].correlation > 0.99
    assert [pair.offset for pair in found] == pytest.approx([0, 0, 0.1, 0.1, 0.1], abs=2e-3)


def test_packs_without_hashes_are_compared_by_sound(tmp_path):
    sounds = {"train/a": generated("Stream", 3), "eval/b": generated("Stream", 3)}
    packed = pack(data_of(tmp_path / "data", sounds), tmp_path / "pack")
    packed.index = packed.index.drop(columns="hash")
    (pair,) = find_duplicates(packed)
    assert (pair.first, pair.second, pair.exact) == ("train/a", "eval/b", False)
    assert pair.correlation == pytest.approx(1)


def test_the_same_pairs_are_found_every_time(packed):
    assert find_duplicates(packed) == find_duplicates(packed)


def test_progress_ends_with_the_work(packed):
    told = []
    find_duplicates(packed, lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] <= told[-1][1]
    assert told[-1][0] >= len(packed.index)


def test_whichever_thread_is_done_first(monkeypatch):
    values = [64 * i for i in range(20)]
    late = of_words(*values)
    # two offsets: which is taken is which of the two clips is asked
    early = Words(late.codes, late.weak, late.starts - np.where(np.arange(20) < 10, 0.2, 0.1).astype(np.float32), 0, 1)
    clips = [late, early, late, early]
    monkeypatch.setattr(duplicates, "_LOOKED_UP", 1)
    expected = duplicates._candidates(clips)

    @contextmanager
    def backwards(work, items):
        yield map(work, reversed(items))

    monkeypatch.setattr(duplicates, "in_threads", backwards)
    assert duplicates._candidates(clips) == expected


@pytest.mark.parametrize(("seconds", "correlation", "is_listed"), [
    (0.41, 0.81, True), (0.41, 0.79, False), (0.39, 0.88, True), (0.39, 0.86, False),
])  # fmt: skip
def test_short_clips_must_be_more_alike(seconds, correlation, is_listed, tmp_path, monkeypatch):
    x = generated("Stream", 3, seconds)
    packed = pack(data_of(tmp_path / "data", {"train/a": x, "eval/b": 0.5 * x}), tmp_path / "pack")
    monkeypatch.setattr(duplicates, "match", lambda *_: Match(correlation, 0.0))
    pairs = {(pair.first, pair.second) for pair in find_duplicates(packed)}
    assert (("train/a", "eval/b") in pairs) is is_listed


# --- fingerprints


def test_half_the_rate_is_what_is_below_a_quarter_of_it():
    time = np.arange(16_001) / 16_000
    for hertz, left in ((500, 1), (2_500, 1), (5_500, 0), (7_500, 0)):
        found = sound((10_000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16), 16_000, HASHED)
        expected = left * 10_000 * np.sin(2 * np.pi * hertz * time[::2])
        assert len(found) == 8_001
        # but for the ends, which are next to nothing
        assert np.abs(found - expected)[8:-8].max() < 100
    assert sound(np.array([5, 6], np.int16), 16_000, HASHED).shape == (1,)


def test_words_know_no_level():
    x = sound((20_000 * generated("Stream", 4)).astype(np.int16), RATE, HASHED)
    one, other = words(x), words(0.25 * x)
    assert len(one.codes) == len(other.codes) == 64
    # but for rounding
    assert len(set(one.codes) & set(other.codes)) >= 63
    assert (one.seconds, one.loudest) == (other.seconds, other.loudest) == (1, other.loudest)


def test_a_word_says_which_bands_are_louder_than_the_one_below_and_which_bits_are_weak():
    x = sound((20_000 * generated("Stream", 4, 0.064)).astype(np.int16), RATE, HASHED)
    found = words(x)
    energies = np.abs(np.fft.rfft(x * np.hanning(513)[:-1])) ** 2
    # 33 bands from 94 to 3,906 Hz, evenly on the mel scale
    mel = np.linspace(*(np.log10(1 + np.array([94, 3906]) / 700)), 34)
    edges = np.rint(700 * (10**mel - 1) * 512 / 8000).astype(int)
    bands = np.add.reduceat(energies[: edges[-1]], edges[:-1])
    rises = np.diff(np.log2(bands + 1e-3 * bands.sum())) - 0.15
    assert [f"{code:032b}" for code in found.codes] == ["".join("01"[int(rise > 0)] for rise in rises)]
    assert found.weak[0].tolist() == (31 - np.abs(rises).argsort()[:FLIPS]).tolist()
    assert (found.starts.tolist(), found.loudest, found.seconds) == ([0], 0, 0.064)


def test_the_clearest_words_are_kept_and_each_once():
    rng = np.random.default_rng(0)
    steady = np.tile(rng.standard_normal(64), 125)
    assert len(words(1000 * steady).codes) < 10
    found = words(1000 * rng.standard_normal(8_000))
    assert len(set(found.codes.tolist())) == len(found.codes) == 64


def test_what_is_not_heard_has_no_words():
    # the last step of 16 bits is noise
    faint = np.random.default_rng(0).integers(-1, 2, 8_000).astype(np.float32)
    found = [words(x) for x in (np.zeros(8_000, np.float32), np.ones(100, np.float32), faint)]
    assert [len(of.codes) for of in found] == [0, 0, 0]


@pytest.mark.parametrize("said", [0.1, 0.12, np.nan])
def test_sounds_are_matched_at_their_offset_and_only_with_enough_in_common(said):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(16_000).astype(np.float32)
    found = match(x, -2 * x[1_600:14_400], 0.3, said)
    assert (found.correlation, found.offset) == (pytest.approx(1, abs=1e-3), pytest.approx(0.1))
    assert match(x, x[:8_000], 0, 0) is None
    assert match(x, rng.standard_normal(16_000).astype(np.float32), 0.3, said) is None
    assert match(x, np.zeros(16_000, np.float32), 0.3, said) is None


def test_half_a_sample_is_no_difference():
    x = np.random.default_rng(0).standard_normal(16_000)
    half = np.fft.irfft(np.fft.rfft(x) * np.exp(0.5j * np.linspace(0, np.pi, 8_001)), 16_000)
    assert match(x.astype(np.float32), half.astype(np.float32), 0.3, 0).correlation > 0.9


def test_a_tone_is_matched_by_all_of_it_and_not_by_an_excerpt():
    time, rng = np.arange(32_000) / 16_000, np.random.default_rng(0)
    x = np.sin(2 * np.pi * 1_000 * time).astype(np.float32) + 0.3 * np.sin(2 * np.pi * 1_003 * time).astype(np.float32)
    copied = x[3_200:28_800] + 0.2 * rng.standard_normal(25_600).astype(np.float32)
    # what tells where it is: a click, far from the excerpt
    x[20_000:20_050] += 30
    copied[16_800:16_850] += 30
    found = match(x, copied, 0.1, 0.2)
    assert (found.offset, found.correlation) == (0.2, pytest.approx(1, abs=0.1))


def of_words(*values: int, seconds: float = 1.0) -> Words:
    weak = np.tile(np.arange(FLIPS, dtype=np.uint8), (len(values), 1))
    starts = np.linspace(0, 0.9, len(values)).astype(np.float32)
    return Words(np.array(values, np.uint32), weak, starts, 0.0, seconds)


def test_candidates_share_words_but_for_weak_bits():
    few = [of_words(0x100, 0x200), of_words(0x107, 0x201), of_words(0x108, 0x200), of_words(0x900), of_words(0x900)]
    # the third has one word of the first, and the first has two
    assert [(a, b) for a, b, _ in duplicates._candidates(few)] == [(0, 1), (3, 4)]
    assert duplicates._candidates([of_words(), of_words()]) == []
    assert duplicates._candidates([of_words(0x900), of_words(0x900, seconds=0.5)]) == []


def test_candidates_know_the_offset_that_most_words_say():
    values = [64 * i for i in range(1, 21)]
    late = of_words(*values)
    early = Words(late.codes, late.weak, late.starts - np.float32(0.2), 0.0, 1.0)
    early.starts[3] = 0.7
    ((a, b, offset),) = duplicates._candidates([late, early])
    assert (a, b, offset) == (0, 1, pytest.approx(0.2))
    ((_, _, offset),) = duplicates._candidates([early, late])
    assert offset == pytest.approx(-0.2)
    # of a tone, any may be wrong
    ((_, _, offset),) = duplicates._candidates([of_words(*values[:5]), of_words(*values[:5])])
    assert np.isnan(offset)


def test_candidates_need_words_that_say_the_same_offset():
    def of(starts):
        clip = of_words(*(64 * i for i in range(len(starts))))
        return Words(clip.codes, clip.weak, np.array(starts, np.float32), 0.0, 1.0)

    def other(kept):
        clip = of([0.04 * i for i in range(20)])
        clip.codes[kept:] += 1 << 20
        return clip

    shifted = [0.04 * i - 0.1 for i in range(20)]
    assert [(a, b) for a, b, _ in duplicates._candidates([other(3), of(shifted)])] == [(0, 1)]
    assert duplicates._candidates([other(2), of(shifted)]) == []
    scattered = [0.9 * (i % 7) / 7 for i in range(20)]
    assert duplicates._candidates([other(4), of(scattered)]) == []


def test_candidates_are_those_for_which_most_words_speak():
    values = [64 * i for i in range(20)]
    clips = [of_words(*values)]
    for shared in (4, 8, 20, 6, 12):
        clips.append(of_words(*values[:shared], *(value + (len(clips) << 20) for value in values[shared:])))
    first, last, _ = duplicates._most_shared(duplicates._vocabulary(clips), 0, 1)
    assert (first.tolist(), last.tolist()) == ([0, 0, 0], [3, 5, 2])


def test_words_of_many_clips_are_no_evidence(monkeypatch):
    many = [of_words(0x100, 0x200) for _ in range(70)]
    assert duplicates._candidates(many) == []
    assert 0 < len(duplicates._candidates(many[:60])) <= 3 * 60
    # in whatever parts they are looked up
    found = [(a, b) for a, b, _ in duplicates._candidates(many[:20])]
    monkeypatch.setattr(duplicates, "_LOOKED_UP", 3)
    assert [(a, b) for a, b, _ in duplicates._candidates(many[:20])] == found


# --- the command


@pytest.fixture(scope="module")
def leaky(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("leaky")
    x, y = generated("Stream", 5), generated("Siren", 5)
    sounds = {"train/a": x, "train/b": y, "train/c": 0.5 * y, "eval/same": x, "eval/=near": 0.5 * y[2_205:]}
    return pack(data_of(folder / "data", sounds), folder / "pack").folder


def test_the_command_lists_pairs_across_splits_and_counts_the_others(leaky, tmp_path, bench):
    done = bench("data", "duplicates", leaky, "--csv", tmp_path / "pairs.csv")
    assert done.code == 0
    assert done.out.splitlines() == [
        "train/a = eval/same: the same to the sample",
        "train/b ~ eval/=near: correlation 1.00, +0.05 s",
        "train/c ~ eval/=near: correlation 1.00, +0.05 s",
        f"{leaky}: 3 pairs across splits, 1 of them the same to the sample; 1 within a split; "
        "clips of eval in pairs across: 2",
    ]
    table = pd.read_csv(tmp_path / "pairs.csv")
    assert list(table.columns) == ["first", "second", "across", "exact", "correlation", "offset"]
    assert table["across"].tolist() == [True, False, True, True]
    document = json.loads(bench("data", "duplicates", leaky, "--json").out)
    assert [pair["second"] for pair in document["pairs"]] == ["eval/same", "train/c", "eval/=near", "eval/=near"]


def test_python_gives_the_same_pairs(leaky):
    found = api.duplicates(leaky, display=Display())
    assert found["second"].tolist() == ["eval/same", "train/c", "eval/=near", "eval/=near"]
    assert found["correlation"].between(0.99, 1).all()


def test_a_set_without_copies_says_so(packed, bench):
    (line,) = bench("data", "duplicates", packed.folder).out.splitlines()
    assert line.endswith(
        "0 pairs across splits, 0 of them the same to the sample; 0 within a split; clips of eval in pairs across: 0"
    )
