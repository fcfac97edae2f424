"""Packing recordings as they are found: every format, broken ones, interruptions, full disks."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from bench.data import audio, filling
from bench.data.audio import blocks, decode, probe
from bench.data.dataset import AudioError
from bench.data.levels import NOTES
from bench.data.pack import Pack, summary
from bench.data.packing import pack
from bench.data.readers.fsd50k import verify
from bench.errors import MachineFault, UserError
from tests.tiny_data import tiny_data


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
        from bench.data import filling, packing
        pieces = filling.pieces
        filling.pieces = lambda *args: (time.sleep(0.05), pieces(*args))[1]
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
    original = filling.pieces
    filling.pieces = lambda path, *args: (decoded.append(path), original(path, *args))[1]
    try:
        made = pack(dataset, out)
    finally:
        filling.pieces = original
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
    original = filling.pieces
    monkeypatch.setattr(filling, "pieces", lambda path, *args: (decoded.append(path), original(path, *args))[1])
    assert pack(dataset, tmp_path / "out").fingerprint == packed.fingerprint
    assert 0 < len(decoded) < 0.7 * len(packed.index)


def test_too_small_a_disk_is_noticed_before_and_while_writing(dataset, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match="the disk has 1000 bytes free"):
        pack(dataset, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    monkeypatch.undo()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filling, "_write_at", full)
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


def test_no_file_of_the_user_is_removed_with_what_was_half_made(tiny, tmp_path):
    half = tmp_path / "pack.partial"
    half.mkdir()
    (half / "train.npy").write_bytes(b"of another plan")
    (half / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(UserError, match=r"^.*pack\.partial: holds 'notes\.txt', which no pack has; move it away$"):
        pack(tiny, tmp_path / "pack")
    assert (half / "notes.txt").read_text("utf-8") == "mine"
    (half / "notes.txt").unlink()
    assert pack(tiny, tmp_path / "pack").folder == tmp_path / "pack"


@pytest.mark.parametrize("target", ["empty", "nowhere"])
def test_a_link_is_refused_before_anything_is_packed(target, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pack").symlink_to(target)
    with pytest.raises(UserError, match=r"pack is a symbolic link: remove it or name the folder itself$"):
        pack(tiny, tmp_path / "pack")
    assert not (tmp_path / "pack.partial").exists()


@pytest.mark.parametrize("out", ["", ".", "..", "/"])
def test_a_pack_has_a_name(out, bench, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = bench("data", "pack", tiny, "--out", out)
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "name a folder that the pack is to be, such as " in found.err


@pytest.mark.parametrize("rate", [999, 1_000_001, 10**9])
def test_a_sample_rate_that_no_pack_has_is_refused_at_once(rate, tiny, tmp_path):
    with pytest.raises(UserError, match=f"^a sample rate of {rate} Hz: 1,000 to 1,000,000 are possible$"):
        pack(tiny, tmp_path / "pack", sample_rate=rate)


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


@pytest.fixture
def tiny(tmp_path):
    return tiny_data(tmp_path / "tiny")


def interrupted(folder, out, clips=5):
    """A pack that was stopped when some of its clips were done; its folder."""

    class Stop(Exception):
        pass

    done = []

    def stop(*seconds):
        done.append(seconds)
        if len(done) == clips:
            raise Stop

    with pytest.raises(Stop):
        pack(folder, out, progress=stop)
    return out.with_name(f"{out.name}.partial")


def zero_a_clip(partial):
    array = np.load(partial / "train.npy", mmap_mode="r+")
    array[:] = 0
    array.flush()


def other_samples(partial):
    array = np.load(partial / "train.npy", mmap_mode="r+")
    array[100] += 1
    array.flush()


def with_header(old, new):
    """Write this into an array's header, which stays as long as it is."""

    def change(partial):
        data = (partial / "eval.npy").read_bytes()
        assert old in data[:128]
        (partial / "eval.npy").write_bytes(data[:128].replace(old, new.ljust(len(old))) + data[128:])

    return change


def spoil_the_journal(partial):
    (journal,) = partial.glob("journal-*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b'["half\n[]\n\xff\xfe\n{"a": 1}\n3\n["a", 3, 4]\n' + b"".join(lines[:2]) + b'["train/')


DAMAGED_PARTIAL = {
    "zeroed": zero_a_clip,
    "other samples": other_samples,
    "cut": lambda partial: os.truncate(partial / "train.npy", 5000),
    "of 0 bytes": lambda partial: os.truncate(partial / "val.npy", 0),
    "missing": lambda partial: (partial / "eval.npy").unlink(),
    "of another type": lambda partial: np.save(partial / "val.npy", np.zeros(9, dtype=np.float32)),
    "no array": lambda partial: (partial / "val.npy").write_bytes(b"words " * 999),
    "of a negative length": with_header(b"(", b"(-"),
    "of an odd shape": with_header(b",), }", b"+1,)}"),
    "of an open header": with_header(b"}", b"{"),
    "in a header of another form": with_header(b"'<i2'", b'"<i2"'),
    "longer": lambda partial: (partial / "val.npy").write_bytes((partial / "val.npy").read_bytes() + b"more"),
    "a pipe": lambda partial: ((partial / "val.npy").unlink(), os.mkfifo(partial / "val.npy")),
    "journal": spoil_the_journal,
}


@pytest.mark.parametrize("damage", DAMAGED_PARTIAL)
def test_what_was_noted_is_compared_when_it_resumes(damage, tiny, tmp_path):
    expected = pack(tiny, tmp_path / "expected")
    partial = interrupted(tiny, tmp_path / "out")
    DAMAGED_PARTIAL[damage](partial)
    made = pack(tiny, tmp_path / "out")
    assert made.fingerprint == expected.fingerprint
    for split in ("train", "val", "eval"):
        assert (made.folder / f"{split}.npy").read_bytes() == (expected.folder / f"{split}.npy").read_bytes()
    assert (made.folder / "manifest.json").read_bytes() == (expected.folder / "manifest.json").read_bytes()


def test_nothing_is_noted_before_it_is_on_the_disk(tiny, tmp_path, monkeypatch):
    noted, synced = [], []
    fsync = os.fsync

    def watch(file):
        (path,) = (tmp_path / "out.partial").glob("journal-*")
        noted.append(path.read_bytes().count(b"\n"))
        synced.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        fsync(file)

    monkeypatch.setattr(os, "fsync", watch)
    interrupted(tiny, tmp_path / "out", clips=13)
    monkeypatch.undo()
    assert max(noted) == 13
    # each time the journal grew all arrays had been synced since it grew before
    grew = [i for i in range(1, len(noted)) if noted[i] > noted[i - 1]]
    for i in grew:
        assert set(synced[i - 3 : i]) == {"train.npy", "val.npy", "eval.npy"}
    assert len(grew) >= 1


def test_a_disk_that_fails_to_sync_ends_it_in_a_line_and_notes_nothing(tiny, tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineFault, match=r"out\.partial: the disk failed"):
        pack(tiny, tmp_path / "out")
    monkeypatch.undo()
    (journal,) = (tmp_path / "out.partial").glob("journal-*")
    assert journal.read_bytes() == b""
    assert pack(tiny, tmp_path / "out").manifest["left_out"] == {}


def test_too_few_file_handles_end_a_pack_which_then_resumes(tiny, tmp_path):
    """With the least of handles that a pack gets by with, less and less of them: no recording is ever left out."""
    expected = pack(tiny, tmp_path / "expected").fingerprint
    script = """if True:
        import os, resource, sys
        from pathlib import Path
        from bench.data.packing import pack
        from bench.errors import MachineFault, UserError
        pack(Path(sys.argv[1]), Path(sys.argv[2]) / "all")  # all that is imported late
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken, codes = len(os.listdir("/proc/self/fd")) - 1, set()
        for spare in range(12):
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken + spare, hard))
            try:
                pack(Path(sys.argv[1]), Path(sys.argv[2]) / str(spare))
            except (MachineFault, OSError) as error:
                codes.add("too many open files" in str(error).lower())
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        print(codes, *[pack(Path(sys.argv[1]), Path(sys.argv[2]) / str(spare)).fingerprint for spare in range(12)])
    """
    done = subprocess.run([sys.executable, "-c", script, tiny, tmp_path / "few"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["{True}", *[expected] * 12]


def test_levels_are_counted_and_said(bench, tiny, tmp_path):
    folder = tiny / "FSD50K.dev_audio"
    x = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    for name, sound, subtype in (
        ("1001", np.zeros(20_000), "PCM_16"), ("1002", 20 * x, "FLOAT"), ("1003", np.stack([x, -x], axis=1), "PCM_16"),
        ("1004", 1e-5 * x, "FLOAT"), ("1005", np.clip(9 * x, -1, 1), "PCM_16"), ("1006", 3 * x, "FLOAT"),
    ):  # fmt: skip
        sf.write(folder / f"{name}.wav", sound, 16_000, subtype)
    sf.write(folder / "1007.wav", sine(1.2, 16_000), 16_000, "GSM610", format="WAV")
    done = bench("data", "pack", tiny, "--out", tmp_path / "out")
    assert done.code == 0
    assert done.out.splitlines() == [
        "scaled: train/1002: louder than full scale, and scaled down to it",
        "scaled: and 1 more",
        "clipped: train/1005: at full scale for more than a thousandth of its time",
        "silent: train/1001: without any sound",
        "cancelled: train/1003: its channels cancel each other out when they are averaged",
        "faint: train/1004: so quiet that 16 bits lose it",
    ]
    counts = "2 scaled, 1 clipped, 1 silent, 1 cancelled, 1 faint"
    assert done.err.splitlines()[-1] == f"{tmp_path / 'out'}: train 6, val 3, eval 4; 0 left out, {counts}"
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["levels"] == {
        "scaled": ["train/1002", "train/1006"], "clipped": ["train/1005"], "silent": ["train/1001"],
        "cancelled": ["train/1003"], "faint": ["train/1004"],
    }  # fmt: skip
    info = json.loads(bench("data", "info", tmp_path / "out", "--json").out)
    assert info["levels"] == {"scaled": 2, "clipped": 1, "silent": 1, "cancelled": 1, "faint": 1}
    made = Pack(tmp_path / "out")
    for row in made.index.itertuples():  # as `predict` hears them
        file = tiny / ("FSD50K.eval_audio" if row.split == "eval" else "FSD50K.dev_audio") / f"{row.clip}.wav"
        heard = np.concatenate(list(blocks(file, 16_000)))
        np.testing.assert_array_equal(heard, made.samples(row.split)[row.start : row.start + row.length])


def test_levels_do_not_change_the_hashes_and_old_packs_have_none(packed, tmp_path):
    shutil.copytree(packed.folder, tmp_path / "old")
    manifest = tmp_path / "old" / "manifest.json"
    values = json.loads(manifest.read_text())
    assert set(values.pop("levels")) == set(NOTES)
    manifest.write_text(json.dumps(values))
    old = Pack(tmp_path / "old")
    assert (old.levels, old.fingerprint, summary(old)["levels"]) == ({}, packed.fingerprint, {})


def test_a_long_recording_is_packed_in_pieces_and_the_same(tiny, tmp_path, monkeypatch):
    expected = pack(tiny, tmp_path / "expected").fingerprint
    monkeypatch.setattr(audio, "_ONE_PIECE", 1000)
    monkeypatch.setattr(audio, "BLOCK", 4000)
    assert pack(tiny, tmp_path / "out").fingerprint == expected
    # one that turns out broken far in leaves nothing of itself
    x, rate = sf.read(tiny / "FSD50K.dev_audio" / "1001.wav")
    x[-5] = np.nan
    sf.write(tiny / "FSD50K.dev_audio" / "1001.wav", x, rate, "FLOAT")
    made = pack(tiny, tmp_path / "broken")
    assert made.manifest["left_out"] == {"train/1001": "samples that are not finite"}
    assert not np.load(made.folder / "train.npy")[: len(x)].any()


def test_a_pipe_is_left_out_and_verify_says_so(bench, tiny, tmp_path):
    file = tiny / "FSD50K.dev_audio" / "1001.wav"
    file.unlink()
    os.mkfifo(file)
    done = bench("data", "pack", tiny, "--out", tmp_path / "out")
    assert (done.code, done.out) == (0, "left out: train/1001: not a plain file\n")
    done = bench("data", "verify", tiny)
    assert done.code == 2
    assert "unusable: FSD50K.dev_audio/1001.wav: not a plain file" in done.out.splitlines()


def test_a_recording_that_cannot_be_read_ends_the_pack_and_the_same_command_resumes(bench, tiny, tmp_path):
    """A file that the system has, opens, and fails to read, as a failing disk does."""
    expected = pack(tiny, tmp_path / "expected").fingerprint
    file = tiny / "FSD50K.dev_audio" / "1004.wav"
    whole = file.read_bytes()
    file.unlink()
    file.symlink_to("/proc/self/mem")
    for command in ("pack", "verify"):
        done = bench("data", command, tiny, *(["--out", tmp_path / "out"] if command == "pack" else []))
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            f"bench: error: {file}: the disk failed (input/output error); check it and run the same command again\n"
        )
    assert not (tmp_path / "out").exists()
    file.unlink()
    file.write_bytes(whole)
    assert bench("data", "pack", tiny, "--out", tmp_path / "out").code == 0
    assert Pack(tmp_path / "out").fingerprint == expected
