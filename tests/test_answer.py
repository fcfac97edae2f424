"""What results say in two or three sentences: verbs that the verdicts allow, for any contrasts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.reporting.analysis import Ablation, Analysis, Claim, Contrast, Pair, analyse
from bench.reporting.answer import answer
from bench.reporting.basis import basis, made_on, setting
from bench.reporting.contrasts import WeighedContrast
from bench.reporting.formats import markdown
from bench.reporting.sampling import Sampling
from bench.reporting.systems import load_results
from bench.reporting.tables.scores import tables
from bench.stats.inference import Inference
from bench.store import PlannedContrast
from bench.store.contrasts import Choice

CNNS = ("crnn", "densenet121", "resnet18", "vgg_like")
TRANSFORMERS = ("transformer_small", "transformer_large", "transformer_pooled", "transformer_multiscale")
MEANS = dict.fromkeys(CNNS, 0.25) | dict.fromkeys(TRANSFORMERS, -0.25)
PAIR = {"transformer_large": 1.0, "transformer_small": -1.0}


@pytest.fixture(scope="module")
def demo() -> Analysis:
    return analyse(load_results(Path(__file__).parents[1] / "results/demo"), Sampling(resamples=100))


def claim(value, verdict="significant", equivalence="not equivalent", half=0.02, generalises=True):
    numbers = (np.float64(x) for x in (value, value - half, value + half, 0.01))
    return Claim(Inference(*numbers, 0.0, generalises), 0.02, verdict, equivalence)


def contrast(claimed, weights=None, name="a name", question="", best_of=None, chosen=None):
    planned = PlannedContrast(name=name, question=question, weights=weights or {}, best_of=best_of or {})
    return Contrast(WeighedContrast(planned, weights=weights or {}, chosen=chosen or {}), claimed)


def said(analysis, *contrasts, **fields):
    return answer(replace(analysis, contrasts=contrasts, **fields))


def test_data_clips_and_seeds_come_first(demo):
    (sentence,) = said(demo, contrast(claim(0.05), PAIR))
    assert sentence.startswith(f"On {setting(demo)}, ")
    assert setting(demo) == "demo (not FSD50K; 100 eval clips, 5 seeds)"
    assert basis(demo) == "demo (not FSD50K), 100 eval clips, 5 seeds"
    # of a plan that names no data
    unnamed = replace(demo, results=replace(demo.results, sources={}))
    assert setting(unnamed) == "data other than FSD50K (100 eval clips, 5 seeds)"


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (contrast(claim(0.0731), MEANS), "convolutional networks scored .073 mAP higher than transformers on average"),
        (contrast(claim(-0.0731), MEANS), "convolutional networks scored .073 mAP lower than transformers on average"),
        (contrast(claim(0.05), PAIR), "transformer_large scored .050 mAP higher than transformer_small"),
        (
            contrast(
                claim(0.15),
                best_of={"transformer": Choice(weight=-1, entries=TRANSFORMERS), "cnn": Choice(weight=1, entries=CNNS)},
                chosen={"transformer": "transformer_small", "cnn": "densenet121"},
            ),
            "the best convolutional network (densenet121) scored .150 mAP higher than the best transformer"
            " (transformer_small)",
        ),
        # any other sum goes by what its author calls it
        (
            contrast(claim(0.031), {"crnn": 0.5, "resnet18": 0.5, "transformer_small": -1}, "body", "is it the body?"),
            'the answer to "is it the body?" is +.031 mAP',
        ),
        (contrast(claim(-0.031), {"crnn": 2, "resnet18": -2}, "twice"), '"twice" is -.031 mAP'),
    ],
    ids=["families", "lower", "pair", "best", "question", "name"],
)
def test_what_is_weighed_is_said_whatever_its_name(demo, of, words):
    (sentence,) = said(demo, of)
    assert f", {words} (95% interval " in sentence
    assert sentence.endswith("), which is significant.")


def test_an_interval_is_of_the_difference_the_way_round_that_is_said(demo):
    (sentence,) = said(demo, contrast(claim(-0.05), PAIR))
    assert "transformer_large scored .050 mAP lower than transformer_small (95% interval .030 to .070)" in sentence


def test_significant_ones_come_first_and_the_others_are_not_told_apart(demo):
    first, also, apart = said(
        demo,
        contrast(claim(-0.001, "not significant", "equivalent"), PAIR),
        contrast(claim(0.07), MEANS),
        contrast(claim(0.02), {"crnn": 0.5, "resnet18": 0.5, "transformer_small": -1}, "body"),
        contrast(claim(0.004, "undecided", "inconclusive"), {"crnn": 1, "vgg_like": -1}),
    )
    assert "convolutional networks scored .070 mAP higher" in first
    assert also == 'Also significant: "body", +.020 mAP (.000 to .040).'
    assert apart == (
        "Could not be told apart: transformer_large and transformer_small (-.001, equivalent within .01); and crnn and "
        "vgg_like (+.004, undecided: it takes more resamples)."
    )


def test_without_a_significant_one_nothing_is_claimed(demo):
    text = " ".join(
        said(demo, contrast(claim(0.07, "not significant"), MEANS), contrast(claim(0.01, "not significant"), PAIR))
    )
    assert "none of the 2 differences that were asked for in advance is significant" in text
    assert not {"higher", "lower", "better", "also"} & {*text.lower().replace(".", "").split()}


def test_of_few_seeds_it_is_said_of_these_checkpoints_only(demo):
    claimed = claim(0.07, "checkpoints differ", None, generalises=False)
    (sentence,) = said(demo, contrast(claimed, MEANS))
    assert sentence.endswith(", of these checkpoints only: another seed may turn it around.")
    assert "significant" not in sentence
    first, other = said(demo, contrast(claimed, MEANS), contrast(claim(0.05), PAIR))
    assert first.endswith(", which is significant."), "what generalises comes first"
    assert other.startswith("These checkpoints differ: convolutional networks over transformers on average, by .070 (")


def test_what_was_not_computed_is_said(demo):
    assert said(demo, contrast(claim(0.07), MEANS), contrast(None, PAIR, "large - small"))[-1] == (
        'Not computed, since runs are missing: "large - small".'
    )


def test_long_lists_are_counted(demo):
    many = [contrast(claim(0.001, "not significant"), PAIR, f"n{i}") for i in range(20)]
    assert said(demo, contrast(claim(0.07), MEANS), *many)[-1].endswith("; and 16 more.")


def test_ablations_are_counted_and_the_largest_effects_named(demo):
    base, *systems = (standing.system for standing in demo.standings)
    values = ((-0.05, "significant"), (-0.09, "significant"), (0.03, "significant"), (0.001, "not significant"))
    made = tuple(
        Ablation(system, base, {"depth": (3, 1)}, claim(value, verdict, "equivalent" if abs(value) < 0.01 else None))
        for system, (value, verdict) in zip(systems, values, strict=False)
    )
    counts, drop, gain = said(demo, ablations=made)
    assert counts.endswith(
        "of 4 ablations 2 scored significantly worse than their base and 1 significantly better; 1 could not be told "
        "apart from it, 1 is equivalent to it within .01."
    )
    # a sentence of its own behind that of the contrasts
    assert said(demo, contrast(claim(0.07), MEANS), ablations=made)[1].startswith("Of 4 ablations 2 scored")
    assert drop.startswith(f"What hurt most: {systems[1].label} (depth 3 -> 1) scored .090 mAP lower than {base.label}")
    assert gain.startswith(
        f"What helped most: {systems[2].label} (depth 3 -> 1) scored .030 mAP higher than {base.label}"
    )


def test_without_contrasts_the_best_is_held_against_the_others(demo):
    best, *others = (standing.system for standing in demo.standings)
    verdicts = ("significant",) * 5 + ("not significant",) * 2
    pairs = tuple(
        Pair(best, other, {"map": claim(0.05, verdict)}) for other, verdict in zip(others, verdicts, strict=True)
    )
    (sentence,) = said(demo, pairs=pairs, classes=None)
    assert f"{best.label} scored best, {best.score:.3f} mAP: sig".replace("0.", ".") in sentence
    assert ": significantly better than 5 of the other 7; " in sentence
    assert sentence.endswith(f"{others[5].label} and {others[6].label} could not be told apart from it.")
    # the best of each family, chosen on val, is in a sentence of its own
    assert "best on val" in said(demo)[-1]


def test_a_single_system_has_its_score_and_chance(demo):
    (sentence,) = said(demo, pairs=(), classes=None)
    system = demo.standings[0].system
    score, deviation, chance = system.score, system.spread("metrics", "map"), demo.results.floors["chance"]
    expected = f"{system.label} scored {score:.3f} ± {deviation:.3f} mAP; chance is {chance:.3f}."
    assert sentence.endswith(expected.replace("0.", "."))


def test_it_opens_the_table_with_date_and_commit(demo):
    lines = markdown(demo, tables(demo)).splitlines()
    assert lines[2].startswith("On demo (not FSD50K; 100 eval clips, 5 seeds), convolutional networks scored ")
    assert lines[4].endswith(made_on(demo.results))
    assert made_on(demo.results).startswith("run on 20")


def test_a_contrast_that_others_add_up_to_is_told_as_a_sum(demo):
    parts = [("left", {"crnn": 1.0, "vgg_like": -1.0}), ("rest", {"vgg_like": 1.0, "resnet18": -1.0})]
    total = contrast(claim(0.2), {"crnn": 1.0, "resnet18": -1.0}, name="whole")
    unsure = claim(0.01, verdict="not significant")
    of_parts = [
        contrast(c, weights, name=name) for c, (name, weights) in zip((claim(0.19), unsure), parts, strict=True)
    ]
    first, summed, *others = said(demo, total, *of_parts)
    assert ".200 mAP" in first
    assert summed.startswith('It is the sum of these: "left", +.190 mAP (')
    assert '"rest", +.010 mAP (' in summed
    assert ", not significant)" in summed
    assert others == []
