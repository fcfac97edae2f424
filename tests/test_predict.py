"""A file is heard as packing and evaluation hear a clip, whatever its format and length; what cannot be is one line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from PIL import Image

import architectures
from bench.api.folders import find_run
from bench.api.models import create, hardest, list_architectures, load, predict
from bench.data import audio, ffmpeg
from bench.data.audio import blocks, decode, packed_length, probe_file, sound_files, spectrogram, windows
from bench.data.dataset import AudioError
from bench.data.packing import pack
from bench.errors import UserError
from bench.inspect.predict import Tagger
from bench.inspect.scores import open_scores
from bench.protocol.spec import RunSpec
from bench.reporting.figures.tags import tags_figure
from bench.reporting.tags import Tags, clock, describe, figure_paths
from bench.runner.display import Display
from bench.runner.weights import load_model
from bench.store import ResultsFolder, RunFolder
from tests.conftest import needs
from tests.tiny_data import tiny_data

RATE = 16_000
FORMATS = {
    "16.wav": ("WAV", "PCM_16"),
    "24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def write(path, seconds, rate=44_100, channels=1, kind="16.wav", seed=0):
    """A sweep in noise, partly over full scale."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=(len(t), channels))
    sound = 0.8 * np.sin(2 * np.pi * (200 + 300 * t) * t)[:, None] + 0.2 * noise
    container, subtype = FORMATS[kind]
    sf.write(path, sound if kind == "float.wav" else np.clip(sound, -1, 1), rate, format=container, subtype=subtype)
    return path


SOURCES = [(48_000, 2), (32_000, 1), (16_000, 2), (22_050, 1), (8_000, 1)]  # sample rate, channels
SECONDS = 118_401 / 32_000  # at that rate the resampler ends a sample late
CASES = [(kind, *source) for kind in FORMATS for source in SOURCES if kind != "opus" or source[0] in (8_000, 48_000)]


@pytest.mark.parametrize(("kind", "rate", "channels"), CASES)
def test_blocks_are_bitwise_what_packing_decodes(kind, rate, channels, tmp_path, monkeypatch):
    path = write(tmp_path / f"x.{kind}", SECONDS, rate, channels, kind)
    whole = decode(path, RATE, packed_length(probe_file(path), RATE))
    np.testing.assert_array_equal(np.concatenate(list(blocks(path, RATE))), whole)
    monkeypatch.setattr(audio, "BLOCK", 5000)
    pieces = list(blocks(path, RATE))
    assert len(pieces) > 5
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("seconds", [1 / 44_100, 0.2, 0.99999, 1.0])
def test_less_than_a_second_is_repeated_up_to_one(seconds, tmp_path):
    path = write(tmp_path / "x.wav", seconds)
    samples = np.concatenate(list(blocks(path, RATE)))
    assert len(samples) == RATE == packed_length(probe_file(path), RATE)
    np.testing.assert_array_equal(samples, decode(path, RATE, RATE))


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_windows_do_not_depend_on_how_the_samples_come(size):
    samples = np.arange(1000, dtype=np.int16)
    starts = np.array([0, 3, 3, 90, 400, 401, 900])
    found = np.concatenate(list(windows(np.array_split(samples, -(-1000 // size)), starts, 100)))
    np.testing.assert_array_equal(found, starts[:, None] + np.arange(100))


def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK", 1 << 16)
    peaks = {}
    for minutes in (2, 12):
        path = write(tmp_path / f"{minutes}.wav", 60 * minutes, 8000)
        info = probe_file(path)
        starts = np.arange(60 * minutes) * RATE
        tracemalloc.start()
        assert sum(len(chunks) for chunks in windows(blocks(path, RATE), starts, RATE)) == 60 * minutes
        spectrogram(path, info, RATE, 100)
        peaks[minutes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[12] < 1.2 * peaks[2] + 2e6  # the 12 minutes alone are 23 MB


def test_a_spectrogram_shows_what_sounds_when(tmp_path, monkeypatch):
    t = np.arange(2 * RATE) / RATE
    path = tmp_path / "x.wav"
    sf.write(path, 0.5 * np.sin(2 * np.pi * np.where(t < 1, 1000, 3000) * t), RATE)
    whole = spectrogram(path, probe_file(path), RATE, 20)
    monkeypatch.setattr(audio, "BLOCK", 2_500)
    power = spectrogram(path, probe_file(path), RATE, 20)
    np.testing.assert_allclose(power, whole)
    assert power.shape == (257, 20)
    hertz = power.argmax(axis=0) * RATE / 512
    np.testing.assert_allclose(hertz[:10], 1000, atol=RATE / 512)
    np.testing.assert_allclose(hertz[11:], 3000, atol=RATE / 512)
    assert spectrogram(path, probe_file(path), RATE, 10_000).shape == (257, 124)  # as many as there are windows


@pytest.fixture
def results(small_results, tmp_path):
    return Path(shutil.copytree(small_results, tmp_path / "small"))


@pytest.fixture
def run(results):
    return find_run(results / "transformer_small-s0")


def eval_clips(dataset, packed):
    return [dataset / "FSD50K.eval_audio" / f"{clip}.wav" for clip in packed.clips("eval")["clip"]]


@pytest.mark.parametrize("name", ["transformer_small-s1", "vgg_like-s0"])
def test_eval_clips_get_the_scores_that_the_run_has(name, small_results, dataset, packed):
    folder = find_run(small_results / name)
    tagger = Tagger(folder, torch.device("cpu"))
    found = [tagger.tag(file, probe_file(file)).clip for file in eval_clips(dataset, packed)]
    with np.load(folder.scores_file) as expected:
        np.testing.assert_allclose(found, expected["scores"], rtol=0, atol=1e-6)
    assert np.ptp(found, axis=0).max() > 1e-4  # they differ between clips


def test_overlapping_chunks_and_small_blocks_are_scored_alike(run, tmp_path, monkeypatch):
    """As the paper suite cuts them; every chunk is the model's answer to its own samples."""
    record = json.loads(run.record_file.read_text())
    record["spec"]["recipe"]["hop_seconds"] = 0.5
    record["hash"] = RunSpec.model_validate(record["spec"]).hash
    run.record_file.write_text(json.dumps(record))
    monkeypatch.setattr(audio, "BLOCK", 5000)
    path = write(tmp_path / "x.mp3", 40.3, 22_050, kind="mp3")
    info, reported = probe_file(path), []
    tagger = Tagger(run, torch.device("cpu"))
    tags = tagger.tag(path, info, lambda done, total: reported.append((done, total)))
    length = packed_length(info, RATE)
    assert tags.starts.tolist() == [*np.arange(0, length / RATE - 1, 0.5), length / RATE - 1]
    assert reported[-1] == (len(tags.starts), len(tags.starts))
    samples = decode(path, RATE, length)
    for k in (0, 7, len(tags.starts) - 1):
        first = round(tags.starts[k] * RATE)
        x = torch.from_numpy(samples[first : first + RATE]).float()[None] / 32768
        with torch.no_grad():
            np.testing.assert_allclose(tags.scores[k], torch.sigmoid(tagger.model(x))[0], rtol=0, atol=1e-6)


def tags_of(scores, hop=1.0):
    """Of a file as long as its chunks, with the classes Bark and Car."""
    scores = np.asarray(scores, dtype=np.float32)
    starts = hop * np.arange(len(scores))
    return Tags(Path("x.wav"), "crnn, seed 0", float(starts[-1] + 1), hop, ["Bark", "Car"], starts, scores)


def test_the_text_says_how_much_and_when():
    tags = tags_of([[0, 0.1], [1, 0.2], [0.5, 0.1], [0.06, 0.0]])
    assert describe(tags, 1) == "x.wav: 4.0 s; a column is 1 s\n  Bark 0.39 | █▄ | peak 1.00 at 0:01"
    assert describe(tags, 5).splitlines()[2] == "  Car  0.10 |▁▂▁ | peak 0.20 at 0:01"
    assert describe(replace(tags_of([[0.3, 0.7]]), seconds=0.25), 1) == (
        "x.wav: 0.25 s, repeated to one second\n  Car 0.70"
    )


def test_a_long_file_is_summarised_by_the_loudest_moments():
    scores = np.zeros((3601, 2))
    scores[3000] = (0.9, 0.5)
    header, line = describe(tags_of(scores), 1).splitlines()
    assert header == "x.wav: 1:00:01; a column is 61 s"
    assert line == f"  Bark 0.00 |{' ' * 49}▇{' ' * 10}| peak 0.90 at 50:00"
    assert describe(tags_of(scores[:240], hop=0.5), 1).splitlines()[0] == "x.wav: 2:00; a column is 2 s"
    assert [clock(s) for s in (0, 59.9, 60, 3599, 3600)] == ["0:00", "0:59", "1:00", "59:59", "1:00:00"]


def test_the_command_writes_text_table_and_figures(bench, results, tmp_path):
    files = [write(tmp_path / "a.wav", 2.5), write(tmp_path / "b.ogg", 0.2, 48_000, 2, "ogg")]
    files.append(write(tmp_path / "silence.flac", 1.5, kind="flac"))
    sf.write(files[-1], np.zeros(24_000), RATE)
    options = ("--csv", tmp_path / "out.csv", "--plot", tmp_path / "figures" / "here", "--top", 3)
    arguments = ("predict", results / "vgg_like-s1", *files, *options)
    done = bench(*arguments)
    assert (done.code, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if not line.startswith(" ")] == [
        f"{files[0]}: 2.5 s; a column is 1 s",
        f"{files[1]}: 0.20 s, repeated to one second",
        f"{files[2]}: 1.5 s; a column is 1 s",
    ]
    table = pd.read_csv(tmp_path / "out.csv")
    assert table.columns.tolist() == ["file", "second", "tag", "score"]
    assert table["file"].unique().tolist() == [str(file) for file in files]
    first = table[table["file"] == str(files[0])]
    assert first["second"].unique().tolist() == [0, 1, 1.5]
    means = first.groupby("tag")["score"].mean().sort_values(ascending=False)
    for line, (tag, score) in zip(done.out.splitlines()[1:4], means.items(), strict=False):
        assert line.split()[:2] == [tag, f"{score:.2f}"]
    for file in files:
        with Image.open(tmp_path / "figures" / "here" / f"{file.stem}.png") as image:
            assert image.width > 1000
    assert bench(*arguments).code == 0  # its own figures and tables may be written again
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.wav", "b.ogg", "figures", "out.csv", "silence.flac", "small"
    ]  # fmt: skip


def broken_files(tmp_path):
    good = write(tmp_path / "good.wav", 1.5)
    whole = good.read_bytes()
    contents = {"empty.wav": b"", "words.wav": b"not a sound\n" * 99, "header.wav": whole[:44], "x.raw": whole}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    sf.write(tmp_path / "none.wav", np.zeros(0), RATE)
    sound = np.zeros(3 * RATE)
    sound[-1] = np.nan
    sf.write(tmp_path / "nan.wav", sound, RATE, subtype="FLOAT")  # its header does not show it
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "words.txt").write_text("not a sound")
    return good, [tmp_path / n for n in (*contents, "none.wav", "nan.wav", "absent.wav", "none")]


def test_broken_files_are_named_and_the_others_done(bench, run, tmp_path):
    good, broken = broken_files(tmp_path)
    done = bench("predict", run.path, *broken, good, "--csv", tmp_path / "out.csv")
    assert done.code == 2
    assert done.out.startswith(f"{good}: 1.5 s")
    assert set(pd.read_csv(tmp_path / "out.csv")["file"]) == {str(good)}
    lines = [line.removeprefix("bench: error: ") for line in done.err.splitlines()]
    assert [line.partition(": ")[0] for line in lines] == [
        *(str(path) for path in broken if path.name != "nan.wav"), str(tmp_path / "nan.wav")
    ]  # fmt: skip
    causes = (
        "audio",
        "audio",
        "truncated",
        "sample rate",
        "no samples",
        "no such file",
        "a folder without",
        "not finite",
    )
    for line, cause in zip(lines, causes, strict=True):
        assert cause in line


def test_nothing_is_loaded_or_written_for_broken_files_alone(bench, tmp_path):
    done = bench("predict", tmp_path, tmp_path / "absent.wav", "--csv", tmp_path / "out.csv", "--plot", tmp_path / "x")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"bench: error: {tmp_path}/absent.wav: no such file\n"
    assert not list(tmp_path.iterdir())


def test_what_others_made_is_not_written_over(bench, run, tmp_path):
    sound = write(tmp_path / "a.wav", 1)
    picture = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(picture)
    before = {path: path.read_bytes() for path in (sound, picture)}
    for option, place, named in (("--csv", sound, sound), ("--plot", tmp_path, picture)):
        done = bench("predict", run.path, sound, option, place)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"bench: error: {named}: exists, and is not from `bench predict`")
    assert before == {path: path.read_bytes() for path in before}


def test_figures_are_named_by_what_tells_the_files_apart(tmp_path):
    def names(*files):
        return [path.name for path in figure_paths(map(Path, files), tmp_path).values()]

    assert names("x/siren.mp3", "x/bell.ogg") == ["siren.png", "bell.png"]
    assert names("siren.mp3", "siren.ogg", "bell.wav") == ["siren.mp3.png", "siren.ogg.png", "bell.png"]
    assert names("a/1.wav", "b/1.wav", "a/2.wav") == ["a-1.wav.png", "b-1.wav.png", "2.png"]
    assert names("a/x/1.wav", "b/x/1.wav", "/c/../a/x/1.mp3") == ["a-x-1.wav.png", "b-x-1.wav.png", "1.mp3.png"]
    assert names("x/1.mp3", "x/1.wav", "x/1.mp3.wav") == ["x-1.mp3.png", "1.wav.png", "x-1.mp3.wav.png"]
    assert names("bark.wav", "Bark.ogg") == ["bark.wav.png", "Bark.ogg.png"]  # one file where case does not count
    with pytest.raises(UserError, match=r"another file would have its figure, a-b-c\.wav\.png, too"):
        names("/a-b/c.wav", "/x/c.wav", "/a/b-c.wav", "/x/b-c.wav")
    assert names() == []


@pytest.mark.parametrize("name", ["a$b_犬[/x] " + 20 * "long ", "a\udcff\nb\u2028\x1b[2J.wav"])
def test_names_of_any_kind_are_drawn(tmp_path, name):
    tags = replace(tags_of([[0.1, 0.2]] * 300), file=Path(name))
    first = describe(tags, 2).splitlines()[0]
    assert first.isprintable(), ascii(first)
    tags_figure(tags, np.zeros((10, 5)), RATE, 2, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.text["Software"] == "bench predict"


def test_a_run_is_found_by_how_its_name_begins(results):
    (folder,) = results.glob("vgg_like-s1-*")
    assert find_run(folder) == find_run(results / "vgg_like-s1") == RunFolder(folder)
    with pytest.raises(UserError, match=r"vgg_like: 2 runs begin like this; name one of vgg_like-s0-.*, vgg_like-s1-"):
        find_run(results / "vgg_like")
    for path in (results / "vgg", results / "vgg_like-s", results / "*", results / "absent" / "x"):
        with pytest.raises(UserError, match=r"no finished run; give a run folder"):
            find_run(path)


def refused(run, message):
    with pytest.raises(UserError, match=message) as caught:
        Tagger(run, torch.device("cpu"))
    assert "\n" not in str(caught.value)
    assert str(run.path.parent) in str(caught.value)


def test_what_a_run_lacks_is_one_line(run, results):
    record = json.loads(run.record_file.read_text())
    refused(RunFolder(results), "no finished run")
    labels = results / "labels.npz"
    labels.rename(results / "elsewhere.npz")
    refused(run, "labels.npz: missing; the names of the classes")
    (results / "elsewhere.npz").rename(labels)
    other = record | {"data": record["data"] | {"dataset": "other"}}
    run.record_file.write_text(json.dumps(other))
    refused(run, "labels.npz: of other data than")
    run.record_file.write_text(json.dumps(record | {"spec": record["spec"] | {"architecture": "mine"}}))
    refused(run, r"run.json: its architecture can't be made .no architecture 'mine'.*make it again with `python")
    run.record_file.write_text(json.dumps(record))
    run.weights_file.unlink()
    refused(run, "no weights .they stay on the machine that trained, git does not keep them.; move the folder away")


def test_a_model_is_the_trained_one(run):
    record = run.record()
    assert (record.spec.name, record.spec.seed) == ("transformer_small", 0)
    weights = load_model(run, record, torch.device("cpu")).state_dict()
    from safetensors.torch import load_file

    assert all(torch.equal(value, weights[name]) for name, value in load_file(run.weights_file).items())


def test_sound_that_ends_before_its_header_says_is_met_when_it_is_read(tmp_path):
    """Of a FLAC file, whose header does not say how many bytes there should be."""
    path = write(tmp_path / "x.flac", 5, kind="flac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    probe_file(path)
    with pytest.raises(AudioError, match=r"truncated|unreadable"):
        list(blocks(path, RATE))


def test_the_command_has_help(bench):
    done = bench("predict", "--help")
    assert done.code == 0
    assert done.out.startswith("Usage: bench predict ")


def test_a_folder_stands_for_the_sounds_in_it(bench, run, tmp_path):
    folder = tmp_path / "sounds"
    (folder / "sub" / ".hidden").mkdir(parents=True)
    for name in ("b.WAV", "sub/a.flac", "sub/.hidden/x.wav", "._b.wav", "a.wav"):
        write(folder / name, 1, kind="flac" if name.endswith("flac") else "16.wav")
    (folder / "notes.txt").write_text("of what was heard")
    found = [folder / "a.wav", folder / "b.WAV", folder / "sub" / "a.flac"]
    assert sound_files(folder) == found
    done = bench("predict", run.path, found[1], folder, f"{folder}/../sounds/a.wav", "--plot", tmp_path / "figures")
    assert (done.code, done.err) == (0, "")
    named = [line.partition(":")[0] for line in done.out.splitlines() if not line.startswith(" ")]
    assert named == [str(found[1]), str(found[0]), str(found[2])]  # each once
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert figures == {"a.wav.png", "a.flac.png", "b.png"}


def test_json_is_one_document_with_the_top_tags_and_the_errors(bench, run, tmp_path):
    good, absent = write(tmp_path / "good.wav", 1.5), tmp_path / "absent.wav"
    done = bench("predict", run.path, absent, good, "--json", "--top", 3)
    assert (done.code, done.err) == (2, f"bench: error: {absent}: no such file\n")
    document = json.loads(done.out)
    scores = predict(run.path, good, device="cpu", display=Display()).loc[str(good)].nlargest(3)
    assert document == {
        "run": str(run.path),
        "model": "transformer_small, seed 0",
        "files": [{"file": str(good), "seconds": 1.5, "tags": pytest.approx(scores.to_dict(), abs=1e-5)}],
        "errors": [{"file": str(absent), "error": "no such file"}],
    }
    assert list(document["files"][0]["tags"]) == scores.index.tolist()
    done = bench("predict", run.path, absent, "--json")
    document = json.loads(done.out)
    assert (document["files"], document["model"]) == ([], None)


def test_python_returns_scores_of_files_or_of_their_chunks(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.wav"), 2.5)
    Path("more").mkdir()
    write(Path("more/b.wav"), 0.3)
    tagger = Tagger(run, torch.device("cpu"))
    expected = [tagger.tag(file, probe_file(file)) for file in (Path("a.wav"), Path("more/b.wav"))]
    how = {"device": "cpu", "display": Display()}
    clips = predict(str(run.path), ["./a.wav", Path("more")], **how)
    assert clips.index.name == "file"
    assert clips.index.tolist() == ["./a.wav", "more/b.wav"]  # as it was given
    assert clips.columns.tolist() == list(tagger.classes)
    np.testing.assert_array_equal(clips, [tags.clip for tags in expected])
    chunks = predict(run.path, "./a.wav", over_time=True, **how)
    assert chunks.index.names == ["file", "second"]
    assert chunks.index.tolist() == [("./a.wav", 0.0), ("./a.wav", 1.0), ("./a.wav", 1.5)]
    np.testing.assert_array_equal(chunks, expected[0].scores)


def test_python_names_what_cannot_be_read_before_a_model_is_loaded(results, run, tmp_path):
    good, broken = broken_files(tmp_path)
    run.weights_file.unlink()
    with pytest.raises(UserError, match=r"empty.wav: cannot be read as audio .* \(and 6 more cannot be read\)$"):
        predict(run.path, [good, *broken])
    with pytest.raises(UserError, match=r"absent.wav: no such file$"):
        predict(run.path, tmp_path / "absent.wav")
    with pytest.raises(UserError, match="files: none named"):
        predict(run.path, [])
    with pytest.raises(UserError, match="no weights"):
        predict(run.path, good)
    with pytest.raises(UserError, match=r"nan.wav: samples that are not finite"):
        predict(results / "vgg_like-s0", [good, tmp_path / "nan.wav"], device="cpu")


def test_a_model_is_loaded_to_be_used(run, tmp_path):
    sound = write(tmp_path / "a.wav", 1, RATE)
    model = load(str(run.path))
    assert not model.training
    x = torch.from_numpy(np.concatenate(list(blocks(sound, RATE)))).float()[None] / 32768
    with torch.no_grad():
        expected = torch.sigmoid(model(x))
    np.testing.assert_allclose(predict(run.path, sound, device="cpu"), expected, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="no finished run"):
        load(tmp_path / "absent")


def test_architectures_are_listed_and_created(tmp_path):
    assert list_architectures() == architectures.list_architectures()
    model = create("vgg_like", num_classes=3)
    assert model(torch.zeros(2, RATE)).shape == (2, 3)
    for name, config, message in (
        ("vgg_lik", {}, "did you mean 'vgg_like'"), ("vgg_like", {"num_classes": "x"}, "num_classes"),
        ("vgg_like", {"nonsense": 1}, "no field 'nonsense'"), ("crnn", {"rnn_width": -1}, "hidden_size must be"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            create(name, **config)
    with pytest.raises(UserError, match=r"absent\.py: "):
        list_architectures(plugins=str(tmp_path / "absent.py"))


def encode(source, path, *how):
    """Encode a sound file by ffmpeg."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", f"file:{source}", *how, f"file:{path}"]
    subprocess.run(command, check=True)
    return path


# one 48 kHz: Opus knows no 44.1
ENCODED = [("m4a", 44_100, 2, ()), ("aac", 22_050, 1, ()), ("webm", 48_000, 2, ()), ("mp4", 44_100, 6, ())]


@pytest.mark.parametrize(("suffix", "rate", "channels", "how"), ENCODED)
def test_what_only_ffmpeg_reads_is_heard_as_the_wav_that_it_makes(suffix, rate, channels, how, tmp_path, monkeypatch):
    needs("ffmpeg")
    path = encode(write(tmp_path / "x.wav", 3.3, rate, channels), tmp_path / f"x.{suffix}", *how)
    wav = encode(path, tmp_path / "decoded.wav", "-c:a", "pcm_f32le")
    info = probe_file(path)
    assert info == probe_file(wav)
    assert info.seconds == pytest.approx(3.3, abs=0.1)
    whole = decode(wav, RATE, packed_length(info, RATE))
    monkeypatch.setattr(audio, "BLOCK", 5000)
    pieces = list(blocks(path, RATE, info=info))
    assert len(pieces) > 5
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    np.testing.assert_array_equal(spectrogram(path, info, RATE, 20), spectrogram(wav, info, RATE, 20))


@pytest.mark.parametrize(("rate", "channels"), SOURCES)
def test_lossless_sound_comes_through_ffmpeg_bit_for_bit(rate, channels, tmp_path):
    needs("ffmpeg")
    wav = write(tmp_path / "x.wav", 0.7, rate, channels)
    path = encode(wav, tmp_path / "x.m4a", "-c:a", "alac")
    assert probe_file(path) == probe_file(wav)
    np.testing.assert_array_equal(np.concatenate(list(blocks(path, RATE))), decode(wav, RATE, RATE))


def test_a_suffix_that_lies_is_no_obstacle(tmp_path):
    needs("ffmpeg")
    wav = write(tmp_path / "x.wav", 1.2)
    path = encode(wav, tmp_path / "x.m4a", "-c:a", "alac").rename(tmp_path / "x.flac")
    assert probe_file(path) == probe_file(wav)
    truncated = tmp_path / "x.mp4"
    truncated.write_bytes(wav.read_bytes()[:-1000])
    with pytest.raises(AudioError, match="truncated"):
        probe_file(truncated)


def test_ffmpeg_reads_the_named_file_and_no_other(tmp_path, monkeypatch):
    needs("ffmpeg")
    monkeypatch.chdir(tmp_path)
    sound = encode(write(Path("x.wav"), 1.2), Path("x.m4a"), "-c:a", "alac")
    Path("http:").mkdir()
    for name in ("-i.m4a", "file:x.m4a", "pipe:0.m4a", "http:/127.0.0.1.m4a", "a%03d [*].m4a"):
        shutil.copy(sound, name)
        assert probe_file(Path(name)) == probe_file(Path("x.wav"))
    Path("list.m4a").write_text("ffconcat version 1.0\nfile x.m4a\n")
    Path("playlist.m4a").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nx.m4a\n#EXT-X-ENDLIST\n")
    for name in ("list.m4a", "playlist.m4a"):
        with pytest.raises(AudioError, match=r"cannot be read as audio \(unknown format\)"):
            probe_file(Path(name))


def broken_for_ffmpeg(tmp_path):
    wav = write(tmp_path / "x.wav", 3, 48_000)
    for name, how in (("half.m4a", ["-movflags", "+faststart"]), ("end.m4a", []), ("half.webm", [])):
        data = encode(wav, tmp_path / name, *how).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    (tmp_path / "words.m4a").write_text("not a sound\n" * 99)
    encode(wav, tmp_path / "none.mp4", "-f", "lavfi", "-i", "color=d=1", "-map", "1:v")
    causes = {"half.m4a": "corrupt", "end.m4a": "moov atom", "half.webm": "prematurely", "words.m4a": "moov atom",
              "none.mp4": "no sound in it"}  # fmt: skip
    return {tmp_path / name: cause for name, cause in causes.items()}


def test_what_ffmpeg_cannot_read_is_one_line_and_the_others_are_done(bench, run, tmp_path):
    needs("ffmpeg")
    broken = broken_for_ffmpeg(tmp_path)
    good = encode(tmp_path / "x.wav", tmp_path / "x.m4a")
    done = bench("predict", run.path, *broken, good, "--plot", tmp_path / "figures")
    assert done.code == 2
    assert done.out.startswith(f"{good}: 3.0 s")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["x.png"]
    lines = done.err.splitlines()
    assert len(lines) == len(broken)
    for line, (path, cause) in zip(lines, broken.items(), strict=True):
        assert line.startswith(f"bench: error: {path}: cannot be read as audio (")
        assert cause in line
        assert "0x" not in line


def test_without_ffmpeg_a_line_says_to_install_it(bench, run, tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg.shutil, "which", lambda _name: None)
    path = tmp_path / "x.M4A"
    path.write_bytes(b"ftyp")
    done = bench("predict", run.path, tmp_path)
    line = f"{path}: cannot be read as audio (only ffmpeg reads this format: install ffmpeg and try again)"
    assert (done.code, done.out, done.err) == (2, "", f"bench: error: {line}\n")
    (tmp_path / "words.wav").write_text("not a sound")
    with pytest.raises(AudioError, match="unreadable: Format not recognised"):
        probe_file(tmp_path / "words.wav")


def test_ffmpeg_ends_with_whoever_reads_from_it(tmp_path, monkeypatch):
    needs("ffmpeg")
    path = encode(write(tmp_path / "x.wav", 60, 8_000), tmp_path / "x.m4a")
    info, started = probe_file(path), []
    popen = subprocess.Popen
    monkeypatch.setattr(ffmpeg.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    monkeypatch.setattr(audio, "BLOCK", 5000)
    pieces = blocks(path, RATE, info=info)
    next(pieces)
    assert started[0].poll() is None  # it waits, so that hours of sound take no more memory than seconds
    pieces.close()
    assert started[0].returncode is not None
    path.write_bytes(encode(write(tmp_path / "y.wav", 2, 8_000), tmp_path / "y.m4a").read_bytes())
    with pytest.raises(AudioError, match="truncated"):
        list(blocks(path, RATE, info=info))


def test_ctrl_c_keeps_the_scores_and_the_same_command_ends_in_the_same_table(bench, results, tmp_path):
    files = [write(tmp_path / f"{k:02}.wav", 20, seed=k) for k in range(25)]
    arguments = ["predict", results / "vgg_like-s0", *files, "--csv", tmp_path / "out.csv", "--top", "1"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "bench", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    named = 0
    for line in process.stdout:
        named += not line.startswith(" ")
        if named == 3:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    partial = tmp_path / "out.csv.partial"
    kept = len((tmp_path / "out.csv.journal.partial").read_text().splitlines()) - 1
    assert (process.returncode, 3 <= kept < 25, (tmp_path / "out.csv").exists()) == (130, True, False)
    assert said.splitlines() == [
        f"{partial}: holds the scores of {kept} files",
        "bench: stopped; the same command resumes from here",
    ]
    assert set(pd.read_csv(partial)["file"]) == {str(file) for file in files[:kept]}

    done = bench(*arguments)
    assert (done.code, done.err) == (0, f"{tmp_path}/out.csv: resumes, {kept} files done before\n")
    assert [line.partition(":")[0] for line in done.out.splitlines()[::2]] == [str(file) for file in files[kept:]]
    assert bench(*(tmp_path / "whole.csv" if each == tmp_path / "out.csv" else each for each in arguments)).code == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    again = bench(*arguments)
    assert (again.code, again.err) == (0, f"{tmp_path}/out.csv: is there, and is replaced once all files are done\n")


def test_stopped_without_a_table_nothing_is_said_to_resume(bench, run, tmp_path):
    files = [write(tmp_path / f"{k}.wav", 1200, 8_000) for k in range(2)]
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    done = bench("predict", run.path, *files)
    timer.join()
    assert (done.code, done.err) == (130, "bench: stopped\n")


def table_of(tmp_path, files, *, model="m", stop_after=None):
    """Write a table of made-up scores; return what was said."""
    said = []
    with open_scores(tmp_path / "out.csv", said.append) as table:
        table.begin(model, "crnn, seed 0")
        for number, file in enumerate(files):
            if number == stop_after:
                raise KeyboardInterrupt
            if file not in table:
                table.add(replace(tags_of(np.random.default_rng(number).random((4, 2))), file=file))
    return said


@pytest.fixture
def interrupted(tmp_path):
    """Six files, of which three are done, and the whole table."""
    files = [tmp_path / f"{k}.wav" for k in range(6)]
    for file in files:
        file.write_bytes(b"x")
    table_of(tmp_path, files)
    whole = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.csv").unlink()
    with pytest.raises(KeyboardInterrupt):
        table_of(tmp_path, files, stop_after=3)
    return files, whole


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


DAMAGE = {
    "nothing": (lambda rows, journal: None, "resumes, 3 files done before"),
    "half a line more": (lambda rows, journal: rows.write_bytes(rows.read_bytes() + b"x.wav,0,Ba"), "resumes, 3 files"),
    "half a file's rows": (lambda rows, journal: cut(rows, rows.stat().st_size - 5), "resumes, 2 of 3 files"),
    "one file's rows": (lambda rows, journal: cut(rows, rows.stat().st_size // 3 + 20), "resumes, 1 of 3 files"),
    "half a line of the journal": (lambda rows, journal: cut(journal, journal.stat().st_size - 3), "resumes, 2 files"),
    "zeroed rows": (lambda rows, journal: rows.write_bytes(bytes(rows.stat().st_size)), "resumes, 0 of 3 files"),
    "zeroed at the end": (
        lambda rows, journal: rows.write_bytes(rows.read_bytes()[:-30] + bytes(30)), "resumes, 2 of 3 files"
    ),
    "zeroed journal": (lambda rows, journal: journal.write_bytes(bytes(99)), "begins anew, since out.csv.partial has"),
    "no journal": (lambda rows, journal: journal.unlink(), "begins anew"),
    "nested journal": (lambda rows, journal: journal.write_text(3000 * "[" + "\n"), "begins anew"),
    "other fields": (lambda rows, journal: journal.write_text('{"model": "m"}\n{"length": -1}\n'), "begins anew"),
    "other lengths": (
        lambda rows, journal: journal.write_text(re.sub(r'"length": ', '"length": 9' + 15 * "0", journal.read_text())),
        "resumes, 0 of 3 files",
    ),
    "no rows": (lambda rows, journal: rows.unlink(), "resumes, 0 of 3 files"),
    "another name in the journal": (
        lambda rows, journal: journal.write_text(journal.read_text().replace("/1.wav", "/1.wab")), "resumes, 1 of 3"
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_nothing_half_or_damaged_is_taken_for_whole(damage, interrupted, tmp_path):
    (files, whole), (harm, words) = interrupted, DAMAGE[damage]
    harm(tmp_path / "out.csv.partial", tmp_path / "out.csv.journal.partial")
    (said,) = table_of(tmp_path, files)
    assert said.startswith(f"{tmp_path}/out.csv: {words}")
    assert (tmp_path / "out.csv").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(file.name for file in files), "out.csv"]


def test_a_file_that_has_changed_since_is_heard_again(interrupted, tmp_path):
    files, whole = interrupted
    files[1].write_bytes(b"another")
    assert table_of(tmp_path, files) == [
        f"{tmp_path}/out.csv: resumes, 1 of 3 files done before: the others, or their rows, have changed"
    ]
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_another_model_does_not_mix_its_scores_in(interrupted, tmp_path):
    files, whole = interrupted
    before = (tmp_path / "out.csv.partial").read_bytes()
    with pytest.raises(UserError, match=r"holds the scores of 3 files by another model, crnn, seed 0; move it away"):
        table_of(tmp_path, files, model="other")
    assert (tmp_path / "out.csv.partial").read_bytes() == before
    table_of(tmp_path, files)
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_a_table_that_was_done_is_kept_until_the_next_one_is(tmp_path):
    files = [tmp_path / f"{k}.wav" for k in range(3)]
    for file in files:
        file.write_bytes(b"x")
    table_of(tmp_path, files)
    before = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        table_of(tmp_path, files[1:], stop_after=1)
    assert (tmp_path / "out.csv").read_bytes() == before
    (tmp_path / "out.csv.partial").unlink()
    table_of(tmp_path, [])
    assert (tmp_path / "out.csv").read_bytes() == before, "of no file at all there is no table"


def foreign(tmp_path):
    (tmp_path / "mine.csv").write_text("myfile,second,tag,score\nx,1,2,3\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "mine.csv")
    (tmp_path / "by_link.csv.partial").symlink_to(tmp_path / "mine.csv")
    (tmp_path / "by_journal.csv.journal.partial").symlink_to(tmp_path / "mine.csv")
    (tmp_path / "partial.csv.partial").write_text("of something else\n")
    os.mkfifo(tmp_path / "pipe.csv")
    return {
        "mine.csv": "exists, and is not from `bench predict`",
        "folder.csv": "is a folder, where a file is to be written",
        "link.csv": "is a symbolic link",
        "by_link.csv": "by_link.csv.partial: is a symbolic link",
        "by_journal.csv": "by_journal.csv.journal.partial: is a symbolic link",
        "partial.csv": "partial.csv.partial: exists, and is not from `bench predict`",
        "pipe.csv": "is no plain file",
        "none/deep.csv": "none is no folder; make it, or name another place",
        "mine.csv/x.csv": "mine.csv is no folder",
    }


def test_nothing_of_others_is_written_over_or_through(bench, run, tmp_path):
    sound, cases = write(tmp_path / "x.wav", 1), foreign(tmp_path)
    before = (tmp_path / "mine.csv").read_bytes()
    for name, message in cases.items():
        done = bench("predict", run.path, sound, "--csv", tmp_path / name)
        assert (done.code, message in done.err, len(done.err.splitlines())) == (2, True, 1), done.err
    assert (tmp_path / "mine.csv").read_bytes() == before
    assert (tmp_path / "partial.csv.partial").read_text() == "of something else\n"


def test_two_at_once_are_told(bench, run, tmp_path):
    sound = write(tmp_path / "x.wav", 1)
    with open_scores(tmp_path / "out.csv", print):
        done = bench("predict", run.path, sound, "--csv", tmp_path / "out.csv")
    assert done.code == 2
    assert done.err.startswith(f"bench: error: {tmp_path}/out.csv: is being written by process {os.getpid()} on ")
    assert bench("predict", run.path, sound, "--csv", tmp_path / "out.csv").code == 0


def test_names_do_nothing_in_a_spreadsheet_and_stay_one_line(bench, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = ["=1+1.wav", "@x.wav", "+x.wav", "two\nlines.wav", os.fsdecode(b"\xff.wav"), 'quo"te, comma.wav']
    sound = write(tmp_path / "x.wav", 1)
    for name in odd:
        shutil.copy(sound, name)
    done = bench("predict", run.path, *odd, "--csv", "out.csv")
    assert (done.code, done.err) == (0, "")
    assert pd.read_csv("out.csv")["file"].unique().tolist() == [
        "'=1+1.wav", "'@x.wav", "'+x.wav", "two\\nlines.wav", "\\xff.wav", 'quo"te, comma.wav'
    ]  # fmt: skip


def test_a_file_that_the_disk_does_not_give_costs_no_other_its_scores(bench, run, tmp_path):
    good = [write(tmp_path / f"{k}.wav", 1.5) for k in range(2)]
    (tmp_path / "broken.wav").symlink_to("/proc/self/mem")  # a plain file whose first byte can't be read
    os.mkfifo(tmp_path / "pipe.wav")
    files = (good[0], tmp_path / "broken.wav", tmp_path / "pipe.wav", good[1])
    done = bench("predict", run.path, *files, "--csv", tmp_path / "out.csv")
    assert (done.code, len(done.err.splitlines())) == (2, 2)
    for name in ("broken.wav", "pipe.wav"):
        assert f"bench: error: {tmp_path}/{name}: " in done.err
    assert set(pd.read_csv(tmp_path / "out.csv")["file"]) == {str(file) for file in good}


def test_a_model_whose_classes_or_scores_are_none_is_refused(bench, run, results, tmp_path):
    from safetensors.torch import load_file, save_file

    sound, labels = write(tmp_path / "x.wav", 1), dict(np.load(results / "labels.npz"))
    fewer = {name: labels[name][..., :3] for name in ("classes", "leaf", "targets", "train_counts")}
    np.savez(results / "labels.npz", **labels | fewer)
    done = bench("predict", run.path, sound, "--csv", tmp_path / "out.csv")
    count = len(labels["classes"])
    words = f"labels.npz: 3 classes, the model has {count}; put that of its results folder beside it"
    assert (done.code, done.out, done.err) == (2, "", f"bench: error: {results}/{words}\n")
    np.savez(results / "labels.npz", **labels)
    weights = load_file(run.weights_file)
    save_file({name: torch.full_like(value, torch.nan) for name, value in weights.items()}, run.weights_file)
    done = bench("predict", run.path, sound, "--csv", tmp_path / "out.csv")
    assert (done.code, done.out, "finite" in done.err, len(done.err.splitlines())) == (2, "", True, 1)
    assert not list(tmp_path.glob("out.csv*"))


# --- the hardest clips of a class


@pytest.fixture
def scored(results):
    """A run, the labels of its eval split, the class that most clips have (its column), and its scores."""
    run = find_run(results / "vgg_like-s0")
    known = ResultsFolder(results).labels()
    k = int(known.targets.sum(axis=0).argmax())
    return run, known, k, run.scores(known.targets.shape)[:, k]


def test_the_hardest_clips_are_those_that_a_run_gets_most_wrong(bench, scored):
    run, known, k, scores = scored
    has, clips = known.targets[:, k], np.array(known.clips)
    run.weights_file.unlink()  # which are not needed
    found = hardest(run.path, known.classes[k], count=3, display=Display())
    missed, false = found[found["kind"] == "missed"], found[found["kind"] == "false alarm"]
    assert missed["clip"].tolist() == clips[has][np.argsort(scores[has])[:3]].tolist()
    assert false["clip"].tolist() == clips[~has][np.argsort(-scores[~has])[:3]].tolist()
    assert found.columns.tolist() == ["kind", "clip", "score", "rank", "labels"]
    for row in found.itertuples():
        place = known.clips.index(row.clip)
        assert row.rank == 1 + (scores > scores[place]).sum()
        assert row.labels.split() == [known.classes[other] for other in np.flatnonzero(known.targets[place])]
    done = bench("predict", run.path, "--hardest", known.classes[k], "--count", 3)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[3] for line in done.out.splitlines() if line.startswith("  ")] == found["clip"].tolist()
    document = json.loads(bench("predict", run.path, "--hardest", known.classes[k], "--count", 3, "--json").out)
    assert [clip["clip"] for clip in document["clips"]] == found["clip"].tolist()


def test_the_hardest_clips_are_drawn_as_the_evaluation_heard_them(bench, scored, packed, tmp_path):
    run, known, k, _ = scored
    options = ("--count", 1, "--data", packed.folder, "--plot", tmp_path / "figures", "--top", 2)
    done = bench("predict", run.path, "--hardest", known.classes[k], *options)
    assert (done.code, done.err) == (0, f"{tmp_path}/figures: 2 figures\n")
    found = hardest(run.path, known.classes[k], count=1, display=Display())
    kinds = ("missed", "false-alarm")
    names = [f"{known.classes[k]}-{kind}-1-{clip}.png" for kind, clip in zip(kinds, found["clip"], strict=True)]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == set(names)
    # as often as one likes
    assert bench("predict", run.path, "--hardest", known.classes[k], *options).code == 0


@pytest.mark.parametrize("name", ["transformer_small-s1", "vgg_like-s0"])
def test_clips_of_a_pack_get_the_scores_that_the_run_has(name, small_results, packed):
    """Short ones among them, which packing has repeated."""
    folder = find_run(small_results / name)
    tagger, index, samples = Tagger(folder, torch.device("cpu")), packed.clips("eval"), packed.samples("eval")
    shortest = index["seconds"].argsort()[:3].tolist()
    assert index["seconds"][shortest].min() < 1
    with np.load(folder.scores_file) as expected:
        for place in shortest:
            clip = index.loc[place]
            real = round(clip["seconds"] * RATE)
            tags = tagger.tag_clip(clip["clip"], samples[clip["start"] : clip["start"] + real])
            np.testing.assert_allclose(tags.clip, expected["scores"][place], rtol=0, atol=1e-6)
            assert tags.seconds == pytest.approx(clip["seconds"], abs=1 / RATE)


def test_the_class_that_was_asked_for_comes_first():
    tags = tags_of([[0.1, 0.9], [0.2, 0.7]])
    assert (tags.top(2), tags.top(1)) == ([1, 0], [1])
    assert (replace(tags, asked=0).top(2), replace(tags, asked=0).top(1)) == ([0, 1], [0])


def test_what_cannot_be_hardest_is_one_line(bench, scored, packed, tmp_path):
    run, known, k, _ = scored
    label, plot = known.classes[k], ("--plot", tmp_path / "figures")
    other = tiny_data(tmp_path / "data")
    pack(other, tmp_path / "other")
    near = label[:-1]
    for arguments, message in (
        ((), "FILES: none named; name sound files or folders of them, or a class with --hardest"),
        ((tmp_path, "--data", packed.folder), f"--data {packed.folder}: is for --hardest"),
        ((tmp_path, "--hardest", label), f"--hardest {label}: takes no FILES"),
        (("--hardest", label, "--csv", tmp_path / "x.csv"), f"--hardest {label}: takes no --csv"),
        (("--hardest", near.upper()), f"no class {near.upper()!r} in these results (did you mean {label!r}"),
        (
            ("--hardest", "?!"),
            f"no class '?!' in these results; there are {', '.join(known.classes[:5])}, ... (59 in all)",
        ),
        (
            ("--hardest", label, *plot),
            f"--plot {plot[1]}: the clips' sounds are in the run's pack; name it with --data",
        ),
        (("--hardest", label, *plot, "--data", tmp_path / "other"), f"{tmp_path}/other: not the pack that {run.path}"),
        (("--hardest", label, *plot, "--data", other), f"{other} is a data set, not a pack"),
    ):
        done = bench("predict", run.path, *arguments)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert done.err.startswith(f"bench: error: {message}")
    run.scores_file.unlink()
    done = bench("predict", run.path, "--hardest", label)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith(f"bench: error: {run.scores_file}: ")
    assert not plot[1].exists()
