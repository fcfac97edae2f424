"""Rows of their own: a suite's [[runs]], each an architecture with overrides, a name and a question."""

import pytest

from bench.errors import UserError
from bench.suites import plan as suite_module
from bench.suites.plan import plan
from bench.suites.suite import load_suite

SUITE = """
title = "rows"
seeds = 2
first_seed = 100
[train]
updates = 4
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
    path = tmp_path / "rows.toml"
    path.write_text(text)
    return str(path)


def test_rows_become_runs_with_their_own_names_seeds_and_overrides(tmp_path, packed):
    specs = [spec for spec, _ in plan(load_suite(write(tmp_path, SUITE)), [packed])]
    assert [(spec.name, spec.seed) for spec in specs] == [
        ("vgg_like", 100), ("small_dropped", 100), ("vgg_like", 101), ("small_dropped", 101),
    ]  # fmt: skip
    plain, dropped = specs[:2]
    assert dropped.architecture == "transformer_small"
    assert (dropped.config["drop_rate"], plain.config["drop_rate"]) == (0.3, 0.0)
    assert (dropped.recipe.learning_rate, plain.recipe.learning_rate) == (1e-3, 5e-4)
    assert (dropped.recipe.loss, dropped.recipe.updates) == ("huber", 4), "suite, then family, then row"
    assert dropped.inferred["train.loss"] == "guessed"
    assert "drop_rate" not in dropped.inferred, "what the row sets is no inference"
    assert "drop_rate" in plain.inferred
    assert dropped.folder.startswith("small_dropped-s100-")


def test_only_names_rows_or_architectures(tmp_path, packed):
    suite = load_suite(write(tmp_path, SUITE))
    runs = plan(suite, [packed], only=["small_dropped", "crnn"], seeds=1, sets={"learning_rate": 1e-4})
    assert [(spec.name, spec.recipe.learning_rate) for spec, _ in runs] == [("small_dropped", 1e-4), ("crnn", 1e-4)]


def test_architectures_stand_beside_rows_where_they_are_named(tmp_path, packed):
    suite = load_suite(write(tmp_path, SUITE.replace("seeds = 2", "seeds = 1\narchitectures = ['crnn']")))
    assert [spec.name for spec, _ in plan(suite, [packed])] == ["crnn", "vgg_like", "small_dropped"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"small_dropped"', '"vgg_like"', "two rows are called 'vgg_like'"),
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
def test_a_slip_in_a_row_is_one_line(tmp_path, packed, old, new, message):
    path = write(tmp_path, SUITE.replace(old, new))
    with pytest.raises(UserError, match=r"^[^\n]+$") as raised:
        plan(load_suite(path), [packed])
    assert message in str(raised.value)


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_settled_by_the_device_and_is_part_of_the_hash(packed, tmp_path, monkeypatch, bf16, expected):
    """A run in bf16 and one in fp32 are two runs, whoever chose."""
    monkeypatch.setattr(suite_module, "computes_bf16", lambda device: bf16)
    path = write(tmp_path, 'title = "auto"\narchitectures = ["vgg_like"]\n[family.cnn.train]\nprecision = "auto"\n')
    ((auto, _),) = plan(load_suite(path), [packed])
    ((named, _),) = plan(load_suite(path), [packed], sets={"precision": expected})
    assert auto.recipe.precision == expected
    assert auto.hash == named.hash
