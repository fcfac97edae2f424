"""What is heard is what is there, all of it, at its level, or a line says why not: never a part of it in silence."""

import errno
import io
import os
import re
import resource
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from bench.data import audio, recordings
from bench.data.audio import blocks, decode, packed_length, pieces, probe, probe_all, probe_file
from bench.data.dataset import AudioError, AudioInfo, Clip
from bench.errors import MachineFault
from tests.conftest import needs

RATE = 16_000


def noise(seconds, rate=RATE, channels=1, peak=0.3, seed=0):
    x = np.random.default_rng(seed).uniform(-peak, peak, (round(seconds * rate), channels))
    return x[:, 0] if channels == 1 else x


def written(path, x, rate=RATE, **how):
    sf.write(path, x, rate, **how)
    return path


def heard(path, rate=RATE):
    """What a pack has of a file, which is what a model hears, in pieces of any size."""
    info, notes = probe(path), []
    found = np.concatenate(list(pieces(path, info, rate, notes)))
    np.testing.assert_array_equal(np.concatenate(list(blocks(path, rate))), found)
    assert len(found) == packed_length(info, rate)
    return found, notes


# ---- lengths

FRAMES = 5003
# their encoders fill up the last block, and libsndfile's AIFF and VOC take a byte that pads for a sample
PADDED = {"IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_16", "NMS_ADPCM_24",
          "NMS_ADPCM_32"}  # fmt: skip
# formats that store nothing from which a length follows: their files end where they end
WITHOUT_LENGTH = {"IRCAM", "PAF", "PVF", "XI"}


def encodings():
    for name in sf.available_formats():
        for subtype in sf.available_subtypes(name):
            # without a header, in two files, in Opus' own sample rates, or not found again by libsndfile
            if name not in ("RAW", "SD2") and not subtype.startswith(("DWVW", "OPUS")):
                yield name, subtype


@pytest.fixture(scope="module")
def every_format(tmp_path_factory):
    """A small file of everything that libsndfile writes."""
    folder, files = tmp_path_factory.mktemp("formats"), {}
    for name, subtype in encodings():
        for channels in (1, 2):
            path = folder / f"{subtype}-{channels}.{name.lower()}"
            try:
                rate = 8000 if name == "WVE" else RATE
                sf.write(path, noise(FRAMES / RATE, channels=channels), rate, subtype, format=name)
            except sf.LibsndfileError:  # not this one in stereo
                continue
            files[name, subtype, channels] = path
    return files


def test_every_format_is_heard_as_long_as_it_is(every_format):
    assert len(every_format) > 120
    for (name, subtype, _), path in every_format.items():
        found, _ = heard(path, probe(path).sample_rate)
        info = probe(path)
        assert len(found) == max(info.frames, info.sample_rate)
        more = 130 if subtype in PADDED else 10 if name in ("AIFF", "VOC", "PAF") else 0
        assert FRAMES <= info.frames <= FRAMES + more, path


def test_a_truncated_file_never_passes_as_a_shorter_one(every_format, tmp_path):
    for (name, _, _), path in every_format.items():
        if name in WITHOUT_LENGTH:
            continue
        data = path.read_bytes()
        cut = tmp_path / path.name
        for size in (len(data) // 3, len(data) // 2 + 1, len(data) * 9 // 10, len(data) - 2):
            cut.write_bytes(data[:size])
            with pytest.raises(AudioError):
                heard(cut)


@pytest.mark.parametrize("name", ["RIFX", "AIFF", "AU", "W64", "CAF", "RF64", "OGG", "MP3"])
def test_a_header_shows_that_a_file_is_truncated(name, tmp_path):
    how = {"endian": "BIG"} if name == "RIFX" else {}
    path = written(tmp_path / "x", noise(2), format="WAV" if name == "RIFX" else name, **how)
    assert probe(path).seconds == 2
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=r"^truncated: "):
        probe(path)


def mp3(seconds, seed=0, **how):
    data = io.BytesIO()
    with sf.SoundFile(data, "w", 44_100, 1, "MPEG_LAYER_III", format="MP3", **how) as file:
        file.write(noise(seconds, 44_100, seed=seed))
    return data.getvalue()


def without_first_frame(data):
    """Drop the frame that tells the length, as encoders do that write into a pipe."""
    assert b"Info" in data[:60] or b"Xing" in data[:60]
    kbits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    return data[144_000 * kbits // 44_100 + (data[2] >> 1 & 1) :]


VBR = {"compression_level": 0.5, "bitrate_mode": "VARIABLE"}
CBR = {"compression_level": 0.5, "bitrate_mode": "CONSTANT"}


@pytest.mark.parametrize("how", [VBR, CBR], ids=["VBR", "CBR"])
def test_mp3_that_does_not_tell_its_length_is_heard_to_the_end(how, tmp_path):
    loud_first = np.concatenate([noise(2, 44_100), noise(10, 44_100, peak=0.001)])
    with sf.SoundFile(tmp_path / "told.mp3", "w", 44_100, 1, "MPEG_LAYER_III", format="MP3", **how) as file:
        file.write(loud_first)
    whole = (tmp_path / "told.mp3").read_bytes()
    assert probe(tmp_path / "told.mp3").seconds == 12
    (tmp_path / "x.mp3").write_bytes(without_first_frame(whole))
    info = probe(tmp_path / "x.mp3")
    assert 12 <= info.seconds < 12.1  # it has no place for how much the encoder added
    found, _ = heard(tmp_path / "x.mp3")
    told, _ = heard(tmp_path / "told.mp3")
    assert np.abs(found[: 2 * RATE]).mean() == pytest.approx(np.abs(told[: 2 * RATE]).mean(), rel=0.05)


def test_joined_files_are_heard_one_after_the_other(tmp_path):
    """Wherever a part ends: each is decoded as the file that it was."""
    parts = {"mp3": [mp3(1.5, 1), mp3(2, 2)], "ogg": [], "flac": [], "opus": []}
    parts["streamed.mp3"] = [without_first_frame(mp3(1.5, 1)), mp3(2, 2)]
    parts["tagged.mp3"] = [mp3(1.5, 1) + b"TAG".ljust(128, b"\0"), b"ID3\3\0\0\0\0\0\x14" + bytes(20) + mp3(2, 2)]
    for seed, seconds in ((1, 1.5), (2, 2.0)):
        for kind in ("ogg", "flac", "opus"):
            how = {"format": "OGG", "subtype": "OPUS"} if kind == "opus" else {}
            data = written(tmp_path / f"part.{kind}", noise(seconds, seed=seed), RATE, **how).read_bytes()
            parts[kind].append(data)
    for kind, (first, second) in parts.items():
        alone = []
        for data in (first, second):
            (tmp_path / f"alone.{kind}").write_bytes(data)
            info = probe(tmp_path / f"alone.{kind}")
            alone.append(np.concatenate(list(pieces(tmp_path / f"alone.{kind}", info, info.sample_rate))))
        joined = tmp_path / f"joined.{kind}"
        joined.write_bytes(first + second)
        found, _ = heard(joined, probe(joined).sample_rate)
        np.testing.assert_array_equal(found, np.concatenate(alone), kind)


def test_a_long_joined_file_is_the_same_in_pieces(tmp_path, monkeypatch):
    (tmp_path / "x.mp3").write_bytes(mp3(1.5, 1) + without_first_frame(mp3(2, 2)))
    whole, _ = heard(tmp_path / "x.mp3")
    monkeypatch.setattr(audio, "BLOCK", 5000)
    monkeypatch.setattr(audio, "_ONE_PIECE", 0)
    found, _ = heard(tmp_path / "x.mp3")
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("name", ["WAV", "AIFF", "AU", "W64", "CAF", "NIST"])
def test_joined_files_of_which_the_first_alone_would_be_heard_are_refused(name, tmp_path):
    path = written(tmp_path / "x", noise(1.5), format=name)
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(AudioError, match=r"^another file follows at byte \d+: files were joined; convert or split it$"):
        probe(path)


def outcome(path):
    try:
        return f"{probe(path).seconds} s"
    except AudioError as error:
        return str(error)


JOINED = ["WAV", "RF64", "AIFF", "AU", "W64", "CAF", "VOC", "FLAC", "OGG", "MP3"]


@pytest.mark.parametrize("between", [b"", bytes(600), b"TAG".ljust(128, b"\0")], ids=["nothing", "zeros", "a tag"])
def test_a_file_of_any_format_that_follows_is_heard_or_refused(between, tmp_path):
    whole = {name: written(tmp_path / name, noise(1.5), format=name).read_bytes() for name in JOINED}
    for first in JOINED:
        for second in JOINED:
            (tmp_path / "x").write_bytes(whole[first] + between + whole[second])
            # of all that FLAC may be, bytes of MPEG audio alone are too few to be told from its own
            if (first, second) != ("FLAC", "MP3"):
                found = outcome(tmp_path / "x")
                line = r"2\.9|3\.|another file follows at byte \d+: files were joined; convert or|truncated|damaged"
                assert re.match(line, found), (first, second, found)


@pytest.mark.parametrize("name", JOINED)
def test_what_is_no_sound_is_not_heard_as_such(name, tmp_path):
    """Tags in front and behind, and what fills up a block of a disk."""
    path = written(tmp_path / "x", noise(1.5), format=name)
    expected, _ = heard(path)
    data = path.read_bytes()
    tagged = b"ID3\3\0\0\0\0\0\x14" + bytes(20) + data
    for other in (tagged, data + bytes(4096), data + b"TAG".ljust(128, b"\0")):
        path.write_bytes(other)
        np.testing.assert_array_equal(heard(path)[0], expected)


def test_sound_in_several_chunks_is_refused(tmp_path):
    path = written(tmp_path / "x.wav", noise(1.5))
    data = path.read_bytes()
    for between in (b"", b"LIST\4\0\0\0INFO"):
        path.write_bytes(data + between + data[36:])
        with pytest.raises(AudioError, match=r"^its sound is in several chunks, of which the first alone "):
            probe(path)


def test_files_that_do_not_go_together_are_refused(tmp_path):
    one = written(tmp_path / "a.flac", noise(1)).read_bytes()
    other = written(tmp_path / "b.flac", noise(1), 8000).read_bytes()
    (tmp_path / "x.flac").write_bytes(one + other)
    with pytest.raises(AudioError, match="joined of files with different sample rates or channels"):
        probe(tmp_path / "x.flac")
    (tmp_path / "x.flac").write_bytes(1001 * one[:200])
    with pytest.raises(AudioError, match=r"^joined of more than 1,000 files$"):
        probe(tmp_path / "x.flac")


@pytest.mark.parametrize("name", ["flac", "ogg", "mp3"])
def test_a_small_file_made_to_take_long_does_not(name, tmp_path):
    frame = bytes([0xFF, 0xF2, 20, 0xC0]).ljust(24, b"\0")
    page = b"OggS\0\2" + bytes(21) + b"OggS\0\4" + bytes(21)
    data = {"flac": b"fLaC\0\0\0\x22" * 10**6, "ogg": page * 10**5, "mp3": frame * 3 + b"\xff" * (5 * 10**6)}[name]
    (tmp_path / "x").write_bytes(data)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome(tmp_path / "x")
    assert time.perf_counter() - start < 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def streamed_flac(path, seconds, total):
    """With this total of samples in its header; 0 is what an encoder writes into a pipe."""
    data = bytearray(written(path, noise(seconds, 44_100), 44_100).read_bytes())
    data[21] = data[21] & 0xF0 | total >> 32
    data[22:26] = struct.pack(">I", total & 0xFFFFFFFF)
    path.write_bytes(data)
    return path


def test_flac_from_a_pipe_is_heard_to_the_end(tmp_path):
    path = streamed_flac(tmp_path / "x.flac", 2, 0)
    assert probe(path) == AudioInfo(88_200, 44_100)
    found, _ = heard(path)
    np.testing.assert_array_equal(found, heard(written(tmp_path / "y.flac", noise(2, 44_100), 44_100))[0])


def test_flac_that_claims_a_month_is_told_so_in_no_memory(tmp_path):
    path = streamed_flac(tmp_path / "x.flac", 2, (1 << 36) - 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AudioError, match=r"^truncated: 88200 frames of 68719476735$"):
        heard(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("total", [1, 1000, 88_199])
def test_flac_that_is_longer_than_it_tells_is_refused(total, tmp_path):
    path = streamed_flac(tmp_path / "x.flac", 2, total)
    with pytest.raises(AudioError, match=rf"^longer than the {total} frames that its header tells$"):
        heard(path)


def test_flac_may_hold_the_header_of_the_file_that_it_was_made_of(tmp_path):
    data = written(tmp_path / "x.flac", noise(1.5)).read_bytes()
    header = b"riff" + b"RIFF\0\0\1\0WAVEfmt "
    (tmp_path / "y.flac").write_bytes(data[:42] + b"\2" + len(header).to_bytes(3, "big") + header + data[42:])
    np.testing.assert_array_equal(heard(tmp_path / "y.flac")[0], heard(tmp_path / "x.flac")[0])


def mpeg_wav(data, tag, rate=44_100):
    """MPEG audio in a WAV file, as sound editors write it."""
    fmt = struct.pack("<HHIIHHH", tag, 1, rate, 16_000, 1, 0, 12) + struct.pack("<HIHHH", 1, 2, 417, 1, 1393)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_mp3_in_a_wav_file_is_heard_to_the_end(tmp_path):
    data = without_first_frame(mp3(3, **VBR))
    (tmp_path / "x.mp3").write_bytes(data)
    (tmp_path / "x.wav").write_bytes(mpeg_wav(data, 0x55))
    np.testing.assert_array_equal(heard(tmp_path / "x.wav")[0], heard(tmp_path / "x.mp3")[0])
    (tmp_path / "x.wav").write_bytes(mpeg_wav(data, 0x55)[:-1000])
    with pytest.raises(AudioError, match=r"^truncated: "):
        probe(tmp_path / "x.wav")


@pytest.mark.parametrize("suffix", ["mp2", "wav"])
def test_layer_ii_is_heard_to_the_end(suffix, tmp_path):
    needs("ffmpeg")
    source = written(tmp_path / "source.wav", noise(3, 44_100), 44_100)
    path = tmp_path / f"x.{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-c:a", "mp2", path], check=True)
    assert probe(path).seconds == pytest.approx(3, abs=0.05)
    assert np.abs(heard(path)[0][-RATE // 2 :]).mean() > 1000


def test_a_damaged_mp3_is_no_shorter_one(tmp_path):
    data = mp3(3, **CBR)
    (tmp_path / "x.mp3").write_bytes(data[: len(data) // 2] + bytes(3000) + data[len(data) // 2 :])
    with pytest.raises(AudioError, match=r"^damaged: no frame of MPEG audio where one should be, at byte "):
        probe(tmp_path / "x.mp3")
    data = written(tmp_path / "x.ogg", noise(20)).read_bytes()
    (tmp_path / "x.ogg").write_bytes(data[: len(data) // 2] + bytes(3000) + data[len(data) // 2 :])
    with pytest.raises(AudioError, match=r"^damaged: no page of Ogg where one should be, at byte "):
        probe(tmp_path / "x.ogg")


def test_a_damaged_sample_dump_prints_nothing(capfd, tmp_path):
    """libsndfile would print a line for each packet, to the standard output."""
    path = written(tmp_path / "x.sds", noise(1), format="SDS", subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[21 + 127 * 3] = 0
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"^damaged: no packet of sound where one should be, at byte 402$"):
        heard(path)
    assert capfd.readouterr().out == ""


def with_size(path, mark, size):
    data = bytearray(path.read_bytes())
    at = data.index(mark) + 4
    data[at : at + 4] = size
    path.write_bytes(data)


UNCLOSED = {"WAV": b"data", "AIFF": b"SSND", "AU": b"\0\0\0\x18"}


@pytest.mark.parametrize("name", UNCLOSED)
def test_a_header_that_says_0_bytes_while_sound_follows_is_told_so(name, tmp_path):
    path = written(tmp_path / "x", noise(1), format=name)
    with_size(path, UNCLOSED[name], bytes(4))
    line = r"^its header says 0 bytes of sound, but 320\d\d follow: written as a stream, never completed; convert it "
    with pytest.raises(AudioError, match=line):
        probe(path)
    with pytest.raises(AudioError, match=r"^empty: no samples$"):
        probe(written(tmp_path / "y", noise(0), format=name))


@pytest.mark.parametrize("name", UNCLOSED)
def test_a_header_that_says_less_than_follows_is_told_so(name, tmp_path):
    """As a recorder leaves it that was stopped between two updates; what is small may follow."""
    path = written(tmp_path / "x", noise(1), format=name)
    with_size(path, UNCLOSED[name], struct.pack("<I" if name == "WAV" else ">I", 1000))
    with pytest.raises(AudioError, match=r"^its header says (1000|992) bytes of sound, but 310\d\d follow: written"):
        probe(path)
    path = written(tmp_path / "y", noise(1), format=name)
    path.write_bytes(path.read_bytes() + noise(0.1).tobytes()[:4000])
    assert probe(path).seconds == 1


def test_a_size_that_stands_for_a_stream_is_taken_as_such(tmp_path):
    path = written(tmp_path / "x.au", noise(1.5))
    with_size(path, UNCLOSED["AU"], b"\xff" * 4)
    assert probe(path).seconds == 1.5
    assert len(heard(path)[0]) == 1.5 * RATE


@pytest.mark.parametrize("rate", [1, 999])
def test_a_sample_rate_at_which_nothing_is_recorded_is_refused(rate, tmp_path):
    path = written(tmp_path / "x.wav", noise(1, 44_100), rate)
    with pytest.raises(AudioError, match=rf"^a sample rate of {rate} Hz; 1,000 to 10,000,000 are possible$"):
        probe(path)


def test_long_silence_takes_no_memory(tmp_path):
    """As FLAC squeezes it into a few kB; and in a pack it takes what it takes on the disk."""
    path = tmp_path / "x.flac"
    with sf.SoundFile(path, "w", 8000, 1, format="FLAC") as file:
        for _ in range(60):
            file.write(np.zeros(8000 * 60, dtype=np.int16))
    assert path.stat().st_size < 150_000
    info = probe(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(len(piece) for piece in pieces(path, info, RATE)) == RATE * 3600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB


# ---- whose fault it is


class Disk:
    """A recording on a disk that fails from some byte on, or at one read; else as a member of an archive is one."""

    def __init__(self, path: Path, good: int = 1 << 40, fails: int = 0) -> None:
        self.path, self.good, self.fails, self.reads, self.name = path, good, fails, 0, path.name

    def __str__(self) -> str:
        return str(self.path)

    def stat(self):
        return self.path.stat()

    def read_bytes(self):
        with self.open("rb") as file:
            return file.read()

    def open(self, _mode):
        disk, handle = self, io.FileIO(self.path)

        class Raw(io.RawIOBase):
            def readable(self):
                return True

            def seekable(self):
                return True

            def seek(self, *where):
                return handle.seek(*where)

            def close(self):
                handle.close()
                super().close()

            def readinto(self, buffer):
                disk.reads += 1
                if handle.tell() + len(buffer) > disk.good or disk.reads == disk.fails:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return handle.readinto(buffer)

        return io.BufferedReader(Raw())


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.mp3", "x.aiff", "x.caf"])
def test_a_disk_that_fails_is_no_fault_of_the_recording(name, tmp_path):
    path = written(tmp_path / name, noise(5, 44_100), 44_100)
    info = probe(path)
    for good in (0, 8192, path.stat().st_size // 2 // 8192 * 8192):
        with pytest.raises(OSError, match="Input/output error") as caught:
            list(pieces(Disk(path, good), info, RATE))
        assert caught.value.filename == str(path)
    # one that is well again
    assert sum(map(len, pieces(Disk(path, 1 << 30), info, RATE))) == packed_length(info, RATE)


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.mp3", "x.aiff", "x.caf", "x.w64"])
def test_a_disk_that_fails_once_is_noticed_at_whichever_read(name, tmp_path):
    """Also by a decoder that goes on, and takes what it has not seen for the end of the file."""
    path = written(tmp_path / name, noise(2, 44_100), 44_100)
    expected, whole = probe(path), Disk(path)
    assert probe(whole) == expected
    for read in range(1, whole.reads + 1):
        with pytest.raises(OSError, match="Input/output error"):
            probe(Disk(path, fails=read))


def test_what_the_system_will_not_read_ends_it_and_names_the_file():
    """A file of the system that can be opened, and not read."""
    file = Path("/proc/self/mem")
    if not file.is_file():
        pytest.skip("only Linux has one")
    with pytest.raises(OSError, match="Input/output error"):
        probe(file)
    clips = [Clip("mem", "train", (0,), file.parent, file.name, None)]
    with pytest.raises(MachineFault, match=r"^/proc/self/mem: the disk failed"):
        list(probe_all(clips))


def test_too_few_file_handles_are_no_fault_of_the_recordings(tmp_path):
    paths = [written(tmp_path / f"{i}.wav", noise(1)) for i in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # the lowest handle that is free
    with open(os.devnull) as file:
        taken = file.fileno()
    clips = [Clip(path.stem, "train", (0,), tmp_path, path.name, None) for path in paths]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))
        with pytest.raises(MachineFault, match=r"\.wav: too many open files in one process; raise the limit"):
            list(probe_all(clips))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [info.frames for info in probe_all(clips)] == [RATE] * 3


def test_a_pipe_or_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "null.wav").symlink_to("/dev/zero")
    started = time.monotonic()
    for name in ("x.wav", "folder.wav", "null.wav"):
        with pytest.raises(AudioError, match=r"^not a plain file$"):
            probe(tmp_path / name)
        with pytest.raises(AudioError, match=r"^not a plain file$"):
            list(pieces(tmp_path / name, AudioInfo(1, RATE), RATE))
    with pytest.raises(AudioError, match=r"^cannot be read as audio \(not a plain file\)$"):
        probe_file(tmp_path / "x.wav")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("name", [b"caf\xe9.wav", "犬\u202e\n.wav".encode()])
def test_a_name_of_any_bytes_is_a_name(name, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    shutil.copy(written(tmp_path / "x.wav", noise(1)), path)
    assert probe_file(path).frames == RATE
    assert len(heard(path)[0]) == RATE


def test_a_name_that_no_file_can_have_is_missing(tmp_path):
    written(tmp_path / "x.wav", noise(1))
    for path in (tmp_path / "none.wav", tmp_path / "x.wav" / "y.wav", tmp_path / ("x" * 300 + ".wav")):
        with pytest.raises(AudioError, match=r"^missing$"):
            probe(path)


# ---- levels


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_floats_over_full_scale_are_scaled_as_a_whole(subtype, channels, tmp_path, monkeypatch):
    x = noise(3, 44_100, channels, peak=1.0)
    x[10] = 1.0
    quiet = written(tmp_path / "quiet.wav", x, 44_100, subtype=subtype)
    loud = written(tmp_path / "loud.wav", 20 * x, 44_100, subtype=subtype)
    expected, notes = heard(quiet)
    assert "scaled" not in notes
    found, notes = heard(loud)
    assert notes == ["scaled"]
    assert np.abs(found.astype(int) - expected).max() <= 1
    monkeypatch.setattr(audio, "BLOCK", 5000)
    monkeypatch.setattr(audio, "_ONE_PIECE", 0)
    np.testing.assert_array_equal(heard(loud)[0], found)


def test_sounds_in_lossy_formats_are_scaled_too(tmp_path):
    path = written(tmp_path / "x.ogg", np.clip(2 * noise(3, peak=1.0), -1, 1))  # the decoder goes beyond
    found, notes = heard(path)
    assert "scaled" in notes
    assert np.mean(np.abs(found.astype(int)) >= 32767) < 1e-3


def test_what_16_bits_lose_is_noted(tmp_path):
    x = noise(2, 44_100)
    level = {
        "silent": np.zeros_like(x),
        "faint": 1e-5 * x,
        "cancelled": np.stack([x, -x], axis=1),
        "clipped": np.clip(100 * x, -1, 1),
    }
    for note, sound in level.items():
        for how in ({"subtype": "FLOAT"}, {"subtype": "PCM_24"}, {"subtype": "PCM_16"}):
            if note == "faint" and how["subtype"] == "PCM_16":
                continue  # what is not in it can't be lost
            _, notes = heard(written(tmp_path / "x.wav", sound, 44_100, **how))
            assert notes == [note], how
    assert heard(written(tmp_path / "x.wav", x, 44_100))[1] == []
    # a silent channel, or independent ones, cancel nothing
    for other in (np.zeros_like(x), noise(2, 44_100, seed=1)):
        assert heard(written(tmp_path / "x.wav", np.stack([x, other], axis=1), 44_100))[1] == []


def test_decode_is_pieces_repeated(tmp_path):
    path = written(tmp_path / "x.wav", noise(0.3))
    np.testing.assert_array_equal(decode(path, RATE, RATE), heard(path)[0])
    assert recordings.BLOCK == audio.BLOCK


def test_a_member_of_an_archive_is_not_unpacked_into_all_memory(tmp_path):
    """Silence of a GB is a MB in an archive."""
    member = Disk(written(tmp_path / "x.wav", noise(1)), 1 << 40)
    member.stat = lambda: os.stat_result((0, 0, 0, 0, 0, 0, 1_000_000_000, 0, 0, 0))
    member.read_bytes = member.open = None  # nothing is opened
    for work in (probe, lambda recording: list(pieces(recording, AudioInfo(1, RATE), RATE))):
        with pytest.raises(AudioError, match=r"^1,000 MB, too much for a file in an archive: unpack that$"):
            work(member)
