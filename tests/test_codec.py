"""Codecs: what is counted and measured of them, how their codes are found, and a run of them from end to end."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torchaudio.transforms import MelSpectrogram

import bench as api
from architectures import CodecConfig, ConfigError, config_values, configure, create, load_file, register
from architectures._registry import forget
from architectures.checks import failed_checks
from architectures.codec import nearest
from architectures.template import write_architecture
from bench.data.packing import pack
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.protocol.sounds.log_mel import LogMelFrames, most_mels
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task, task_of
from bench.protocol.tasks.codec import perplexity
from bench.runner.display import Display
from bench.runner.weights import load_model
from bench.store import ResultsFolder
from bench.suites.suite import load_suite
from tests.tiny_data import tiny_data

SMALL = {"width": 8, "latent_dim": 4, "num_codes": 8}
SETTINGS = {"mels": 20, "seconds": 0.4}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Clips of 1.5 s: three windows of .4 s, and a fourth that begins in the third."""
    folder = tmp_path_factory.mktemp("sounds")
    return pack(tiny_data(folder / "data", seconds=1.5), folder / "packed")


def small(name="codec_vq", seed=0, **config):
    torch.manual_seed(seed)
    return create(name, **{**SMALL, "num_classes": 20, **config})


def spec_of(sounds, name="codec_vq", settings=SETTINGS, **config):
    values = config_values(configure(name, **{"sample_rate": 16_000, "num_classes": 20, **SMALL, **config}))
    recipe = Recipe(loss="squared_error", max_steps=4, batch_size=4, evaluations=1)
    return RunSpec(
        name="mine", task="codec", task_settings=settings, architecture=name, config=values, recipe=recipe, seed=0,
        pack=sounds.fingerprint,
    )  # fmt: skip


# --- what is counted


@pytest.mark.parametrize("k", [1, 2, 64])
def test_uniform_codes_have_as_much_perplexity_as_there_are(k):
    assert perplexity(np.full((2, k, 1), 3.0)) == pytest.approx(np.full((2, 1), k))


def test_perplexity_is_e_to_the_entropy_and_1_for_one_code():
    counts = np.array([[[8.0], [0], [0]], [[4], [2], [2]]])
    assert perplexity(counts)[:, 0] == pytest.approx([1, np.exp(0.5 * np.log(2) + 0.5 * np.log(4))])


def test_resamples_count_the_codes_of_the_clips_that_they_take(sounds):
    task, rng = task_of(spec_of(sounds, stages=2)), np.random.default_rng(0)
    scores = np.hstack([rng.random((5, 1)), rng.integers(0, 9, (5, 16)) * (rng.random((5, 16)) < 0.3)])
    scores[:, 1] += 1
    scores[:, 9] += 1
    weights = rng.integers(0, 3, (5, 4)).astype(np.uint8)
    weights[0] = 1
    found = task.statistic(np.ones((5, 3), bool), scores, np.ones(3, bool))(weights)
    for column, taken in enumerate(weights.T):
        again = scores.repeat(taken, axis=0)
        expected = task.evaluate(np.ones((len(again), 3), bool), again, np.ones(3, bool))
        assert {name: values[column] for name, values in found.items()} == pytest.approx(expected)
        of_stage = again[:, 9:].sum(axis=0)
        p = of_stage[of_stage > 0] / of_stage.sum()
        first = perplexity(again[:, 1:9].sum(axis=0).reshape(1, 8, 1))[0, 0]
        assert expected["perplexity"] == pytest.approx((first + np.exp(-(p * np.log(p)).sum())) / 2)
        assert expected["used"] == pytest.approx((again[:, 1:].sum(axis=0) > 0).mean())


# --- what is measured


def whole_clip(samples):
    """A clip's frames in decibels, (t, m), by torchaudio's transform of all of it."""
    wave = torch.from_numpy(samples * (16384 / np.abs(samples.astype(int)).max())).float() / 32768
    mel = MelSpectrogram(16_000, 1024, 400, 160, n_mels=20, pad_mode="constant")(wave)
    # by the power of a sine at full scale, summed over bins (Parseval)
    full = 1024 * torch.hann_window(400).square().sum() / 4
    return (10 * (mel / full).clamp(min=1e-8).log10()).T


def test_a_clips_distortion_and_codes_are_those_of_an_independent_computation(sounds):
    spec = spec_of(sounds)
    task, model = task_of(spec), small("codec_kmeans")
    data = task.data(sounds, "eval", spec.recipe)
    model.fit_codebook(torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * 0.1, 0)
    scores = task.score(model, data)
    assert model.training, "left as it was"
    model.eval()
    for row, (start, length) in zip(
        scores, sounds.clips("eval")[["start", "length"]].itertuples(index=False), strict=True
    ):
        frames = whole_clip(np.array(sounds.samples("eval")[start : start + length]))
        # 37 whole groups: windows of 10 from the groups 0, 10, 20, and 27, of which 7 are new
        squares, codes = [], []
        for first, new in ((0, 10), (10, 10), (20, 10), (27, 7)):
            x = frames[None, 4 * first : 4 * first + 40]
            with torch.inference_mode():
                difference = model((x + 40) / 40)[0] * 40 - 40 - x
                codes += model.encode((x + 40) / 40)[0, -new:, 0].tolist()
            squares.append(difference[0, -4 * new :].double().square())
        assert row[0] == pytest.approx(float(torch.cat(squares).mean().sqrt()), rel=1e-4)
        assert row[1:].tolist() == np.bincount(codes, minlength=8).tolist()
        assert row[1:].sum() == 37


def test_floors_are_one_frame_for_all_or_one_for_each_clip(sounds):
    task = task_of(spec_of(sounds))
    floors = task.floor_scores(sounds)
    assert {name: of.shape for name, of in floors.items()} == {"mean_frame": (4, 1), "clip_mean": (4, 1)}
    start, length = sounds.clips("eval")[["start", "length"]].iloc[1]
    frames = whole_clip(np.array(sounds.samples("eval")[start : start + length]))[:148].double()
    expected = float((frames - frames.mean(dim=0)).square().mean().sqrt())
    assert floors["clip_mean"][1, 0] == pytest.approx(expected, rel=1e-4)
    assert (floors["clip_mean"] < floors["mean_frame"]).all()
    found = task.all_floors(np.ones((4, 3), bool), floors)
    assert found == pytest.approx({name: float(of.mean()) for name, of in floors.items()})


def test_train_is_heard_at_any_sample_within_its_clips(sounds):
    spec = spec_of(sounds)
    data = task_of(spec).data(sounds, "train", spec.recipe)
    room = sounds.clips("train")["length"] - 40 * 160 + 1
    assert len(data) == room.sum()
    x, y = data.batch(torch.tensor([0, room[0] - 1, room[0], len(data) - 1]))
    assert x is y
    assert data.clip(torch.tensor([0, room[0] - 1, room[0], len(data) - 1])).tolist() == [0, 0, 1, 5]
    start, length = sounds.clips("train")[["start", "length"]].iloc[0]
    clip = np.array(sounds.samples("train")[start : start + length])
    expected = whole_clip(clip)[:40] / 40 + 1
    torch.testing.assert_close(x[0], expected, rtol=0, atol=1e-4)
    assert torch.equal(data.draw(3, 8, 1), data.draw(3, 8, 1))
    assert not torch.equal(data.draw(3, 8, 1), data.draw(4, 8, 1))


def test_a_sine_at_full_scale_is_at_0_db_and_silence_at_80_below():
    frames = LogMelFrames(16_000, 80)
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(frames.span(20)) / 16_000)
    x = frames.of(torch.stack([sine, 0 * sine]))
    assert x.shape == (2, 20, 80)
    # wherever it lies, neighbouring bands share it
    torch.testing.assert_close(frames.power(x)[0].sum(dim=1), torch.ones(20), rtol=0, atol=0.02)
    assert (x[1] == -1).all()
    assert (frames.power(x)[1] == 0).all()
    torch.testing.assert_close(frames.power(x).clamp(min=1e-8).log10() * 10, 40 * x - 40, rtol=0, atol=1e-3)
    assert (most_mels(16_000, 80), most_mels(4000, 128) < 128) == (80, True)


# --- how codes are found


def distinct(k=8, copies=50, d=4):
    """Latents of k values that are far from each other, shuffled: (k * copies, d)."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(k, d, generator=generator)
    return values.repeat(copies, 1)[torch.randperm(k * copies, generator=generator)]


def test_as_many_codes_as_latents_leave_no_error_by_k_means():
    model, latents = small("codec_kmeans"), distinct()
    model.fit_codebook(latents, 0)
    codes, found = nearest(latents, model.codebooks)
    torch.testing.assert_close(found, latents, rtol=0, atol=1e-5)
    assert len(codes.unique()) == 8


def test_as_many_codes_as_latents_leave_no_error_by_running_means():
    model, latents = small(decay=0.5), distinct().unsqueeze(0)
    # what k-means has put between two of them, a code that is not used finds
    for _ in range(100):
        _, loss = model._trained(latents)
    assert float(loss.detach()) < 1e-8
    codes, found = nearest(latents, model.codebooks)
    torch.testing.assert_close(found, latents, rtol=0, atol=1e-4)
    assert len(codes.unique()) == 8


def test_a_second_stage_is_of_what_the_first_leaves():
    latents, codebooks = torch.randn(100, 4), torch.randn(2, 8, 4)
    codes, found = nearest(latents, codebooks)
    distances = torch.cdist(latents, codebooks[0])
    assert torch.equal(codes[:, 0], distances.argmin(dim=1))
    left = latents - codebooks[0][codes[:, 0]]
    assert torch.equal(codes[:, 1], torch.cdist(left, codebooks[1]).argmin(dim=1))
    torch.testing.assert_close(found, codebooks[0][codes[:, 0]] + codebooks[1][codes[:, 1]])


@pytest.mark.parametrize("stages", [1, 2])
def test_codes_are_those_of_the_library(stages):
    model = small(stages=stages)
    x = torch.rand(4, 40, 20) * 2 - 1
    for _ in range(3):
        model(x)
    model.eval()
    with torch.inference_mode():
        found, codes, _ = model.quantizer(model.latents(x))
        assert torch.equal(model.encode(x), codes)
        torch.testing.assert_close(model.rebuilt(found), model.decode(codes))
        torch.testing.assert_close(model(x)[0], model.decode(codes))


@pytest.mark.parametrize("stages", [1, 2])
def test_the_gradient_goes_straight_through_codes(stages):
    model = small(stages=stages).double()
    latents, weights = torch.randn(2, 10, 4, dtype=torch.float64), torch.randn(2, 10, 4, dtype=torch.float64)
    latents.requires_grad_()
    codes, _ = model._trained(latents)
    assert not torch.allclose(codes, latents), "or it shows little"
    (weights * codes).sum().backward()
    assert torch.equal(latents.grad, weights)


def test_k_means_finds_clusters_and_the_same_for_the_same_seed():
    centres = torch.tensor([[0.0, 0, 0, 0], [9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]])
    latents = centres.repeat(100, 1) + 0.1 * torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    one, again = small("codec_kmeans", num_codes=4), small("codec_kmeans", num_codes=4)
    one.fit_codebook(latents, 5)
    again.fit_codebook(latents, 5)
    assert torch.equal(one.codebook, again.codebook)
    order = torch.cdist(centres, one.codebook[0]).argmin(dim=1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(one.codebook[0][order], centres, rtol=0, atol=0.1)


def test_evaluations_begin_no_codebook():
    """The library would take the first sounds that it hears for training's first batch."""
    model = small().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(2, 40, 20)
    with torch.inference_mode():
        model(x)
        assert (model.encode(x) == 0).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- from end to end

SUITE = """
title = "codecs"
task = "codec"
seeds = 1
[task_settings]
mels = 20
seconds = 0.4
[train]
max_steps = 12
batch_size = 4
evaluations = 3
learning_rate = 3e-3
[[runs]]
name = "learned"
architecture = "codec_residual"
config = { width = 8, latent_dim = 4, num_codes = 8 }
[[runs]]
name = "by_k_means"
architecture = "codec_kmeans"
config = { width = 8, latent_dim = 4, num_codes = 4 }
"""


class Interrupted(Display):
    """Presses Ctrl-C once a step has been taken."""

    def training(self, status):
        if status.step >= 8:
            raise KeyboardInterrupt


def test_codecs_run_resume_and_are_reported(sounds, tmp_path, bench, monkeypatch):
    monkeypatch.setattr("bench.protocol.tasks.codec._WINDOWS", 64)
    path, out = tmp_path / "codecs.toml", tmp_path / "out"
    path.write_text(SUITE)
    given = {"data": [sounds.folder], "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        api.run(str(path), only=["learned"], out=out, display=Interrupted(), **given)
    assert len(list(out.glob("learned*/checkpoint.pt"))) == 1
    done = bench("run", path, "--data", sounds.folder, "--out", out)
    assert done.code == 0, done.err
    api.run(str(path), out=tmp_path / "whole", report=False, **given)
    folders = {folder.record().spec.name: folder for folder in ResultsFolder(out).finished()}
    for name, codes in (("learned", 16), ("by_k_means", 4)):
        record, scores = folders[name].record(), np.load(folders[name].path / "scores.npz")
        whole = tmp_path / "whole" / folders[name].name
        assert (folders[name].path / "scores.npz").read_bytes() == (whole / "scores.npz").read_bytes()
        (values,) = (scores[key] for key in scores.files if scores[key].ndim == 2)
        assert values.shape == (4, 1 + codes)
        assert record.metrics["distortion"] == pytest.approx(values[:, 0].mean())
        assert 1 <= record.metrics["perplexity"] <= 8
        assert record.cost["bits_per_second"] == {"learned": 150, "by_k_means": 50}[name]
        assert set(record.floors) == {"mean_frame", "clip_mean"}
    table = pd.read_csv(out / "table.csv").set_index("entry")
    assert table["distortion"]["learned"] == pytest.approx(folders["learned"].record().metrics["distortion"])
    # the report judges all scores again, and finds the numbers of run.json in them
    changed = json.loads(folders["learned"].record_file.read_text())
    changed["metrics"]["perplexity"] += 0.5
    folders["learned"].record_file.write_text(json.dumps(changed))
    refused = bench("report", out)
    assert (refused.code, "metrics.perplexity" in refused.err) == (2, True)


def test_what_k_means_finds_last_is_what_is_kept_and_scored(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.protocol.tasks.codec._WINDOWS", 64)
    path = tmp_path / "codecs.toml"
    path.write_text(SUITE)
    api.run(str(path), only=["by_k_means"], data=[sounds.folder], device="cpu", out=tmp_path / "out", report=False)
    (folder,) = ResultsFolder(tmp_path / "out").finished()
    record = folder.record()
    model, task = load_model(folder, record, torch.device("cpu")), task_of(record.spec)
    assert model.is_fitted
    val = task.data(sounds, "val", record.spec.recipe)
    assert record.val_score == pytest.approx(float(task.score(model, val)[:, 0].mean()))
    history = folder.history().set_index("step")["val_score"]
    assert history[record.best_step] == pytest.approx(record.val_score)
    model.is_fitted.fill_(False)
    assert float(task.score(model, val)[:, 0].mean()) != pytest.approx(record.val_score, rel=1e-6)


# --- what is refused, in one line


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("codec_vq", {"num_codes": 0}, "num_codes=0 must be 1 to 65,536"),
        ("codec_residual", {"stages": 17}, "stages=17 must be 1 to 16"),
        ("codec_kmeans", {"width": 0}, "width=0 must be at least 1"),
        ("codec_vq", {"decay": 1.0}, "decay=1.0 must be 0 to below 1"),
        ("codec_vq", {"commitment": -1.0}, "commitment=-1.0 must be 0 or more"),
    ],
)
def test_configs_refuse_nonsense(name, fields, message):
    with pytest.raises(ConfigError, match=message):
        configure(name, **fields)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": 2.0}, "mine: seconds=2, but train has a clip of 1.5 s: make it smaller, in [task_settings]"),
        ({"mels": 600}, "at most at 16000 Hz, in [task_settings]"),
        ({"classes": ["Cow"]}, "[task_settings] classes: 'Cow' is no class of"),
        ({"mels": 0}, "mine, task_settings: mels=0: "),
    ],
)
def test_settings_that_do_not_go_with_the_data_are_one_line(sounds, settings, message):
    spec = spec_of(sounds, settings=settings)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        get_task("codec").require(spec, sounds)
    assert "\n" not in str(error.value)


def test_a_package_that_is_missing_is_named(sounds, tmp_path, bench, monkeypatch):
    path = tmp_path / "codecs.toml"
    path.write_text(SUITE)
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    done = bench("run", path, "--data", sounds.folder, "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("bench: error: learned does not run: ")
    assert "vector-quantize-pytorch is not installed: pip install 'audio-cnn-transformer-bench[generate]'" in done.err
    create("codec_kmeans")


def test_the_suite_says_what_its_contrasts_are_of():
    suite = load_suite("codecs")
    assert {entry.name for entry in suite.runs} >= {name for each in suite.contrasts for name in each.entries}
    assert len({suite.resolved(entry).config.get("num_codes") for entry in suite.runs}) == 3


# --- the contract


def test_new_writes_a_codec_that_passes(tmp_path):
    path = write_architecture("mine_of_groups", tmp_path, (), "codec")
    try:
        assert load_file(path) == ["mine_of_groups"]
        assert failed_checks("mine_of_groups") == {}
    finally:
        forget(["mine_of_groups"])


class Sound(torch.nn.Module):
    """One number of each group, its mean band, in as many steps as there are codes; below, one thing is wrong."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.gain, self.bias = torch.nn.Parameter(torch.randn(7)), torch.nn.Parameter(torch.randn(7))

    def encode(self, frames):
        means = frames.unflatten(1, (-1, 4)).mean(dim=(2, 3)).clamp(-1, 1)
        return ((means + 1) / 2 * (self.config.num_codes - 1)).round().long().unsqueeze(2)

    def decode(self, codes):
        means = codes.float() / (self.config.num_codes - 1) * 2 - 1
        return (means * self.gain + self.bias).repeat_interleave(4, dim=1)

    def forward(self, frames):
        return self.decode(self.encode(frames)), frames.new_zeros(())


class WithoutLoss(Sound):
    def forward(self, frames):
        return super().forward(frames)[0]


class OtherCodes(Sound):
    def encode(self, frames):
        return super().encode(frames.flip(1))

    def forward(self, frames):
        return self.decode(super().encode(frames)), frames.new_zeros(())


class TooManyCodes(Sound):
    def encode(self, frames):
        return super().encode(frames) + self.config.num_codes


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (WithoutLoss, "a Tensor, should be a tuple of two tensors: frames and a loss"),
        (OtherCodes, "from decode(encode(x)) in eval mode"),
        (TooManyCodes, "of num_codes=256"),
    ],
)
def test_checks_find_what_breaks_the_contract(model, reason):
    found = []
    for each in (Sound, model):
        register("mine", family="cnn", task="codec", config=CodecConfig())(each)
        found.append(failed_checks("mine"))
        forget(["mine"])
    assert found[0] == {}
    assert reason in " ".join(found[1].values())
