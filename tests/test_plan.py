"""Entries: a suite's [[runs]], each an architecture with overrides, a name and a question; and what a [grid] makes."""

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


# --- grids

GRID = """
title = "grid"
architectures = ["crnn", "vgg_like"]
[train]
max_steps = 4
[inferred]
"train.learning_rate" = "guessed"
"train.max_steps" = "guessed"

[[runs]]
name = "small"
architecture = "crnn"
question = "is it?"
config = { drop_rate = 0.3, kernel_size = 3 }
train = { learning_rate = 1e-2, batch_size = 8 }
inferred = { "train.learning_rate" = "an exported search's", "train.batch_size" = "likewise" }

[grid]
train.learning_rate = [1e-4, 1e-3]
config.drop_rate = [0.0, 0.5]
"""
RATES, DROPS = "[1e-4, 1e-3]", "config.drop_rate = [0.0, 0.5]"


def names(path, packed, tmp_path, **selected):
    return [run.spec.name for run in planned(path, packed, tmp_path, **selected)]


def test_a_grid_is_crossed_over_every_entry(tmp_path, packed):
    runs = planned(write(tmp_path, GRID), packed, tmp_path)
    points = [f"learning_rate_{rate}-drop_rate_{drop}" for rate in ("0.0001", "0.001") for drop in ("0.0", "0.5")]
    assert [run.spec.name for run in runs] == [f"{name}-{p}" for name in ("crnn", "vgg_like", "small") for p in points]
    specs = {run.spec.name: run.spec for run in runs}
    assert len({spec.folder.rpartition("-")[2] for spec in specs.values()}) == 12, "what the grid sets is in the hash"
    for spec in specs.values():
        assert f"learning_rate_{spec.recipe.learning_rate}-drop_rate_{spec.config['drop_rate']}" in spec.name
        assert (spec.base, spec.recipe.max_steps) == ("", 4)
        assert "train.learning_rate" not in spec.inferred, (
            "what is declared is no inference, the suite's or the entry's"
        )
        assert "drop_rate" not in spec.inferred, "nor the architecture's"
        assert "train.max_steps" in spec.inferred
    small = specs["small-learning_rate_0.001-drop_rate_0.5"]
    assert (small.question, small.recipe.batch_size, small.config["kernel_size"]) == ("is it?", 8, 3)
    assert small.inferred["train.batch_size"] == "likewise"


def test_a_point_of_a_grid_is_the_run_that_the_same_settings_give_by_themselves(tmp_path, packed):
    (gridded,) = planned(write(tmp_path, GRID), packed, tmp_path, only=["crnn-learning_rate_0.001-drop_rate_0.5"])
    text = GRID.partition("[grid]")[0] + '[[runs]]\nname = "x"\narchitecture = "crnn"\nconfig = { drop_rate = 0.5 }\n'
    alone = planned(write(tmp_path, text), packed, tmp_path, only=["x"], overrides={"learning_rate": 1e-3})
    assert gridded.spec.hash == alone[0].spec.hash


def test_only_takes_all_of_an_entry_in_a_grid_or_one_point(tmp_path, packed):
    path = write(tmp_path, GRID)
    points = ["learning_rate_0.0001-drop_rate_0.0", "learning_rate_0.001-drop_rate_0.5"]
    assert len(names(path, packed, tmp_path, only=["crnn"])) == 4
    assert names(path, packed, tmp_path, only=[f"small-{points[1]}"]) == [f"small-{points[1]}"]
    both = [f"crnn-{points[0]}", "crnn"]
    assert len(names(path, packed, tmp_path, only=both)) == 4, "each once"
    # an architecture that the suite does not name
    assert names(path, packed, tmp_path, only=["resnet18"])[0] == f"resnet18-{points[0]}"
    with pytest.raises(
        UserError, match=r"no entry 'crnn-learning_rate_0.01-drop_rate_0.0' \(did you mean 'crnn-learning"
    ):
        names(path, packed, tmp_path, only=["crnn-learning_rate_0.01-drop_rate_0.0"])


def test_values_of_every_kind_become_names(tmp_path, packed):
    grid = """
[grid]
config.pool_after = [[], [1], [1, 2]]
config.causal = [true]
train.schedule = ["plateau"]
train.max_steps = [7]
sample_rate = [16_000]
"""
    text = f'title = "kinds"\n[[runs]]\nname = "small"\narchitecture = "transformer_small"\n{grid}'
    runs = planned(write(tmp_path, text), packed, tmp_path)
    rest = "causal_true-schedule_plateau-max_steps_7-sample_rate_16000"
    assert [run.spec.name for run in runs] == [f"small-pool_after_{v}-{rest}" for v in ("none", "1", "1+2")]
    assert [run.spec.config["pool_after"] for run in runs] == [(), (1,), (1, 2)]
    assert all(run.spec.recipe.schedule == "plateau" for run in runs)
    text = text.replace("[16_000]", "[16_000, 22_050]")
    with pytest.raises(UserError, match=r"small\S+-sample_rate_22050 needs a pack at 22050 Hz, given: "):
        planned(write(tmp_path, text), packed, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (RATES, "[]", "grid.train.learning_rate=[]: List should have at least 1 item"),
        (RATES, "1e-4", "grid.train.learning_rate=0.0001: Input should be a valid list"),
        (RATES, "[1e-4, 1e-3, 1e-4]", "0.0001 is in the list twice"),
        (RATES, "[1e-4, -1.0]", "[grid] train: learning_rate=-1.0: Input should be greater than 0"),
        (RATES, "['high']", "[grid] train: learning_rate='high'"),
        ("train.learning_rate =", "train.lerning_rate =", "[grid] train: unknown field 'lerning_rate' (known: loss, "),
        ("train.learning_rate =", "learning_rate =", "learning_rate is no field of a grid: write train.FIELD, con"),
        (DROPS, "config.drop_rat = [0.0]", "no field 'drop_rat' (did you mean 'drop_rate'?)"),
        (DROPS, "config.drop_rate = ['much']", "crnn-learning_rate_0.0001-drop_rate_much: crnn: drop_rate: "),
        (DROPS, "config.sample_rate = [8000]", "config may not set sample_rate"),
        (DROPS, "sample_rate = [0]", "[grid]: sample_rate=0: should be a whole number of Hz"),
        (DROPS, "sample_rate = [true]", "[grid]: sample_rate=True: should be a whole number of Hz"),
        (DROPS, "train.hop_seconds = [2.0]", "hop_seconds_2.0, train: hop_seconds=2.0 is more than"),
        (DROPS, "train.loss = ['a/b']", "whose fields and values name entries: name="),
        (DROPS, f"train.loss = ['{'x' * 80}']", "at most 80 characters"),
        (DROPS, "config.merge = ['1', 1]", "two of its entries are called 'crnn-learning_rate_"),
        ('architecture = "crnn"\nq', 'base = "crnn"\nq', "small: base and [grid] exclude each other"),
        ("[grid]", "[space]\ndrop_rate = { low = 0.0, high = 0.5 }\n[grid]", "config.drop_rate is both in [grid] and"),
        (GRID.partition("[grid]")[2], "", "it has no field: write train.FIELD = [VALUE, VALUE], or leave [grid] out"),
    ],
)
def test_a_slip_in_a_grid_is_one_line(tmp_path, packed, old, new, message):
    assert old in GRID
    path = write(tmp_path, GRID.replace(old, new))
    with pytest.raises(UserError, match=r"^[^\n]+$") as raised:
        planned(path, packed, tmp_path)
    assert message in str(raised.value)


def test_what_the_grid_sets_is_not_set_for_all(tmp_path, packed):
    with pytest.raises(
        UserError, match=r"suite 'grid' has a \[grid\] over train.learning_rate, which --set or --quick"
    ):
        planned(write(tmp_path, GRID), packed, tmp_path, overrides={"learning_rate": 1e-4})
    assert names(write(tmp_path, GRID), packed, tmp_path, overrides={"max_steps": 3}, only=["crnn"])


def test_hops_go_with_the_chunks_of_their_entry(tmp_path, packed):
    """What a grid's value goes with is known of each entry alone."""
    grid = "[grid]\ntrain.hop_seconds = [2.0, 4.0]\n"
    text = f'title = "long"\narchitectures = ["crnn"]\n[family.cnn.train]\nchunk_seconds = 4.0\n{grid}'
    assert names(write(tmp_path, text), packed, tmp_path) == ["crnn-hop_seconds_2.0", "crnn-hop_seconds_4.0"]


def test_an_entry_that_is_searched_leaves_its_name_room(tmp_path, packed):
    long = f"a{'b' * 60}"
    text = f'title = "long"\n[[runs]]\nname = "{long}"\narchitecture = "crnn"\n'
    assert names(write(tmp_path, text), packed, tmp_path) == [long]
    text += "[space]\nmixup = { low = 0.0, high = 0.5 }\n"
    with pytest.raises(UserError, match="an entry that is searched needs a name of 60 at most"):
        planned(write(tmp_path, text), packed, tmp_path)
