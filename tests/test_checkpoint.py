"""What a checkpoint may hold: all that training left, and nothing that it can't have left."""

import os
import re
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch

from bench.errors import UserError
from bench.protocol.build import build
from bench.protocol.checkpoint import Checkpoint, CheckpointDamaged, CheckpointOfOtherCode
from bench.protocol.optim import optimizer_of
from bench.protocol.recipe import Recipe
from bench.protocol.state import State, restore, snapshot
from bench.protocol.task import get_task
from bench.protocol.train import train
from bench.runner.run import checkpoint_of, execute
from tests.conftest import make_run, make_spec

CPU = torch.device("cpu")
TASK = get_task("tagging")
# warm-up, plateau and dropout: every field of a state has something to say
RECIPE = {"max_steps": 8, "evaluations": 4, "schedule": "plateau", "patience": 1, "config": {"drop_rate": 0.2}}


class Stop(Exception):
    pass


def run(packed, checkpoint=None, stop_at=None):
    """Train, and stop after a step if asked to; return the state, val's scores and what was said."""
    notices, spec = [], make_spec(packed, **RECIPE)

    def report(status):
        if status.step == stop_at:
            raise Stop

    data, val = (TASK.data(packed, split, spec.recipe) for split in ("train", "val"))
    model = build(spec, CPU)
    given = {"seed": 0, "checkpoint": checkpoint, "report": report, "notice": notices.append}
    state = train(model, data, val, TASK, spec.recipe, **given)
    return state, TASK.score(model, val), notices


@pytest.fixture(scope="module")
def whole(packed):
    return run(packed)


@pytest.fixture(scope="module")
def interrupted(packed, tmp_path_factory):
    """The checkpoint at step 6, of three evaluations."""
    checkpoint = Checkpoint(tmp_path_factory.mktemp("run") / "checkpoint.pt", "v1")
    with pytest.raises(Stop):
        run(packed, checkpoint, stop_at=8)
    assert checkpoint.step() == 6
    return checkpoint.path.read_bytes()


@pytest.fixture
def checkpoint(interrupted, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(interrupted)
    return Checkpoint(path, "v1")


def edit(checkpoint, change):
    values = torch.load(checkpoint.path, weights_only=True)
    change(values)
    torch.save(values, checkpoint.path)


def test_a_checkpoint_resumes_in_the_same_numbers(packed, checkpoint, whole):
    state, scores, notices = run(packed, checkpoint)
    np.testing.assert_array_equal(scores, whole[1])
    assert [line | {"seconds": 0} for line in state.history] == [line | {"seconds": 0} for line in whole[0].history]
    assert notices == []


def tensors(values):
    return values["optimizer"]["state"][0]


def history(values):
    return values["state"]["history"]


def edited(place, key, value):
    """Return an edit: the value, or what it makes of the one that is there."""

    def change(values):
        found = place(values)
        found[key] = value(found[key]) if callable(value) else value

    return change


def model(values):
    return values["model"]


def state(values):
    return values["state"]


def best(values):
    return values["state"]["best_weights"]


NAN = float("nan")
ODD = {
    "int8 weights": (edited(model, "head.0.weight", lambda w: w.to(torch.int8)), "model: head.0.weight is int8"),
    "a shape": (edited(model, "head.0.bias", lambda w: w[:3]), r"head.0.bias is float32 \(3,\), should be"),
    "a half": (edited(model, "head.0.bias", lambda w: w.half()), r"head.0.bias is float16 \(512,\), should be float32"),
    "a NaN": (edited(model, "head.0.bias", lambda w: w * NAN), "model: head.0.bias is not finite"),
    "no layer": (lambda values: model(values).pop("head.0.bias"), "weights are missing: 'head.0.bias'"),
    "another layer": (lambda values: model(values).update(x=torch.ones(1)), "weights are of no layer: 'x'"),
    "a number for a weight": (edited(model, "head.0.bias", 3), "head.0.bias is a int, should be a tensor"),
    "no weights": (edited(lambda v: v, "model", []), "model: a list, not weights by name"),
    "moments of another shape": (edited(tensors, "exp_avg", torch.zeros(3)), r"exp_avg is float32 \(3,\), should be"),
    "moments of another type": (edited(tensors, "exp_avg_sq", lambda w: w.double()), "exp_avg_sq is float64"),
    "moments that are infinite": (edited(tensors, "exp_avg", lambda w: w + float("inf")), "exp_avg is not finite"),
    "squares below zero": (edited(tensors, "exp_avg_sq", lambda w: w - 1), "exp_avg_sq has squares below 0"),
    "steps to come": (edited(tensors, "step", lambda n: n + 1), "7 of 6 steps"),
    "half a step": (edited(tensors, "step", lambda n: n - 0.5), "5.5 of 6 steps"),
    "no moments": (edited(lambda v: v["optimizer"], "state", {}), "optimizer: .*weight: no moments"),
    "moments of one": (lambda v: v["optimizer"]["state"].pop(0), "optimizer: .*weight: no moments"),
    "one moment": (lambda v: tensors(v).pop("exp_avg"), "moments are step, exp_avg_sq"),
    "moments of nothing": (lambda v: v["optimizer"]["state"].update({99: {}}), "moments of no parameter: 99"),
    "a state for the generator": (edited(lambda v: v, "rng", lambda w: w.float()), "rng is float32"),
    "half a generator": (edited(lambda v: v, "rng", lambda w: w[:100]), r"rng is uint8 \(100,\)"),
    "a generator of zeros": (edited(lambda v: v, "rng", torch.zeros_like), "Invalid mt19937 state"),
    "a score over 1": (edited(state, "best_score", 7.5), "best_score is 7.5, by the history 0."),
    "a score of NaN": (edited(state, "best_score", NAN), "best_score is nan, by the history 0."),
    "no score": (edited(state, "best_score", None), "best_score is None, by the history 0."),
    "scores over 1": (lambda v: [line.update(val_score=7.5) for line in history(v)], "a val score of 7.5"),
    "another best step": (edited(state, "best_step", 8), "best_step is 8, by the history"),
    "best weights of int8": (edited(best, "head.0.bias", lambda w: w.to(torch.int8)), "best weights: head.0.bias is"),
    "no best weights": (edited(state, "best_weights", {}), "best weights: weights are missing"),
    "more steps than there are": (edited(state, "step", 9), "of 8 steps"),
    "a step of the past": (edited(state, "step", 1), "the history is not of 0 evaluations by step 1"),
    "a true step": (edited(state, "step", True), "at step True"),
    "half of a step": (edited(state, "step", 5.5), "at step 5.5"),
    "a step before the first": (edited(state, "step", -2), "at step -2"),
    "a line less": (lambda v: history(v).pop(0), "the history is not of 3 evaluations by step 6"),
    "a line of NaN": (edited(lambda v: history(v)[0], "loss", NAN), "a line of the history is"),
    "a line of words": (edited(lambda v: history(v)[0], "loss", "x"), "a line of the history is"),
    "a rate": (edited(lambda v: history(v)[2], "learning_rate", 1.0), "a learning rate of 1.0, not"),
    "halvings": (edited(state, "halvings", 40), "halvings is 40, by the history"),
    "evaluations without a better one": (edited(state, "stale", 7), "stale is 7, by the history"),
    "losses that were none": (edited(state, "loss_count", 5), "5 losses of"),
    "a sum of NaN": (edited(state, "loss_sum", NAN), "losses of nan"),
    "seconds": (edited(state, "seconds", -1.0), "in -1.0 s"),
    "seconds of ages": (edited(state, "seconds", 1e300), "in 1e.300 s"),
    "a field": (lambda v: state(v).update(x=1), "unexpected keyword argument 'x'"),
    "no state": (edited(lambda v: v, "state", 5), "not iterable|not subscriptable"),
    "another run": (edited(lambda v: v, "run", "1234abcd"), "of another run, 1234abcd"),
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn(packed):
    """The model as the seed draws it, which what is refused must leave as it is."""
    spec = make_spec(packed, **RECIPE)
    return build(spec, CPU), spec.recipe


@pytest.mark.parametrize(("change", "reason"), ODD.values(), ids=ODD)
def test_what_training_cannot_have_left_is_refused_whole(checkpoint, drawn, change, reason):
    """The moments of another shape ended in a segmentation fault, most others in other numbers, and some every time."""
    edit(checkpoint, change)
    (model, recipe), before = drawn, torch.get_rng_state()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointDamaged, match=reason) as caught:
        restore(checkpoint.load(), model, optimizer_of(model, recipe), TASK, recipe)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["moments of another shape", "int8 weights", "a score over 1", "another run"])
def test_what_training_cannot_have_left_is_set_aside_and_said(packed, checkpoint, whole, name):
    change, reason = ODD[name]
    edit(checkpoint, change)
    odd = checkpoint.path.read_bytes()
    _, scores, (line,) = run(packed, checkpoint)
    assert re.search(
        rf"checkpoint.pt is damaged \(.*{reason}.*\): kept as checkpoint.old.pt, training begins anew", line
    )
    assert checkpoint.path.with_name("checkpoint.old.pt").read_bytes() == odd
    np.testing.assert_array_equal(scores, whole[1])


def test_a_checkpoint_of_a_run_is_of_that_run_alone(packed, tmp_path):
    """Seeds share their code: the file of one was resumed as another's."""
    first, second = (make_run(packed, tmp_path, seed=seed, max_steps=2, evaluations=1) for seed in (0, 1))
    execute(first, CPU)
    checkpoint_of(first).save({"state": {"step": 0}})
    second.folder.path.mkdir()
    os.replace(first.folder.checkpoint_file, second.folder.checkpoint_file)
    with pytest.raises(CheckpointDamaged, match=f"of another run, {first.spec.hash}"):
        checkpoint_of(second).load()


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_dead_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def inflated(path):
    with ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with ZipFile(path, "w", ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)


@pytest.mark.parametrize(
    ("place", "reason"),
    [(a_folder, "not a file"), (a_pipe, "not a file"), (a_dead_link, "not a file"), (inflated, "compressed")],
)
def test_what_is_no_checkpoint_is_moved_out_of_the_way(checkpoint, place, reason):
    place(checkpoint.path)
    with pytest.raises(CheckpointDamaged, match=reason):
        checkpoint.load()
    checkpoint.set_aside()
    checkpoint.save({"state": {"step": 8}})
    assert checkpoint.step() == 8


def test_none_that_was_kept_is_overwritten(checkpoint):
    names = []
    for content in (b"first", b"second", b"third"):
        checkpoint.path.write_bytes(content)
        names.append(checkpoint.set_aside())
    assert [path.name for path in names] == ["checkpoint.old.pt", "checkpoint.old-2.pt", "checkpoint.old-3.pt"]
    assert [path.read_bytes() for path in names] == [b"first", b"second", b"third"]


def test_what_only_may_not_be_read_is_not_set_aside(checkpoint, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bench.protocol.checkpoint.ZipFile", refused)
    with pytest.raises(UserError, match=r"checkpoint\.pt: Permission denied; make it readable, or move it away"):
        checkpoint.load()


def test_state_is_what_a_checkpoint_keeps(tmp_path):
    layer, recipe = torch.nn.Linear(2, 2), Recipe(max_steps=9, evaluations=1)
    optimizer = optimizer_of(layer, recipe)
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    state = State(step=5, loss_sum=3.25, loss_count=4, seconds=0.5)
    ours, others = (Checkpoint(tmp_path / "checkpoint.pt", code) for code in ("v1", "v2"))
    assert (ours.load(), ours.step()) == (None, 0)
    ours.save(snapshot(layer, optimizer, state))
    fresh = torch.nn.Linear(2, 2)
    assert restore(ours.load(), fresh, optimizer_of(fresh, recipe), TASK, recipe) == state
    assert torch.equal(fresh.weight, layer.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert (ours.step(), others.step()) == (5, 0)
    with pytest.raises(CheckpointOfOtherCode, match="at step 5"):
        others.load()
    ours.path.write_bytes(b"rubbish")
    assert ours.step() == 0
    with pytest.raises(CheckpointDamaged, match=r"^[^\n]+$"):
        ours.load()


def test_a_parameter_that_never_moved_needs_no_moments():
    """One that the loss does not reach, which Adam leaves alone."""
    recipe = Recipe(max_steps=100)
    trained, drawn = (torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]) for _ in range(2))
    drawn.load_state_dict(trained.state_dict())
    optimizer = optimizer_of(trained, recipe)
    trained[0](torch.ones(2)).sum().backward()
    optimizer.step()
    values = snapshot(trained, optimizer, State(step=1, loss_sum=1.0, loss_count=1, seconds=0.5))
    assert restore(values, drawn, optimizer_of(drawn, recipe), TASK, recipe).step == 1
    assert torch.equal(drawn[0].weight, trained[0].weight)


def test_a_checkpoint_from_before_formats_is_one_of_other_code(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"code": "v1", "state": {"update": 7}}, path)
    with pytest.raises(CheckpointOfOtherCode) as raised:
        Checkpoint(path, "v1").load()
    assert raised.value.step == 7
