"""Seeds, clips and hours that a difference needs: the power of the test that the report makes, and `bench plan`."""

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bench as door
from bench.protocol.recipe import Recipe
from bench.reporting.analysis import analyse
from bench.reporting.planning import Pilot, Question, Spread, answers, detectable, training_hours, weigh_pilot
from bench.reporting.power_plan import PowerPlan
from bench.reporting.sampling import Sampling
from bench.reporting.systems import load_results
from bench.runner.display import Display
from bench.stats.bootstrap import Estimate
from bench.stats.inference import of_contrast
from bench.stats.planning import (
    clips_needed,
    power,
    seeds_needed,
    smallest_difference,
    upper_seed_variance,
    variances,
)  # fmt: skip
from bench.suites.plan import contrasts
from bench.suites.suite import load_suite

DEMO = Path(__file__).parent / "format1"
DRAWS = 20_000


# --- the power of the test


def rejected(difference, seed_variance, clip_variance, seeds, level):
    """How often the test of the report rejects, in draws of what is true, clips known and seeds estimated."""
    generator = np.random.default_rng(int(1e4 * difference) + seeds)
    of_clips = generator.normal(scale=clip_variance**0.5, size=DRAWS)
    runs = difference + of_clips + generator.normal(scale=seed_variance**0.5, size=(seeds, DRAWS))
    # two replicates that vary by the variance of clips, a run by no more
    replicates = np.array([[1.0], [-1.0]]) * np.full(DRAWS, (clip_variance / 2) ** 0.5)
    estimate = Estimate(tuple(range(seeds)), runs, replicates, np.full(DRAWS, clip_variance))
    found = of_contrast(estimate, level)
    return float(np.mean((found.low > 0) | (found.high < 0)))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize(("difference", "level"), [(0.0, 0.05), (2.5, 0.05), (6.0, 0.05 / 28)])
def test_power_is_how_often_the_test_of_the_report_rejects(seeds, share, difference, level):
    # the variance of the mean is 1, and that of seeds so much of it
    case = (difference, share * seeds, 1 - share, seeds)
    expected = float(power(*case, level))
    error = max((expected * (1 - expected) / DRAWS) ** 0.5, 1 / DRAWS)
    assert rejected(*case, level) == pytest.approx(expected, abs=3 * error)


def test_power_grows_with_the_difference_and_the_seeds_and_falls_with_each_variance():
    sizes = power(np.linspace(0, 0.05, 20), 0.01**2, 0.004**2, 5)
    assert sizes.shape == (20,)
    assert all(a < b for a, b in pairwise(sizes))
    assert power(-0.02, 0.01**2, 0.004**2, 5) == pytest.approx(power(0.02, 0.01**2, 0.004**2, 5))
    more = power(0.02, 0.01**2, 0.004**2, np.arange(3, 30))
    assert all(a < b for a, b in pairwise(more))
    found = [smallest_difference(v**2, c**2, 5) for v, c in ((0.01, 0.004), (0.02, 0.004), (0.02, 0.008))]
    assert found == sorted(found)
    assert smallest_difference(0.01**2, 0.004**2, 5, level=0.05 / 28) > smallest_difference(0.01**2, 0.004**2, 5)
    assert smallest_difference(0.01**2, 0.004**2, 5, power=0.9) > smallest_difference(0.01**2, 0.004**2, 5)


@pytest.mark.parametrize(("seed_sd", "clip_sd"), [(0.01, 0.004), (0.003, 0.006), (0.0, 0.004), (0.01, 0.0)])
@pytest.mark.parametrize("level", [0.05, 0.05 / 28])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_what_is_needed_is_what_suffices_and_no_more(seed_sd, clip_sd, level, seeds):
    varies = (seed_sd**2, clip_sd**2)
    smallest = smallest_difference(*varies, seeds, level=level)
    assert float(power(smallest, *varies, seeds, level)) == pytest.approx(0.8, abs=1e-6)
    # a hair more than the smallest difference of so many seeds needs so many
    if seed_sd:
        assert seeds_needed(smallest * 1.0001, *varies, level=level) == seeds
        assert seeds_needed(smallest * 0.9999, *varies, level=level) in (seeds + 1, None)
    clips = clips_needed(0.03, *varies, 10_000, seeds, level=level)
    if clips is not None and clips > 1:
        enough, fewer = (
            float(power(0.03, varies[0], varies[1] * 10_000 / n, seeds, level)) for n in (clips, clips - 1)
        )
        assert fewer < 0.8 <= enough


def test_extreme_cases():
    # seeds that do not vary: the normal test, z of .975 and of .8
    assert smallest_difference(0.0, 1.0, 5) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert seeds_needed(3.0, 0.0, 1.0) == 3
    # clips that do not vary: the t test of a single sample, which textbooks give 33.3 of (delta = .5 sd) for
    assert seeds_needed(0.5, 1.0, 0.0) == 34
    assert smallest_difference(0.0, 0.0, 5) == 0.0
    # what clips alone forbid, and what seeds alone forbid
    assert seeds_needed(2.8, 1e-6, 1.0) is None
    assert clips_needed(1.0, 1.0, 1.0, 1000, 3) is None
    assert clips_needed(1.0, 0.0, 1.0, 1000, 3) == 7849
    assert seeds_needed(0.01, 1.0, 0.0, most=50) is None


def test_what_falls_with_clips_needs_fewer_of_them():
    case = (0.03, 0.01**2, 0.01**2, 1000, 5)
    none, some = clips_needed(*case), clips_needed(*case, interaction=0.006**2)
    assert some is not None
    assert none is not None
    assert some < none
    # no more can fall than there is
    assert clips_needed(*case, interaction=1.0) == clips_needed(*case, interaction=0.01**2)


def test_the_upper_value_holds_the_variance_in_four_of_five_pilots():
    pilots = np.random.default_rng(0).normal(scale=2.0, size=(DRAWS, 4)).var(axis=1, ddof=1)
    held = np.mean([upper_seed_variance(variance, 4) > 4.0 for variance in pilots])
    assert held == pytest.approx(0.8, abs=3 * (0.16 / DRAWS) ** 0.5)
    assert upper_seed_variance(1.0, 5) == pytest.approx(2.426, abs=1e-3)


def test_variances_are_those_of_the_test():
    generator = np.random.default_rng(1)
    by_seed = generator.normal(scale=0.004, size=500) + generator.normal(scale=0.002, size=(5, 500))
    runs = generator.normal(0.02, 0.01, size=5)
    estimate = Estimate(tuple(range(5)), runs, by_seed.mean(axis=0), by_seed.var(axis=1, ddof=1).mean(), by_seed)
    seed, clip = variances(estimate)
    assert seed == pytest.approx(runs.var(ddof=1))
    # the share of single seeds is taken off
    assert clip == pytest.approx(0.004**2, rel=0.2)
    assert clip < by_seed.mean(axis=0).var(ddof=1)


# --- of a pilot


@pytest.fixture(scope="module")
def pilot():
    return load_results(DEMO)


@pytest.fixture(scope="module")
def weighed(pilot):
    return weigh_pilot(pilot, contrasts(load_suite("demo")), Sampling(300))


def test_a_pilots_pairs_are_those_of_its_report(pilot, weighed):
    assert len(weighed.pairs) == 28
    assert {spread.seeds for spread in weighed.pairs} == {5}
    found = {spread.name: spread for spread in weighed.pairs}
    alike, unlike = found["transformer_large - transformer_pooled"], found["crnn - transformer_multiscale"]
    assert alike.seed_variance < 0.1 * unlike.seed_variance
    # what a seed's difference is on the pilot's clips, straight from run.json
    scores = [{run.record.spec.seed: run.record.metrics["map"] for run in s.runs} for s in pilot.systems[:2]]
    of_seed = [scores[0][seed] - scores[1][seed] for seed in scores[0]]
    first = found[f"{pilot.systems[0].label} - {pilot.systems[1].label}"]
    assert first.seed_variance == pytest.approx(np.var(of_seed, ddof=1), rel=1e-4)


def test_a_pilots_contrasts_are_those_of_the_suite_that_it_has_all_entries_of(pilot, weighed):
    assert weighed.lacks == {}
    found = {spread.name: spread for spread in weighed.contrasts}
    assert list(found) == [contrast.name for contrast in load_suite("demo").contrasts]
    pair = next(spread for spread in weighed.pairs if spread.name == "transformer_small - transformer_large")
    assert found["large - small"].seed_variance == pytest.approx(pair.seed_variance)
    assert found["large - small"].clip_variance == pytest.approx(pair.clip_variance)
    means = found["CNNs - transformers"]
    family = {system.name: system.first.family for system in pilot.systems}
    sides = {"cnn": 1 / 4, "transformer": -1 / 4}
    by_seed = [
        sum(sides[family[system.name]] * system.runs[seed].record.metrics["map"] for system in pilot.systems)
        for seed in range(5)
    ]
    assert means.seed_variance == pytest.approx(np.var(by_seed, ddof=1), rel=1e-4)


def test_a_contrast_with_an_entry_that_the_pilot_lacks_is_not_told(pilot):
    fewer = replace(pilot, systems=tuple(system for system in pilot.systems if system.name != "transformer_small"))
    found = weigh_pilot(fewer, contrasts(load_suite("demo")), Sampling(100))
    assert list(found.lacks) == ["large - small", "CNNs - transformers", "best CNN - best transformer"]
    assert found.lacks["large - small"] == "transformer_small has no finished run"
    assert [spread.name for spread in found.contrasts] == ["pooled - large", "multi-scale - large"]
    assert len(found.pairs) == 21


def test_more_clips_than_the_pilots_vary_less(pilot, weighed):
    clips = len(pilot.labels.clips)
    more = weigh_pilot(pilot, (), Sampling(300), clips=4 * clips)
    for few, many in zip(weighed.pairs, more.pairs, strict=True):
        assert many.clip_variance == pytest.approx(few.clip_variance / 4)
        assert many.interaction == pytest.approx(few.interaction / 4)
        # of a seed's variance only the part that it has with single clips
        assert many.seed_variance == pytest.approx(few.seed_variance - 0.75 * few.interaction)
        # the upper value does not vanish with it
        assert few.upper == pytest.approx(upper_seed_variance(few.seed_variance, 5))
        assert many.upper >= few.upper - few.seed_variance


def test_hours_are_the_pilots_by_the_sound_that_is_trained_on(pilot):
    system = next(system for system in pilot.systems if system.name == "vgg_like")
    recipe, seconds = system.spec.recipe, min(system.values("cost", "train_seconds"))
    twice = recipe.model_copy(update={"max_steps": 4 * recipe.max_steps, "batch_size": recipe.batch_size // 2})
    hours, missing = training_hours(pilot, {"vgg_like": ("vgg_like", recipe)})
    assert hours == pytest.approx(seconds / 3600)
    # an entry of another name with the same architecture; and one that the pilot knows nothing of
    more, missing = training_hours(pilot, {"longer": ("vgg_like", twice), "other": ("timm:resnet18", Recipe())})
    assert more == pytest.approx(2 * hours)
    assert missing == ["other"]


def test_the_smallest_difference_that_a_table_could_have_shown(pilot):
    analysis = analyse(pilot, Sampling(300))
    found = detectable(analysis)
    assert found.pairs == 28
    assert 0 < found.low < found.median < found.high
    # the closest pair varies least: its own interval is narrower than the difference that it would find
    closest = min(pair.primary.difference.high - pair.primary.difference.low for pair in analysis.pairs) / 2
    assert closest < found.low < 2 * closest
    assert detectable(analysis, power=0.95).median > found.median
    assert detectable(analysis, level=0.05 / 28).median > found.median


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory):
    """Two systems of the demo with two seeds each."""
    folder = tmp_path_factory.mktemp("two") / "results"
    others = [f"{name}-*" for name in ("densenet121", "resnet18", "vgg_like", "transformer_[lpm]*")]
    return shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*-s[234]-*", "suite.json", *others))


def test_of_checkpoints_alone_no_table_could_have_shown_a_difference(two_seeds):
    assert detectable(analyse(load_results(two_seeds), Sampling(100))) is None


def test_several_differences_are_told_by_their_median_and_the_hardest():
    asked = Question(0.01, 0.8, seeds=5, clips=1000)
    sds = {"a": (0.004, 0.001), "b": (0.004, 0.002), "c": (0.01, 0.02)}
    varies = [Spread(name, seed**2, clip**2, 5, upper=3 * seed**2) for name, (seed, clip) in sds.items()]
    each = [answers(spread, asked) for spread in varies]
    # clips forbid the third
    assert [record["seeds_needed"] for record in each][2] is None
    plan = PowerPlan("t", "mAP", asked, Pilot(tuple(varies), (), {}), {"pairs": 3, "contrasts": 2})
    median, largest = plan.records[:2]
    assert (median["difference"], largest["difference"]) == ("median of 3", "largest of 3")
    assert median["seeds_needed"] == each[1]["seeds_needed"]
    assert largest["seeds_needed"] is None
    assert largest["power"] == pytest.approx(each[2]["power"])
    assert median["seeds_needed_cautious"] > median["seeds_needed"]
    assert plan.records[2]["level"] == pytest.approx(0.05 / 3)
    assert plan.records[2]["smallest_5"] > median["smallest_5"]
    # of contrasts that the pilot does not have, what pairs say
    assert [line["tested_as"] for line in plan.records[4:]] == ["one of 2 contrasts"] * 2
    own = PowerPlan("t", "mAP", asked, Pilot(tuple(varies), (varies[0],), {}), {"pairs": 3, "contrasts": 2}).records
    assert [(line["difference"], line["tested_as"]) for line in own if line["difference"] == "a"] == [
        ("a", "a single comparison"), ("a", "one of 2 contrasts"),
    ]  # fmt: skip


# --- the command


def test_stated_variances(bench):
    stated = ["--seed-sd", ".01", "--clip-sd", ".004", "--clips", "10231"]
    done = bench("plan", "controlled", "--difference", ".02", *stated)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "controlled: to find a difference of 0.02 in mAP with a chance of 80%, at 10,231 eval clips"
    header, single, family, contrasts = lines[2:6]
    assert "cautious" not in header
    assert "hours" not in header
    assert "a single comparison" in single
    assert "one of 28 pairs" in family
    assert "one of 5 contrasts" in contrasts
    assert "p of 0.05/28 = 0.0018" in done.out
    assert "`bench cost`" in done.out
    assert f"{smallest_difference(0.01**2, 0.004**2, 5):.4f}" in lines[3]
    assert f"{smallest_difference(0.01**2, 0.004**2, 5, level=0.05 / 28):.4f}" in lines[4]


def test_the_table_that_the_docs_show_is_what_is_printed(bench):
    text = (DEMO.parent.parent / "docs" / "suites.md").read_text("utf-8")
    (command,) = re.findall(r"^    bench (plan .*--seed-sd .*)$", text, re.MULTILINE)
    (table,) = re.findall(r"^```text\n(controlled: .*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert bench(*command.split()).out.startswith(f"{table}\n")


def test_a_pilot_and_json(bench):
    done = bench(
        "plan", "demo", "--difference", ".05", "--pilot", DEMO, "--resamples", 300, "--seeds", 5, "--clips", 1000,
        "--power", ".9", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert (document["difference"], document["power"], document["seeds"], document["clips"]) == (0.05, 0.9, 5, 1000)
    assert document["metric"] == "mAP"
    told = [(line["difference"], line["tested_as"]) for line in document["table"]]
    assert told[:2] == [("median of 28", "a single comparison"), ("largest of 28", "a single comparison")]
    assert ("pooled - large", "one of 5 contrasts") in told
    first = document["table"][0]
    assert first["seeds_needed"] <= first["seeds_needed_cautious"]
    assert first["hours"] == pytest.approx(document["hours_per_seed"] * first["seeds_needed"])
    assert "250 eval clips, scaled to 1,000" in document["notes"][0]


def test_a_suite_with_one_seed_is_told_that_it_is_too_few(bench):
    done = bench("plan", "demo", "--difference", ".05", "--pilot", DEMO, "--resamples", 100)
    assert done.code == 0, done.err
    assert "clips: not told for 1 seed," in done.out
    assert "5 shared seeds, 250 eval clips." in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demoo", "--difference", ".01"], "no suite 'demoo'"),
        (["demo"], "Missing option '--difference'"),
        (["demo", "--difference", ".01"], "give --pilot RESULTS, or all of --seed-sd, --clip-sd and --clips"),
        (["demo", "--difference", ".01", "--seed-sd", ".01", "--clips", "9"], "or all of --seed-sd, --clip-sd"),
        (["demo", "--difference", ".01", "--seed-sd", "-1", "--clip-sd", "0", "--clips", "9"], "--seed-sd -1"),
        (["demo", "--difference", "0", "--pilot", DEMO], "--difference 0: give one above 0"),
        (["demo", "--difference", "nan", "--pilot", DEMO], "--difference nan"),
        (["demo", "--difference", ".01", "--pilot", DEMO, "--power", "1"], "--power 1: give a chance"),
        (["demo", "--difference", ".01", "--pilot", DEMO, "--clips", "0"], "--clips 0"),
        (["demo", "--difference", ".01", "--pilot", DEMO, "--seed-sd", ".01"], "instead of a --pilot"),
        (["demo", "--difference", ".01", "--pilot", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_mistakes_are_one_line(bench, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = bench("plan", *arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.strip().splitlines()
    assert line.startswith("bench: error: ")
    assert message in line


def test_pilots_with_too_few_seeds_name_the_remedy(bench, two_seeds, tmp_path):
    done = bench("plan", "demo", "--difference", ".01", "--pilot", two_seeds)
    assert done.code == 2
    assert "no two systems share 3 seeds (the most is 2): run them with --seeds 3 or more, or state" in done.err
    alone = tmp_path / "alone"
    shutil.copytree(two_seeds, alone, ignore=shutil.ignore_patterns("crnn-*"))
    done = bench("plan", "demo", "--difference", ".01", "--pilot", alone)
    assert done.code == 2
    assert "one system, transformer_small, and nothing to compare it with" in done.err


def test_from_python():
    found = door.plan("controlled", 0.02, seed_sd=0.01, clip_sd=0.004, clips=10_231, display=Display())
    assert isinstance(found.table, pd.DataFrame)
    assert list(found.table["tested_as"]) == ["a single comparison", "one of 28 pairs", "one of 5 contrasts"]
    assert found.table["seeds_needed"][0] == seeds_needed(0.02, 0.01**2, 0.004**2)
    assert "<table" in found._repr_html_()


def test_families_of_a_suite_are_its_pairs_and_its_ablations():
    stated = {"seed_sd": 0.01, "clip_sd": 0.004, "clips": 10_231, "display": Display()}
    ablations = door.plan("ablations", 0.02, **stated).families
    assert ablations["ablations"] > 30
    # the best recipe of each beside the default one
    assert door.plan("tuned", 0.02, **stated).families["pairs"] == 16 * 15 // 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"difference": 1e-300}, "--difference 1e-300: give one above 0"),
        ({"difference": "x"}, "difference='x': Input should be a valid number"),
        ({"seed_sd": 1e300}, "--seed-sd 1e+300: a standard deviation is from 0 to 1,000,000"),
        ({"clips": 10**30}, "--clips 1000000000000000000000000000000: give how many clips"),
        ({"clips": True}, "clips=True: Input should be a valid integer"),
        ({"seeds": 0}, "--seeds 0: give how many seeds there will be, 1 or more"),
        ({"seeds": -5}, "--seeds -5: give how many seeds there will be"),
        ({"seed_sd": None, "clip_sd": None, "clips": None, "pilot": DEMO, "resamples": 10**12}, "--resamples 1000000"),
        ({"seed_sd": None, "clip_sd": None, "clips": None, "pilot": DEMO, "resamples": 0}, "--resamples 0: give a"),
    ],
)  # fmt: skip
def test_numbers_without_sense_are_one_line(given, message):
    stated = {"difference": 0.01, "seed_sd": 0.01, "clip_sd": 0.004, "clips": 100, "display": Display()}
    with pytest.raises(door.UserError, match=r"^[^\n]+$") as raised:
        door.plan("demo", **{**stated, **given})
    assert message in str(raised.value)
