"""Entries of their own: a suite's [[runs]], each an architecture with overrides, a name and a question."""

import pytest

from bench.errors import UserError
from bench.store import ResultsFolder
from bench.suites import plan as planning
from bench.suites.plan import Selection, plan
from bench.suites.suite import load_suite

SUITE = """
title = "entries"
seeds = 2
first_seed = 100
[train]
max_steps = 4
[family.transformer.train]
loss = "huber"
[family.transformer.inferred]
"train.loss" = "guessed"

[[runs]]
name = "vgg_like"
architecture = "vgg_like"

[[runs]]
name = "small_dropped"
architecture = "transformer_small"
question = "does dropout help?"
config = { drop_rate = 0.3 }
train = { learning_rate = 1e-3 }
"""


def write(tmp_path, text):
    path = tmp_path / "entries.toml"
    path.write_text(text)
    return str(path)


def planned(path, packed, tmp_path, **selected):
    return plan(load_suite(path), [packed], ResultsFolder(tmp_path / "out"), Selection(**selected))


def test_entries_become_runs_with_their_own_names_seeds_and_overrides(tmp_path, packed):
    runs = planned(write(tmp_path, SUITE), packed, tmp_path)
    specs = [run.spec for run in runs]
    assert [(spec.name, spec.seed) for spec in specs] == [
        ("vgg_like", 100), ("small_dropped", 100), ("vgg_like", 101), ("small_dropped", 101),
    ]  # fmt: skip
    plain, dropped = specs[:2]
    assert dropped.architecture == "transformer_small"
    assert (dropped.config["drop_rate"], plain.config["drop_rate"]) == (0.3, 0.0)
    assert (dropped.recipe.learning_rate, plain.recipe.learning_rate) == (1e-3, 5e-4)
    assert (dropped.recipe.loss, dropped.recipe.max_steps) == ("huber", 4), "suite, then family, then entry"
    assert dropped.inferred["train.loss"] == "guessed"
    assert "drop_rate" not in dropped.inferred, "what the entry sets is no inference"
    assert "drop_rate" in plain.inferred
    assert dropped.folder.startswith("small_dropped-s100-")
    assert [run.folder.path for run in runs] == [tmp_path / "out" / spec.folder for spec in specs]
    assert all(run.pack is packed for run in runs)


def test_only_names_entries_or_architectures(tmp_path, packed):
    selected = {"only": ["small_dropped", "crnn"], "seeds": 1, "overrides": {"learning_rate": 1e-4}}
    specs = [run.spec for run in planned(write(tmp_path, SUITE), packed, tmp_path, **selected)]
    assert [(spec.name, spec.recipe.learning_rate) for spec in specs] == [("small_dropped", 1e-4), ("crnn", 1e-4)]


def test_architectures_stand_beside_entries_where_they_are_named(tmp_path, packed):
    path = write(tmp_path, SUITE.replace("seeds = 2", "seeds = 1\narchitectures = ['crnn']"))
    assert [run.spec.name for run in planned(path, packed, tmp_path)] == ["crnn", "vgg_like", "small_dropped"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"small_dropped"', '"vgg_like"', "two entries are called 'vgg_like'"),
        ('"small_dropped"', '"a/b"', "runs.1.name='a/b'"),
        ('"small_dropped"', '"-x"', "runs.1.name='-x'"),
        ("learning_rate = 1e-3", "lerning_rate = 1e-3", "[[runs]] small_dropped, train: unknown field 'lerning_rate'"),
        ("drop_rate = 0.3", "drop_rat = 0.3", "no field 'drop_rat' (did you mean 'drop_rate'?)"),
        ("drop_rate = 0.3", "drop_rate = 'much'", "small_dropped: transformer_small: drop_rate"),
        ("drop_rate = 0.3", "sample_rate = 8000", "small_dropped: config may not set sample_rate"),
        ('architecture = "transformer_small"', 'architecture = "transformer_smal"', "did you mean 'transformer_small'"),
        ("first_seed = 100", "first_seed = -1", "first_seed=-1"),
        ("question", "questions", "questions"),
    ],
)
def test_a_slip_in_an_entry_is_one_line(tmp_path, packed, old, new, message):
    path = write(tmp_path, SUITE.replace(old, new))
    with pytest.raises(UserError, match=r"^[^\n]+$") as raised:
        planned(path, packed, tmp_path)
    assert message in str(raised.value)


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_settled_by_the_device_and_is_part_of_the_hash(packed, tmp_path, monkeypatch, bf16, expected):
    """A run in bf16 and one in fp32 are two runs, whoever chose."""
    monkeypatch.setattr(planning, "computes_bf16", lambda device: bf16)
    path = write(tmp_path, 'title = "auto"\narchitectures = ["vgg_like"]\n[family.cnn.train]\nprecision = "auto"\n')
    (auto,) = planned(path, packed, tmp_path)
    (named,) = planned(path, packed, tmp_path, overrides={"precision": expected})
    assert auto.spec.recipe.precision == expected
    assert auto.spec.hash == named.spec.hash
