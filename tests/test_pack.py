"""Packing recordings as they are found: every format, broken ones, interruptions, full disks."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf
import soxr

from bench.data import packing
from bench.data.audio import decode, probe
from bench.data.dataset import AudioError
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.data.readers.fsd50k import verify
from bench.errors import UserError


def sine(seconds, rate, channels=1):
    x = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return x if channels == 1 else np.stack([x, np.zeros_like(x)], axis=1)


@pytest.fixture
def copy(dataset, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(dataset, folder)
    return folder


def first_wav(folder, split="train"):
    table = (folder / "FSD50K.ground_truth" / "dev.csv").read_text().splitlines()
    name = next(line.split(",")[0] for line in table[1:] if line.endswith(split))
    return folder / "FSD50K.dev_audio" / f"{name}.wav"


def test_every_clip_is_its_wav_resampled(dataset, packed):
    for row in packed.index.itertuples():
        subset = "eval" if row.split == "eval" else "dev"
        x, rate = sf.read(dataset / f"FSD50K.{subset}_audio" / f"{row.clip}.wav", dtype="float32")
        expected = np.rint(soxr.resample(x, rate, 16_000) * 32768)
        stored = packed.samples(row.split)[row.start : row.start + row.length]
        assert row.length == max(16_000, round(len(x) * 16_000 / rate))
        assert np.abs(stored[: len(expected)] - expected[: len(stored)]).max() <= 1
        if len(expected) < 16_000:  # repeated up to a second
            again = stored[len(expected) : 2 * len(expected)]
            np.testing.assert_array_equal(again, stored[: len(again)])
        assert row.seconds == pytest.approx(len(x) / rate)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_wavs_as_found_in_the_wild(tmp_path, subtype, rate, channels):
    path = tmp_path / "x.wav"
    sf.write(path, sine(1.5, rate, channels), rate, subtype)
    assert probe(path).seconds == pytest.approx(1.5)
    x = decode(path, 16_000, 24_000).astype(float) / 32768
    expected = sine(1.5, 16_000) / channels  # the second channel is silent, and the mean is taken
    middle = slice(1000, -1000)
    assert np.abs(x - expected)[middle].max() < (0.02 if subtype == "PCM_U8" else 0.001)


def test_full_scale_does_not_wrap(tmp_path):
    path = tmp_path / "x.wav"
    sf.write(path, np.sign(sine(1, 44_100)) * 1.0, 44_100, "FLOAT")
    x = decode(path, 16_000, 16_000)
    assert (x.min(), x.max()) == (-32768, 32767)
    assert np.mean(np.sign(x[100:-100]) == np.sign(sine(1, 16_000))[100:-100]) > 0.97


def truncated(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def not_finite(path):
    x, rate = sf.read(path)
    x[100] = np.nan
    sf.write(path, x, rate, "FLOAT")


DAMAGE = {
    "truncated": truncated,
    "missing": os.remove,
    "empty": lambda path: sf.write(path, np.zeros(0), 44_100),
    "unreadable": lambda path: path.write_bytes(b"not a wav at all"),
    "not finite": not_finite,
}


@pytest.mark.parametrize("cause", DAMAGE)
def test_a_broken_recording_is_left_out_and_named(copy, tmp_path, packed, cause):
    wav = first_wav(copy)
    DAMAGE[cause](wav)
    made = pack(copy, tmp_path / "out")
    assert list(made.manifest["left_out"]) == [f"train/{wav.stem}"]
    assert cause in made.manifest["left_out"][f"train/{wav.stem}"]
    assert len(made.index) == len(packed.index) - 1
    assert wav.stem not in set(made.index["clip"])
    with pytest.raises(UserError, match=cause):
        pack(copy, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()
    if cause != "not finite":  # which no header shows
        assert cause in next(iter(verify(copy).broken.values()))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFDB, 0x80000000, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_whose_header_was_never_closed_is_no_broken_one(tmp_path, size):
    path = tmp_path / "x.wav"
    sf.write(path, sine(1, 44_100), 44_100)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert probe(path).frames == pytest.approx(44_100, abs=2)


def test_a_truncated_rf64_is_a_broken_one(tmp_path):
    path = tmp_path / "x.wav"
    sf.write(path, sine(1, 44_100), 44_100, format="RF64")
    assert probe(path).frames == 44_100
    truncated(path)
    with pytest.raises(AudioError, match="truncated"):
        probe(path)


def test_strict_refuses_a_finished_pack_that_left_something_out(copy, tmp_path):
    not_finite(first_wav(copy))
    pack(copy, tmp_path / "out")
    with pytest.raises(UserError, match="not finite"):
        pack(copy, tmp_path / "out", strict=True)


def test_probe_errors_name_the_cause(tmp_path):
    with pytest.raises(AudioError, match="missing"):
        probe(tmp_path / "none.wav")


def test_same_data_same_fingerprint_and_other_data_another(dataset, copy, packed, tmp_path):
    again = pack(copy, tmp_path / "again")
    assert (again.fingerprint, again.dataset) == (packed.fingerprint, packed.dataset)
    other_rate = pack(dataset, tmp_path / "22050", sample_rate=22_050)
    assert other_rate.fingerprint != packed.fingerprint
    assert other_rate.dataset == packed.dataset
    wav = first_wav(copy)
    x, rate = sf.read(wav)
    sf.write(wav, -x, rate)
    assert pack(copy, tmp_path / "changed").fingerprint != packed.fingerprint


def test_a_killed_pack_resumes(dataset, packed, tmp_path):
    script = """if True:
        import sys, time
        from pathlib import Path
        from bench.data import packing
        decode = packing.decode
        packing.decode = lambda *args: (time.sleep(0.05), decode(*args))[1]
        packing.pack(Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda done, total: print(flush=True))
    """
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    process = subprocess.Popen([sys.executable, "-c", script, dataset, out], stdout=subprocess.PIPE)
    assert process.stdout
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.communicate()
    assert partial.exists()
    assert not out.exists()
    decoded = []
    original = packing.decode
    packing.decode = lambda path, *args: (decoded.append(path), original(path, *args))[1]
    try:
        made = pack(dataset, out)
    finally:
        packing.decode = original
    assert made.fingerprint == packed.fingerprint
    for split in ("train", "val", "eval"):
        np.testing.assert_array_equal(made.samples(split), packed.samples(split))
    assert not partial.exists()
    assert 0 < len(decoded) < len(packed.index) - 10  # what was done before the kill is not done again
    started = time.monotonic()
    assert pack(dataset, out).fingerprint == packed.fingerprint  # nothing to do
    assert time.monotonic() - started < 5


def test_a_journal_spares_what_is_done(dataset, packed, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop_halfway(done, total):
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        pack(dataset, tmp_path / "out", progress=stop_halfway)
    decoded = []
    original = packing.decode
    monkeypatch.setattr(packing, "decode", lambda path, *args: (decoded.append(path), original(path, *args))[1])
    assert pack(dataset, tmp_path / "out").fingerprint == packed.fingerprint
    assert 0 < len(decoded) < 0.7 * len(packed.index)


def test_too_small_a_disk_is_noticed_before_and_while_writing(dataset, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"the disk has 0\.00 GB free"):
        pack(dataset, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    monkeypatch.undo()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match="the disk is full"):
        pack(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert len(pack(dataset, tmp_path / "out").index) == 120


def test_what_stands_in_the_way_is_left_alone(dataset, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        pack(dataset, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_damaged_pack_is_one_line(packed, tmp_path):
    shutil.copytree(packed.folder, tmp_path / "pack")
    manifest = tmp_path / "pack" / "manifest.json"
    values = json.loads(manifest.read_text())
    del values["classes"]
    manifest.write_text(json.dumps(values))
    with pytest.raises(UserError, match="damaged pack"):
        Pack(tmp_path / "pack")


@pytest.mark.parametrize("name", ["index.parquet", "val.npy"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 300)])
def test_a_pack_with_a_file_lost_or_cut_is_one_line(packed, tmp_path, name, damage):
    shutil.copytree(packed.folder, tmp_path / "pack")
    damage(tmp_path / "pack" / name)
    with pytest.raises(UserError, match="damaged pack"):
        Pack(tmp_path / "pack")
