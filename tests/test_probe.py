"""Dimensions of a space that change nothing in an architecture are found before a search, and told."""

import json

import optuna
import pytest
import torch
from optuna.trial import create_trial

from bench.searching import search as searching
from bench.searching.probe import without_effect
from bench.searching.record import _importance
from bench.searching.search import idle_dimensions, searches
from bench.store import ResultsFolder
from bench.store.search_record import FOR_IMPORTANCE
from bench.suites.plan import plan
from bench.suites.suite import load_suite
from tests.conftest import make_spec
from tests.test_search import SUITE, no_figures  # noqa: F401

SPACE = """
learning_rate = { low = 1e-6, high = 1e-2, log = true }
gain_db = { low = 0.0, high = 12.0 }
drop_rate = { low = 0.0, high = 0.5 }
time_shift = { choices = [0.0, 0.1, 0.5] }
loss = { choices = ["bce", "huber"] }
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crnn", "vgg_like", "resnet18", "densenet121", "transformer_small",
                                  "transformer_large", "transformer_pooled", "transformer_multiscale"])  # fmt: skip
def test_of_tuned_without_mixup_only_the_gain_does_nothing_and_only_to_transformers(name, packed, tmp_path):
    suite = load_suite("tuned")
    runs = [run for run in plan(suite, [packed], ResultsFolder(tmp_path)) if run.spec.name == name]
    (search,) = searches(runs, suite.space, 0, {"mixup"})
    assert idle_dimensions(search) == (["gain_db"] if name.startswith("transformer") else [])
    # of two sounds that are mixed, one is louder
    (search,) = searches(runs, suite.space, 0, {})
    assert idle_dimensions(search) == []


@pytest.mark.usefixtures("no_figures")
def test_what_has_no_effect_is_told_and_on_record(packed, tmp_path, bench, monkeypatch):
    suite, out = tmp_path / "toy.toml", tmp_path / "out"
    suite.write_text(SUITE[: SUITE.index("[space]")] + "[space]" + SPACE)
    arguments = ("--suite", suite, "--data", packed.folder, "--out", out, "--trials", 1)
    done = bench("search", *arguments)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if "without effect" in line]
    assert lines == ["transformer_small: of [space] without effect on transformer_small: gain_db"]
    entries = {entry["entry"]: entry for entry in json.loads((out / "search.json").read_text())["entries"]}
    assert entries["transformer_small"]["without_effect"] == ["gain_db"]
    assert entries["vgg_like"]["without_effect"] == []
    header, _, first, second = done.out.strip().splitlines()[-4:]
    assert "| without effect |" in header
    assert "gain_db" in first.split("|")[header.split("|").index(" without effect ")]
    assert "gain_db" not in second.split("|")[header.split("|").index(" without effect ")]

    def tried_again(*_):
        raise AssertionError("it is on record")

    monkeypatch.setattr(searching, "without_effect", tried_again)
    again = bench("search", *arguments)
    assert again.code == 0
    assert lines[0] in again.err.splitlines()


def test_what_does_not_train_here_is_not_told(packed):
    spec = make_spec(packed)
    other = spec.model_copy(update={"config": spec.config | {"num_heads": -1}})
    assert without_effect(spec, {"num_heads": [other], "nothing": [spec]}, packed) == ["nothing"]
    assert without_effect(other, {"nothing": [other]}, packed) == []


def test_the_models_random_numbers_are_left_as_they_were(packed):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    without_effect(make_spec(packed), {}, packed)
    assert torch.equal(torch.rand(3), expected)


# --- importance


def study_of(count):
    study = optuna.create_study(direction="maximize")
    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in ("a", "b")}
    for number in range(count):
        params = {"a": (number * 0.37) % 1, "b": (number * 0.61) % 1}
        study.add_trial(create_trial(params=params, distributions=space, value=params["a"]))
    return study


def test_few_trials_say_nothing_of_what_mattered():
    assert _importance(study_of(FOR_IMPORTANCE - 1), ["a", "b"]) == {}
    shares = _importance(study_of(FOR_IMPORTANCE), ["a", "b"])
    assert shares["a"] > shares["b"]
    assert sum(shares.values()) == pytest.approx(1)


def test_what_has_no_effect_has_no_share():
    assert _importance(study_of(FOR_IMPORTANCE), ["b"]) == {"b": 1}
    assert _importance(study_of(FOR_IMPORTANCE), []) == {}
