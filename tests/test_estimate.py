"""What a suite will take: the sum, the measuring, which leaves no trace, and what is said of it."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from bench.protocol.build import build
from bench.protocol.checkpoint import Checkpoint
from bench.protocol.compiled import CompiledStep
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.tasks.tagging import Tagging
from bench.protocol.train import train
from bench.runner import estimate as estimating
from bench.runner.estimate import (
    Estimate,
    Rates,
    Remaining,
    SuiteCost,
    cost_of,
    describe_runs,
    duration,
    estimate,
    measure,
    remaining,
    timed,
)
from bench.runner.provenance import code_digest
from bench.store import ResultsFolder
from bench.suites.plan import plan
from bench.suites.space import Budget
from bench.suites.suite import load_suite
from tests.conftest import SMALL_SUITE, make_run, make_spec, no_tables

CPU = torch.device("cpu")
TASK = get_task("tagging")
RATES = Rates(start=2.0, once=1.6, steps=(0.4, 0.5, 0.9), chunk=0.01, val_chunks=200, eval_chunks=300)


@pytest.fixture
def clock(monkeypatch):
    """Stands still, unless a test moves it."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(estimating, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


@pytest.fixture
def no_report(monkeypatch):
    """Figures take longer than runs as small as these."""
    monkeypatch.setattr("bench.api.runs.report", no_tables)


@pytest.fixture
def always(monkeypatch):
    """Suites as small as those of tests are estimated, too."""
    monkeypatch.setattr(estimating, "_WORTH", 1)


def small_runs(packed, tmp_path, out):
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SUITE)
    return plan(load_suite(str(path)), [packed], ResultsFolder(out))


def test_a_run_is_steps_and_evaluations_and_what_stands_around_them():
    cost = cost_of(Recipe(max_steps=100, evaluations=4), RATES)
    assert cost.training == pytest.approx(100 * 0.5)  # the median
    assert cost.evaluation == pytest.approx(4 * 200 * 0.01)
    # eval with and without training
    assert cost.rest == pytest.approx(2 + 1.6 + 2 * 300 * 0.01)
    assert cost.total == pytest.approx(50 + 8 + 9.6)


def test_evaluations_are_no_more_than_steps():
    assert cost_of(Recipe(max_steps=3, evaluations=20), RATES).evaluation == pytest.approx(3 * 200 * 0.01)


def test_what_a_checkpoint_has_is_not_done_again():
    cost = cost_of(Recipe(max_steps=100, evaluations=4), RATES, done=50)
    assert cost.training == pytest.approx(50 * 0.5)
    assert cost.evaluation == pytest.approx(2 * 200 * 0.01)  # after 75 and 100


@pytest.mark.parametrize(
    ("takes", "seconds", "most", "times"),
    [
        (1.0, 5.0, 99, 5),  # until the time is up
        (1.0, 5.0, 3, 3),  # or until there are enough
        (60.0, 5.0, 99, 2),  # twice in any case
        (1.0, 5.0, 0, 2),
    ],
)
def test_measuring_is_short(clock, takes, seconds, most, times):
    def work():
        clock.seconds += takes

    assert timed(work, seconds, most) == [takes] * times


def test_rates_are_those_of_the_steps(packed, clock, monkeypatch):
    """A first step of 3 s, others of .5 s; batches of 16 chunks scored in 4 s, the first in 5 s."""
    steps, scorings = iter([3.0] + [0.5] * 99), iter([5.0] + [4.0] * 99)

    def step(*_):
        clock.seconds += next(steps)
        return torch.zeros(())

    def score(_self, _model, chunks):
        assert len(chunks) == 16
        clock.seconds += next(scorings)

    monkeypatch.setattr(estimating, "step_of", lambda *_: step)
    monkeypatch.setattr(Tagging, "score", score)
    spec = make_spec(packed, max_steps=1000, hop_seconds=0.5)
    rates = measure(Remaining(spec, packed, (0,)), CPU, 2.0)
    assert rates.steps == (0.5,) * 4
    assert rates.start == 3.0
    assert rates.chunk == 4.0 / 16
    # a step more, and six times a clip of ten seconds
    assert rates.once == 3.0 + 6 * 19 * 4.0 / 16
    assert rates.val_chunks == len(TASK.data(packed, "val", spec.recipe))
    assert rates.eval_chunks == len(TASK.data(packed, "eval", spec.recipe))


def test_compilation_is_counted_once_an_entry(packed, clock, monkeypatch):
    """And is no part of what every run begins with: a first step of 3 s, after 40 s of compilation."""
    taken = iter([43.0] + [0.5] * 99)

    class Compiled(CompiledStep):
        def __init__(self):
            self.seconds = 40.0

        def __call__(self, x, y):  # noqa: ARG002
            clock.seconds += next(taken)
            return torch.zeros(())

    monkeypatch.setattr(estimating, "step_of", lambda *_: Compiled())
    rates = measure(Remaining(make_spec(packed, compile="on"), packed, (0, 0)), CPU, 2.0)
    # scoring takes no time by this clock
    assert (rates.start, rates.once) == (3.0, 43.0)


def test_finished_runs_are_left_out(packed, small_results, tmp_path):
    assert [left.done for left in remaining(small_runs(packed, tmp_path, tmp_path / "new"))] == [(0, 0), (0, 0)]
    out = tmp_path / "out"
    shutil.copytree(small_results, out)
    runs = small_runs(packed, tmp_path, out)
    assert [(left.done, left.steps) for left in remaining(runs)] == [((), 0), ((), 0)]
    runs[0].folder.record_file.unlink()
    first, second = remaining(runs)
    assert (first.spec.name, first.done, first.steps) == ("transformer_small", (0,), 4)
    assert second.done == ()


@pytest.mark.parametrize(("by", "left"), [("this code", 4), ("other code", 12), ("nobody", 12)])
def test_an_interrupted_run_has_a_part_left(packed, tmp_path, by, left):
    run = make_run(packed, tmp_path, max_steps=12, evaluations=3)
    spec, path = run.spec, run.folder.checkpoint_file
    path.parent.mkdir()

    class Stop(Exception):
        pass

    def stop(status):
        if status.step > 8:
            raise Stop

    data, val = (TASK.data(packed, split, spec.recipe) for split in ("train", "val"))
    checkpoint = Checkpoint(path, code_digest(spec) if by == "this code" else "other", spec.hash)
    with pytest.raises(Stop):
        train(build(spec, CPU), data, val, TASK, spec.recipe, seed=0, checkpoint=checkpoint, report=stop)
    if by == "nobody":
        path.write_bytes(b"rubbish")
    before = path.read_bytes()
    (entry,) = remaining([run])
    assert entry.steps == left
    assert path.read_bytes() == before, "what can't be resumed is left to who runs the suite"


def test_measuring_leaves_no_trace_in_the_process(packed):
    def state():
        switches = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
        cudnn = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.mkldnn.enabled)
        return torch.get_rng_state().tolist(), torch.get_num_threads(), *switches, *cudnn

    torch.manual_seed(7)
    before = state()
    spec = make_spec(packed, config={"drop_rate": 0.5}, mixup=0.5, precision="bf16")
    (found,) = estimate([Remaining(spec, packed, (0,))], CPU, seconds=0.01)
    assert found.seconds > 0
    assert state() == before


@pytest.mark.usefixtures("no_report")
def test_a_suite_says_what_it_takes_and_comes_to_the_same_numbers(bench, small_suite, packed, tmp_path, monkeypatch):
    run = ("run", small_suite, "--data", packed.folder, "--seeds", 1, "--out")
    done = bench(*run, tmp_path / "without")
    assert " left, " not in done.err  # measuring would take longer than running
    monkeypatch.setattr(estimating, "_WORTH", 1)
    done = bench(*run, tmp_path / "with")
    (line,) = (text for text in done.err.splitlines() if " left, " in text)
    assert line.startswith("small: 2 runs left, about ")
    assert " on cpu (transformer_small " in line
    folders = sorted(path.parent.name for path in (tmp_path / "with").glob("*/run.json"))
    assert len(folders) == 2
    for name in folders:
        for file in ("scores.npz", "model.safetensors"):
            assert (tmp_path / "with" / name / file).read_bytes() == (tmp_path / "without" / name / file).read_bytes()

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(estimating, "measure", never)  # a finished suite has nothing to wait for
    assert " left, " not in bench(*run, tmp_path / "with").err


@pytest.mark.usefixtures("always", "no_report")
def test_an_entry_that_cannot_be_measured_stops_nothing(bench, small_suite, packed, tmp_path, monkeypatch):
    real = estimating.build

    def broken(spec, device):
        if spec.name == "vgg_like":
            raise MemoryError("too\nlarge")
        return real(spec, device)

    monkeypatch.setattr(estimating, "build", broken)
    arguments = (small_suite, "--data", packed.folder, "--seeds", 1, "--out", tmp_path / "out")
    done = bench("cost", *arguments)
    assert done.code == 1
    assert "vgg_like: could not be measured: MemoryError: too large" in done.out
    assert "small: 1 run left, " in done.out
    done = bench("run", *arguments)
    assert done.code == 0
    assert "vgg_like unknown)" in done.err


def test_cost_shows_each_entry_and_the_sum(bench, small_suite, packed, small_results, tmp_path):
    shutil.copytree(small_results, tmp_path / "out")
    command = ("cost", small_suite, "--data", packed.folder, "--out", tmp_path / "out")
    done = bench(*command)
    assert (done.code, done.out) == (0, "small: all runs are finished\n")

    done = bench(*command, "--seeds", 3)
    assert done.code == 0
    head, *entries, total, _ = done.out.splitlines()
    assert head.endswith(" in all")
    assert [entry.split()[0] for entry in entries] == ["transformer_small", "vgg_like"]
    assert total.startswith("small: 2 runs left, ")
    assert total.endswith(" h on cpu with nothing else running")

    done = bench("cost", small_suite, "--data", packed.folder, "--out", tmp_path / "new", "--only", "vgg_like")
    assert "small: 2 runs left, " in done.out
    assert not (tmp_path / "new").exists()


def estimate_of(packed, *done, name="tiny", **recipe):
    spec = make_spec(packed, max_steps=7200, evaluations=18, **recipe).model_copy(update={"name": name})
    return Estimate(Remaining(spec, packed, done), RATES)


def test_the_line_sums_what_is_left(packed):
    # a run is an hour of training, 36 s of evaluation and 9.6 s of all else
    estimates = [estimate_of(packed, 0, 0, name="a"), estimate_of(packed, 3600, name="b")]
    assert describe_runs("toy", estimates, CPU) == "toy: 3 runs left, about 2.5 h on cpu (a 2.0 h, b 30 min)"
    estimates[1] = estimate_of(packed, 3600, name="b", early_stop=3)
    assert ", at most 2.5 h on cpu" in describe_runs("toy", estimates, CPU)


@pytest.mark.parametrize(
    ("budget", "what", "hours"),
    [
        (None, "", "4.05"),
        (Budget(trials=10, finalists=1), "2 searches of 10 trials, then ", "24.2"),  # a trial does not read eval
        (Budget(steps=72_000, finalists=1), "2 searches of 72000 steps, then ", "24.2"),
        (Budget(trials=4, finalists=3, finalist_seeds=2), "2 searches of 4 trials, then ", "24.2"),
        (Budget(hours=5, finalists=1), "2 searches of 5 hours of compute, then ", "14"),
    ],
)
def test_the_table_counts_in_searches(packed, budget, what, hours):
    estimates = [estimate_of(packed, 0, 0, name="a"), estimate_of(packed, 0, 0, name="b")]
    head, first, _, total, *_ = str(SuiteCost("toy", tuple(estimates), str(CPU), budget)).splitlines()
    assert ("a trial" in head) == (budget is not None)
    assert first.startswith("a  0.5000 (0.4000 to 0.9000) ")
    assert total == f"toy: {what}4 runs left, {hours} h on cpu with nothing else running"


def test_costs_are_measured_for_the_first_seed_alone(packed):
    one, three = estimate_of(packed, 0), estimate_of(packed, 0, 0, 0)
    assert three.seconds == pytest.approx(3 * one.seconds - 2 * RATES.once)


def test_where_steps_may_yet_be_compiled_it_is_said(packed):
    for compile_, device, is_said in (("auto", "cuda", True), ("auto", "cpu", False), ("off", "cuda", False)):
        found = SuiteCost("toy", (estimate_of(packed, 0, compile=compile_),), device)
        assert ("runs take compiled ones" in str(found)) == is_said


@pytest.mark.usefixtures("always")
def test_before_a_search_it_is_said_what_a_trial_takes(bench, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.api.runs.draw_search", lambda results: {})
    suite = tmp_path / "searched.toml"
    suite.write_text(SMALL_SUITE + "[space]\nlearning_rate = { low = 1e-4, high = 1e-2 }\n")
    arguments = ("--data", packed.folder, "--out", tmp_path / "out", "--trials")
    done = bench("cost", suite, *arguments, 5)
    # two seeds each of the default recipe and the best one
    assert "small: 2 searches of 5 trials, then 8 runs left, " in done.out
    search = ("search", "transformer_small", "--suite", suite, *arguments)
    assert "a trial that is not pruned takes about: transformer_small " in bench(*search, 1).err
    assert "a trial that is not pruned" not in bench(*search, 2).err  # known by now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (45.4, "45 s"), (66, "1.1 min"), (1300, "22 min"), (7200, "2.0 h"), (468_000, "130 h")],
)
def test_durations_are_said_as_far_as_they_are_known(seconds, text):
    assert duration(seconds) == text
