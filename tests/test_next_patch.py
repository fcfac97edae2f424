"""The task next_patch: which codes follow which windows, what they are found on, and what is refused in one line."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from torch import nn
from torchaudio.transforms import MelSpectrogram

import bench as api
from architectures import ArchitectureConfig, config_values, configure, create, get_architecture, register
from architectures._registry import forget
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.errors import UserError
from bench.protocol.build import build
from bench.protocol.recipe import Recipe
from bench.protocol.sounds import patch_codes
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task, task_of
from bench.protocol.tasks.next_patch import NextPatch
from bench.protocol.train import train
from bench.stats.predictors import NGrams
from bench.store import ResultsFolder
from tests.conftest import TINY, no_tables
from tests.tiny_data import hash_anew, tiny_data

RATE, PATCH = 4000, 160
SPLITS = ("train", "val", "eval")
SETTINGS = {"seconds": 0.4, "windows": 4, "codes": 8, "code_steps": 2, "mels": 20}
SIZE = 1600
SMALL = ("transformer_small", TINY)


@dataclass(frozen=True, kw_only=True)
class TokensConfig(ArchitectureConfig):
    patch: int = 100
    kind: str = "causal"


class Tokens(nn.Module):
    """Logits at each patch of samples: (b, n) -> (b, t, k); of all kinds but one, of what is behind a token, too."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        self.config = config
        self.rnn = nn.GRU(config.patch, 16, batch_first=True, bidirectional=config.kind == "both")
        self.head = nn.Linear(32 if config.kind == "both" else 16, config.num_classes)
        # as what is to be learned is often drawn, and norms of a whole window that only training has
        self.gate = nn.Parameter(torch.zeros(16))
        self.norm = nn.InstanceNorm1d(16, track_running_stats=True)
        self.of_batch = nn.BatchNorm1d(16)
        # what torch draws no noise for, what noise makes no number of, and what every step of training changes
        self.steps = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
        self.scale = nn.Parameter(torch.full((16,), 1e-6))
        self.drifting = nn.utils.spectral_norm(nn.Linear(16, 16)) if config.kind == "drifting" else None

    def forward(self, x):
        if self.config.kind == "levelled":
            x = x / (x.square().mean(dim=1, keepdim=True).sqrt() + 1e-4)
        t = x.shape[1] // self.config.patch
        found = self.rnn(x[:, : t * self.config.patch].unflatten(1, (t, -1)))[0]
        if self.config.kind == "gated":
            found = found + self.gate * found.roll(-1, dims=1)
        if self.config.kind == "normed":
            found = self.norm(found.transpose(1, 2)).transpose(1, 2)
        if self.config.kind == "batch_normed":
            found = self.of_batch(found.transpose(1, 2)).transpose(1, 2)
        if self.config.kind == "scaled":
            found = found * self.scale.sqrt()
        return self.head(self.drifting(found) if self.drifting else found)


@pytest.fixture(scope="module", autouse=True)
def tokens():
    """An architecture with logits at each token."""
    register("tokens", family="hybrid", config=TokensConfig())(Tokens)
    yield
    forget(["tokens"])


@pytest.fixture(scope="module", autouse=True)
def few():
    """Codes are found on a few windows: how good they are is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("_FITTED", 64), ("_COUNTED", 64), ("_AT_ONCE", 32)):
            patch.setattr(patch_codes, name, count)
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A pack of 6, 3 and 4 clips of tones in noise, with codes beside it."""
    folder = tmp_path_factory.mktemp("toy")
    made = pack(tiny_data(folder / "data", sample_rate=RATE), folder / "pack", sample_rate=RATE)
    prepare(made)
    return made


@pytest.fixture
def mine(toy, tmp_path):
    """The same pack, in a folder of its own, without codes."""
    return Pack(Path(shutil.copytree(toy.folder, tmp_path / "mine", ignore=shutil.ignore_patterns("*.npz"))))


def task_with(settings=SETTINGS):
    return get_task("next_patch").with_settings(settings, "settings")


def prepare(packed, **settings):
    task_with(SETTINGS | settings).prepare(packed, None, lambda _: None)


def codes_file(packed, **settings):
    return patch_codes.patch_codes_file(task_with(SETTINGS | settings).settings, packed)


def spec_of(packed, model=SMALL, settings=SETTINGS, seed=0, **recipe):
    name, config = model
    task = task_with(settings)
    return RunSpec(
        name="tiny",
        task="next_patch",
        task_settings=task.checked_settings(settings, "settings"),
        architecture=name,
        source=get_architecture(name).source,
        config=config_values(configure(name, **task.config(packed), **config)),
        recipe=Recipe(**{"loss": "cross_entropy", "max_steps": 2, "batch_size": 4, "evaluations": 1, **recipe}),
        seed=seed,
        pack=packed.fingerprint,
    )


def data_of(packed, split, model=SMALL, **settings):
    spec = spec_of(packed, model, SETTINGS | settings)
    return task_of(spec).data(packed, split, spec.recipe)


def trained(packed, model=SMALL, seed=0, settings=SETTINGS, **recipe):
    """Return a model, the task, and how training went."""
    spec = spec_of(packed, model, settings, seed, **recipe)
    task, made = task_of(spec), build(spec, "cpu")
    data = (task.data(packed, split, spec.recipe) for split in ("train", "val"))
    return made, task, train(made, *data, task, spec.recipe, seed=seed)


def packed_waves(folder, wave, **sizes):
    """Return a pack of clips whose samples are wave(number)."""
    data = tiny_data(folder / "data", seconds=1, sample_rate=RATE, **({"sizes": sizes} if sizes else {}))
    for path in sorted(data.glob("*/*.wav")):
        sf.write(path, wave(int(path.stem)), RATE, subtype="PCM_16")
    return pack(data, folder / "pack", sample_rate=RATE)


def refused(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


# --- which codes follow which windows


def clip_of(packed, split, number):
    start, length = packed.clips(split)[["start", "length"]].iloc[number]
    return np.array(packed.samples(split)[start : start + length])


def code_at(packed, clip, place):
    """Return the code of the 40 ms that begin at a sample, by torchaudio's transform and the weights of the file."""
    with np.load(codes_file(packed)) as file:
        weights = {name: torch.from_numpy(file[name]) for name in file if name != "fingerprint"}
    codec = create("codec_kmeans", sample_rate=RATE, num_classes=20, num_codes=8)
    codec.load_state_dict(weights)
    # frames are then around multiples of the hop from the clip's first sample on
    wave = torch.from_numpy(clip[place % 40 :]).float() / 32768
    mel = MelSpectrogram(RATE, 256, 100, 40, n_mels=20, pad_mode="constant")(wave)
    full = 256 * torch.hann_window(100).square().sum() / 4
    frames = ((10 * (mel / full).clamp(min=1e-8).log10()).T + 40) / 40
    patch = torch.full((1, 4, 20), -1.0)
    found = frames[place // 40 :][:4]
    patch[0, : len(found)] = found
    with torch.no_grad():
        return int(torch.cdist(codec.latents(patch)[0], codec.codebook[0]).argmin())


def test_codes_of_windows_are_those_of_an_independent_computation(toy):
    for split in ("val", "eval"):
        data = data_of(toy, split)
        x, y = data.batch(torch.arange(len(data)))
        assert (x.shape, x.dtype, y.shape) == ((len(data), SIZE), torch.float32, (len(data), 1))
        for i in range(len(data)):
            clip = clip_of(toy, split, i // 4)
            # in the middle of four equal parts of the places with a window before and a patch behind
            place = SIZE + (2 * (i % 4) + 1) * (len(clip) - SIZE - PATCH + 1) // 8
            assert np.array_equal(x[i].numpy(), clip[place - SIZE : place] / np.float32(32768))
            assert int(y[i, 0]) == code_at(toy, clip, place)
    assert len(y.unique()) > 1, "or nothing is shown"


def test_train_windows_end_wherever_a_patch_is_left_in_their_clip(toy):
    data = data_of(toy, "train")
    room = toy.clips("train")["length"].to_numpy() - SIZE - PATCH + 1
    assert len(data) == room.sum()
    assert data.epoch_size == len(toy.samples("train")) // SIZE
    ids = torch.tensor([0, room[0] - 1, room[0], len(data) - 1])
    x, y = data.batch(ids)
    assert data.clip(ids).tolist() == [0, 0, 1, 5]
    for row, number, place in ((0, 0, SIZE), (1, 0, -PATCH), (2, 1, SIZE), (3, 5, -PATCH)):
        clip = clip_of(toy, "train", number)
        place %= len(clip)
        assert np.array_equal(x[row].numpy(), clip[place - SIZE : place] / np.float32(32768))
        assert int(y[row, 0]) == code_at(toy, clip, place)
    assert torch.equal(data.draw(3, 8, 1), data.draw(3, 8, 1))
    assert not torch.equal(data.draw(3, 8, 1), data.draw(3, 8, 2))


@pytest.mark.parametrize("patch", [37, 100, 160, 401, 1600])
def test_each_token_predicts_the_first_patch_that_begins_where_it_ends_or_later(patch, toy):
    """Patches lie side by side, up to the one behind the window; tokens are shorter or longer, or just as long."""
    data, t = data_of(toy, "train", ("tokens", {"patch": patch})), SIZE // patch
    number = 900
    x, y = data.batch(torch.tensor([number]))
    assert (x.shape, y.shape) == ((1, SIZE), (1, t))
    clip = clip_of(toy, "train", 0)
    for token, code in enumerate(y[0].tolist()):
        end = (token + 1) * SIZE / t
        begin = min(b for b in range(SIZE % PATCH, SIZE + 1, PATCH) if b >= end)
        assert code == code_at(toy, clip, number + begin), token
    # scored at the last one
    assert data_of(toy, "val", ("tokens", {"patch": patch})).batch(torch.arange(3))[1].shape == (3, 1)


def test_all_tokens_are_trained_and_the_last_is_scored(toy):
    spec = spec_of(toy, ("tokens", {}))
    task, generator = task_of(spec), torch.Generator().manual_seed(0)
    logits, y = torch.randn(3, 16, 8, generator=generator), torch.randint(8, (3, 16), generator=generator)
    nats = -logits.log_softmax(-1).gather(2, y.unsqueeze(2))
    torch.testing.assert_close(task.loss(spec.recipe, logits, y), nats.mean())
    bits = task.judged(logits, y[:, -1:])[:, 0]
    torch.testing.assert_close(bits, nats[:, -1, 0] / math.log(2))
    torch.testing.assert_close(task.judged(logits[:, -1], y[:, -1:])[:, 0], bits)
    torch.testing.assert_close(task.loss(spec.recipe, logits[:, -1], y[:, -1:]), nats[:, -1].mean())
    assert task.output_shape(2, SIZE, 8) == (2, 16, 8)
    assert task.example(2, SIZE, 8)[1].shape == (2, 16)


@pytest.mark.parametrize("kind", ["both", "levelled", "gated", "normed"])
def test_a_token_that_has_heard_what_it_is_to_predict_is_refused(kind, toy):
    spec = spec_of(toy, ("tokens", {"kind": kind}))
    refused(lambda: task_of(spec).data(toy, "train", spec.recipe), "tiny: its logits at token 1 of 16 change with")
    refused(lambda: task_of(spec).output_shape(2, SIZE, 8), "it has heard what it is to predict")


@pytest.mark.parametrize("kind", ["causal", "batch_normed", "scaled", "drifting"])
def test_what_looks_back_alone_is_taken(kind, toy):
    assert task_of(spec_of(toy, ("tokens", {"kind": kind}))).tokens == 16


# --- what decides


def changed(packed, **arrays):
    """Change a pack where it lies: its labels in another order, and other samples."""
    index = pd.read_parquet(packed.folder / "index.parquet")
    index["labels"] = index["labels"].to_numpy()[::-1]
    index.to_parquet(packed.folder / "index.parquet", index=False)
    for split in arrays:
        path = packed.folder / f"{split}.npy"
        np.save(path, np.random.default_rng(0).integers(-9000, 9000, len(np.load(path))).astype(np.int16))
    hash_anew(packed.folder)
    return Pack(packed.folder)


def weights_of(packed):
    with np.load(codes_file(packed)) as file:
        codes = {name: file[name] for name in file if name != "fingerprint"}
    return codes, {name: w.numpy() for name, w in trained(packed)[0].state_dict().items()}


def are_equal(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_neither_labels_nor_val_nor_eval_decide_a_weight(toy, mine):
    codes, weights = weights_of(toy)
    other = changed(mine, val=True, eval=True)
    assert other.fingerprint != toy.fingerprint
    assert not np.array_equal(other.targets("train"), toy.targets("train"))
    prepare(other)
    found = weights_of(other)
    assert are_equal(codes, found[0])
    assert are_equal(weights, found[1])
    codes_file(other).unlink()
    other = changed(other, train=True)
    prepare(other)
    assert not are_equal(codes, weights_of(other)[0]), "or nothing was shown"


def test_the_last_weights_are_kept_whatever_val_says(toy, monkeypatch):
    scores = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(NextPatch, "selection_score", lambda *_: next(scores))
    model, _, state = trained(toy, max_steps=6, evaluations=3)
    assert (state.best_step, state.best_score) == (6, 3.0)
    monkeypatch.setattr(NextPatch, "selection_score", lambda *_: 0.0)
    once = trained(toy, max_steps=6, evaluations=1)[0]
    assert are_equal(*({name: w.numpy() for name, w in each.state_dict().items()} for each in (model, once)))


def test_generated_sounds_take_nothing_of_train(mine, monkeypatch):
    samples = Pack.samples

    def unreadable(self, split):
        assert split != "train"
        return samples(self, split)

    monkeypatch.setattr(Pack, "samples", unreadable)
    settings = SETTINGS | {"data": "generated"}
    prepare(mine, data="generated")
    model, task, _ = trained(mine, settings=settings)
    floors = task.floor_scores(mine)
    assert np.isfinite(task.score(model, data_of(mine, "eval", data="generated"))).all()
    assert {name: scores.shape for name, scores in floors.items()} == {"unigram": (4, 3), "bigram": (4, 3)}
    data = data_of(mine, "train", data="generated")
    (x, y), (again, _), (other, _) = (data.batch(data.draw(step, 3, 0)) for step in (5, 5, 6))
    assert (x.shape, y.shape) == ((3, SIZE), (3, 1))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    # and nothing of the pack at all, so that another one's are the same
    with np.load(codes_file(mine, data="generated")) as file:
        assert str(file["fingerprint"]) == ""


# --- what is learned


def test_bits_of_what_repeats_itself_go_to_0(tmp_path):
    """Of three clips' pitches, each all through its clip."""
    time = np.arange(RATE * 6 // 5) / RATE
    packed = packed_waves(tmp_path, lambda number: 0.5 * np.sin(2 * np.pi * (200, 500, 1300)[number % 3] * time))
    settings = SETTINGS | {"codes": 3, "code_steps": 20}
    prepare(packed, **settings)
    for model in (SMALL, ("tokens", {})):
        made, task, _ = trained(packed, model, settings=settings, max_steps=60, batch_size=16, learning_rate=1e-2)
        data = data_of(packed, "eval", model, **settings)
        assert len(data.batch(torch.arange(len(data)))[1].unique()) == 3
        bits, top1, _ = task.score(made, data).mean(axis=0)
        assert bits < 0.1
        assert top1 == 1
    # which counts of codes know as well
    codes = patch_codes.PatchCodes.read(task.settings, packed)
    sequences = patch_codes.code_sequences(codes, task.settings, packed)
    assert {sequence.shape for sequence in sequences} == {(24,)}
    assert {tuple(np.unique(sequence)) for sequence in sequences} == {(0,), (1,), (2,)}


def test_bits_of_noise_are_not_under_their_entropy(tmp_path):
    packed = packed_waves(
        tmp_path, lambda number: 0.2 * np.random.default_rng(number).normal(size=2 * RATE), train=20, val=2, eval=8
    )
    settings = SETTINGS | {"codes": 4, "code_steps": 20, "windows": 50}
    prepare(packed, **settings)
    made, task, _ = trained(packed, ("tokens", {}), settings=settings, max_steps=60, batch_size=16, learning_rate=5e-3)
    data = data_of(packed, "eval", ("tokens", {}), **settings)
    y = data.batch(torch.arange(len(data)))[1]
    shares = np.bincount(y.numpy().ravel(), minlength=4) / len(y)
    entropy = -(shares * np.log2(shares)).sum()
    assert entropy > 1
    assert entropy - 0.05 < task.score(made, data)[:, 0].mean() < entropy + 0.2


# --- floors


def test_floors_are_counts_of_single_codes_and_of_pairs_with_the_last_code_heard(toy, monkeypatch):
    clips = [np.random.default_rng(number).integers(8, size=24) for number in range(9)]
    monkeypatch.setattr(patch_codes, "code_sequences", lambda *_: clips)
    found, counts = task_of(spec_of(toy)).floor_scores(toy), NGrams(clips, 8, 2)
    assert [*found] == ["unigram", "bigram"]
    for number in range(4):
        clip = clip_of(toy, "eval", number)
        places = [SIZE + (2 * i + 1) * (len(clip) - SIZE - PATCH + 1) // 8 for i in range(4)]
        pairs = [np.array([code_at(toy, clip, place - PATCH), code_at(toy, clip, place)]) for place in places]
        for order, name in enumerate(found, 1):
            expected = np.mean([counts.score(pair, order)[1] for pair in pairs], axis=0)
            assert found[name][number] == pytest.approx(expected, rel=1e-5), name


# --- the file


def test_codes_that_are_missing_damaged_or_of_another_pack_are_refused(mine):
    spec, path = spec_of(mine), codes_file(mine)
    task = task_of(spec)
    # nothing to say before there are any
    task.require(spec, mine)
    refused(lambda: task.data(mine, "val", spec.recipe), f"{path.name}: missing: the pack has no codes of patches")
    prepare(mine)
    task.require(spec, mine)
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    for change, message in (
        (lambda: path.write_bytes(b"no codes"), r"damaged \("),
        (lambda: path.write_bytes(whole[: len(whole) // 2]), r"damaged \("),
        (lambda: path.write_bytes(whole[:5000] + b"\0\1\2\3" + whole[5004:]), r"damaged \("),
        (lambda: np.savez(path, **arrays | {"codebook": arrays["codebook"][:, 1:]}), r"damaged \(codebook is"),
        (lambda: np.savez(path, **arrays | {"codebook": np.array("text")}), r"damaged \("),
        (lambda: np.savez(path, codebook=arrays["codebook"]), r"damaged \('fingerprint'\)"),
        (
            lambda: np.savez(path, **arrays | {"fingerprint": np.array("f" * 64)}),
            "codes of another pack, with fingerprint ff",
        ),
    ):
        change()
        refused(lambda: task.require(spec, mine), f"{path.name}: {message}")
        refused(lambda: task.data(mine, "train", spec.recipe), f"{path.name}: {message}.*remove it, and `bench run`")


def test_each_setting_that_decides_codes_has_a_file_of_its_own(toy):
    others = {"codes": 9, "code_steps": 3, "mels": 10, "data": "generated", "classes": ["Bark"]}
    assert len({codes_file(toy), *(codes_file(toy, **{name: value}) for name, value in others.items())}) == 6
    # what models are given decides none
    assert codes_file(toy, seconds=0.5, windows=9) == codes_file(toy)


SUITE = f"""
title = "toy patches"
sample_rate = {RATE}
task = "next_patch"
seeds = 2
[task_settings]
seconds = 0.4
windows = 4
codes = 8
code_steps = 2
mels = 20
[train]
max_steps = 4
batch_size = 4
evaluations = 2
[[runs]]
name = "pooled"
architecture = "transformer_small"
config = {{ depth = 1, front_end_dim = 32, embed_dim = 16, num_heads = 2, head_dim = 8, mlp_dim = 32 }}
[[runs]]
name = "at_tokens"
architecture = "tokens"
"""


def test_runs_share_codes_that_are_made_once(mine, tmp_path, bench, monkeypatch):
    made, fitted = [], patch_codes._fitted
    monkeypatch.setattr(patch_codes, "_fitted", lambda *given: made.append(1) or fitted(*given))
    suite, out = tmp_path / "patches.toml", tmp_path / "out"
    suite.write_text(SUITE, "utf-8")
    given = ("run", suite, "--data", mine.folder, "--out", out, "--device", "cpu")
    assert bench(*given, "--dry-run").code == 0
    assert not codes_file(mine).exists(), "a dry run writes nothing"
    with monkeypatch.context() as quick:
        quick.setattr("bench.api.runs.report", no_tables)
        done = bench(*given)
        assert done.code == 0, done.err
    assert len(made) == 1
    assert [*mine.folder.glob("*codes*")] == [codes_file(mine)]
    finished = [*ResultsFolder(out).finished()]
    assert len(finished) == 4
    for folder in finished:
        record = folder.record()
        assert record.best_step == record.steps == 4
        assert record.cost["codes"] == 8
        assert set(record.floors) == {"unigram", "bigram"}
        assert set(record.metrics) == {"bits", "top5", "top1"}
        assert 0 < record.metrics["bits"] < 6
    # found anew, they are the same
    codes_file(mine).unlink()
    again = api.reproduce(finished[0].path, data=mine.folder, out=tmp_path / "again", device="cpu")
    assert again.verdict == "bitwise"


def test_codes_are_not_taken_for_classes(mine, tmp_path, bench, monkeypatch):
    """Where there are as many of them."""
    suite, out = tmp_path / "patches.toml", tmp_path / "out"
    suite.write_text(SUITE.replace("codes = 8", f"codes = {len(mine.labels)}"), "utf-8")
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    assert bench("run", suite, "--data", mine.folder, "--out", out, "--device", "cpu", "--only", "pooled").code == 0
    sf.write(tmp_path / "sound.wav", np.zeros(RATE), RATE)
    done = bench("predict", out / "pooled-s0", tmp_path / "sound.wav")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "of task next_patch, which has no classes; give a run of tagging" in done.err


def test_settings_that_cannot_be_are_one_line(mine, tmp_path, bench):
    suite = tmp_path / "patches.toml"
    suite.write_text(SUITE, "utf-8")
    for setting, message in (
        ("task_settings.seconds=1.2", "pooled: seconds=1.2, but no clip of train has the 1.24 s of a window and of"),
        ("task_settings.codes=1", "codes=1: Input should be greater than or equal to 2"),
        ("task_settings.mels=200", "pooled: mels=200, but "),
        ("task_settings.data='labels'", "data='labels': Input should be 'pack' or 'generated'"),
        ("task_settings.classes=['Bakr']", "'Bakr' is no class of"),
        ("train.schedule='plateau'", "schedule means nothing to task next_patch: leave it out"),
        ("train.early_stop=2", "early_stop means nothing to task next_patch: leave it out"),
    ):
        done = bench("run", suite, "--data", mine.folder, "--set", setting, "--out", tmp_path / "out")
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert message in done.err, done.err
    suite.write_text(f'{SUITE}config = {{ kind = "both" }}\n', "utf-8")
    done = bench("run", suite, "--data", mine.folder, "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "at_tokens: its logits at token 1 of 16 change with samples behind that token" in done.err
    assert not (tmp_path / "out").exists()
    assert not codes_file(mine).exists()


def test_clips_too_short_are_left_out(tmp_path):
    """Of clips of 1.0 to 1.3 s, those that have 1.16 s."""
    rng = np.random.default_rng(0)
    packed = packed_waves(tmp_path, lambda number: rng.normal(size=RATE + 400 * (number % 4)) * 0.1)
    task = task_with(SETTINGS | {"seconds": 1.12})
    for split in SPLITS:
        lengths = packed.clips(split)["length"].to_numpy()
        assert task.clips(packed, split).tolist() == np.flatnonzero(lengths >= 4640).tolist()
        assert 0 < len(task.clips(packed, split)) < len(lengths)
    prepare(packed)
    assert len(data_of(packed, "eval", seconds=1.12).targets) == len(task.clips(packed, "eval"))
