"""Weights of a run: written as soon as they are trained, and loaded only where they fit."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from architectures import misfit, weights_bytes
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.protocol.tasks import tagging
from bench.runner.run import checkpoint_of, execute
from bench.runner.weights import load_model
from tests.conftest import make_run

CPU = torch.device("cpu")
NAME = "head.0.weight"


@pytest.fixture(scope="module")
def trained(packed, tmp_path_factory):
    run = make_run(packed, tmp_path_factory.mktemp("out"), max_steps=2, evaluations=1)
    return run.folder, execute(run, CPU)


@pytest.fixture
def weights(trained):
    """Those of the run, to be changed; they are as they were afterwards."""
    folder, _ = trained
    before = folder.weights_file.read_bytes()
    yield load_file(folder.weights_file)
    folder.weights_file.write_bytes(before)


def edited(change):
    return lambda weights: weights | {NAME: change(weights[NAME])}


ODD = {
    "int8": (edited(lambda w: w.to(torch.int8)), r"head.0.weight is int8 \(512, 16\), should be float32 \(512, 16\)"),
    "half": (edited(lambda w: w.half()), r"head.0.weight is float16"),
    "double": (edited(lambda w: w.double()), r"head.0.weight is float64"),
    "turned": (edited(lambda w: w.T.contiguous()), r"head.0.weight is float32 \(16, 512\), should be"),
    "scalar": (edited(lambda w: w[0, 0].clone()), r"head.0.weight is float32 \(\), should be"),
    "NaN": (edited(lambda w: w * float("nan")), "head.0.weight is not finite"),
    "infinite": (edited(lambda w: w / 0), "head.0.weight is not finite"),
    "missing": (lambda weights: {k: w for k, w in weights.items() if k != NAME}, "missing: 'head.0.weight'"),
    "none": (lambda weights: {}, r"weights are missing: '.*' and \d+ more"),
    "more": (lambda weights: weights | {"x": torch.ones(1)}, "weights are of no layer: 'x'"),
}


@pytest.mark.parametrize(("change", "reason"), ODD.values(), ids=ODD)
def test_weights_that_do_not_fit_are_refused_in_one_line(trained, weights, change, reason):
    """Integers became floats, and a NaN was heard as silence."""
    folder, record = trained
    save_file(change(weights), folder.weights_file)
    with pytest.raises(UserError, match=reason) as caught:
        load_model(folder, record, CPU)
    text = str(caught.value)
    assert text.startswith(f"{folder.weights_file}: damaged, or of another version (")
    assert text.endswith(f"move the folder away and make it again with `{record.provenance.command}`")
    assert "\n" not in text


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 8, (10**9).to_bytes(8, "little") + b"{"])
def test_what_is_no_weights_is_refused_in_one_line(trained, content):
    folder, record = trained
    folder.weights_file.write_bytes(content)
    with pytest.raises(UserError, match="damaged, or of another version") as caught:
        load_model(folder, record, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "field", "value"),
    [
        ("config", "embed_dim", 10**9), ("config", "depth", 10**6), ("recipe", "chunk_seconds", 30.0),
        ("recipe", "eval_hop_seconds", 0.1),
    ],
)  # fmt: skip
def test_settings_that_the_run_did_not_have_make_no_model(trained, place, field, value):
    """They took the machine's memory, or gave other scores in silence."""
    folder, record = trained
    spec = record.spec.model_dump(mode="json")
    spec[place][field] = value
    with pytest.raises(UserError) as caught:
        load_model(folder, record.model_copy(update={"spec": RunSpec.model_validate(spec)}), CPU)
    assert f"{folder.record_file}: hash: {record.hash}, but its spec gives " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_constructor_raises_is_one_line(trained, monkeypatch):
    folder, record = trained

    def fails(*_):
        raise RuntimeError("out\nof luck")

    monkeypatch.setattr("architectures.audio_transformer.AudioTransformer.__init__", fails)
    with pytest.raises(UserError, match=r"run.json: its architecture can't be made \(RuntimeError: out of luck\); "):
        load_model(folder, record, CPU)


def test_infinity_is_no_fault_where_a_model_is_made_with_it():
    mask = {"mask": torch.tensor([0.0, -torch.inf])}
    assert misfit(mask, mask) == ""
    assert misfit(mask, {"mask": torch.zeros(2)}) == "mask is not finite"


def test_two_names_of_a_tensor_have_to_agree():
    layer = torch.nn.Linear(2, 2)
    template = torch.nn.ModuleDict({"a": layer, "b": layer}).state_dict()
    found = {name: value.clone() for name, value in template.items()}
    assert misfit(found, template) == ""
    found["b.bias"] += 1
    assert misfit(found, template) == "b.bias and a.bias are one tensor, but have two values"


def test_weights_are_the_same_bytes_as_ever():
    """Of a model without tied ones: files of before are read, and these by what read those."""
    from safetensors.torch import save

    state = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last).state_dict()
    assert weights_bytes(state) == save({name: value.contiguous() for name, value in state.items()})


def test_a_failure_after_training_loses_neither_weights_nor_training(packed, tmp_path, monkeypatch):
    """The weights are there as soon as they are trained, and the same command has only to score eval."""
    run, other = (make_run(packed, tmp_path / name, max_steps=4, evaluations=2) for name in "ab")
    evaluate, calls = tagging.Tagging.evaluate, []

    def fails_on_trained(task, *given):
        calls.append(given)
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return evaluate(task, *given)

    monkeypatch.setattr(tagging.Tagging, "evaluate", fails_on_trained)
    with pytest.raises(RuntimeError, match="out of luck"):
        execute(run, CPU)
    kept = run.folder.weights_file.read_bytes()
    assert json.loads(run.folder.failure_file.read_text())["error"] == "RuntimeError: out of luck"
    seconds = checkpoint_of(run).load()["state"]["seconds"]
    record = execute(run, CPU)
    whole = execute(other, CPU)
    assert record.metrics == whole.metrics
    assert run.folder.weights_file.read_bytes() == kept == other.folder.weights_file.read_bytes()
    assert record.cost["train_seconds"] == round(seconds, 3), "not a step was taken again"


def test_what_fails_on_eval_fails_before_the_first_step(packed, tmp_path, monkeypatch):
    """Of the model as it is drawn: it was found after the last step, every time."""
    run = make_run(packed, tmp_path, max_steps=4, evaluations=2)
    eval_clips = len(packed.targets("eval"))

    def nan_on_eval(_task, _model, data):
        return np.full(data.targets.shape, np.nan if len(data.targets) == eval_clips else 0.5, np.float32)

    monkeypatch.setattr(tagging.Tagging, "score", nan_on_eval)
    with pytest.raises(ValueError, match="scores that are not finite"):
        execute(run, CPU)
    assert not run.folder.checkpoint_file.exists(), "nothing was trained"
