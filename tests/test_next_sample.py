"""The task next_sample: which samples are predicted, from what, how well, and what is refused in one line."""

import itertools
import re
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import soundfile as sf
import torch

import bench as api
from architectures import _registry, config_values, configure
from bench.data.packing import pack
from bench.errors import UserError
from bench.protocol.build import build
from bench.protocol.recipe import Recipe
from bench.protocol.sounds.coding import get_coding
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task, task_of
from bench.protocol.train import batch_of, train
from bench.reporting.analysis import analyse
from bench.reporting.sampling import Sampling
from bench.reporting.systems import load_results
from bench.runner.display import Display
from bench.stats import predictors
from bench.store import Labels, ResultsFolder
from tests.tiny_data import LABELS, tiny_data

RATE = 4000
SPLITS = ("train", "val", "eval")
WAVENET = ("wavenet_10", {"channels": 8, "layers": 4})
TRANSFORMER = ("sample_transformer_3", {"embed_dim": 16, "mlp_dim": 16, "depth": 1, "num_heads": 2, "max_context": 64})
# a condition of 40 samples
CONDITIONED = ("sample_transformer_3_conditioned", {**TRANSFORMER[1], "condition_seconds": 0.01})
SETTINGS = {"context": 16, "past": 300}


def packed_waves(folder, wave, **sizes):
    """Return a pack at RATE of clips whose float waveforms are wave(number), of any length from a second on."""
    data = tiny_data(folder / "data", seconds=1, sample_rate=RATE, **({"sizes": sizes} if sizes else {}))
    for path in sorted(data.glob("*/*.wav")):
        sf.write(path, wave(int(path.stem)), RATE, subtype="PCM_16")
    return pack(data, folder / "pack", sample_rate=RATE)


def toy_wave(number):
    """A decaying tone in noise, of its own length, level and pitch; 1010 is silence."""
    rng = np.random.default_rng(number)
    time = np.arange(RATE + 37 * (number % 5)) / RATE
    sound = np.sin(2 * np.pi * (100 + 7 * (number % 50)) * time) * np.exp(-3 * time) + 0.05 * rng.normal(size=len(time))
    # asymmetric, so that the larger half of a peak is looked for on both sides
    return 0.0 * time if number == 1010 else (0.05 + 0.05 * (number % 7)) * (sound + 0.2 * sound**2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return packed_waves(tmp_path_factory.mktemp("toy"), toy_wave)


def spec_of(pack, model=WAVENET, settings=SETTINGS, seed=0, **recipe):
    name, config = model
    fields = {"sample_rate": RATE, "num_classes": 256, **config}
    return RunSpec(
        name="tiny",
        task="next_sample",
        task_settings=get_task("next_sample").checked_settings(settings, "settings"),
        architecture=name,
        config=config_values(configure(name, **fields)),
        recipe=Recipe(**{"loss": "cross_entropy", "max_steps": 12, "batch_size": 4, "evaluations": 3, **recipe}),
        seed=seed,
        pack=pack.fingerprint,
    )


def data_of(pack, split, model=WAVENET, **settings):
    spec = spec_of(pack, model, SETTINGS | settings)
    return task_of(spec).data(pack, split, spec.recipe)


def every(data):
    return torch.arange(len(data))


def raw(pack, split, clip):
    """Return the samples of a clip."""
    index = pack.clips(split)
    start, length = int(index["start"].iloc[clip]), int(index["length"].iloc[clip])
    return pack.samples(split)[start : start + length]


def scaled(clip, level, to):
    """Return a clip at a level, as the protocol says it, in exact arithmetic rounded once."""
    x = clip.astype(np.float64)
    now = {"peak": np.abs(x).max(), "rms": np.sqrt((x**2).mean()), "as_recorded": 0}[level]
    return np.rint(x * (32768 * to / now if now else 1)).clip(-32768, 32767).astype(np.int16)


# --- which samples


def test_a_window_lies_with_its_target_and_past_in_one_clip(toy):
    """Train's end at every sample with enough past, each once; others in the middle of equal parts of a clip."""
    for split, model in itertools.product(SPLITS, (WAVENET, CONDITIONED)):
        data = data_of(toy, split, model)
        index = toy.clips(split)
        first, room = index["start"].to_numpy() + 300, index["length"].to_numpy() - 300
        if split == "train":
            expected = np.concatenate([np.arange(a, a + n) for a, n in zip(first, room, strict=True)])
        else:
            expected = (first[:, None] + (2 * np.arange(8) + 1) * room[:, None] // 16).ravel()
        assert data.places(every(data)).tolist() == expected.tolist()
        assert Counter(data.clip(every(data)).tolist()) == dict(
            enumerate(room if split == "train" else [8] * len(index))
        )


def test_each_target_is_the_sample_that_follows_its_place_and_all_predict_the_same(toy):
    """Whatever the context, and whether or not an architecture is given what lies before it."""
    coding, past = get_coding("mu_law"), 300
    for split in SPLITS:
        ids = torch.randint(len(data_of(toy, split)), (60,), generator=torch.Generator().manual_seed(0))
        last = []
        for model, context in itertools.product((WAVENET, TRANSFORMER, CONDITIONED), (16, 61)):
            data = data_of(toy, split, model, context=context)
            x, y = data.batch(ids)
            before = 40 if model is CONDITIONED else 0
            assert (x.shape, y.shape, x.dtype) == ((60, before + context), (60, context), torch.int64)
            assert torch.equal(x[:, before + 1 :], y[:, :-1]), "y[i] is the sample behind x[i]"
            last.append(y[:, -1])
            for row, (clip, end) in enumerate(zip(data.clip(ids).tolist(), data.places(ids).tolist(), strict=True)):
                end -= int(toy.clips(split)["start"].iloc[clip])
                assert end >= past
                codes = coding.encode(scaled(raw(toy, split, clip), "peak", 0.5))
                seen = np.append(x[row], y[row, -1:])
                # a product in half the digits may round to the other side of a half, and a code's edge be there
                assert (seen == codes[end - before - context : end + 1]).mean() > 0.97
        assert all(torch.equal(last[0], other) for other in last)


def test_what_a_step_sees_is_a_function_of_seed_and_step_and_uniform(toy):
    data, other = data_of(toy, "train"), data_of(toy, "train", CONDITIONED, context=61)
    assert torch.equal(data.draw(7, 8, 3), data.draw(7, 8, 3))
    assert torch.equal(data.draw(7, 8, 3), other.draw(7, 8, 3))
    different = {tuple(data.draw(step, 8, seed).tolist()) for step, seed in itertools.product(range(5), range(5))}
    assert len(different) == 25
    drawn = torch.cat([data.draw(step, 1000, 0) for step in range(60)]).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < len(data)
    # also within clips: a hundred parts of all samples
    counts = np.bincount(drawn * 100 // len(data), minlength=100)
    sizes = np.bincount(np.arange(len(data)) * 100 // len(data), minlength=100)
    assert scipy.stats.chisquare(counts, sizes * (len(drawn) / len(data))).pvalue > 0.001


# --- at which level


@pytest.mark.parametrize("coding", ["mu_law", "linear"])
@pytest.mark.parametrize("level", ["peak", "rms", "as_recorded"])
def test_levels_are_what_they_say(toy, level, coding):
    to = {"peak": 0.5, "rms": 0.1, "as_recorded": 0.5}[level]
    table, data = get_coding(coding), data_of(toy, "train", level=level, level_to=to, coding=coding)
    for clip in range(6):
        ids = torch.nonzero(data.clip(every(data)) == clip)[:, 0]
        # of every sample that is ever predicted
        codes = data.batch(ids)[1][:, -1].numpy()
        wanted = scaled(raw(toy, "train", clip), level, to)
        assert (codes == table.encode(wanted)[300:]).mean() > 0.99
        if level == "peak":
            assert np.abs(wanted.astype(int)).max() == 16384
        if level == "rms":
            assert np.sqrt((wanted.astype(float) ** 2).mean()) == pytest.approx(3277, rel=0.01)


@pytest.mark.parametrize("level", ["peak", "rms", "as_recorded"])
def test_silence_stays_silence(toy, level):
    silent = [str(name) for name in toy.clips("eval")["clip"]].index("1010")
    assert not raw(toy, "eval", silent).any()
    data = data_of(toy, "eval", level=level)
    x, y = data.batch(torch.nonzero(data.clip(every(data)) == silent)[:, 0])
    assert set(x.unique().tolist()) == set(y.unique().tolist()) == {128}


@pytest.mark.parametrize("coding", ["mu_law", "linear"])
@pytest.mark.parametrize("level", ["peak", "rms"])
def test_floors_and_systems_see_the_same_codes(toy, level, coding, monkeypatch):
    """To the bit, and at the same places."""
    spec = spec_of(toy, settings={"past": 300, "context": 300, "level": level, "level_to": 0.3137, "coding": coding})
    task, seen = task_of(spec), []
    real = predictors.floors
    monkeypatch.setattr(predictors, "floors", lambda *given: seen.append(given) or real(*given))
    found = task.floor_scores(toy)
    ((windows, targets, levels, counts),) = seen
    data = task.data(toy, "eval", spec.recipe)
    x, y = data.batch(every(data))
    assert np.array_equal(windows, x.numpy())
    assert np.array_equal(targets, y[:, -1].numpy())
    assert np.array_equal(levels, get_coding(coding).levels)
    # of all samples of train
    data = task.data(toy, "train", spec.recipe)
    starts, ends = np.flatnonzero(np.diff(data.clip(every(data)), prepend=-1)), every(data)
    codes = torch.cat([data.batch(torch.tensor(starts))[0].flatten(), data.batch(ends)[1][:, -1]])
    assert np.array_equal(counts, np.bincount(codes, minlength=256))
    # two of the floors give no bits
    assert {name for name, scores in found.items() if np.isfinite(scores[:, 0]).all()} == {
        "linear_prediction", "histogram",
    }  # fmt: skip


def test_linear_prediction_is_fitted_to_the_past_of_the_same_places(toy):
    """By hand, from the pack: 32 taps by scipy's least squares, and a Laplace around what they predict."""
    task = task_of(spec_of(toy, settings=SETTINGS | {"coding": "linear"}))
    found, coding = task.floor_scores(toy)["linear_prediction"], get_coding("linear")
    clip = 1
    codes = coding.encode(scaled(raw(toy, "eval", clip), "peak", 0.5)).astype(int)
    edges = np.concatenate([[-np.inf], (coding.levels[1:] + coding.levels[:-1]) / 2, [np.inf]])
    expected = []
    for end in 300 + (2 * np.arange(8) + 1) * (len(codes) - 300) // 16:
        x = coding.levels[codes[end - 300 : end]]
        frames = np.lib.stride_tricks.sliding_window_view(x, 33)
        weights = scipy.linalg.lstsq(frames[:, :-1], frames[:, -1])[0]
        scale = np.abs(frames[:, -1] - frames[:, :-1] @ weights).mean()
        cumulative = scipy.stats.laplace(x[-32:] @ weights, scale).cdf(edges)
        chance = 1 / (len(frames) + 1)
        p = (1 - chance) * np.diff(cumulative) + chance / 256
        rank = np.argsort(np.argsort(-p, kind="stable"))[codes[end]]
        expected.append([-np.log2(p[codes[end]]), rank == 0, rank < 5])
    assert found[clip, :3].tolist() == pytest.approx(np.mean(expected, axis=0).tolist(), rel=1e-4)
    assert np.isnan(found[:, 3:]).all()


# --- how well


class Table(torch.nn.Module):
    """Returns logits by code and position, higher near the code, many of them alike; nothing is learned."""

    def __init__(self, context):
        super().__init__()
        logits = torch.randn(256, context, 256, generator=torch.Generator().manual_seed(0))
        near = -(torch.arange(256)[:, None] - torch.arange(256)).abs().clamp(max=16) / 4
        self.logits = torch.nn.Parameter((2 * logits).round() / 2 + near[:, None])

    def forward(self, codes):
        return self.logits[codes, torch.arange(codes.shape[1])]


@pytest.mark.parametrize("windows", [1, 7])
def test_scores_are_those_of_an_independent_computation(toy, windows):
    spec = spec_of(toy, settings=SETTINGS | {"windows": windows})
    task, model = task_of(spec), Table(16)
    data = task.data(toy, "eval", spec.recipe)
    found = task.score(model.train(), data)
    assert model.training
    x, y = data.batch(every(data))
    logits, targets = model(x).detach().double().numpy(), y.numpy()
    p = scipy.special.softmax(logits, axis=2)
    bits = -np.log2(np.take_along_axis(p, targets[..., None], axis=2)[..., 0])
    # of equal ones the lower code first
    first = np.argsort(-logits, axis=2, kind="stable")
    top1, top5 = ((first[..., :most] == targets[..., None]).any(axis=2) for most in (1, 5))
    assert 0 < top1.mean() < top5.mean() < 1
    each = np.stack([bits, top1, top5], axis=2)  # (windows of all clips, n, 3)
    of_windows = np.hstack([each[:, -1], each.mean(axis=1)])
    expected = of_windows.reshape(4, windows, 6).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    metrics = task.evaluate(task.split_targets(toy, "eval"), found, toy.leaf)
    names = ["bits", "top1", "top5", "mean_bits", "mean_top1", "mean_top5"]
    assert [metrics[name] for name in names] == pytest.approx(expected.mean(axis=0).tolist(), rel=1e-5)


def learned_bits(folder, wave, steps, **settings):
    """Return bits a sample of eval after some training on such waves, and those of the best floor that gives any."""
    waves = packed_waves(folder, wave, train=3, val=3, eval=3)
    recipe = {"max_steps": steps, "evaluations": 2, "batch_size": 16, "learning_rate": 1e-2}
    spec = spec_of(waves, settings={"context": 24, "past": 300, "windows": 100, **settings}, **recipe)
    task = task_of(spec)
    torch.manual_seed(0)
    model = build(spec, torch.device("cpu"))
    train(model, *(task.data(waves, split, spec.recipe) for split in ("train", "val")), task, spec.recipe, seed=0)
    scores = task.score(model, task.data(waves, "eval", spec.recipe))
    return float(scores[:, 0].mean()), scores, task.floor_scores(waves)


def test_a_sine_is_learned_to_under_a_tenth_of_a_bit(tmp_path):
    def sine(number):
        return 0.3 * np.sin(2 * np.pi * (np.arange(RATE) + number) / 16)

    bits, scores, floors = learned_bits(tmp_path, sine, 120)
    assert bits < 0.1
    assert scores[:, 1].mean() > 0.97
    # which is no news: its own past says it, and the histogram does not
    assert floors["linear_prediction"][:, 0].mean() < 0.1
    assert floors["histogram"][:, 0].mean() > 2


def test_independent_codes_cost_their_entropy_and_no_less(tmp_path):
    def dice(number):
        return np.random.default_rng(number).choice([-0.5, -0.1, 0.1, 0.5], size=RATE)

    bits, _, floors = learned_bits(tmp_path, dice, 60)
    # a prediction that rises and falls by chance costs more; 300 windows tell 2 bits to some hundredths
    assert 1.97 < bits < 2.3
    assert floors["histogram"][:, 0].mean() == pytest.approx(2, abs=0.05)
    assert floors["linear_prediction"][:, 0].mean() > 2


# --- fresh sounds


def test_generated_batches_follow_from_seed_and_step_and_end_never(toy):
    spec = spec_of(toy, settings=SETTINGS | {"data": "generated"}, batch_size=5)
    data = task_of(spec).data(toy, "train", spec.recipe)
    x, y = batch_of(data, spec.recipe, 3, 7)
    again = task_of(spec).data(toy, "train", spec.recipe)
    assert all(torch.equal(*both) for both in zip((x, y), batch_of(again, spec.recipe, 3, 7), strict=True))
    assert (x.shape, y.shape) == ((5, 16), (5, 16))
    assert torch.equal(x[:, 1:], y[:, :-1])
    for seed, step in ((3, 8), (4, 7), (7, 3)):
        assert not torch.equal(batch_of(data, spec.recipe, seed, step)[0], x)
    x, y = batch_of(data_of(toy, "train", CONDITIONED, data="generated"), spec.recipe, 3, 7)
    assert (x.shape, y.shape) == ((5, 56), (5, 16))
    assert torch.equal(x[:, 41:], y[:, :-1])
    # what is scored is the pack's
    assert data_of(toy, "eval", data="generated").batch(torch.arange(3))[0].tolist() == (
        data_of(toy, "eval").batch(torch.arange(3))[0].tolist()
    )


# --- a suite, to its report

SUITE = f"""
title = "toy"
task = "next_sample"
sample_rate = {RATE}
seeds = 2
[task_settings]
context = 16
past = 300
[train]
max_steps = 12
batch_size = 4
evaluations = 3
learning_rate = 1e-2
[[runs]]
name = "wavenet"
architecture = "wavenet_10"
config = {{ channels = 8, layers = 4 }}
[[runs]]
name = "slow"
architecture = "wavenet_10"
config = {{ channels = 8, layers = 4 }}
train = {{ max_steps = 1, evaluations = 1, learning_rate = 1e-5 }}
[[runs]]
name = "transformer"
architecture = "sample_transformer_3"
config = {{ embed_dim = 16, mlp_dim = 16, depth = 1, num_heads = 2, max_context = 64 }}
"""


def suite_at(folder, *changes, more=""):
    text = SUITE + more
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "toy.toml"
    path.write_text(text, "utf-8")
    return path


def api_run(path, toy, out, **options):
    return api.run(str(path), data=[toy.folder], out=out, device="cpu", display=Display(), **options)


@pytest.fixture(scope="module")
def results(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    api_run(suite_at(folder), toy, folder / "out", report=False)
    return folder / "out"


def finished(folder):
    return [(run, run.record()) for run in ResultsFolder(folder).finished()]


def test_fewer_bits_are_better(results):
    found = analyse(load_results(results), Sampling(resamples=200))
    scores = [standing.system.score for standing in found.standings]
    assert scores == sorted(scores)
    assert [standing.rank for standing in found.standings] == [1, 2, 3]
    # one that learned for a step is behind one of the same size that learned for twelve
    names = [standing.system.name for standing in found.standings]
    assert names.index("wavenet") < names.index("slow")
    assert len(found.pairs) == 3
    for pair in found.pairs:
        assert pair.first.score < pair.second.score
        for name, claim in pair.claims.items():
            first, second = (system.mean("metrics", name) for system in (pair.first, pair.second))
            assert claim.difference.value == pytest.approx(first - second, abs=1e-9)


@pytest.mark.slow
def test_a_suite_in_one_command(toy, tmp_path, bench):
    path, out = suite_at(tmp_path), tmp_path / "out"
    done = bench("run", path, "--data", toy.folder, "--out", out)
    assert done.code == 0, done.err
    table = pd.read_csv(out / "table.csv")
    assert list(table["rank"]) == [1, 2, 3]
    assert table["bits"].is_monotonic_increasing
    assert "lower is better" in done.out + (out / "table.md").read_text()


def test_what_is_on_record_is_what_scores_and_floors_say(results, toy):
    labels = Labels.read(results / "labels.npz")
    assert set(labels.floors) == {"last_value", "straight_line", "linear_prediction", "histogram"}
    assert len(finished(results)) == 6
    for run, record in finished(results):
        task = task_of(record.spec)
        model = build(record.spec, torch.device("cpu"))
        scores = run.scores(task.score_shape(labels.targets))
        assert record.metrics == pytest.approx(task.evaluate(labels.targets, scores, labels.leaf))
        # of its weights, loaded anew
        model = api.load(run.path)
        again = task.score(model, task.data(toy, "eval", record.spec.recipe))
        np.testing.assert_allclose(again, scores, rtol=1e-6)
        # two of the floors give no probabilities
        assert set(record.floors) == {"linear_prediction", "histogram"}
        for name, bits in record.floors.items():
            assert bits == pytest.approx(float(labels.floors[name][:, 0].mean()))
        assert record.val_score == min(run.history()["val_score"])


def test_an_interrupted_training_ends_in_the_same_numbers(results, toy, tmp_path):
    class Interrupted(Display):
        def training(self, status):
            if status.step >= 8:
                raise KeyboardInterrupt

    path, out = suite_at(tmp_path), tmp_path / "out"
    for name in ("wavenet", "transformer"):
        given = {"data": [toy.folder], "out": out, "device": "cpu", "only": [name], "seeds": 1, "report": False}
        with pytest.raises(KeyboardInterrupt):
            api.run(str(path), display=Interrupted(), **given)
        assert len(list(out.glob(f"{name}-*/checkpoint.pt"))) == 1
        api.run(str(path), display=Display(), **given)
    assert len(finished(out)) == 2
    for run, _ in finished(out):
        whole = results / run.name
        assert (run.path / "scores.npz").read_bytes() == (whole / "scores.npz").read_bytes()
        assert run.weights_file.read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_filter_takes_the_same_clips_everywhere(toy, tmp_path):
    """Clips whose class is the first are every third; and what trains has no others either."""
    path = suite_at(tmp_path, ("past = 300", f'past = 300\nclasses = ["{LABELS[0]}"]'))
    api_run(path, toy, tmp_path / "out", only=["wavenet"], seeds=1, report=False)
    ((run, record),) = finished(tmp_path / "out")
    task, labels = task_of(record.spec), Labels.read(tmp_path / "out/labels.npz")
    chosen = np.flatnonzero(toy.targets("eval")[:, 0])
    assert chosen.tolist() == [0, 3]
    assert labels.clips == [str(name) for name in toy.clips("eval")["clip"].iloc[chosen]]
    assert labels.targets.tolist() == toy.targets("eval")[chosen].tolist()
    scores = run.scores(task.score_shape(labels.targets))
    assert len(scores) == 2
    # as scored among all
    everything = task_of(spec_of(toy))
    of_all = everything.score(api.load(run.path), everything.data(toy, "eval", record.spec.recipe))
    np.testing.assert_allclose(scores, of_all[chosen], rtol=1e-5)
    for name, floor in everything.floor_scores(toy).items():
        if name != "histogram":
            np.testing.assert_array_equal(labels.floors[name], floor[chosen])
    data = task.data(toy, "train", record.spec.recipe)
    first = toy.clips("train").iloc[np.flatnonzero(toy.targets("train")[:, 0])]
    places = set(data.places(every(data)).tolist())
    assert len(places) == int((first["length"] - 300).sum())
    assert all(
        set(range(start + 300, start + n)) <= places for start, n in zip(first["start"], first["length"], strict=True)
    )


def test_fresh_sounds_are_no_epochs(toy, tmp_path):
    path = suite_at(tmp_path, ("past = 300", 'past = 300\ndata = "generated"'))
    api_run(path, toy, tmp_path / "out", only=["wavenet"], seeds=1, report=False)
    ((_, record),) = finished(tmp_path / "out")
    assert record.cost["epochs"] == 0
    assert record.steps == 12


GRID = "[grid]\ntask_settings.context = [16, 48]\n"


@pytest.mark.slow
def test_a_grid_over_contexts_is_a_figure_and_a_table(toy, tmp_path):
    path = suite_at(tmp_path, more=GRID)
    made = api_run(path, toy, tmp_path / "out", seeds=1, only=["wavenet", "transformer"]).report
    names = {f"{name}-context_{n}" for name in ("wavenet", "transformer") for n in (16, 48)}
    assert set(pd.read_csv(tmp_path / "out/table.csv")["entry"]) == names
    contexts = {record.spec.name: task_of(record.spec).settings.context for _, record in finished(tmp_path / "out")}
    assert contexts == {name: int(name[-2:]) for name in names}
    assert list((tmp_path / "out").glob("*grid*.png"))
    assert "context" in made.markdown


# --- what is wrong is one line, before anything trains


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "scores.npz",
            lambda x: {"scores": x["scores"][:, :3]},
            r"scores of shape \(4, 3\), but labels.npz has \(4, 6\)",
        ),
        ("scores.npz", lambda x: {"scores": x["scores"] + 1}, "not the scores that run.json has the digest of"),
        ("labels.npz", lambda x: {"floors": x["floors"][:, :-1]}, "floors: should be floats of shape"),
        ("labels.npz", lambda x: {"floors": x["floors"][:-1]}, "floors: should be floats of shape"),
        ("labels.npz", lambda x: {"floors": x["floors"][..., 0]}, "floors: last_value should be of shape"),
        ("labels.npz", lambda x: {"floors": x["floors"][..., :3]}, "floors: last_value should be of shape"),
        (
            "labels.npz",
            lambda x: {"floors": x["floors"] + 1},
            "floors.histogram: .* but scores.npz and labels.npz give",
        ),
        ("labels.npz", lambda x: {"judged_on": np.array("[")}, "judged_on: no JSON object"),
    ],
)
def test_damaged_files_are_refused(results, tmp_path, name, change, message):
    out = shutil.copytree(results, tmp_path / "out")
    path = next(out.rglob(name))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **arrays | change(arrays))
    with pytest.raises(UserError, match=message) as caught:
        api.report(out, display=Display())
    assert "\n" not in str(caught.value)


SLOW = 'name = "slow"'
WRONG = {
    "past = 300\nbeyond = 3": r"wavenet, task_settings: unknown field 'beyond' \(known: .*context",
    'past = 300\ncoding = "a_law"': "task_settings: coding='a_law': Input should be 'mu_law' or 'linear'",
    "past = 3995": "wavenet: past=3995 leaves no room for 8 windows in a clip of eval, of 4000 samples at 4000 Hz",
    'past = 300\nclasses = ["Brak"]': r"classes: 'Brak' is no class of .*\(did you mean 'Bark'\?\)",
    'past = 300\nlevel = "as_recorded"\nlevel_to = 0.3': "level_to=0.3 means nothing to level='as_recorded'",
}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        *(("past = 300", new, message) for new, message in WRONG.items()),
        # the default, 6000
        ("past = 300", "", "past=6000 leaves no room for 1 window in a clip of train, of 4000 samples at 4000 Hz"),
        ("context = 16", "context = 65", "transformer: context=65 is more than max_context=64"),
        ("context = 16", "context = 301", "wavenet: sees 301 samples but past=300: make that as large"),
        ("batch_size = 4", "batch_size = 4\nmixup = 0.2", "train: mixup means nothing to task next_sample"),
        ("batch_size = 4", "batch_size = 4\nchunk_seconds = 2.0", "train: chunk_seconds means nothing to task"),
        ("batch_size = 4", "batch_size = 4\neval_hop_seconds = 0.5", "train: eval_hop_seconds means nothing to"),
        (
            "[[runs]]",
            "[budget]\ntrials = 2\n[space]\ngain_db = { low = 0.0, high = 6.0 }\n[[runs]]",
            r"\[space\]: gain_db means nothing to task next_sample",
        ),
        (SLOW, f'{SLOW}\ntask_settings = {{ coding = "linear" }}', "wavenet has coding='mu_law' and slow 'linear'"),
        (SLOW, f"{SLOW}\ntask_settings = {{ windows = 4 }}", "wavenet has windows=8 and slow 4, so that nothing"),
        (SLOW, f"{SLOW}\nsample_rate = 8000", "slow needs a pack at 8000 Hz"),
        ('"wavenet_10"', '"vgg_like"', "'vgg_like' is for task tagging, not next_sample"),
        ("channels = 8", "channels = 8, num_classes = 9", "config may not set num_classes"),
        ('"next_sample"', '"tagging"', "'wavenet_10' is for task next_sample, not tagging"),
        (
            "[[runs]]",
            "[grid]\ntask_settings.level = ['peak', 'rms']\n[[runs]]",
            "wavenet-level_peak has level='peak' and wavenet-level_rms 'rms', so that nothing compares them",
        ),
    ],
)
def test_what_cannot_be_is_one_line(toy, tmp_path, bench, old, new, message):
    done = bench("run", suite_at(tmp_path, (old, new)), "--data", toy.folder, "--out", tmp_path / "out")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert re.search(message, done.err), done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task_settings.context", "write --set task_settings.FIELD=VALUE, for example task_settings.context=400"),
        ("task_settings.context=4.5", "context=4.5: Input should be a valid integer"),
        ("task_settings.context=1", "context=1: Input should be greater than or equal to 2"),
        ("task_settings.level=loud", "level='loud': Input should be"),
        ("task_settings.classes=Bark", "classes='Bark': Input should be a valid list"),
        ("task_settings.level_to=nan", "level_to=nan: Input should be a finite number"),
        ("task_settings.context=[1", "not valid TOML"),
    ],
)
def test_settings_of_the_command_line_are_checked(toy, tmp_path, bench, setting, message):
    given = ("--data", toy.folder, "--out", tmp_path / "out", "--set", setting)
    done = bench("run", suite_at(tmp_path), *given)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


def test_tagging_has_no_settings(packed, small_suite, tmp_path, bench):
    message = "transformer_small, task_settings: unknown field 'context' (known: none)\n"
    given = ("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out")
    done = bench(*given, "--set", "task_settings.context=4")
    assert (done.code, done.err.endswith(message)) == (2, True)
    small_suite.write_text(f"{small_suite.read_text()}[task_settings]\ncontext = 4\n")
    done = bench(*given)
    assert (done.code, done.err.endswith(message)) == (2, True)


def test_entries_of_two_sample_rates_are_not_compared(toy, tmp_path):
    """The nearer samples are, the fewer bits each takes."""
    other = pack(toy.folder.parent / "data", tmp_path / "pack", sample_rate=8000)
    path = suite_at(tmp_path, (SLOW, f"{SLOW}\nsample_rate = 8000"))
    with pytest.raises(UserError, match="wavenet has sample_rate=4000 and slow 8000, so that nothing compares them"):
        api.run(str(path), data=[toy.folder, other.folder], out=tmp_path / "out", display=Display())


@pytest.mark.parametrize(
    ("change", "field"),
    [('coding = "linear"', "coding"), ('level = "rms"', "level"), (f'classes = ["{LABELS[0]}"]', "classes")],
)
def test_a_folder_is_of_one_question(results, toy, tmp_path, change, field):
    """Before anything trains; and where runs of both lie in a folder all the same, before they are compared."""
    out = shutil.copytree(results, tmp_path / "out")
    path = suite_at(tmp_path, ("past = 300", f"past = 300\n{change}"))
    with pytest.raises(UserError, match=f"judged on {field}=.*choose another --out"):
        api_run(path, toy, out, only=["wavenet"], report=False)
    assert len(finished(out)) == 6
    api_run(path, toy, tmp_path / "other", only=["wavenet"], seeds=1, report=False)
    ((run, _),) = finished(tmp_path / "other")
    shutil.copytree(run.path, out / run.name)
    with pytest.raises(UserError, match=f"runs with different {field}"):
        api.report(out, display=Display())


def test_runs_of_several_folders_are_merged_if_they_are_of_one_question(results, toy, tmp_path):
    for seed in (0, 1):
        part = shutil.copytree(results, tmp_path / f"of_{seed}")
        for run in part.glob(f"*-s{1 - seed}-*"):
            shutil.rmtree(run)
    api.merge(tmp_path / "all", tmp_path / "of_0", tmp_path / "of_1", display=Display())
    assert len(finished(tmp_path / "all")) == 6
    path = suite_at(tmp_path, ("past = 300", 'past = 300\ncoding = "linear"'))
    api_run(path, toy, tmp_path / "other", only=["wavenet"], seeds=1, report=False)
    with pytest.raises(UserError, match=r"other data than .* \(judged_on in labels.npz\)"):
        api.merge(tmp_path / "none", results, tmp_path / "other", display=Display())


def test_a_model_that_does_not_run_is_said_with_its_window(toy, tmp_path, bench, monkeypatch):
    plugin = tmp_path / "broken.py"
    plugin.write_text(BROKEN)
    # for this process alone
    monkeypatch.setattr(_registry, "_architectures", {**_registry._architectures})
    path = suite_at(tmp_path, ('"wavenet_10"', '"broken"'), ("config = { channels = 8, layers = 4 }", ""))
    given = ("--data", toy.folder, "--plugin", plugin, "--out", tmp_path / "out", "--only", "wavenet")
    done = bench("run", path, *given)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "wavenet does not run: " in done.err
    assert "should have (2, 16, 256), on windows of 16" in done.err


BROKEN = """
from torch import nn

from architectures import NextSampleConfig, register


class Config(NextSampleConfig):
    @property
    def receptive_field(self):
        return 1


@register("broken", family="cnn", task="next_sample", config=Config())
class Broken(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed = nn.Embedding(256, 255)

    def forward(self, codes):
        return self.embed(codes)
"""


def test_what_a_grid_sets_no_command_sets(toy, tmp_path, bench):
    path = suite_at(tmp_path, more=GRID)
    done = bench("run", path, "--data", toy.folder, "--set", "task_settings.context=20", "--out", tmp_path / "out")
    assert done.code == 2
    assert "has a [grid] over task_settings.context, which --set or --quick sets for all" in done.err
