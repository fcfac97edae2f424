"""What an audit found wrong with the inference, on the runs that it was found on."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bench.reporting.analysis import Pair, analyse, judge
from bench.reporting.notes import reading_notes
from bench.reporting.planning import detectable
from bench.reporting.sampling import Sampling, compare_units
from bench.reporting.systems import load_results
from bench.reporting.tables.scores import tables
from bench.stats.bootstrap import bootstrap, contrast
from bench.stats.inference import difference, of_contrast
from bench.store import Labels
from tests.test_docs import ROOT

DEMO, ABLATIONS = ROOT / "tests/format1", ROOT / "results/ablations"
FEW = Sampling(resamples=1_000)


@pytest.fixture(scope="module")
def analysis():
    return analyse(load_results(DEMO), FEW)


@pytest.fixture(scope="module")
def estimates(analysis):
    return {standing.system.label: standing.estimates["map"] for standing in analysis.standings}


def half_width(found):
    return float(found.high - found.low) / 2


def test_the_papers_claims_can_be_seen(estimates):
    """pooled - large was +-.032, as if their seeds had nothing in common."""
    found = difference(estimates["transformer_pooled"], estimates["transformer_large"])
    assert half_width(found) <= 0.01
    assert found.paired == 5


def test_seeds_that_change_nothing_leave_hardly_a_doubt():
    """mean_of_logits is the very same training as its base: +-.014 by independent seeds, +-.0002 by paired ones."""
    results = load_results(ABLATIONS)
    systems = {s.name: s for s in results.systems if s.name in ("transformer_small", "mean_of_logits")}
    labels = results.labels
    found = bootstrap({name: s.statistics(labels) for name, s in systems.items()}, FEW.resampler(labels))
    together = contrast([(1.0, found["mean_of_logits"]["map"]), (-1.0, found["transformer_small"]["map"])])
    assert half_width(of_contrast(together)) < 0.005


def test_seeds_of_one_system_make_no_claim_on_architectures(estimates):
    """Two seeds against two others of the same system were called different in 47 of 120 cases."""
    calls = []
    for estimate in estimates.values():
        for pair in itertools.combinations(estimate.seeds, 2):
            rest = [seed for seed in estimate.seeds if seed not in pair][:2]
            calls += judge([difference(estimate.of_seeds(pair), estimate.of_seeds(rest))])
    assert len(calls) == 80
    assert any(claim.verdict == "checkpoints differ" for claim in calls)
    assert not any(claim.verdict == "significant" for claim in calls)
    assert all(claim.adjusted_p is None and claim.equivalence is None for claim in calls)


def test_more_seeds_do_not_show_less(estimates):
    """With five seeds pooled - large was thrice as wide as with two, which said nothing of seeds."""
    pooled, large = estimates["transformer_pooled"], estimates["transformer_large"]
    widths = [half_width(difference(pooled.of_seeds(range(n)), large.of_seeds(range(n)))) for n in (3, 5)]
    assert widths[1] <= widths[0]


def test_under_5000_clips_a_single_map_has_no_interval_but_is_corrected(analysis):
    scores = next(table for table in tables(analysis) if table.name == "scores")
    assert "95% interval" not in [column.header for column in scores.columns]
    for record in scores.records:
        assert record["map_low"] is record["map_high"] is None
        # the bias is upward
        assert record["map_corrected"] < record["map"]


def test_with_enough_clips_it_has(monkeypatch):
    monkeypatch.setattr("bench.reporting.analysis.CLIPS_NEEDED", 250)
    (scores, *_) = tables(analyse(load_results(DEMO), Sampling(resamples=200)))
    assert "95% interval" in [column.header for column in scores.columns]
    assert all(record["map_low"] < record["map_high"] for record in scores.records)


def test_ranks_say_how_sure_they_are(analysis):
    for standing in analysis.standings:
        low, high = standing.rank_interval
        assert low <= standing.rank <= high
    best, *_, last = analysis.standings
    assert best.rank_interval == (1, 1)
    # four transformers within .008
    assert last.rank_interval[0] < last.rank_interval[1]


def test_not_significant_is_not_equivalent(analysis):
    found = {(pair.first.name, pair.second.name): pair.primary for pair in analysis.pairs}
    assert found["vgg_like", "resnet18"].verdict == "not significant"
    assert found["vgg_like", "resnet18"].equivalence == "inconclusive"
    assert found["densenet121", "crnn"].equivalence == "not equivalent"
    wide = analyse(analysis.results, FEW, margin=0.05)
    claim = next(
        p.primary for p in wide.pairs if {p.first.name, p.second.name} == {"transformer_pooled", "transformer_large"}
    )
    assert claim.equivalence == "equivalent"
    assert "smallest difference in mAP that these tables could have shown" in " ".join(reading_notes(analysis))


# --- uploaders


def with_groups(labels: Labels, uploaders: int) -> Labels:
    """The same clips, as if the k-th of so many uploaders had every k-th; 0: none is known."""
    return replace(labels, groups=[f"u{i % uploaders}" if uploaders else "" for i in range(len(labels.clips))])


@pytest.fixture(scope="module")
def two():
    results = load_results(DEMO)
    systems = [system for system in results.systems if system.name in ("vgg_like", "resnet18")]
    return results.labels, {system.label: system.statistics(results.labels) for system in systems}


@pytest.mark.parametrize(
    ("uploaders", "by_group", "taken", "compared"),
    [(0, None, False, False), (5, None, False, False), (5, True, True, False), (20, None, True, True),
     (20, False, False, True)],
)  # fmt: skip
def test_uploaders_are_taken_whole_where_twenty_are_known(two, uploaders, by_group, taken, compared):
    labels, statistics = with_groups(two[0], uploaders), two[1]
    sampling = Sampling(resamples=300, by_group=by_group)
    found = {name: estimates["map"] for name, estimates in bootstrap(statistics, sampling.resampler(labels)).items()}
    metric = load_results(DEMO).task.primary
    units = compare_units(sampling, labels, statistics, [("vgg_like", "resnet18")], found, metric)
    assert (units.by_group, units.uploaders) == (taken, uploaders)
    assert (units.design_effect is not None) == compared
    if compared:
        assert min(units.by_uploader, units.by_clip, units.design_effect) > 0


def test_the_design_effect_is_what_alike_clips_cost():
    """Each recording as if uploaded twice: taking them one by one pretends to twice the evidence."""
    results = load_results(DEMO)
    labels, task = results.labels, results.task
    clips = np.repeat(np.random.default_rng(0).permutation(len(labels.clips))[:100], 2)
    uploads = {"clips": [str(i) for i in range(200)], "groups": [f"u{i // 2}" for i in range(200)]}
    twice = replace(labels, **uploads, targets=labels.targets[clips])
    statistics = {}
    for system in (system for system in results.systems if system.name in ("vgg_like", "resnet18")):
        scores = {run.record.spec.seed: run.folder.scores(labels.targets.shape)[clips] for run in system.runs}
        statistics[system.label] = {seed: task.statistic(twice.targets, of, labels.leaf) for seed, of in scores.items()}
    sampling = Sampling(resamples=1_000)
    found = {name: estimates["map"] for name, estimates in bootstrap(statistics, sampling.resampler(twice)).items()}
    units = compare_units(sampling, twice, statistics, [("vgg_like", "resnet18")], found, task.primary)
    assert units.design_effect == pytest.approx(2.0, rel=0.25)


def test_few_uploaders_are_a_caution(analysis, bench, tmp_path):
    assert any(note.startswith("Caution: these eval clips are of 5 uploaders only") for note in reading_notes(analysis))
    for run in DEMO.glob("vgg_like-s[01]-*"):
        shutil.copytree(run, tmp_path / run.name)
    with_groups(Labels.read(DEMO / "labels.npz"), 50).write(tmp_path / "labels.npz")
    runs = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    done = bench("compare", *runs, "--resamples", 200)
    assert "Whole uploaders are resampled, 50 of them: half widths" in done.out
    assert "Caution" not in done.out
    assert "Clips are resampled one by one" in bench("compare", *runs, "--resamples", 200, "--by-clip").out


def test_the_smallest_difference_is_that_of_all_claims_that_generalise(analysis):
    """Of pairs with other seeds, too: their variances add, so that less can be seen."""
    paired = detectable(analysis)
    assert paired.pairs == 28
    first, second = (s for s in analysis.standings if s.system.label in ("transformer_pooled", "transformer_large"))
    moved = {n: replace(e, seeds=tuple(seed + 50 for seed in e.seeds)) for n, e in second.estimates.items()}
    claim = judge([difference(first.estimates["map"], moved["map"])])[0]
    assert (claim.difference.generalises, claim.difference.paired) == (True, 0)
    apart = replace(
        analysis,
        standings=(first, replace(second, estimates=moved)),
        pairs=(Pair(first.system, second.system, {"map": claim}),),
    )
    together = replace(
        analysis,
        standings=(first, second),
        pairs=(
            next(
                p
                for p in analysis.pairs
                if {p.first.label, p.second.label} == {first.system.label, second.system.label}
            ),
        ),
    )
    assert detectable(apart).median > 2 * detectable(together).median


@pytest.mark.parametrize("margin", ["0", "-.01", "nan", "inf"])
def test_a_margin_is_above_zero(bench, margin):
    for command in (("report", DEMO), ("compare", DEMO / "crnn", DEMO / "vgg_like")):
        done = bench(*command, "--margin", margin)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"--margin {float(margin):g}: give one above 0" in done.err
