"""The loop: schedules, selection, divergence, and the same numbers whenever it is interrupted."""

import re

import numpy as np
import pytest
import torch

from bench.errors import TrainingDiverged
from bench.protocol.build import build
from bench.protocol.checkpoint import Checkpoint, CheckpointOfOtherCode
from bench.protocol.metrics import macro_map
from bench.protocol.optim import learning_rate, optimizer_of
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.tasks import tagging
from bench.protocol.train import train, train_step
from bench.runner.overfit import overfit
from tests.conftest import make_spec

CPU = torch.device("cpu")
TASK = get_task("tagging")


def run(packed, spec, checkpoint=None, report=lambda status: None, notice=lambda line: None):
    data, val = (TASK.data(packed, split, spec.recipe) for split in ("train", "val"))
    model = build(spec, CPU)
    state = train(
        model, data, val, TASK, spec.recipe, seed=spec.seed, checkpoint=checkpoint, report=report, notice=notice
    )
    return state, TASK.score(model, val), val


@pytest.mark.parametrize("steps", [1, 7, 100])
@pytest.mark.parametrize("evaluations", [1, 3, 200])
def test_evaluations_are_even_and_the_last_is_at_the_end(steps, evaluations):
    at = sorted(Recipe(max_steps=steps, evaluations=evaluations).evaluation_steps())
    assert at[-1] == steps
    assert at[0] >= 1
    assert len(at) == min(steps, evaluations)
    assert max(np.diff(at), default=0) - min(np.diff(at), default=0) <= 1


def test_cosine_warms_up_and_ends_near_zero():
    recipe = Recipe(max_steps=100, warmup=0.1, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 1e-3


def test_plateau_halves_after_patience_and_stops_early(packed, monkeypatch):
    scores = iter([0.1, 0.2, 0.15, 0.2, 0.1, 0.3] + [0.0] * 99)
    monkeypatch.setattr(tagging, "macro_map", lambda *args: next(scores))
    spec = make_spec(
        packed,
        schedule="plateau",
        patience=2,
        early_stop=4,
        warmup=0.0,
        max_steps=40,
        evaluations=40,
        learning_rate=1e-3,
    )
    state, _, _ = run(packed, spec)
    rates = [line["learning_rate"] for line in state.history]
    # halved two evaluations after .2, and two and four after .3, when it also stops
    assert rates == [1e-3] * 4 + [5e-4] * 4 + [2.5e-4] * 2
    assert (state.best_score, state.best_step, state.step, state.halvings) == (0.3, 6, 10, 3)


def test_without_weight_decay_it_is_adam_to_the_bit(packed):
    """And with it, weights shrink by rate times decay a step, biases and gains of norms do not."""
    trained = []
    for make in (lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, fused=True), None):
        spec = make_spec(packed)
        model, data = build(spec, CPU), TASK.data(packed, "train", spec.recipe)
        optimizer = make(model) if make else optimizer_of(model, Recipe(learning_rate=1e-3))
        for step in range(5):
            train_step(model, optimizer, *data.batch(data.draw(step, 4, 0)), TASK, spec.recipe)
        trained.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))

    layer = torch.nn.Linear(3, 2)
    before = [p.detach().clone() for p in (layer.weight, layer.bias)]
    optimizer = optimizer_of(layer, Recipe(learning_rate=0.1, weight_decay=0.5))
    layer.weight.grad, layer.bias.grad = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before[0] * 0.95)
    assert torch.equal(layer.bias.detach(), before[1])


def test_losses():
    logits, y = torch.randn(4, 6), (torch.rand(4, 6) > 0.7).float()
    p = torch.sigmoid(logits)
    bce = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    torch.testing.assert_close(TASK.loss(Recipe(loss="bce"), logits, y), bce)
    torch.testing.assert_close(TASK.loss(Recipe(loss="huber"), logits, y), 0.5 * (p - y).square().mean())


def test_the_weights_of_the_best_evaluation_are_kept(packed):
    state, scores, val = run(packed, make_spec(packed, max_steps=20, evaluations=10, learning_rate=3e-3))
    maps = [line["val_score"] for line in state.history]
    assert state.best_score == max(maps)
    assert state.best_step == state.history[int(np.argmax(maps))]["step"]
    assert macro_map(val.targets.numpy() > 0, scores) == pytest.approx(state.best_score, abs=1e-6)


AUGMENTED = {"gain_db": 6.0, "time_shift": 0.5, "mixup": 0.4, "weight_decay": 0.01}


class Stop(Exception):
    pass


def run_until(stop_after, packed, spec, checkpoint):
    """Interrupt a run after so many evaluations; return the reports until then."""
    reports = []

    def stop(status):
        reports.append(status)
        if len(reports) > stop_after:  # reports come before the checkpoint of the same step
            raise Stop

    with pytest.raises(Stop):
        run(packed, spec, checkpoint, stop)
    torch.rand(17)  # another state of the generator, as in another process
    return reports


def assert_same(first, second):
    """Of two runs, all numbers but the seconds."""
    (a, scores, _), (b, other_scores, _) = first, second
    np.testing.assert_array_equal(scores, other_scores)
    for line, other in zip(a.history, b.history, strict=True):
        assert {**line, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize("recipe", [{}, {"precision": "bf16"}, AUGMENTED], ids=["fp32", "bf16", "augmented"])
def test_an_interrupted_run_ends_in_the_same_numbers(packed, tmp_path, stop_after, recipe):
    spec = make_spec(packed, max_steps=16, evaluations=4, config={"drop_rate": 0.2}, **recipe)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "v1")
    reports = run_until(stop_after, packed, spec, checkpoint)
    assert len(reports) == stop_after + 1
    done, resumed = checkpoint.step(), []
    assert done > 0
    second = run(packed, spec, checkpoint, resumed.append)
    assert min(status.step for status in resumed) > done, "what was done is not done again"
    assert_same(run(packed, spec), second)


def truncated(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [truncated, lambda content: b"rubbish" * 1000, lambda content: b""])
def test_a_damaged_checkpoint_is_kept_and_said_and_training_begins_anew(packed, tmp_path, damage):
    spec = make_spec(packed, max_steps=8, evaluations=4, config={"drop_rate": 0.2})
    checkpoint, kept = Checkpoint(tmp_path / "checkpoint.pt", "v1"), tmp_path / "checkpoint.old.pt"
    run_until(2, packed, spec, checkpoint)
    damaged = damage(checkpoint.path.read_bytes())
    checkpoint.path.write_bytes(damaged)
    notices = []
    second = run(packed, spec, checkpoint, notice=notices.append)
    (line,) = notices
    assert re.fullmatch(rf"{checkpoint.path} is damaged \(.+\): kept as {kept.name}, training begins anew", line)
    assert kept.read_bytes() == damaged
    assert checkpoint.step() == 8
    assert_same(run(packed, spec), second)


def test_a_checkpoint_of_other_code_is_refused_with_its_step(packed, tmp_path):
    spec = make_spec(packed, max_steps=8, evaluations=4)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "v1")
    run_until(2, packed, spec, checkpoint)
    content = checkpoint.path.read_bytes()
    with pytest.raises(CheckpointOfOtherCode, match="at step 4") as raised:
        run(packed, spec, Checkpoint(checkpoint.path, "v2"))
    assert raised.value.step == checkpoint.step() == 4
    assert list(tmp_path.iterdir()) == [checkpoint.path], "neither moved nor replaced"
    assert checkpoint.path.read_bytes() == content


def test_seeds_differ_and_repeat(packed):
    scores = [run(packed, make_spec(packed, seed=seed))[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_a_loss_that_is_not_finite_stops_the_run(packed):
    with pytest.raises(TrainingDiverged, match=r"loss is (nan|inf) by step .* lower learning rate"):
        run(packed, make_spec(packed, learning_rate=1e30, max_steps=40, warmup=0.0))


def test_weights_that_are_not_finite_at_the_last_step_stop_it_too(packed, monkeypatch):
    monkeypatch.setattr(tagging.Tagging, "score", lambda task, model, data: np.full((3, 3), np.nan))
    with pytest.raises(TrainingDiverged, match="scores are not finite"):
        run(packed, make_spec(packed))


class HidesNaN(torch.nn.Module):
    """Gives `hidden` a gradient of 0 / 0, and the logits nothing of it."""

    def __init__(self, classes):
        super().__init__()
        self.head = torch.nn.Linear(1, classes)
        self.hidden = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.head(x.std(dim=1, keepdim=True)) + torch.where(torch.tensor(True), 0.0, self.hidden.sqrt())


def trained(packed, model, **recipe):
    spec = make_spec(packed, **recipe)
    data, val = (TASK.data(packed, split, spec.recipe) for split in ("train", "val"))
    return train(model, data, val, TASK, spec.recipe, seed=0)


def test_weights_that_are_not_finite_stop_a_run_whose_scores_are(packed):
    """They were kept, and could not be loaded."""
    with pytest.raises(TrainingDiverged, match="hidden is not finite after step 4; try a lower learning rate"):
        trained(packed, HidesNaN(len(packed.labels)))


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_task_may_select_by_a_number_of_numpys(packed, tmp_path, monkeypatch, kind):
    """A checkpoint with one in it could not be read."""
    monkeypatch.setattr(tagging, "macro_map", lambda *_: kind(0.25))
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "v1")
    run_until(2, packed, make_spec(packed, max_steps=8, evaluations=4), checkpoint)
    assert checkpoint.load()["state"]["best_score"] == 0.25


def test_a_score_that_does_not_exist_stops_the_run(packed, monkeypatch):
    monkeypatch.setattr(tagging, "macro_map", lambda *_: float("nan"))
    with pytest.raises(TrainingDiverged, match="val's mAP is nan after step 4"):
        run(packed, make_spec(packed))


def test_an_architecture_overfits(packed):
    assert overfit("transformer_small", packed, 4, max_steps=75) > 0.9
