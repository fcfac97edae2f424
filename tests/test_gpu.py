"""On a GPU: recorded and compiled steps are the steps, TF32 is what it says, and the pack stays where it is.

Skipped where there is none: `pytest -m gpu` runs these alone.
"""

import shutil
from functools import partial

import pytest
import torch

from architectures import config_values, configure, create, list_architectures
from bench.data.pack import Pack
from bench.protocol import batches, compiled
from bench.protocol.build import build
from bench.protocol.compiled import CompiledStep, MeasuredStep
from bench.protocol.cuda_graphs import RecordedStep
from bench.protocol.optim import optimizer_of
from bench.protocol.precision import computes_bf16, computes_tf32, fp32_means_fp32
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task, task_of
from bench.protocol.train import batch_of, step_of, train, train_step
from bench.runner.run import execute
from bench.store import ResultsFolder
from bench.suites.plan import Run
from tests.conftest import TINY, make_run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

GPU = torch.device("cuda", 0)
TASK = get_task("tagging")
ALL = list_architectures(task="tagging", in_all_only=True)


def trained(name, recipe, *, recorded, steps=8, told=None):
    """The losses of some steps on the same chunks, and the weights after them."""
    fp32_means_fp32()
    torch.manual_seed(0)
    model = create(name, num_classes=20).to(GPU).train()
    optimizer = optimizer_of(model, recipe)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 16_000, generator=generator).mul(0.1).to(GPU)
    y = (torch.rand(4, 20, generator=generator) < 0.1).float().to(GPU)
    if recorded:
        step = step_of(model, optimizer, TASK, recipe, GPU, steps, (told if told is not None else []).append)
    else:
        step = None
    losses = [(step(x, y) if step else train_step(model, optimizer, x, y, TASK, recipe)).item() for _ in range(steps)]
    return torch.tensor(losses), torch.cat([p.detach().flatten() for p in model.parameters()]), step


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("name", ALL)
def test_recorded_steps_are_the_steps(name, precision):
    recipe, told = Recipe(loss="bce", learning_rate=1e-4, precision=precision), []
    losses, weights, _ = trained(name, recipe, recorded=False)
    again, others, step = trained(name, recipe, recorded=True, told=told)
    assert isinstance(step, RecordedStep)
    assert (step.refused, told) == (False, [])
    # sums in another order, where kernels add up as they come
    tolerance = 2e-2 if precision == "bf16" else 2e-3
    torch.testing.assert_close(again, losses, rtol=tolerance, atol=tolerance)
    # Adam's steps have the rate's size, whatever the gradient's
    torch.testing.assert_close(others, weights, rtol=0, atol=2 * 8 * recipe.learning_rate)


@pytest.mark.parametrize("name", ["transformer_small", "vgg_like", "crnn"])
def test_compiled_steps_are_the_steps(name):
    recipe, told = Recipe(loss="bce", learning_rate=1e-4), []
    losses, _, _ = trained(name, recipe, recorded=False)
    again, _, step = trained(name, recipe.model_copy(update={"compile": "on"}), recorded=True, told=told)
    assert isinstance(step, CompiledStep)
    assert (step.is_compiled, told) == (True, [])
    torch.testing.assert_close(again, losses, rtol=2e-3, atol=2e-3)


def test_auto_compiles_where_much_is_left_to_train(monkeypatch):
    monkeypatch.setattr(compiled, "_found", {})
    monkeypatch.setattr(compiled, "_WORTH", 0.0)
    recipe = Recipe(loss="bce", learning_rate=1e-4, compile="auto", precision="bf16")
    losses, _, step = trained("transformer_small", recipe, recorded=True, steps=60)
    assert isinstance(step, MeasuredStep)
    assert step.is_settled
    assert step.seconds > 0
    assert torch.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_tf32_is_less_exact_than_fp32_and_only_while_training():
    assert computes_tf32(GPU)
    assert computes_bf16(GPU)
    fp32_means_fp32()
    torch.manual_seed(0)
    model = create("vgg_like", num_classes=20).train()
    # an input's own seed: one draw for both devices
    x = torch.randn(4, 16_000, generator=torch.Generator().manual_seed(1)).mul(0.1)
    on_cpu = model.eval()(x).detach()
    model = model.to(GPU)
    with torch.inference_mode():
        exact = (model(x.to(GPU)).cpu() - on_cpu).abs().max()
        recipe = Recipe(loss="bce", precision="tf32", learning_rate=1e-9)
    step = step_of(model.train(), optimizer_of(model, recipe), TASK, recipe, GPU, 8)
    for _ in range(8):
        step(x.to(GPU), torch.zeros(4, 20, device=GPU))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert exact < 1e-3 * on_cpu.abs().max()


def test_a_run_on_the_gpu_is_a_run(packed, tmp_path, monkeypatch):
    """Twice, by two seeds: the pack is copied once, the cost measured once; and the CPU comes to the same scores."""
    monkeypatch.setattr(batches, "_kept", {})
    first = execute(make_run(packed, tmp_path, max_steps=20, learning_rate=1e-3), GPU)
    kept = {key: samples.data_ptr() for key, samples in batches._kept.items()}
    assert {split for _, split, _ in kept} == {"train", "val", "eval"}
    second = execute(make_run(packed, tmp_path, max_steps=20, learning_rate=1e-3, seed=1), GPU)
    assert {key: samples.data_ptr() for key, samples in batches._kept.items()} == kept
    assert first.cost["latency_seconds"] == second.cost["latency_seconds"]
    assert first.cost["train_memory_bytes"] > 0
    on_cpu = execute(make_run(packed, tmp_path / "cpu", max_steps=20, learning_rate=1e-3), torch.device("cpu"))
    assert first.untrained["map"] == pytest.approx(on_cpu.untrained["map"], abs=1e-3)
    assert first.metrics["map"] == pytest.approx(on_cpu.metrics["map"], abs=0.02)


def test_training_resumes_on_the_gpu(packed, tmp_path):
    from bench.protocol.checkpoint import Checkpoint
    from tests.conftest import make_spec

    spec = make_spec(packed, max_steps=30, learning_rate=1e-3)
    data, val = (TASK.data(packed, split, spec.recipe, GPU) for split in ("train", "val"))
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "code", spec.hash)

    class Stop(Exception):
        pass

    def stop(status):
        if status.step == 20:
            raise Stop

    with pytest.raises(Stop):
        train(build(spec, GPU), data, val, TASK, spec.recipe, seed=0, checkpoint=checkpoint, report=stop)
    model = build(spec, GPU)
    state = train(model, data, val, TASK, spec.recipe, seed=0, checkpoint=checkpoint)
    whole = train(build(spec, GPU), data, val, TASK, spec.recipe, seed=0)
    assert state.step == 30
    assert [line["loss"] for line in state.history] == pytest.approx([line["loss"] for line in whole.history], rel=1e-3)


def make_next_sample(packed, model, **recipe):
    """A tiny run of the task next_sample, of windows of 64 samples."""
    name, config = model
    fields = {"sample_rate": packed.sample_rate, "num_classes": 256, **config}
    return RunSpec(
        name="tiny",
        task="next_sample",
        task_settings={"context": 64},
        architecture=name,
        config=config_values(configure(name, **fields)),
        recipe=Recipe(**{"loss": "cross_entropy", "max_steps": 20, "batch_size": 8, "evaluations": 2, **recipe}),
        seed=0,
        pack=packed.fingerprint,
    )


NEXT_SAMPLE = {
    "wavenet": ("wavenet_10", {"channels": 8, "layers": 4}),
    "transformer": ("sample_transformer_3", {"embed_dim": 16, "mlp_dim": 16, "depth": 1, "num_heads": 2}),
    "conditioned": ("sample_transformer_3_conditioned", {"embed_dim": 16, "mlp_dim": 16, "depth": 1, "num_heads": 2}),
}


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("data", ["pack", "generated"])
def test_windows_on_the_gpu_are_those_of_the_cpu(packed, monkeypatch, fits, data):
    """To the bit, whether or not the pack has room there."""
    monkeypatch.setattr(batches, "_kept", {})
    monkeypatch.setattr(batches, "_fits", lambda size, device: fits)
    spec = make_next_sample(packed, NEXT_SAMPLE["conditioned"])
    task = task_of(spec.model_copy(update={"task_settings": {"context": 64, "data": data}}))
    for split in ("train", "eval"):
        here, there = (task.data(packed, split, spec.recipe, device) for device in ("cpu", GPU))
        for step in range(3):
            if split == "train":
                ids = here.draw(step, 32, 0)
                assert torch.equal(ids, there.draw(step, 32, 0))
            else:
                ids = torch.arange(32) + 100 * step
            on_cpu, on_gpu = here.batch(ids), there.batch(ids)
            assert all(values.device == GPU for values in on_gpu)
            assert all(torch.equal(*both) for both in zip(on_cpu, (v.cpu() for v in on_gpu), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NEXT_SAMPLE)
def test_the_next_sample_is_learned_on_the_gpu(packed, name, precision):
    """By recorded steps; and the scores of the weights are those of the CPU."""
    spec = make_next_sample(packed, NEXT_SAMPLE[name], precision=precision, learning_rate=3e-3)
    task, told = task_of(spec), []
    fp32_means_fp32()
    # as two of one seed, one step by step
    models, losses = [build(spec, GPU).train() for _ in range(2)], []
    data = task.data(packed, "train", spec.recipe, GPU)
    for model, recorded in zip(models, (True, False), strict=True):
        optimizer = optimizer_of(model, spec.recipe)
        step = step_of(model, optimizer, task, spec.recipe, GPU, 20, told.append)
        steps = [batch_of(data, spec.recipe, 0, number) for number in range(20)]
        if not recorded:
            step = partial(train_step, model, optimizer, task=task, recipe=spec.recipe)
        losses.append(torch.stack([step(*batch) for batch in steps]).cpu())
    assert told == []
    torch.testing.assert_close(*losses, rtol=2e-2, atol=2e-2)
    assert losses[0][-5:].mean() < losses[0][:5].mean()
    scored = [
        task.score(model.to(device), task.data(packed, "eval", spec.recipe, device))
        for device, model in ((GPU, models[0]), ("cpu", models[0]))
    ]
    torch.testing.assert_close(*map(torch.from_numpy, scored), rtol=1e-3, atol=1e-2)


PRETRAINING = {
    "contrast": {"seconds": 0.5, "projection": 12},
    "contrast, generated": {"seconds": 0.25, "projection": 12, "data": "generated"},
    "next_patch": {"seconds": 0.5, "codes": 8, "code_steps": 4},
}


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("name", PRETRAINING)
def test_a_pretraining_is_done_on_the_gpu(packed, tmp_path, monkeypatch, name, fits):
    monkeypatch.setattr(batches, "_kept", {})
    monkeypatch.setattr(batches, "_fits", lambda size, device: fits)
    mine = Pack(shutil.copytree(packed.folder, tmp_path / "pack"))
    task = get_task(name.split(",")[0]).with_settings(PRETRAINING[name], "here")
    task.prepare(mine, None, lambda _: None, device=GPU)
    spec = RunSpec(
        name="tiny",
        task=task.name,
        task_settings=task.checked_settings(PRETRAINING[name], "here"),
        architecture="transformer_small",
        config=config_values(configure("transformer_small", **task.config(mine), **TINY)),
        recipe=Recipe(loss=task.losses[0], max_steps=8, batch_size=8, evaluations=2),
        seed=0,
        pack=mine.fingerprint,
    )
    records = []
    for device in (GPU, torch.device("cpu")):
        results = ResultsFolder(tmp_path / device.type)
        records.append(execute(Run(spec, mine, results.run(spec)), device))
    assert records[0].untrained["bits"] == pytest.approx(records[1].untrained["bits"], abs=1e-2)
    assert records[0].metrics["bits"] == pytest.approx(records[1].metrics["bits"], abs=0.1)
