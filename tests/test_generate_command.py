"""bench generate, end to end on tiny models: sounds, what is refused, what is heard in them, and sounds on the page."""

import base64
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import bench as api
from bench.api.folders import find_run
from bench.errors import UserError
from bench.inspect.code_sounds import open_model
from bench.inspect.generate import Sampling
from bench.inspect.sounds import real_clip
from bench.protocol.sounds.coding import get_coding
from bench.reporting import page
from bench.reporting.analysis import analyse
from bench.reporting.figures.sounds import draw_sounds
from bench.reporting.sampling import Sampling as Resampling
from bench.reporting.sounds import found_sound
from bench.reporting.systems import load_results
from bench.reporting.tables.scores import tables
from bench.store import ResultsFolder, RunFolder
from bench.tracking.model import save_model
from bench.tracking.records import read_records
from tests.test_page import AXE, CHECK, WIDE, browser, opened_at, prefer  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # selenium's, of its pipes

SUITE = """
title = "sounds"
task = "next_sample"
architectures = "all"
seeds = 2
[task_settings]
context = 64
past = 400
windows = 2
[train]
max_steps = 2
batch_size = 4
evaluations = 1
learning_rate = 1e-3
[[runs]]
name = "wavenet"
architecture = "wavenet_10"
config = { channels = 4, layers = 5 }
[[runs]]
name = "attentive"
architecture = "sample_transformer_3"
config = { embed_dim = 16, mlp_dim = 16, max_context = 64 }
"""
QUIET = api.Display()


@pytest.fixture(scope="module")
def made(packed, tmp_path_factory):
    """The results of two tiny systems of two seeds each. Copy them to change them."""
    out = tmp_path_factory.mktemp("sounds")
    (out / "sounds.toml").write_text(SUITE, "utf-8")
    given = {"data": packed.folder, "out": out / "out", "only": ["wavenet", "attentive"], "display": QUIET}
    api.run(out / "sounds.toml", report=False, **given)
    return out / "out"


@pytest.fixture
def results(made, tmp_path):
    return shutil.copytree(made, tmp_path / "out")


def page_of(results):
    """The page with tables, without figures, and its systems, the best first."""
    analysis = analyse(load_results(results), Resampling(resamples=100))
    return page.page(analysis, tables(analysis), {}), [standing.system.name for standing in analysis.standings]


def read(path):
    return soundfile.read(path, dtype="int16")


# --- a run


def test_a_run_makes_a_sound_and_the_same_seed_the_same(bench, results):
    done = bench("generate", results / "wavenet-s1", "--seconds", 0.1)
    (folder,) = results.glob("wavenet-s1-*")
    wav, how = folder / "generated.wav", "wavenet, seed 1, after silence, temperature 1, drawn with seed 0"
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{wav}: {how}; 0.1 s, spectrogram in generated.png\n"
    samples, rate = read(wav)
    assert (len(samples), rate, soundfile.info(wav).subtype) == (1600, 16_000, "PCM_16")
    # nothing but what codes stand for
    assert set(samples.tolist()) <= set(get_coding("mu_law").samples.tolist())
    files = ("generated.wav", "generated.png", "generated.json")
    before = [(folder / name).read_bytes() for name in files]
    bench("generate", folder, "--seconds", 0.1)
    assert [(folder / name).read_bytes() for name in files] == before
    done = bench("generate", folder, "--seconds", 0.1, "--seed", 1234567, "--top-k", 9, "--temperature", 0.9)
    assert "after silence, temperature 0.9, top-k 9, drawn with seed 1234567; 0.1 s" in done.out
    assert (folder / "generated.wav").read_bytes() != before[0]


def test_of_python_come_the_samples_and_out_is_no_runs(made, tmp_path):
    out = tmp_path / "a.wav"
    (sound,) = api.generate(made / "attentive-s0", seconds=0.06, temperature=0, out=out, display=QUIET)
    assert (sound.wav, sound.picture, sound.heard) == (out, out.with_suffix(".png"), {})
    assert (sound.samples == read(out)[0]).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.wav"]
    assert not list(made.glob("*/generated.*"))
    again = base64.b64decode(re.search('base64,([^"]+)', sound._repr_html_())[1])
    assert again == out.read_bytes()


def test_a_prompt_is_resampled_brought_to_the_level_of_training_and_gone_on_with(made, tmp_path):
    """A sine at another rate, stereo and quiet, is what a model is given; the greedy next code is that of a pass."""
    time = np.arange(11_025) / 22_050
    soundfile.write(tmp_path / "quiet.wav", np.stack([0.01 * np.sin(2 * np.pi * 400 * time)] * 2, axis=1), 22_050)
    model = open_model(find_run(made / "attentive-s0"), torch.device("cpu"))
    prompt = model.hear(tmp_path / "quiet.wav")
    assert len(prompt) == 8000
    assert np.abs(prompt.astype(int)).max() == pytest.approx(16_384, rel=0.02)
    spectrum = np.abs(np.fft.rfft(prompt))
    assert spectrum.argmax() * 16_000 / len(prompt) == 400
    samples = model.play(prompt, 0.05, Sampling(temperature=0), 0)
    codes = torch.from_numpy(get_coding("mu_law").encode(prompt[-64:]).astype(np.int64))
    with torch.no_grad():
        first = model.model(codes[None])[0, -1].argmax()
    assert samples[0] == get_coding("mu_law").samples[first]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seconds": 0}, r"--seconds 0: sounds last 0\.05 to 600 s"),
        ({"seconds": 1e9}, r"--seconds 1e\+09: sounds last"),
        ({"seconds": float("nan")}, "--seconds nan: sounds last"),
        ({"temperature": -1}, "--temperature -1: give 0, which takes the likeliest"),
        ({"temperature": float("inf")}, "--temperature inf: give 0"),
        ({"top_k": 0}, "--top-k 0: give 1 to 256"),
        ({"top_k": 257}, "--top-k 257: give 1 to 256"),
        ({"seed": -1}, "--seed -1: seeds are 0 to"),
        ({"out": "a.mp3"}, r"a\.mp3: sounds are written as WAV"),
        ({"out": "no/where/a.wav"}, r"no/where is no folder; make it"),
        ({"prompt": "none.wav"}, r"none\.wav: no such file"),
        ({"prompt": "text.wav"}, r"text\.wav: cannot be read as audio"),
        ({"prompt": "text.wav", "data": "demo"}, r"--prompt text\.wav: give a sound, or a pack with --data, not both"),
        ({"prompt_clip": "1"}, "--prompt-clip 1: clips are in the runs' pack; name it with --data"),
        ({"tagger": "SELF"}, "of task next_sample, whose model takes no waveforms; give a run of tagging"),
    ],
)
def test_what_cannot_be_generated_is_a_users_mistake(given, message, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.wav").write_text("no sound")
    if "tagger" in given:
        given = {"tagger": made / "wavenet-s0"}
    with pytest.raises(UserError, match=message) as caught:
        api.generate(made / "wavenet-s0", display=QUIET, **given)
    assert "\n" not in str(caught.value)
    assert not list(made.glob("*/generated.*"))


def test_other_folders_are_refused(made, small_results, results, tmp_path):
    with pytest.raises(UserError, match="a run of task tagging; `bench generate` needs a run of task next_sample"):
        api.generate(small_results / "vgg_like-s0", display=QUIET)
    with pytest.raises(UserError, match="a run of task tagging; `bench generate` needs a run of task next_sample"):
        api.generate(small_results, display=QUIET)
    with pytest.raises(UserError, match=r"--out a\.wav: is for the sound of a single run"):
        api.generate(made, out="a.wav", display=QUIET)
    next(results.glob("wavenet-s0-*/model.safetensors")).unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: no weights"):
        api.generate(results, display=QUIET)
    assert not list(results.glob("*/generated.*"))
    with pytest.raises(UserError, match="no finished run"):
        api.generate(tmp_path / "nothing", display=QUIET)


def test_commands_for_tagging_refuse_it_in_a_line(bench, made, dataset):
    run = made / "wavenet-s0"
    takes, classes = "whose model takes no waveforms", "which scores no classes"
    sound = min(dataset.glob("*eval_audio/*.wav"))
    for arguments, reason in (
        (("predict", run, sound), takes),
        (("filters", run), takes),
        (("predict", run, "--hardest", "Bark"), classes),
    ):
        done = bench(*arguments)
        assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done
        assert f"of task next_sample, {reason}; give a run of tagging" in done.err


# --- a results folder, and its page


@pytest.fixture(scope="module")
def sounding(made, packed, small_results, tmp_path_factory):
    """Results whose systems have gone on with one clip, and a tagger has listened."""
    out = shutil.copytree(made, tmp_path_factory.mktemp("sounding") / "out")
    tagger = small_results / "vgg_like-s0"
    sounds = api.generate(out, seconds=0.2, data=packed.folder, tagger=tagger, display=QUIET)
    return out, sounds


def test_each_system_goes_on_with_the_same_clip_and_what_followed_is_kept(sounding, packed):
    out, (real, *others) = sounding
    assert [sound.name for sound in others] == ["wavenet, seed 0", "attentive, seed 0"]
    assert [sound.wav.parent.name.rsplit("-", 1)[0] for sound in others] == ["wavenet-s0", "attentive-s0"]
    clip = re.fullmatch("eval clip (.+) from 0.03 s", real.how)[1]
    assert {sound.how for sound in others} == {
        f"after the first 0.03 s of eval clip {clip}, temperature 1, drawn with seed 0"
    }
    index = packed.clips("eval").set_index("clip").loc[clip]
    recorded = packed.samples("eval")[index["start"] : index["start"] + index["length"]].astype(float)
    scaled = recorded * 16_384 / np.abs(recorded).max()
    found, rate = read(out / "real.wav")
    assert (rate, len(found)) == (16_000, 3200)
    np.testing.assert_allclose(found, scaled[400:3600], atol=1)


def test_what_a_tagger_hears_is_what_it_hears_in_the_files(sounding, small_results):
    out, sounds = sounding
    tagger = small_results / "vgg_like-s0"
    heard = api.predict(tagger, [sound.wav for sound in sounds], display=QUIET)
    table = pd.read_csv(out / "generated.csv", dtype={"sound": str})
    assert table["sound"].unique().tolist() == ["real", "wavenet, seed 0", "attentive, seed 0"]
    assert set(table["tagger"]) == {"vgg_like, seed 0"}
    for sound in sounds:
        best = heard.loc[str(sound.wav)].sort_values(ascending=False, kind="stable")[:5]
        rows = table[table["sound"] == sound.name]
        assert rows["class"].tolist() == list(sound.heard)
        np.testing.assert_allclose(rows["score"], best, atol=1e-4)


def test_the_page_holds_sounds_pictures_and_numbers(sounding):
    out, sounds = sounding
    html, ranks = page_of(out)
    played = [base64.b64decode(data) for data in re.findall('src="data:audio/wav;base64,([^"]+)"', html)]
    # the real one, then the best system first
    by_name = {sound.name.split(",")[0]: sound.wav.read_bytes() for sound in sounds}
    assert played == [by_name[name] for name in ["real", *ranks]]
    assert html.count('src="data:image/png;base64,') == 3
    for sound in sounds:
        for label, score in sound.heard.items():
            assert f"<dt>{label.replace('_', '_<wbr>')}</dt><dd>{score:.3f}</dd>" in html
    assert "What each model makes after the first 0.03 s of eval clip" in html
    assert page_of(out)[0] == html


def test_a_page_without_sounds_says_nothing_of_them(results):
    html, _ = page_of(results)
    assert not re.search('class="sounds?"|#sounds|[.]sounds? |<audio|<img', html)
    # nor where there is a real one alone, or half of what a sound consists of
    for name in ("real.wav", "real.json"):
        (results / name).write_bytes(b"")
    next(results.glob("wavenet-s0-*")).joinpath("generated.wav").write_bytes(b"")
    assert page_of(results)[0] == html


def test_what_does_not_fit_is_left_out_and_said(sounding, monkeypatch):
    out, _ = sounding
    whole, ranks = page_of(out)
    assert len(whole) < page._MOST
    monkeypatch.setattr(page, "_MOST", len(whole.encode()) - 1000)
    html, _ = page_of(out)
    assert len(html.encode()) < page._MOST
    assert html.count("<audio") == 2
    said = f'more than 3 MB: 1 sound, beside this page: <a href="{ranks[-1]}-s0-[^"]+/generated.wav">{ranks[-1]}</a>'
    assert re.search(said, html)


def test_spectrograms_are_drawn_side_by_side_and_go_with_the_sounds(sounding, tmp_path):
    out = shutil.copytree(sounding[0], tmp_path / "out")
    caption = draw_sounds(analyse(load_results(out), Resampling(resamples=100)))["sounds"]
    assert caption.startswith("Spectrograms of what trained models generate after the first 0.03 s of eval clip")
    files = ["sounds.pdf", "sounds.png", "sounds.svg", "sounds_column.pdf", "sounds_column.svg"]
    assert sorted(path.name for path in out.glob("sounds*")) == files
    for path in out.glob("*/generated.wav"):
        path.unlink()
    assert draw_sounds(analyse(load_results(out), Resampling(resamples=100))) == {}
    assert not list(out.glob("sounds*"))


def test_a_browser_plays_them_and_finds_no_fault(browser, sounding, tmp_path):  # noqa: F811
    path = tmp_path / "index.html"
    path.write_text(page_of(sounding[0])[0], "utf-8")
    for width in (360, WIDE):
        opened_at(browser, path, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        seconds = browser.execute_async_script(
            """const done = arguments[0], players = [...document.querySelectorAll("audio")];
            Promise.all(players.map(each => each.readyState || new Promise(told => each.onloadedmetadata = told)))
              .then(() => done(players.map(each => each.duration)))"""
        )
        assert seconds == pytest.approx([0.2] * 3, abs=1e-3)
        if not AXE.is_file():
            (pytest.fail if os.environ.get("CI") else pytest.skip)("not installed: axe-core, see .ci/run")
        browser.execute_script(AXE.read_text())
        for scheme in ("light", "dark"):
            prefer(browser, scheme)
            faults = browser.execute_async_script(CHECK)
            assert [fault for fault in faults if fault[1] in ("serious", "critical")] == [], (width, scheme)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("generated.json", b"{", r"generated\.json: damaged"),
        ("generated.json", b'{"name": "a", "prompt": "b", "seed": "c"}', r"generated\.json: damaged \(seed: "),
        ("generated.wav", b"RIFF", r"generated\.wav: damaged \(no sound\)"),
    ],
)
def test_damaged_sounds_are_a_line(sounding, tmp_path, name, content, message):
    folder = RunFolder(shutil.copytree(sounding[1][1].wav.parent, tmp_path / "run"))
    (folder.path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{message}.*; remove it, or run `bench generate "):
        found_sound(folder)


def test_a_clip_can_be_named(made, packed):
    model = open_model(find_run(made / "wavenet-s0"), torch.device("cpu"))
    last = str(packed.clips("eval")["clip"].iloc[-1])
    clip = real_clip(model, packed, 0.1, last)
    assert (clip.name, len(clip.prompt), len(clip.sound)) == (last, 400, 1600)
    with pytest.raises(UserError, match=f"--prompt-clip {last}0: no clip of eval in .*; leave it out for a loud one"):
        real_clip(model, packed, 0.1, f"{last}0")


# --- MLflow


def test_a_model_of_codes_is_logged_with_codes(made, tmp_path):
    import mlflow

    record = next(iter(read_records(ResultsFolder(made)).values()))
    path, pickled = save_model(record, tmp_path)
    assert pickled is None
    model = mlflow.pyfunc.load_model(str(path))
    example = mlflow.models.Model.load(str(path)).load_input_example(str(path))
    assert (example.shape, example.dtype) == ((2, 64), np.int64)
    loaded = api.load(record.folder.path)
    with torch.no_grad():
        expected = loaded(torch.from_numpy(example))
    np.testing.assert_allclose(model.predict(example), expected, atol=1e-5)
