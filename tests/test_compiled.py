"""Compiled steps are the steps but for rounding, are taken only where they pay, and never stand in a run's way."""

import re
import shutil
from types import SimpleNamespace

import pytest
import torch

from architectures import create, list_architectures
from bench.errors import UserError
from bench.protocol import compiled as compiling
from bench.protocol import train as training
from bench.protocol.build import build
from bench.protocol.checkpoint import Checkpoint
from bench.protocol.compiled import CompiledStep, MeasuredStep
from bench.protocol.optim import optimizer_of
from bench.protocol.precision import computes_tf32, products_in
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import step_of, train
from bench.runner.run import execute
from bench.store import ResultsFolder
from bench.suites.plan import Selection, plan
from bench.suites.suite import load_suite
from tests.conftest import SMALL_SUITE, make_run, make_spec

CPU = torch.device("cpu")
TASK = get_task("tagging")


@pytest.fixture
def traced(monkeypatch):
    """Forward and backward are traced as for a compiler, and then done by PyTorch's own kernels."""

    def trace(loss):
        torch.compiler.reset()
        return torch.compile(loss, dynamic=False, backend="aot_eager")

    monkeypatch.setattr(compiling, "compiled", trace)


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch):
    monkeypatch.setattr(compiling, "_found", {})


def steps_of(name, recipe, count=3, notice=lambda line: None):
    """The losses of some steps, the weights after them, and what took them."""
    torch.manual_seed(0)
    model = create(name, num_classes=4).train()
    step = step_of(model, optimizer_of(model, recipe), TASK, recipe, CPU, count, notice)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 16_000, generator=generator).mul(0.1)
    y = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 1]])
    losses = [step(x, y).item() for _ in range(count)]
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()]), step


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", list_architectures(task="tagging", in_all_only=True))
def test_every_architecture_is_the_same_when_traced(name):
    told, recipe = [], Recipe(loss="bce", learning_rate=1e-4)
    losses, weights, _ = steps_of(name, recipe)
    by_trace, other, step = steps_of(name, recipe.model_copy(update={"compile": "on"}), notice=told.append)
    assert isinstance(step, CompiledStep)
    assert (step.is_compiled, told) == (True, [])
    assert by_trace == pytest.approx(losses, rel=1e-4)
    # Adam's first steps have the rate's size, whatever the gradient's
    torch.testing.assert_close(other, weights, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_compiled_steps_are_the_steps(packed, tmp_path):
    """By inductor, with dropout, to the end of a run; and run.json says so."""
    run = make_run(packed, tmp_path, learning_rate=1e-3, compile="on", config={"drop_rate": 0.1})
    by_compiler = execute(run, CPU)
    plain = execute(make_run(packed, tmp_path, learning_rate=1e-3, config={"drop_rate": 0.1}), CPU)
    assert by_compiler.hash != plain.hash
    assert by_compiler.cost["compiled"] is True
    assert by_compiler.cost["compile_seconds"] > 1
    assert "compiled" not in plain.cost
    name = plain.spec.name
    one, other = (ResultsFolder(tmp_path).run(record.spec).history() for record in (plain, by_compiler))
    torch.testing.assert_close(torch.tensor(other["loss"]), torch.tensor(one["loss"]), rtol=1e-3, atol=0), name


def test_off_is_as_before_in_the_hash(packed):
    spec = make_spec(packed)
    assert spec.recipe.compile == "off"
    assert "compile" not in spec.identity()["recipe"]
    assert make_spec(packed, compile="auto").hash != spec.hash


def test_what_cannot_be_compiled_trains_as_it_stands(packed, monkeypatch):
    """Half-way through a forward pass the compiler gives up: numbers are those of a run that never asked for it."""

    def refuse(loss):
        def compile_it(x, y):
            loss(x, y)
            raise RuntimeError("no such\noperation")

        return compile_it

    def count(model, _):
        model.calls.add_(model.training)

    monkeypatch.setattr(compiling, "compiled", refuse)
    scores, told = [], []
    for compile_ in ("off", "on"):
        spec = make_spec(packed, compile=compile_, config={"drop_rate": 0.2})
        data, val = (TASK.data(packed, split, spec.recipe) for split in ("train", "val"))
        model = build(spec, CPU)
        model.register_buffer("calls", torch.zeros(()))
        model.register_forward_pre_hook(count)
        state = train(model, data, val, TASK, spec.recipe, seed=0, notice=told.append)
        scores.append((state.history[-1]["loss"], TASK.score(model, val).tolist(), model.calls.item()))
    assert scores[0] == scores[1]
    assert told == ["steps are not compiled, and slower for it: no such operation"]
    assert (state.is_compiled, state.compile_seconds > 0) == (False, True)


def test_what_compilation_took_is_no_time_of_training_and_is_known_after_a_resume(packed, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(compiling, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def slow(loss):
        compiled_already = []

        def compile_it(x, y):
            now[0] += 0.5 if compiled_already else 30.0
            compiled_already.append(True)
            return loss(x, y)

        return compile_it

    monkeypatch.setattr(compiling, "compiled", slow)
    spec = make_spec(packed, compile="on", max_steps=20, evaluations=2)
    data, val = (TASK.data(packed, split, spec.recipe) for split in ("train", "val"))
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "code", spec.hash)

    def train_it(report=lambda status: None):
        return train(build(spec, CPU), data, val, TASK, spec.recipe, seed=0, checkpoint=checkpoint, report=report)

    def stop(status):
        # saved after the first evaluation, and what comes then is lost
        if status.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_it(stop)
    state = train_it()
    # 18 steps more, and in two processes one each that compiles
    assert (state.step, state.is_compiled, state.compile_seconds, state.seconds) == (20, True, 60.0, 9.0)
    # nothing was left to train
    state = train_it()
    assert (state.is_compiled, state.compile_seconds) == (True, 60.0)


def test_an_error_of_the_architecture_is_raised_as_it_is(packed, monkeypatch):
    monkeypatch.setattr(compiling, "compiled", lambda loss: loss)
    spec = make_spec(packed, compile="on")
    data, val = (TASK.data(packed, split, spec.recipe) for split in ("train", "val"))
    model = build(spec, CPU)
    model.register_forward_pre_hook(lambda *_: {}["width"])
    with pytest.raises(KeyError, match="width"):
        train(model, data, val, TASK, spec.recipe, seed=0)


def test_on_a_processor_auto_compiles_nothing(packed, monkeypatch):
    monkeypatch.setattr(compiling, "compiled", None)
    recipe = make_spec(packed, compile="auto").recipe
    _, _, step = steps_of("transformer_small", recipe)
    assert not isinstance(step, CompiledStep | MeasuredStep)


class Timed:
    """A device on which steps take as long as they say."""

    def __init__(self):
        self.taken, self.now = [], 0.0

    def time(self, work):
        self.now = 0.0
        result = work()
        self.taken.append(self.now)
        return result

    def median(self):
        taken, self.taken = self.taken, []
        return sorted(taken)[len(taken) // 2]


class Step:
    def __init__(self, timer, seconds, *, is_compiled, taken=40.0):
        self.timer, self.each, self.is_compiled, self.seconds, self.calls = timer, seconds, is_compiled, taken, 0

    def __call__(self, x, y):  # noqa: ARG002
        self.calls += 1
        self.timer.now += self.each
        return torch.tensor(self.each)


def measured(steps, *, plain=1.0, compiled=0.5, is_compiled=True, kind="a", taken=40.0):
    """What 100 steps of so many come to: how often each of the steps that were made was called."""
    timer, made = Timed(), []

    def make(seconds, is_compiled):
        made.append(Step(timer, seconds, is_compiled=is_compiled, taken=taken))
        return made[-1]

    step = MeasuredStep(lambda: make(plain, False), lambda: make(compiled, is_compiled), steps, kind, timer)
    losses = [step(None, None).item() for _ in range(100)]
    assert len(losses) == sum(each.calls for each in made) == 100  # each of them trains
    return [(each.is_compiled, each.calls) for each in made], step


def test_auto_times_both_and_keeps_the_faster():
    calls, step = measured(1000)
    assert calls == [(False, 24), (True, 76)]
    assert (step.is_compiled, step.seconds) == (True, 40.0)
    calls, step = measured(1000, compiled=1.5, kind="b")
    assert calls == [(False, 24), (True, 24), (False, 52)]
    assert (step.is_compiled, step.seconds) == (False, 40.0)


def test_auto_does_not_even_try_where_little_is_left():
    calls, step = measured(100, plain=0.1)
    assert calls == [(False, 100)]
    assert (step.is_compiled, step.seconds) == (False, 0.0)


def test_auto_knows_the_next_seed():
    measured(1000)
    # as many steps as pay back 40 s at half a second each, or not quite
    assert measured(81)[0] == [(True, 100)]
    assert measured(80)[0] == [(False, 100)]
    assert measured(1000, kind="another")[0] == [(False, 24), (True, 76)]
    measured(1000, compiled=1.5, kind="slower")
    calls, step = measured(1000, kind="slower")
    assert calls == [(False, 100)]
    assert step.seconds == 0.0


def test_auto_remembers_what_cannot_be_compiled():
    assert measured(1000, is_compiled=False)[0] == [(False, 24), (False, 76)]
    assert measured(1000)[0] == [(False, 100)]


def test_tf32_holds_for_a_training_step_alone(packed):
    seen = []

    def flags(*_):
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))

    recipe = Recipe(loss="bce", precision="tf32")
    torch.manual_seed(0)
    model = create("transformer_small", num_classes=len(packed.labels)).train()
    model.register_forward_hook(flags)
    next(iter(model.parameters())).register_hook(flags)
    step = step_of(model, optimizer_of(model, recipe), TASK, recipe, CPU, 1)
    data = TASK.data(packed, "train", recipe)
    step(*data.batch(data.draw(0, 2, 0)))
    assert seen == [(True, True)] * 2
    TASK.score(model, TASK.data(packed, "val", recipe, clips=2))
    assert set(seen[2:]) == {(False, False)}
    with pytest.raises(ZeroDivisionError), products_in("tf32"):
        raise ZeroDivisionError
    flags()
    assert seen[-1] == (False, False)


def test_tf32_is_refused_where_it_is_not_computed(packed, tmp_path):
    assert not computes_tf32(CPU)
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SUITE)
    suite, results = load_suite(str(path)), ResultsFolder(tmp_path / "out")
    message = (
        "transformer_small, train: precision='tf32': cpu does not compute in it (NVIDIA GPUs do, Ampere and later)"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        plan(suite, [packed], results, Selection(overrides={"precision": "tf32"}), CPU)
    assert not results.path.exists()


def test_costs_are_measured_once_an_architecture_and_recipe(packed, tmp_path, monkeypatch):
    from bench.runner import run as running

    monkeypatch.setattr(running, "_costs", {})
    measured, latency = [], running.latency
    monkeypatch.setattr(running, "latency", lambda *given: measured.append(1) or latency(*given))
    costs = [execute(make_run(packed, tmp_path, seed=seed, max_steps=2), CPU).cost for seed in range(2)]
    assert len(measured) == 1
    for name in ("parameters", "macs", "train_memory_bytes", "latency_seconds"):
        assert costs[0][name] == costs[1][name]
    execute(make_run(packed, tmp_path, max_steps=3), CPU)
    assert len(measured) == 2
    # or elsewhere, for processes that would disturb each other
    cost = execute(
        make_run(packed, tmp_path, seed=2, max_steps=2), CPU, cost={"latency_seconds": 9.0, "parameters": 1}
    ).cost
    assert (cost["latency_seconds"], cost["parameters"], len(measured)) == (9.0, 1, 2)
