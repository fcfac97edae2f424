"""Several seeds trained at once get the numbers that each would have got alone, but for rounding."""

import copy
import json

import numpy as np
import pytest
import torch

from architectures import create
from bench.errors import NotTogether, TrainingDiverged
from bench.protocol import train as training
from bench.protocol.batches import Chunks
from bench.protocol.build import build
from bench.protocol.recipe import Recipe
from bench.protocol.stack import Stack, may_stack
from bench.protocol.train import adamw, optimizer_of, stacked_step, step, train, train_together
from tests.conftest import make_spec

CPU = torch.device("cpu")
SEEDS = (0, 1, 2)


def fresh(name, **fields):
    models = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        models.append(create(name, num_classes=7, **fields).train())
    return models


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("transformer_small", {"depth": 2, "front_end_dim": 16, "mlp_dim": 32}),
        ("transformer_small", {"depth": 1, "front_end": "log_mel"}),
        ("transformer_small", {"depth": 1, "front_end": "random", "front_end_dim": 16}),
        ("transformer_pooled", {"front_end_dim": 16, "mlp_dim": 32}),
        ("transformer_multiscale", {"front_end_dim": 16, "mlp_dim": 32}),
        ("vgg_like", {"stage_widths": [[4], [8]], "hidden_dim": 8}),  # batch norm's statistics are each one's own, too
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_three_updates_at_once_are_three_updates_alone(name, fields, precision):
    recipe = Recipe(learning_rate=1e-3, weight_decay=0.1, precision=precision)
    alone, together = fresh(name, **fields), fresh(name, **fields)
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(3, len(SEEDS), 4, 16_000, generator=generator)
    y = (torch.rand(3, len(SEEDS), 4, 7, generator=generator) < 0.2).float()
    optimizers = [optimizer_of(model, recipe) for model in alone]
    stack = Stack(together)
    optimizer = adamw(stack.learned(), recipe)
    for xs, ys in zip(x, y, strict=True):
        losses = [step(m, o, *b, recipe) for m, o, *b in zip(alone, optimizers, xs, ys, strict=True)]
        stacked = stacked_step(stack, optimizer, xs, ys, recipe)
        torch.testing.assert_close(stacked, torch.stack(losses), rtol=1e-2 if precision == "bf16" else 1e-5, atol=0)
    if precision == "bf16":
        return  # rounding of a gradient decides the sign of Adam's first steps
    for a, b in zip(alone, together, strict=True):
        for (key, first), second in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            # Adam moves by the sign of a gradient first: where that is nothing but rounding, it is no one's
            if name == "vgg_like" and key.startswith("stages") and key.endswith(("0.bias", "running_mean")):
                continue  # a bias before a batch norm: all of its gradient is rounding
            assert (first - second).abs().double().median() < 1e-5, key
    assert any(
        (a - b).abs().max() > 1e-2 for a, b in zip(together[0].parameters(), together[1].parameters(), strict=True)
    )


def test_what_is_random_is_not_stacked():
    stack = Stack(fresh("transformer_small", depth=1, drop_rate=0.5))
    with pytest.raises(RuntimeError, match="random"):
        stack.logits(torch.zeros(3, 2, 16_000))


def test_recipes_that_go_by_val_are_not_stacked():
    assert may_stack(Recipe())
    assert not may_stack(Recipe(schedule="plateau"))
    assert not may_stack(Recipe(early_stop=2))


def together(packed, specs, checkpoints=(None, None), report=lambda status: None):
    data, val = Chunks(packed, "train"), Chunks(packed, "val")
    models = [build(spec, CPU) for spec in specs]
    states = train_together(
        models, data, val, specs[0].recipe, seeds=[s.seed for s in specs], checkpoints=checkpoints, report=report
    )
    return models, states


@pytest.fixture
def specs(packed):
    return [make_spec(packed, seed=seed, mixup=0.5, gain_db=6.0) for seed in (3, 4)]


def test_a_training_at_once_is_each_ones_own(packed, specs):
    _, states = together(packed, specs)
    for spec, state in zip(specs, states, strict=True):
        data, val = Chunks(packed, "train"), Chunks(packed, "val")
        alone = train(build(spec, CPU), data, val, spec.recipe, seed=spec.seed)
        assert state.best_update == alone.best_update
        np.testing.assert_allclose([r["loss"] for r in state.history], [r["loss"] for r in alone.history], rtol=1e-4)
        assert state.best_map == pytest.approx(alone.best_map, abs=0.02)
    assert states[0].history[0]["loss"] != states[1].history[0]["loss"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("goes_on", ["together", "alone"])
def test_interrupted_they_go_on_together_or_alone(packed, specs, tmp_path, goes_on):
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]

    def stop(status):
        if status.update == 10:
            raise Stop

    _, whole = together(packed, specs)
    with pytest.raises(Stop):
        together(packed, specs, paths, report=stop)
    assert all(path.exists() for path in paths)
    if goes_on == "together":
        _, states = together(packed, specs, paths)
        assert [s.update for s in states] == [12, 12]
    else:
        data, val = Chunks(packed, "train"), Chunks(packed, "val")
        states = [
            train(build(spec, CPU), data, val, spec.recipe, seed=spec.seed, checkpoint=path)
            for spec, path in zip(specs, paths, strict=True)
        ]
    for state, expected in zip(states, whole, strict=True):
        np.testing.assert_allclose([r["loss"] for r in state.history], [r["loss"] for r in expected.history], rtol=1e-4)


def test_runs_at_different_updates_are_not_joined(packed, specs, tmp_path):
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    train(
        build(specs[0], CPU), Chunks(packed, "train"), Chunks(packed, "val"), specs[0].recipe,
        seed=specs[0].seed, checkpoint=paths[0],
    )  # fmt: skip
    with pytest.raises(NotTogether, match="different numbers of updates"):
        together(packed, specs, paths)


def suite_of(tmp_path, text=""):
    path = tmp_path / "pair.toml"
    path.write_text(
        'title = "pair"\narchitectures = ["transformer_small", "vgg_like"]\nseeds = 2\n'
        f"[train]\nupdates = 2\nbatch_size = 2\nevaluations = 1\n{text}"
    )
    return path


def test_a_suite_trains_seeds_at_once_and_each_is_a_run_like_any_other(bench, packed, tmp_path):
    out = tmp_path / "out"
    done = bench("run", suite_of(tmp_path), "--data", packed.folder, "--out", out, "--together", 2, "--no-track")
    assert done.code == 0, done.err
    assert "[2/4] transformer_small seeds 0, 1: mAP" in done.err
    runs = [json.loads(path.read_text()) for path in out.glob("*/run.json")]
    assert len(runs) == 4
    assert all(run["provenance"]["trained_together"] == 2 for run in runs)
    assert all(run["cost"]["train_seconds"] > 0 for run in runs)
    assert not list(out.glob("*/checkpoint.pt"))
    assert "trained at once is their share" in (out / "table.md").read_text()
    again = bench("run", suite_of(tmp_path), "--data", packed.folder, "--out", out, "--together", 2, "--no-track")
    assert "4 of 4 runs were finished before" in again.err


def test_if_one_diverges_each_goes_alone(bench, packed, tmp_path, monkeypatch):
    whole = training._note_losses

    def diverge(losses, states):
        if len(states) > 1:
            raise TrainingDiverged("the loss is nan")
        whole(losses, states)

    monkeypatch.setattr(training, "_note_losses", diverge)
    out = tmp_path / "out"
    arguments = ("--data", packed.folder, "--out", out, "--only", "transformer_small", "--together", 2, "--no-track")
    done = bench("run", suite_of(tmp_path), *arguments)
    assert done.code == 0, done.err
    assert "one by one: the loss is nan" in done.err
    assert len(list(out.glob("*/run.json"))) == 2
    assert not list(out.glob("*/failed.json"))


def test_a_stacks_models_are_views_of_it():
    models = fresh("transformer_small", depth=1)
    before = [copy.deepcopy(model.state_dict()) for model in models]
    stack = Stack(models)
    for model, weights in zip(models, before, strict=True):
        assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    with torch.no_grad():
        stack.parameters["head.0.bias"][1] = 5.0
    assert [bool((m.head[0].bias == 5.0).all()) for m in models] == [False, True, False]
