"""The loop: schedules, selection, divergence, and the same numbers whenever it is interrupted."""

import math

import numpy as np
import pytest
import torch

from bench.errors import TrainingDiverged
from bench.protocol import train as training
from bench.protocol.batches import Chunks
from bench.protocol.build import build
from bench.protocol.evaluate import score_clips
from bench.protocol.metrics import macro_map
from bench.protocol.recipe import Recipe
from bench.protocol.train import State, learning_rate, loss_of, train
from bench.runner.overfit import overfit
from tests.conftest import make_spec

CPU = torch.device("cpu")


def run(packed, spec, checkpoint=None, report=lambda status: None):
    data, val = Chunks(packed, "train"), Chunks(packed, "val")
    model = build(spec, CPU)
    state = train(model, data, val, spec.recipe, seed=spec.seed, checkpoint=checkpoint, report=report)
    return state, score_clips(model, val), val


@pytest.mark.parametrize("updates", [1, 7, 100])
@pytest.mark.parametrize("evaluations", [1, 3, 200])
def test_evaluations_are_even_and_the_last_is_at_the_end(updates, evaluations):
    at = sorted(Recipe(updates=updates, evaluations=evaluations).evaluation_updates())
    assert at[-1] == updates
    assert at[0] >= 1
    assert len(at) == min(updates, evaluations)
    assert max(np.diff(at), default=0) - min(np.diff(at), default=0) <= 1


def test_cosine_warms_up_and_ends_near_zero():
    recipe = Recipe(updates=100, warmup=0.1, learning_rate=1.0)
    rates = [learning_rate(recipe, update) for update in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 1e-3


def test_plateau_halves_after_patience_and_stops_early(packed, monkeypatch):
    maps = iter([0.1, 0.2, 0.15, 0.2, 0.1, 0.3] + [0.0] * 99)
    monkeypatch.setattr(training, "macro_map", lambda *args: next(maps))
    spec = make_spec(
        packed, schedule="plateau", patience=2, early_stop=4, warmup=0.0, updates=40, evaluations=40, learning_rate=1e-3
    )
    state, _, _ = run(packed, spec)
    rates = [row["learning_rate"] for row in state.history]
    # halved two evaluations after .2, and two and four after .3, when it also stops
    assert rates == [1e-3] * 4 + [5e-4] * 4 + [2.5e-4] * 2
    assert (state.best_map, state.best_update, state.update, state.halvings) == (0.3, 6, 10, 3)


def test_without_weight_decay_it_is_adam_to_the_bit(packed):
    """And with it, weights shrink by rate times decay an update, biases and gains of norms do not."""
    updated = []
    for make in (lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, fused=True), None):
        spec = make_spec(packed)
        model, data = build(spec, CPU), Chunks(packed, "train")
        optimizer = make(model) if make else training.optimizer_of(model, Recipe(learning_rate=1e-3))
        for update in range(5):
            training.step(model, optimizer, *data.batch(data.draw(update, 4, 0)), spec.recipe)
        updated.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*updated, strict=True))

    layer = torch.nn.Linear(3, 2)
    before = [p.detach().clone() for p in (layer.weight, layer.bias)]
    optimizer = training.optimizer_of(layer, Recipe(learning_rate=0.1, weight_decay=0.5))
    layer.weight.grad, layer.bias.grad = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before[0] * 0.95)
    assert torch.equal(layer.bias.detach(), before[1])


def test_losses():
    logits, y = torch.randn(4, 6), (torch.rand(4, 6) > 0.7).float()
    p = torch.sigmoid(logits)
    bce = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    torch.testing.assert_close(loss_of(Recipe(loss="bce"), logits, y), bce)
    torch.testing.assert_close(loss_of(Recipe(loss="huber"), logits, y), 0.5 * (p - y).square().mean())


def test_the_weights_of_the_best_evaluation_are_kept(packed):
    state, scores, val = run(packed, make_spec(packed, updates=20, evaluations=10, learning_rate=3e-3))
    maps = [row["val_map"] for row in state.history]
    assert state.best_map == max(maps)
    assert state.best_update == state.history[int(np.argmax(maps))]["update"]
    assert macro_map(val.targets.numpy() > 0, scores) == pytest.approx(state.best_map, abs=1e-6)


AUGMENTED = {"gain_db": 6.0, "time_shift": 0.5, "mixup": 0.4, "weight_decay": 0.01}


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize("recipe", [{}, {"precision": "bf16"}, AUGMENTED], ids=["fp32", "bf16", "augmented"])
def test_an_interrupted_run_ends_in_the_same_numbers(packed, tmp_path, stop_after, recipe):
    spec = make_spec(packed, updates=16, evaluations=4, config={"drop_rate": 0.2}, **recipe)
    whole, scores, _ = run(packed, spec)

    class Stop(Exception):
        pass

    reports = []

    def stop(status):
        reports.append(status)
        if len(reports) > stop_after:  # reports come before the checkpoint of the same update
            raise Stop

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Stop):
        run(packed, spec, path, stop)
    torch.rand(17)  # another state of the generator, as in another process
    resumed, resumed_scores, _ = run(packed, spec, path)
    np.testing.assert_array_equal(scores, resumed_scores)
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    assert len(reports) == stop_after + 1


def test_seeds_differ_and_repeat(packed):
    scores = [run(packed, make_spec(packed, seed=seed))[1] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_a_loss_that_is_not_finite_stops_the_run(packed):
    with pytest.raises(TrainingDiverged, match=r"loss is (nan|inf) by update .* lower learning rate"):
        run(packed, make_spec(packed, learning_rate=1e30, updates=40, warmup=0.0))


def test_weights_that_are_not_finite_at_the_last_update_stop_it_too(packed, monkeypatch):
    monkeypatch.setattr(training, "score_clips", lambda model, val: np.full((3, 3), np.nan))
    with pytest.raises(TrainingDiverged, match="scores are not finite"):
        run(packed, make_spec(packed))


def test_an_architecture_overfits(packed):
    assert overfit("transformer_small", packed, 12, updates=150) > 0.9


def test_state_is_what_a_checkpoint_keeps(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    state = State(update=5, best_map=0.25, history=[{"update": 5.0}], loss_sum=math.pi)

    def load_state(code):
        return training._load([tmp_path / "c.pt"], code, [model], optimizer, None)

    training._save([tmp_path / "c.pt"], "v1", [model], optimizer, None, [state])
    assert load_state("v1") == [state]
    assert load_state("v2") == [State()]
    (tmp_path / "c.pt").write_bytes(b"rubbish")
    assert load_state("v1") == [State()]
