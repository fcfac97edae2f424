"""Learning before labels: contrastive pre-training, starts from other entries' weights, probes and shares of labels."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from torch import nn
from torch.nn import functional as F

import bench as bench_api
from architectures import ArchitectureConfig, get_architecture, register
from architectures._registry import forget
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.errors import UserError
from bench.protocol.build import build
from bench.protocol.frozen import head_names, set_training
from bench.protocol.metrics import macro_map
from bench.protocol.optim import optimizer_of
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task, task_of
from bench.protocol.tasks.contrast import Contrast, ContrastSettings, GeneratedViews, Views, nt_xent
from bench.protocol.train import batch_of, train_step
from bench.reporting.systems import load_results
from bench.runner.executors import LocalExecutor
from bench.runner.executors.jobs import JobsExecutor
from bench.runner.run import execute
from bench.runner.runs import run_all
from bench.runner.weights import begin, start_folder
from bench.store import ResultsFolder, RunFolder
from bench.store.trained import digest_of_weights
from bench.suites.plan import Run, Selection, contrasts, entries, plan
from bench.suites.suite import load_suite
from tests import test_two_at_once
from tests.conftest import TINY, make_run, make_spec
from tests.tiny_data import tiny_data

CPU = torch.device("cpu")
# of drawn weights, what starts from a pre-training, and that one
ENTRIES = f"""
[[runs]]
name = "scratch"
architecture = "transformer_small"
config = {{ {", ".join(f"{name} = {value}" for name, value in TINY.items())} }}

[[runs]]
name = "tuned"
base = "scratch"
init = "heard"

[[runs]]
name = "heard"
base = "scratch"
task = "contrast"
task_settings = {{ seconds = 0.5, projection = 12 }}
"""
SUITE = f"""
title = "pre-trained"
seeds = 2
[train]
max_steps = 6
batch_size = 8
evaluations = 2
gain_db = 3.0
{ENTRIES}train = {{ max_steps = 4 }}

[[runs]]
name = "probe"
base = "scratch"
init = "heard"
train = {{ freeze = true, label_share = 0.5 }}

[[runs]]
name = "again"
base = "scratch"
init = "tuned"
"""


SCORED = """
[[runs]]
name = "scored"
rescores = "tuned"
train = { aggregate = "max" }
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "pre.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def done(packed, tmp_path_factory):
    """The whole suite, run for real."""
    folder = tmp_path_factory.mktemp("pre")
    (folder / "pre.toml").write_text(SUITE)
    runs = planned(folder / "pre.toml", packed, folder / "out")
    assert run_all(runs, LocalExecutor(CPU)).failed == []
    return {run.name: run for run in runs}


def planned(suite, packed, out, **selected):
    results = ResultsFolder(out)
    runs = plan(load_suite(suite), [packed], results, Selection(**selected))
    for run in runs:
        run.results.add_labels(packed, run.task)
    results.add_to_plan("pre-trained", [run.folder.name for run in runs if run.results == results])
    return runs


# --- the loss, and what it is given


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_the_loss_is_that_of_another_library(temperature):
    x = torch.randn(24, 7, generator=torch.Generator().manual_seed(0))
    ours, others = x.clone().requires_grad_(), x.clone().requires_grad_()
    loss, reference = nt_xent(ours, temperature), NTXentLoss(temperature)(others, torch.arange(12).repeat(2))
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad, others.grad, rtol=1e-4, atol=1e-6)


def views_of(packed, split="train", recipe=None, **settings):
    task = Contrast().with_settings(settings, "here")
    return Views(task, packed, split, task.clips(packed, split), recipe or Recipe(), "cpu")


def test_views_are_of_one_clip_do_not_overlap_and_reach_all_of_it(packed):
    views = views_of(packed, seconds=0.5)
    size, starts = views.size, {}
    for step in range(40):
        ids = views.draw(step, 32, seed=0)
        clips, first, second = ids.T
        assert len(set(clips.tolist())) == 16, "one clip twice would be its own negative"
        assert ((second - first).abs() >= size).all()
        assert (ids[:, 1:].min(), (ids[:, 1:].max(dim=1).values + size <= views.length_of[clips]).all()) >= (0, True)
        x, y = views.batch(ids)
        assert (x.shape, y.shape) == ((32, size), (32, 1))
        clip, start = int(clips[3]), int(second[3])
        begin = int(views.first[clip]) + start
        assert np.array_equal(x[16 + 3].numpy(), packed.samples("train")[begin : begin + size] / np.float32(32768))
        for clip, *both in ids.tolist():
            starts.setdefault(clip, []).extend(both)
    ends = [(min(s), max(s) + size - int(views.length_of[clip])) for clip, s in starts.items() if len(s) > 15]
    near = packed.sample_rate // 2
    assert np.mean([low < near and high > -near for low, high in ends]) > 0.5
    assert torch.equal(views.draw(5, 8, 1), views.draw(5, 8, 1))
    assert not torch.equal(views.draw(5, 8, 1), views.draw(5, 8, 2))


def test_augmented_views_are_of_one_chunk_and_differ(packed):
    recipe = Recipe(gain_db=6.0, time_shift=0.5, batch_size=8)
    views = views_of(packed, recipe=recipe, views="augmented")
    ids = views.draw(0, 8, 0)
    assert torch.equal(ids[:, 1], ids[:, 2])
    x, _ = batch_of(views, recipe, 0, 0)
    one, other = x.chunk(2)
    assert not torch.equal(one, other)
    levels = [x.abs().amax(dim=1) for x in (one, other)]
    assert (20 * (levels[0] / levels[1]).log10()).abs().max() <= 12.01
    of_eval = views_of(packed, "eval", recipe, views="augmented")
    pairs = of_eval.pairs(torch.arange(4)).unflatten(0, (2, -1))
    assert torch.equal(pairs[:, 2:], of_eval.pairs(torch.arange(2, 4)).unflatten(0, (2, -1))), "whatever the batches"
    assert not torch.equal(*pairs)


def test_what_is_repeated_to_fill_a_second_is_no_other_view(tmp_path):
    made = pack(tiny_data(tmp_path / "data", sample_rate=4000, seconds=0.7), tmp_path / "pack", sample_rate=4000)
    assert (made.clips("train")["length"] == 4000).all()
    counts = [len(Contrast().with_settings({"seconds": s}, "").clips(made, "train")) for s in (0.35, 0.4)]
    assert counts == [len(made.clips("train")), 0]


def test_generated_views_read_nothing_and_are_a_function_of_seed_and_step(packed, monkeypatch):
    task = Contrast().with_settings({"data": "generated", "seconds": 0.25}, "here")
    data = task.data(packed, "train", Recipe())
    assert isinstance(data, GeneratedViews)
    monkeypatch.setattr(Pack, "samples", lambda *_: pytest.fail("read"))
    x, _ = data.batch(data.draw(3, 6, 1))
    assert x.shape == (6, packed.sample_rate // 4)
    again, other = (data.batch(data.draw(step, 6, 1))[0] for step in (3, 4))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)


def test_scores_are_those_of_a_loop(packed):
    views = views_of(packed, "eval", seconds=0.5, candidates=5, projection=3)
    task = Contrast().with_settings({"seconds": 0.5, "candidates": 5, "projection": 3}, "here")
    weight = torch.randn(views.size, 3, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.Linear(views.size, 3, bias=False))
    model[0].weight.data = weight.T.contiguous()
    scores = task.score(model, views)
    samples, clips = packed.samples("eval").astype(np.float32) / 32768, len(views.targets)
    starts, ends = views.first.numpy(), (views.first + views.length_of).numpy()
    first, second = (
        F.normalize(torch.from_numpy(np.stack([samples[b : b + views.size] for b in begins])) @ weight, dim=1)
        for begins in (starts, ends - views.size)
    )
    for clip in range(clips):
        others = [(clip + place) % clips for place in range(5)]
        similar = np.array([float(first[clip] @ second[other]) for other in others]) / 0.1
        bits = np.log2(np.exp(similar - similar.max()).sum()) - (similar[0] - similar.max()) / np.log(2)
        assert scores[clip, 0] == pytest.approx(bits, abs=1e-3)
        assert scores[clip, 1] == (similar[0] > similar[1:].max())
    assert task.floors(packed.targets("eval")) == {"chance": np.log2(5)}


def test_an_encoder_that_says_the_same_of_all_is_at_chance():
    task = Contrast()
    same = torch.ones(200, 128, dtype=torch.float64) / 128**0.5
    scores = task._judged(same, same)
    assert scores[:, 0].numpy() == pytest.approx(6.0)
    assert scores[:, 1].sum() == 0
    # one that tells all apart needs next to nothing
    apart = torch.eye(128, dtype=torch.float64)
    assert task._judged(apart, apart)[:, 0].max() < 0.005


# --- what it reads


def weights_of(packed, out, **changed):
    spec = make_spec(packed, max_steps=3, loss="nt_xent", evaluations=3)
    config = spec.config | {"num_classes": 12}
    values = {"task": "contrast", "task_settings": {"projection": 12, "seconds": 0.5}, "config": config}
    spec = spec.model_copy(update=values | changed)
    run = Run(spec, packed, ResultsFolder(out).run(spec))
    execute(run, CPU)
    return load_file(run.folder.weights_file)


def test_neither_labels_nor_val_nor_eval_change_a_weight(packed, tmp_path, monkeypatch):
    plain = weights_of(packed, tmp_path / "plain")
    targets, samples = Pack.targets, Pack.samples
    rng = np.random.default_rng(0)
    monkeypatch.setattr(Pack, "targets", lambda pack, split: targets(pack, split)[:, ::-1].copy())
    assert same(plain, weights_of(packed, tmp_path / "labels"))

    def noise(pack, split):
        found = samples(pack, split)
        return found if split == "train" else rng.integers(-999, 999, found.shape).astype(np.int16)

    monkeypatch.setattr(Pack, "samples", noise)
    assert same(plain, weights_of(packed, tmp_path / "others"))
    monkeypatch.setattr(Pack, "samples", lambda pack, split: samples(pack, split)[::-1].copy())
    assert not same(plain, weights_of(packed, tmp_path / "train"))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_last_weights_are_kept_whatever_val_says(packed, tmp_path, monkeypatch):
    plain = weights_of(packed, tmp_path / "plain")
    scores = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(Contrast, "selection_score", lambda *_: next(scores))
    assert same(plain, weights_of(packed, tmp_path / "worse"))


# --- starts


def test_pretrainings_lie_within_the_results_and_are_not_compared(done):
    results = done["scratch-s0"].results
    assert {run.results.path.relative_to(results.path).as_posix() for run in done.values()} == {
        ".", "contrast-seconds_0.5",
    }  # fmt: skip
    loaded = load_results(results.path)
    assert {system.name for system in loaded.systems} == {"scratch", "tuned", "probe", "again"}
    assert loaded.missing == ()
    inner = load_results(done["heard-s0"].results.path)
    assert [system.name for system in inner.systems] == ["heard"]
    assert inner.task.primary.name == "bits"


def test_each_seed_starts_from_its_own_and_the_record_says_so(done):
    for seed in (0, 1):
        heard, tuned, again = (done[f"{name}-s{seed}"] for name in ("heard", "tuned", "again"))
        assert tuned.spec.init == heard.spec.hash
        assert again.spec.init == tuned.spec.hash
        record = tuned.folder.record()
        assert record.init["entry"] == "heard"
        assert (record.init["steps"], record.init["examples"], record.init["source"]) == (4, 32, "pack")
        assert record.init["new"] == ["head.3.weight", "head.3.bias"]
        # of its own task, the head is taken, too
        assert again.folder.record().init["new"] == []
    assert done["tuned-s0"].spec.system == done["tuned-s1"].spec.system
    assert done["tuned-s0"].spec.system != done["scratch-s0"].spec.system


def test_what_fits_is_taken_and_the_rest_is_as_the_seed_draws_it(done):
    run = done["tuned-s1"]
    model, start = begin(run.spec, run.init.folder, CPU)
    heard, drawn = load_file(run.init.folder.weights_file), build(run.spec, CPU).state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, drawn[name] if name in start.new else heard[name]), name
    assert set(start.new) == head_names(run.spec.architecture, run.spec.config)


def test_untrained_is_what_training_began_with(done):
    records = {name: done[f"{name}-s0"].folder.record() for name in ("scratch", "tuned", "again")}
    assert records["tuned"].untrained["map"] != records["scratch"].untrained["map"]
    assert records["again"].untrained["map"] == pytest.approx(records["tuned"].metrics["map"], abs=1e-6)


def test_what_scores_the_weights_of_another_has_that_ones_start(packed, done, tmp_path):
    out = shutil.copytree(done["scratch-s0"].results.path, tmp_path / "out")
    path = tmp_path / "scored.toml"
    path.write_text(SUITE + SCORED)
    runs = planned(path, packed, out, seeds=1)
    assert run_all(runs, LocalExecutor(CPU)).failed == []
    records = {run.spec.name: run.folder.record() for run in runs}
    assert records["scored"].init == records["tuned"].init != {}


def test_a_probe_leaves_the_body_bitwise_as_it_was(done):
    heard, probe = (load_file(done[f"{name}-s0"].folder.weights_file) for name in ("heard", "probe"))
    changed = {name for name in probe if name not in heard or not torch.equal(probe[name], heard[name])}
    assert changed == {"head.3.weight", "head.3.bias"}
    cost = [done[f"{name}-s0"].folder.record().cost["parameters"] for name in ("scratch", "probe")]
    assert cost[0] == cost[1]


def frozen_spec(packed, architecture):
    config = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels)}
    spec = make_spec(packed, max_steps=2, evaluations=2, freeze=True)
    return spec.model_copy(update={"architecture": architecture, "config": config})


def changed(spec, trained):
    drawn = build(spec, CPU).state_dict()
    return {name for name in drawn if not torch.equal(drawn[name], trained[name])}


def test_running_means_of_what_is_frozen_stay(packed, tmp_path):
    spec = frozen_spec(packed, "vgg_like")
    run = Run(spec, packed, ResultsFolder(tmp_path).run(spec))
    execute(run, CPU)
    assert changed(spec, load_file(run.folder.weights_file)) == head_names("vgg_like", spec.config)


@pytest.mark.parametrize("architecture", ["crnn", "resnet18", "densenet121"])
def test_a_step_of_a_probe_changes_the_head_alone(packed, architecture):
    spec = frozen_spec(packed, architecture)
    model, recipe = build(spec, CPU), spec.recipe
    set_training(model, recipe)
    x, y = task_of(spec).example(2, 16_000, len(packed.labels))
    train_step(model, optimizer_of(model, recipe), x, y, task_of(spec), recipe)
    head = head_names(architecture, spec.config)
    assert head
    assert changed(spec, model.state_dict()) == head


class Levels(nn.Module):
    """The levels of a sound and of its differences, through a layer: few, so that no class is told without an error."""

    def __init__(self, config):
        super().__init__()
        self.body, self.head = nn.Linear(2, 3), nn.Linear(3, config.num_classes)

    def forward(self, x):
        levels = [(x[:, ::8].diff(n=n).square().mean(dim=1) + 1e-7).log() for n in range(2)]
        return self.head(self.body((torch.stack(levels, dim=1) + 8) / 3).tanh())


@pytest.fixture
def levels():
    register("levels", family="cnn", config=ArchitectureConfig(), in_all=False)(Levels)
    yield get_architecture("levels")
    forget(["levels"])


def test_a_probe_is_a_logistic_regression_on_what_the_body_hears(packed, tmp_path, levels):
    chunks = len(get_task("tagging").data(packed, "train", make_spec(packed).recipe))
    recipe = {"max_steps": 500, "evaluations": 1, "learning_rate": 1.0, "batch_size": chunks}
    spec = make_spec(packed, freeze=True, **recipe)
    config = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels)}
    spec = spec.model_copy(update={"architecture": "levels", "config": config, "source": levels.source})
    run = Run(spec, packed, ResultsFolder(tmp_path).run(spec))
    execute(run, CPU)
    features = {split: heard(run, split) for split in ("train", "eval")}
    x, y, _ = features["train"]
    # of a rare one, the regression has no end
    common = y.sum(axis=0) > 12
    fitted = OneVsRestClassifier(LogisticRegression(C=1e6, max_iter=5000, tol=1e-8)).fit(x, y[:, common])
    x, _, clip = features["eval"]
    targets = packed.targets("eval")[:, common]
    scores = np.stack([np.bincount(clip, of) / np.bincount(clip) for of in fitted.predict_proba(x).T], axis=1)
    ours = run.folder.scores(packed.targets("eval").shape)[:, common]
    assert macro_map(targets, ours) == pytest.approx(macro_map(targets, scores), abs=1e-3)
    assert np.abs(ours - scores).max() < 0.1
    assert scores.std(axis=0).max() > 0.05, "it has learned something to compare"


def heard(run, split):
    """Return what the head of a run's drawn model is given of each chunk, the chunks' labels, and their clips."""
    model, given = build(run.spec, CPU).eval(), []
    model.head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    data = get_task("tagging").data(run.pack, split, run.spec.recipe)
    with torch.no_grad():
        model(data.waveforms(torch.arange(len(data))))
    clip = data.clip.numpy()
    return torch.cat(given).numpy(), run.pack.targets(split)[clip], clip


# --- shares of labels


def test_a_share_of_labels_is_all_that_is_trained_on(packed):
    run = make_run(packed, packed.folder / "none", label_share=0.25)
    data = run.task.data(packed, "train", run.spec.recipe)
    every = run.task.data(packed, "train", make_spec(packed).recipe)
    assert len(data.targets) == -(-len(every.targets) // 4)
    other = replace(run, spec=run.spec.model_copy(update={"seed": 1})).task.data(packed, "train", run.spec.recipe)
    assert not torch.equal(other.targets, data.targets)
    rows = packed.targets("train")
    for clip in range(len(data.targets)):
        first = int(data.start[data.clip == clip][0])
        number = int(np.flatnonzero(packed.clips("train")["start"].to_numpy() == first)[0])
        assert np.array_equal(data.targets[clip].numpy() > 0, rows[number])
    assert len(run.task.data(packed, "val", run.spec.recipe).targets) == len(packed.clips("val"))


# --- plans


def test_a_start_is_planned_before_what_starts_from_it(suite):
    declared = load_suite(suite)
    names = [entry.name for entry in entries(declared)]
    assert names == ["scratch", "heard", "tuned", "probe", "again"]
    assert [entry.name for entry in entries(declared, ["again"])] == ["heard", "tuned", "again"]


def test_a_grid_crosses_all_but_pretrainings(tmp_path):
    text = SUITE.replace("[[runs]]", "[grid]\ntrain.learning_rate = [1e-3, 1e-4]\n\n[[runs]]", 1)
    text = text.replace('base = "scratch"', 'architecture = "transformer_small"')
    path = tmp_path / "grid.toml"
    path.write_text(text + '[[contrasts]]\nname = "a"\nentries = { heard = 1, "tuned-learning_rate_0.001" = -1 }\n')
    declared = load_suite(path)
    crossed = entries(declared.model_copy(update={"contrasts": []}))
    inits = {entry.name: entry.init for entry in crossed}
    assert inits == {
        "scratch-learning_rate_0.001": "", "scratch-learning_rate_0.0001": "", "heard": "",
        "tuned-learning_rate_0.001": "heard", "tuned-learning_rate_0.0001": "heard",
        "probe-learning_rate_0.001": "heard", "probe-learning_rate_0.0001": "heard",
        "again-learning_rate_0.001": "tuned-learning_rate_0.001",
        "again-learning_rate_0.0001": "tuned-learning_rate_0.0001",
    }  # fmt: skip
    with pytest.raises(UserError, match="heard"):
        contrasts(declared)


def test_what_starts_from_a_run_that_failed_fails_too(suite, packed, tmp_path, monkeypatch):
    runs = planned(suite, packed, tmp_path / "out", seeds=1, only=["tuned"])
    monkeypatch.setattr(Contrast, "loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    outcome = run_all(runs, LocalExecutor(CPU))
    assert [name.rsplit("-", 1)[0] for name in outcome.failed] == ["heard-s0", "tuned-s0"]
    failed = runs[1].folder.failure()["error"]
    assert "heard-s0" in failed
    assert "has not finished" in failed


def test_several_at_once_come_to_the_same(suite, packed, done, tmp_path):
    runs = planned(suite, packed, tmp_path / "out", seeds=1)
    with JobsExecutor([CPU, CPU], 1, int) as executor:
        assert run_all(runs, executor).failed == []
    for run in runs:
        assert same(load_file(run.folder.weights_file), load_file(done[run.name].folder.weights_file)), run.name


def test_a_part_does_what_starts_from_it(suite, packed, tmp_path, bench):
    command = ("run", suite, "--data", packed.folder, "--out", tmp_path / "out", "--no-report", "--seeds", 1)
    ended = bench(*command, "--part", "tuned-s0")
    assert ended.code == 2
    assert "starts from the weights of heard-s0, which is not finished: say --part heard-s0" in ended.err
    assert bench(*command, "--part", "heard-s0").code == 0
    names = {path.parent.name.rsplit("-", 1)[0] for path in (tmp_path / "out").rglob("run.json")}
    assert names == {"heard-s0", "tuned-s0", "probe-s0", "again-s0"}


def test_weights_that_are_gone_are_told_before_anything_trains(suite, packed, done, tmp_path, bench):
    out = shutil.copytree(done["scratch-s0"].results.path, tmp_path / "out")
    for path in out.glob("tuned-s0-*/run.json"):
        path.unlink()
    heard = next(out.glob("contrast-*/heard-s0-*"))
    (heard / "model.safetensors").unlink()
    ended = bench("run", suite, "--data", packed.folder, "--out", out, "--no-report")
    assert ended.code == 2
    assert "model.safetensors: no weights" in ended.err


def test_weights_of_another_hash_are_refused(done, tmp_path):
    run = done["tuned-s0"]
    other = RunFolder(shutil.copytree(done["heard-s1"].folder.path, tmp_path / "heard"))
    with pytest.raises(UserError, match=f"of a run with hash {done['heard-s1'].spec.hash}, not {run.spec.init}"):
        begin(run.spec, other, CPU)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('init = "heard"', 'init = "herd"', "tuned: init='herd' is no entry of this suite"),
        ('init = "heard"', 'init = "tuned"', "tuned: init='tuned': it would start from its own weights"),
        ('name = "heard"\n', 'name = "heard"\ninit = "again"\n', "it would start from its own weights"),
        ('base = "scratch"\ntask', 'architecture = "vgg_like"\ntask', "has architecture='vgg_like', not"),
        ('task = "contrast"', 'task = "contrasts"', "no task 'contrasts'"),
        ("projection = 12", "projektion = 12", "unknown field 'projektion'"),
        ("{ max_steps = 4 }", "{ max_steps = 4, mixup = 0.5 }", "mixup means nothing to task contrast"),
        ("{ max_steps = 4 }", "{ max_steps = 4, label_share = 0.5 }", "label_share means nothing to task contrast"),
        ("{ max_steps = 4 }", "{ freeze = true }", "freeze means nothing to task contrast"),
        ("{ max_steps = 4 }", '{ schedule = "plateau" }', "schedule means nothing to task contrast"),
        ("{ max_steps = 4 }", "{ early_stop = 2 }", "early_stop means nothing to task contrast"),
        ("{ max_steps = 4 }", "{ batch_size = 7 }", "batch_size=7 views are no pairs: make it even, and 4 at least"),
        ("{ max_steps = 4 }", "{ batch_size = 2 }", "batch_size=2 views have none to be told from"),
        ("seconds = 0.5,", 'seconds = 1.5, data = "generated",', "3 s are heard of each note, but some are silent"),
        ("seconds = 0.5,", 'seconds = 1.0, data = "generated",', None),
        ('init = "tuned"', 'init = "scored"', "again: init='scored' scores the weights of tuned: write init = 'tuned'"),
        (
            'base = "scratch"\ninit = "tuned"',
            'base = "heard"\ninit = "tuned"',
            "again: base='heard' is of task contrast: write task",
        ),
        (
            '"heard"\n\n[[runs]]',
            '"heard"\n\n[[contrasts]]\nname = "c"\nentries = { tuned = 1, heard = -1 }\n[[runs]]',
            "'heard' is a pre-training, which nothing is compared with",
        ),
        ("{ max_steps = 4 }", "{ batch_size = 5000 }", "do not fill it"),
        ("seconds = 0.5,", "seconds = 25.0,", "as long as the views"),
        ("seconds = 0.5,", 'views = "augmented", ', None),
        ("gain_db = 3.0\n", "\n", None),
        ("label_share = 0.5", "label_share = 0.0", "label_share=0.0"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_trains(old, new, words, packed, tmp_path, bench):
    assert old in SUITE
    path = tmp_path / "wrong.toml"
    path.write_text(SUITE.replace(old, new, 1) + SCORED * ("scored" in new))
    ended = bench("run", path, "--data", packed.folder, "--out", tmp_path / "out", "--no-report", "--dry-run")
    if words is None:
        assert ended.code == 0, ended.err
        return
    assert ended.code == 2
    assert words in ended.err
    assert not (tmp_path / "out").exists()


def test_a_start_that_does_not_fit_is_told_before_it_is_trained(packed, tmp_path, bench):
    path = tmp_path / "wrong.toml"
    probe = 'init = "heard"\ntrain = { freeze'
    path.write_text(SUITE.replace(probe, f"config = {{ depth = 2 }}\n{probe}", 1))
    ended = bench("run", path, "--data", packed.folder, "--out", tmp_path / "out", "--no-report")
    assert ended.code == 2
    assert "probe: freeze would leave blocks.1" in ended.err
    assert "which heard has not: give it the config of its start" in ended.err
    assert not [*tmp_path.glob("out/**/run.json")]


def test_a_suite_of_probes_pretrains_all_weights(packed, tmp_path):
    path = tmp_path / "probes.toml"
    more = 'freeze = true\nschedule = "plateau"\nearly_stop = 1\n'
    path.write_text(SUITE.replace("gain_db = 3.0\n", f"gain_db = 3.0\n{more}", 1))
    runs = plan(load_suite(path), [packed], ResultsFolder(tmp_path), Selection(overrides={"patience": 2}))
    recipes = {run.spec.name: run.spec.recipe for run in runs}
    asked = {name: (r.freeze, r.schedule, r.early_stop, r.patience) for name, r in recipes.items()}
    assert asked["scratch"] == (True, "plateau", 1, 2)
    assert asked["heard"] == (False, "cosine", 0, 3)


def test_an_init_is_taken_back_by_an_empty_one(tmp_path):
    path = tmp_path / "back.toml"
    path.write_text(f'{SUITE}[[runs]]\nname = "drawn"\nbase = "probe"\ninit = ""\n')
    assert {e.name: e.init for e in entries(load_suite(path))}["drawn"] == ""
    path.write_text(f'{SUITE}[[runs]]\nname = "tagged"\nbase = "heard"\ntask = ""\n')
    assert not load_suite(path).is_pretraining(load_suite(path).resolved(load_suite(path).runs[-1]))


def test_a_pretraining_that_nobody_waits_for_is_not_made_again(suite, packed, done, tmp_path):
    out = shutil.copytree(done["scratch-s0"].results.path, tmp_path / "out", ignore=shutil.ignore_patterns("contrast*"))
    assert "heard-s0" not in {run.name for run in planned(suite, packed, out)}
    with pytest.raises(UserError, match="all that starts from it is finished: --only heard trains"):
        bench_api.run(str(suite), data=packed.folder, out=out, part="heard-s0", seeds=2, report=False)
    next(out.glob("probe-s1-*/run.json")).unlink()
    assert [run.name for run in planned(suite, packed, out) if run.spec.name == "heard"] == ["heard-s1"]
    assert {run.name for run in planned(suite, packed, out, only=["heard"])} == {"heard-s0", "heard-s1"}


def test_a_share_says_of_how_many_classes_it_has_no_clip(packed, tmp_path):
    run = make_run(packed, tmp_path, label_share=0.05)
    shown = test_two_at_once.Lines()
    execute(run, CPU, shown)
    (line,) = (line for line in shown.lines if "label_share" in line)
    taken = run.task.data(packed, "train", run.spec.recipe).targets
    left = int((packed.targets("train").any(axis=0) & ~(taken > 0).any(dim=0).numpy()).sum())
    assert f"label_share=0.05 leaves {left} of " in line


@pytest.mark.parametrize("name", ["init", "task"])
def test_a_search_has_neither_starts_nor_pretrainings(name, tmp_path):
    path = tmp_path / "wrong.toml"
    given = {"init": 'init = "one"', "task": 'task = "contrast"'}[name]
    runs = [f'[[runs]]\nname = "{entry}"\narchitecture = "vgg_like"\n' for entry in ("one", "two")]
    space = "[space]\nlearning_rate = { low = 1e-4, high = 1e-3, log = true }\n[budget]\ntrials = 2\n"
    path.write_text(f'title = "a"\n{space}{"".join(runs)}{given}\n')
    with pytest.raises(UserError, match=f"two: {name} and .space. exclude each other"):
        load_suite(path)


def test_augmented_views_need_an_augmentation(packed, tmp_path, bench):
    path = tmp_path / "wrong.toml"
    path.write_text(SUITE.replace("seconds = 0.5,", 'views = "augmented",').replace("gain_db = 3.0\n", ""))
    ended = bench("run", path, "--data", packed.folder, "--out", tmp_path / "out", "--dry-run")
    assert ended.code == 2
    assert "are the same twice: set gain_db or time_shift" in ended.err


def test_settings_that_are_as_before_are_not_in_a_hash():
    assert "freeze" not in Recipe().identity()
    assert "label_share" not in Recipe().identity()
    assert ContrastSettings().identity()["views"] == "chunks"


def test_a_record_says_what_the_start_was(done):
    records = {
        name: json.loads(done[f"{name}-s0"].folder.record_file.read_text()) for name in ("heard", "tuned", "again")
    }
    heard, tuned, again = records.values()
    assert tuned["init"]["task_settings"]["projection"] == 12
    assert tuned["init"]["train_seconds"] == heard["cost"]["train_seconds"]
    assert tuned["init"]["weights"] == digest_of_weights(done["heard-s0"].folder)
    # of a chain, all that was heard
    assert (again["init"]["steps"], again["init"]["examples"]) == (4 + 6, 4 * 8 + 6 * 8)
    both = heard["cost"]["train_seconds"] + tuned["cost"]["train_seconds"]
    assert again["init"]["train_seconds"] == pytest.approx(both, abs=0.002)
    assert "init" not in json.loads(done["scratch-s0"].folder.record_file.read_text())


def test_a_start_that_was_made_again_is_not_taken_for_the_one_that_was(done, tmp_path):
    out = shutil.copytree(done["scratch-s0"].results.path, tmp_path / "out")
    tuned = RunFolder(next(out.glob("tuned-s0-*")))
    start = start_folder(tuned, tuned.record())
    assert start.path.parent.name == "contrast-seconds_0.5"
    shutil.copy(done["heard-s1"].folder.weights_file, start.weights_file)
    with pytest.raises(UserError, match=r"started from other weights than .* has now, which was made again"):
        start_folder(tuned, tuned.record())
    # that of another folder beside these results is not looked for
    shutil.rmtree(start.path.parent)
    shutil.copytree(done["heard-s0"].results.path, tmp_path / "other")
    with pytest.raises(UserError, match="which is not beside it"):
        start_folder(tuned, tuned.record())


def test_starts_of_one_hash_and_other_weights_are_not_mixed(done, tmp_path):
    """As they are where a start was made again on a GPU, or on another machine."""
    out = shutil.copytree(done["scratch-s0"].results.path, tmp_path / "out")
    path = next(out.glob("probe-s0-*/run.json"))
    record = json.loads(path.read_text())
    record["init"]["weights"] = "0" * 16
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"started from other weights of heard seed 0 than (tuned|probe)-s0"):
        load_results(out)
