"""The task next_code: a codec's codes beside a pack, what comes next in them, and sounds of what was predicted."""

import itertools
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import bench as api
from architectures import config_values, configure
from bench.data.codes import Codes, codes_file, read_codes, write_codes
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.data.synthetic.voices import play
from bench.errors import UserError
from bench.inspect.code_sounds import CodeModel
from bench.inspect.generate import Sampling
from bench.inspect.griffin_lim import bin_powers, waveform
from bench.protocol.build import build
from bench.protocol.recipe import Recipe
from bench.protocol.sounds.log_mel import LogMelFrames
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task, task_of
from bench.protocol.tasks.next_code import codes_of
from bench.protocol.train import train
from bench.reporting.systems import load_results
from bench.stats.predictors import NGrams
from bench.store import ResultsFolder, RunFolder
from bench.store.trained import find_trained
from bench.suites.plan import Selection, plan
from bench.suites.suite import load_suite
from tests.conftest import no_tables
from tests.tiny_data import tiny_data

RATE = 4000
SPLITS = ("train", "val", "eval")
# as a codec's run would be called
NAME, WEIGHTS = "made-s0-00000000", "0123456789abcdef"
MODELS = {
    "code_wavenet": {"channels": 16, "layers": 3},
    "code_transformer": {"embed_dim": 16, "mlp_dim": 32, "depth": 1, "num_heads": 2},
}
CODEC = """
title = "toy codecs"
sample_rate = 4000
task = "codec"
[task_settings]
mels = 20
[train]
max_steps = 6
batch_size = 4
evaluations = 1
[[runs]]
name = "small"
architecture = "codec_kmeans"
config = { num_codes = 8, width = 8, latent_dim = 4 }
[[runs]]
name = "staged"
architecture = "codec_kmeans"
config = { num_codes = 8, width = 8, latent_dim = 4, stages = 2 }
"""
CODES = """
title = "toy codes"
sample_rate = 4000
task = "next_code"
[task_settings]
context = 8
windows = 4
[train]
max_steps = 6
batch_size = 4
evaluations = 2
[[runs]]
name = "wavenet"
architecture = "code_wavenet"
config = { channels = 8, layers = 3 }
[[runs]]
name = "transformer"
architecture = "code_transformer"
config = { embed_dim = 16, mlp_dim = 16, depth = 1, num_heads = 2 }
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A pack of 6, 3 and 4 clips."""
    folder = tmp_path_factory.mktemp("toy")
    return pack(tiny_data(folder / "data", sample_rate=RATE), folder / "pack", sample_rate=RATE)


@pytest.fixture
def mine(toy, tmp_path):
    """The same pack, in a folder of its own."""
    return Pack(Path(shutil.copytree(toy.folder, tmp_path / "mine")))


def give_codes(packed, clips, count, name=NAME, weights=WEIGHTS):
    """Put codes beside a pack: by split, those of each of its clips."""
    values = {split: np.concatenate(of).astype(np.uint16) for split, of in clips.items()}
    lengths = {split: np.array([*map(len, of)]) for split, of in clips.items()}
    write_codes(packed, name, Codes(weights, count, values, lengths))


def drawn(draw, lengths=range(20, 200, 10)):
    """Return codes of clips of different lengths, as draw(number, length) makes them."""
    sizes, numbers = {"train": 6, "val": 3, "eval": 4}, itertools.count()
    return {
        split: [np.asarray(draw(number, lengths[number])) for number in itertools.islice(numbers, size)]
        for split, size in sizes.items()
    }


def uniform(number, length, count=5):
    return np.random.default_rng(number).integers(count, size=length)


def spec_of(packed, name="code_wavenet", *, context=8, windows=4, seed=0, **recipe):
    task = get_task("next_code")
    settings = task.settled({"codec": NAME, "context": context, "windows": windows}, packed, None, "settings")
    fixed = task.with_settings(settings, "settings").config(packed)
    fields = {"loss": "cross_entropy", "max_steps": 12, "batch_size": 4, "evaluations": 3, **recipe}
    return RunSpec(
        name="tiny",
        task="next_code",
        task_settings=task.checked_settings(settings, "settings"),
        architecture=name,
        config=config_values(configure(name, **fixed, **MODELS[name])),
        recipe=Recipe(**fields),
        seed=seed,
        pack=packed.fingerprint,
    )


def data_of(packed, split, **settings):
    spec = spec_of(packed, **settings)
    return task_of(spec).data(packed, split, spec.recipe)


# --- which codes


def test_each_target_is_the_code_that_follows_and_nothing_is_before_a_clip(mine):
    clips = drawn(uniform)
    give_codes(mine, clips, 5)
    for split, context in itertools.product(SPLITS, (8, 50)):
        data = data_of(mine, split, context=context)
        ids = torch.arange(len(data))
        x, y = data.batch(ids)
        assert x.shape == y.shape == (len(data), context)
        places = (data.places(ids) - data.first[data.clip(ids)]).tolist()
        if split == "train":
            assert places == [place for clip in clips[split] for place in range(len(clip))]
        else:
            assert places == [(2 * i + 1) * len(clip) // 8 for clip in clips[split] for i in range(4)]
        for row, (clip, end) in enumerate(zip(data.clip(ids).tolist(), places, strict=True)):
            # 5 stands before the first code, and is predicted nowhere
            codes = np.concatenate([np.full(context, 5), clips[split][clip]])[end : end + context + 1]
            assert x[row].tolist() == codes[:-1].tolist()
            assert y[row].tolist() == np.where(codes[1:] == 5, -100, codes[1:]).tolist()


def test_the_class_before_a_clip_counts_for_nothing(mine):
    give_codes(mine, drawn(uniform), 5)
    spec, (x, y) = spec_of(mine), data_of(mine, "train").batch(torch.arange(9))
    assert (x == 5).any()
    assert spec.config["num_classes"] == 6
    task, logits = task_of(spec), build(spec, "cpu")(x)
    other = logits.detach().clone()
    other[..., 5] += 100
    assert torch.equal(task.judged(logits, y), task.judged(other, y))
    assert task.loss(spec.recipe, logits, y) == task.loss(spec.recipe, other, y)
    bits = -torch.log2(logits[:, -1, :5].softmax(-1).gather(1, y[:, -1:]))[:, 0]
    torch.testing.assert_close(task.judged(logits, y)[:, 0], bits)
    kept = y != -100
    nats = -logits[..., :5].log_softmax(-1)[kept].gather(1, y[kept].unsqueeze(1)).mean()
    torch.testing.assert_close(task.loss(spec.recipe, logits, y), nats)


# --- floors


def test_floors_are_an_independent_count(mine):
    """Each order's share of the shorter one by NGrams, which are tested elsewhere; the counts and places by hand."""
    clips = drawn(lambda number, length: np.cumsum(uniform(number, length, 3)) % 5)
    give_codes(mine, clips, 5)
    task = task_of(spec_of(mine))
    found, alphas = task.floor_scores(mine), NGrams(clips["train"], 5).alphas
    assert [*found] == ["unigram", "bigram", "trigram"]

    def chance(before, code):
        """The probability of a code behind others, by counting through all of train."""
        p = 1 / 5
        for order in range(min(len(before), len(found) - 1) + 1):
            context = tuple(before[len(before) - order :])
            after = [
                clip[i + order]
                for clip in clips["train"]
                for i in range(len(clip) - order)
                if tuple(clip[i : i + order]) == context
            ]
            p = (after.count(code) + alphas[order] * p) / (len(after) + alphas[order])
        return p

    for order, (name, scores) in enumerate(found.items()):
        for clip, values in zip(clips["eval"], scores, strict=True):
            bits, first = [], []
            for end in ((2 * i + 1) * len(clip) // 8 for i in range(4)):
                chances = [chance(clip[max(end - order, 0) : end], code) for code in range(5)]
                bits.append(-math.log2(chances[clip[end]]))
                first.append(int(np.argmax(chances)) == clip[end])
            assert values == pytest.approx([np.mean(bits), np.mean(first), 1.0], rel=1e-5), name
    targets = np.ones((4, 3), bool)
    assert task.all_floors(targets, found)["unigram"] == pytest.approx(found["unigram"][:, 0].mean())


# --- what is learned


def trained_bits(packed, name, steps, **settings):
    """Return bits, top-1 and top-5 on eval after a short training, means over clips."""
    spec = spec_of(packed, name, max_steps=steps, batch_size=16, learning_rate=1e-2, evaluations=2, **settings)
    task, model = task_of(spec), build(spec, "cpu")
    train(model, *(task.data(packed, split, spec.recipe) for split in ("train", "val")), task, spec.recipe, seed=0)
    return task.score(model, task.data(packed, "eval", spec.recipe)).mean(axis=0)


@pytest.mark.parametrize("name", MODELS)
def test_bits_of_a_periodic_sequence_go_to_0(mine, name):
    """Of a period in which one code has two that follow it, from any phase."""
    period = np.array([0, 1, 2, 0, 3, 4, 4])
    give_codes(mine, drawn(lambda number, length: np.resize(np.roll(period, number), length)), 5)
    bits, top1, top5 = trained_bits(mine, name, 80)
    # the first codes of a clip say nothing of the phase
    assert bits < 0.2
    assert top1 > 0.9
    assert top5 == 1


@pytest.mark.parametrize("name", MODELS)
def test_bits_of_independent_codes_are_not_under_their_entropy(mine, name):
    chances = np.array([0.5, 0.25, 0.125, 0.125])
    clips = drawn(lambda number, length: np.random.default_rng(number).choice(4, size=length, p=chances), [400] * 13)
    give_codes(mine, clips, 4)
    bits, *_ = trained_bits(mine, name, 60, windows=200)
    # 800 places: the entropy is 1.75 bits, of these codes by chance .03 more or less
    data = data_of(mine, "eval", windows=200)
    best = -np.log2(chances[data.batch(torch.arange(len(data)))[1][:, -1].numpy()]).mean()
    assert best == pytest.approx(1.75, abs=0.1)
    assert best - 0.02 < bits < best + 0.15


# --- codes beside a pack


def refused(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_codes_of_another_pack_or_codec_are_refused(mine, tmp_path):
    clips = drawn(uniform)
    give_codes(mine, clips, 5)
    task, path = task_of(spec := spec_of(mine)), codes_file(mine, NAME)
    assert np.array_equal(task.codes(mine).clips("val")[1], clips["val"][1])
    refused(lambda: spec_of(mine, windows=0), "windows=0")
    give_codes(mine, clips, 5, weights="fedcba9876543210")
    refused(lambda: task.require(spec, mine), f"{path.name}: codes by another codec of that name, of weights fedc")
    refused(lambda: task.data(mine, "val", spec.recipe), "codes by another codec of that name")
    path.unlink()
    # nothing to say before there are any
    task.require(spec, mine)
    refused(lambda: task.codes(mine), f"{path.name}: missing: the pack has no codes of {NAME}")
    other = tiny_data(tmp_path / "data", sample_rate=RATE, seconds=1.5)
    other = pack(other, tmp_path / "other", sample_rate=RATE)
    give_codes(other, clips, 5)
    shutil.copy(codes_file(other, NAME), path)
    refused(lambda: task.codes(mine), f"{path.name}: codes of another pack, with fingerprint {other.fingerprint[:16]}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"no codes"), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), ""),
        (lambda path: write_arrays(path, val=np.full(270, 5, np.uint16)), "val: what is no code of its codec"),
        (lambda path: write_arrays(path, eval_lengths=np.array([1, 2, 3, 4])), "eval: its clips are not its codes"),
        (
            lambda path: write_arrays(path, train=np.zeros(3, np.uint16), train_lengths=np.array([3])),
            "train: not as many clips",
        ),
    ],
)
def test_damaged_codes_are_refused(mine, change, message):
    give_codes(mine, drawn(uniform), 5)
    change(codes_file(mine, NAME))
    refused(lambda: read_codes(mine, NAME), rf"codes-{NAME}.npz: damaged \({message}")


def write_arrays(path, **arrays):
    with np.load(path) as file:
        kept = dict(file)
    np.savez(path, **kept | arrays)


# --- sounds


def frames_of(log_mel, samples):
    """Return the frames of a sound of whole hops: (t, m)."""
    wave = torch.zeros(1, log_mel.span(len(samples) // log_mel.hop))
    end = min(wave.shape[1], log_mel.half + len(samples))
    wave[0, log_mel.half : end] = torch.from_numpy(samples[: end - log_mel.half] / 32768)
    return log_mel.of(wave)[0]


def test_griffin_lim_has_the_log_mel_that_was_asked_for():
    log_mel = LogMelFrames(16_000, 80)
    for voice, most in {"fm_bell": 1.5, "filtered_noise": 1.5, "additive": 2.5}.items():
        sound = np.rint(16_000 * play(voice, 220.0, 1.0, 0, 16_000)).astype(np.int16)
        asked = frames_of(log_mel, sound)
        made = waveform(asked, log_mel)
        assert (made.dtype, len(made)) == (np.int16, len(asked) * log_mel.hop)
        decibels = 40 * (frames_of(log_mel, made) - asked)
        assert decibels.square().mean().sqrt() < most, voice
        assert np.array_equal(waveform(asked, log_mel), made)
        assert not np.array_equal(waveform(asked, log_mel, seed=1), made)
    silence = waveform(torch.full((4, 80), -1.0), log_mel)
    assert len(silence) == 640
    assert not silence.any()


def test_powers_of_bins_have_the_bands_that_were_asked_for():
    log_mel, generator = LogMelFrames(16_000, 80), torch.Generator().manual_seed(0)
    possible = (torch.rand(9, 513, generator=generator) + 0.01).pow(4) @ log_mel.filters
    # no powers of bins have a line in one band, and none beside it
    impossible = torch.eye(80)[[20, 40, 60]] + 1e-6
    for wanted, most in ((possible, 0.2), (impossible, 1.0)):
        powers = bin_powers(wanted, log_mel.filters)
        assert (powers >= 0).all()
        ratio = ((powers @ log_mel.filters) / wanted)[wanted > 1e-3]
        assert (10 * ratio.log10()).square().mean().sqrt() < most


# --- from a codec's run to a sound


@pytest.fixture(scope="module")
def codecs(toy, tmp_path_factory):
    """A results folder with the runs of two small codecs."""
    folder = tmp_path_factory.mktemp("runs")
    suite = folder / "codecs.toml"
    suite.write_text(CODEC, "utf-8")
    api.run(suite, data=toy.folder, out=folder / "codecs", device="cpu", report=False)
    return folder / "codecs"


def planned(codec, packed, out, **settings):
    suite = out.parent / "codes.toml"
    suite.write_text(CODES, "utf-8")
    selection = Selection(task_settings={**({"codec": str(codec)} if codec else {}), **settings})
    return plan(load_suite(str(suite)), [packed], ResultsFolder(out), selection)


def test_codecs_that_cannot_be_used_are_refused(codecs, mine, tmp_path):
    def with_codec(codec, **settings):
        return lambda: planned(codec, mine, tmp_path / "out", **settings)

    where = "suite 'toy codes', wavenet, task_settings"
    refused(with_codec(""), f"{where}, codec: missing; name a finished run of task codec")
    refused(with_codec(codecs / "absent"), f"{where}, codec: .*absent: no finished run")
    refused(with_codec(codecs / "staged-s0"), f"{where}, codec: .*staged-s0-.* has 2 stages of codes")
    refused(with_codec(codecs / "small-s0", num_codes=9), f"{where}: num_codes=9, but the codec has 8: leave it out")
    refused(with_codec("small-s0-00000000"), "codes-small-s0-00000000.npz: missing")
    (folder,) = codecs.glob("small-s0-*")
    trained = find_trained(get_task("next_code"), {"codec": str(folder)}, "here")
    mine.sample_rate = 8000
    refused(
        lambda: get_task("next_code").settled({"codec": str(folder)}, mine, trained, "here"),
        "here, codec: .* is of sounds at 4000 Hz, but .* has 8000 Hz: give a codec of that rate",
    )
    mine.sample_rate = RATE
    bare = Path(shutil.copytree(folder, tmp_path / folder.name))
    (bare / "model.safetensors").unlink()
    refused(with_codec(bare), f"{where}, codec: .*{bare.name} has no weights")
    record = json.loads((bare / "run.json").read_text("utf-8"))
    record["spec"]["task"] = "tagging"
    (bare / "run.json").write_text(json.dumps(record), "utf-8")
    refused(with_codec(bare), f"{where}, codec: .*{bare.name} is a run of task tagging: give one of task codec")
    (bare / "run.json").unlink()
    refused(with_codec(bare), "no finished run")


def test_from_a_codec_to_codes_to_a_report_to_a_sound(codecs, mine, tmp_path, bench, monkeypatch):
    runs = codecs.parent
    suite, out = tmp_path / "codes.toml", runs / "codes"
    suite.write_text(CODES, "utf-8")
    (folder,) = codecs.glob("small-s0-*")
    codec = f"task_settings.codec={codecs / 'small-s0'}"
    dry = bench("run", suite, "--data", mine.folder, "--set", codec, "--out", out, "--dry-run")
    assert dry.code == 0
    assert not codes_file(mine, folder.name).exists(), "a dry run writes nothing"
    with monkeypatch.context() as quick:
        quick.setattr("bench.api.runs.report", no_tables)
        done = bench("run", suite, "--data", mine.folder, "--set", codec, "--out", out, "--device", "cpu")
        assert done.code == 0, done.err
    # on record is the codec's name, wherever it lies; the codes alone are enough to plan the same runs
    spec = RunFolder(next(out.glob("wavenet-s0-*"))).record().spec
    assert spec.task_settings["codec"] == folder.name
    renamed = Path(shutil.copytree(folder, tmp_path / "renamed"))
    for name in (folder, folder.name, renamed):
        assert [run.folder.name for run in planned(name, mine, out)] == [
            next(out.glob(f"{entry}-s0-*")).name for entry in ("wavenet", "transformer")
        ]

    # each clip as the codec says it, clip by clip
    codes, made = read_codes(mine, folder.name), CodeModel(next(map(RunFolder, out.glob("wavenet-s0-*"))), "cpu")
    index, samples = mine.clips("eval"), mine.samples("eval")
    for number, (start, length) in enumerate(zip(index["start"], index["length"], strict=True)):
        clip = samples[start : start + length]
        exact = clip * (16_384 / max(-int(clip.min()), int(clip.max())))
        expected = codes_of(made.codec, made.frames, exact)[:, 0]
        assert codes.clips("eval")[number].tolist() == expected.tolist()
        assert len(expected) == length // 160

    # scores are judged anew, and floors are there
    found = load_results(out)
    assert {system.name for system in found.systems} == {"wavenet", "transformer"}
    assert [*found.floors] == ["unigram", "bigram", "trigram"]
    assert [*found.labels.floors] == [*found.floors]
    for system in found.systems:
        system.statistics(found.labels)
        assert system.first.metrics["bits"] == pytest.approx(found.floors["unigram"], abs=1)

    # trained anew from the codes alone
    again = api.reproduce(made.folder.path, data=mine.folder, out=tmp_path / "again", device="cpu")
    assert again.verdict == "bitwise"
    generate_sounds(bench, out, mine, folder, made, tmp_path)


def generate_sounds(bench, out, packed, codec, made, tmp_path):
    run = made.folder.path
    first = bench("generate", run, "--seconds", 0.5, "--device", "cpu")
    assert first.code == 0, first.err
    assert "from the beginning of a clip" in first.out
    sound, rate = sf.read(run / "generated.wav", dtype="int16")
    assert (len(sound), rate) == (2000, RATE)
    assert np.array_equal(sound, made.play(np.empty(0, np.int16), 0.5, Sampling(), 0))
    # the same codes, the same samples; others of another seed
    assert np.array_equal(made.decode(torch.arange(8)), made.decode(torch.arange(8)))
    assert not np.array_equal(sound, made.play(np.empty(0, np.int16), 0.5, Sampling(), 1))
    real = bench("generate", out, "--seconds", 0.5, "--data", packed.folder, "--device", "cpu")
    assert real.code == 0, real.err
    assert "after the first 0.32 s of eval clip" in real.out
    # where the codec is somewhere else, it is named; another one is refused
    moved = Path(shutil.copytree(run, tmp_path / "elsewhere/codes" / run.name))
    lost = bench("generate", moved, "--seconds", 0.5)
    assert re.search(rf"its codec {codec.name} is not in .*: name its folder \(--codec RUN\)", lost.err)
    named = bench("generate", moved, "--seconds", 0.5, "--codec", codec, "--device", "cpu")
    assert named.code == 0, named.err
    assert (moved / "generated.wav").read_bytes() != b""
    other = bench("generate", moved, "--codec", next(codec.parent.glob("staged-*")))
    assert f"predicts codes of {codec.name}, not of" in other.err
