"""Ensembles from kept scores: their numbers are scikit-learn's, and no score decides which seeds are averaged."""

import csv
import itertools
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from bench.protocol import task as tasks
from bench.protocol.spec import RunSpec
from bench.protocol.task import Metric, Task, get_task
from bench.reporting.ensembles import MOST_SYSTEMS, ensembles, seed_combinations
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import FinishedRun, Results, System
from bench.reporting.tables.ensembles import ensemble_pair_table, ensemble_table
from bench.store import Labels, ResultsFolder, RunFolder, RunRecord

CLIPS, CLASSES = 60, 4
RNG = np.random.default_rng(0)
TARGETS = RNG.random((CLIPS, CLASSES)) < 0.3


def noisy(strength, rng=RNG):
    """Scores that know every class, the less the more noise there is."""
    return (TARGETS + rng.normal(0, strength, TARGETS.shape)).astype(np.float32)


def mean_ap(scores):
    return np.mean([average_precision_score(TARGETS[:, k], scores[:, k]) for k in range(CLASSES)])


def results(folder, scores, *, bases=None, val_scores=None, task="tagging", metric=mean_ap):
    """Results of systems given as name to seed to scores, in this order."""
    none = [""] * CLIPS
    leaf, counts = np.ones(CLASSES, bool), np.ones(CLASSES, np.int64)
    store = ResultsFolder(folder)
    Labels("", none, none, [str(k) for k in range(CLASSES)], leaf, TARGETS, counts).write(store.labels_file)
    systems = []
    for name, of_system in scores.items():
        runs = []
        for seed, of_run in of_system.items():
            run = RunFolder(folder / f"{name}-s{seed}-00000000")
            run.path.mkdir()
            np.savez(run.scores_file, scores=of_run)
            spec = RunSpec.model_construct(name=name, task=task, seed=seed, base=(bases or {}).get(name, ""))
            primary, val = get_task(task).primary.name, (val_scores or {}).get(name, 0.5)
            record = RunRecord.model_construct(spec=spec, metrics={primary: metric(of_run)}, val_score=val)
            runs.append(FinishedRun(run, record))
        systems.append(System(name, tuple(runs)))
    nothing = {"failed": (), "missing": (), "mixed": (), "contrasts": ()}
    return Results(folder=store, title="toy", systems=tuple(systems), **nothing)


def of_pair(found, *names):
    (pair,) = [pair for pair in found.pairs if {pair.first.label, pair.second.label} == set(names)]
    return pair


def of_system(found, name):
    (member,) = [member for member in found.members if member.system.label == name]
    return member


def two_means(first, second, seeds):
    return np.mean([mean_ap((first[a].astype(float) + second[b]) / 2) for a, b in seeds])


def test_every_number_is_that_of_scikit_learn(tmp_path):
    a = {seed: noisy(0.6) for seed in range(5)}
    b = {seed: noisy(0.9) for seed in range(3)}
    c = {seed: noisy(0.7) for seed in (1, 2)}
    found = ensembles(results(tmp_path, {"b": b, "a": a, "c": c}))
    own = {"a": ((0, 1), (0, 2), (1, 2)), "b": ((0, 1), (0, 2), (1, 2)), "c": ((1, 2),)}
    owns = {}
    for name, scores in {"a": a, "b": b, "c": c}.items():
        member, single = of_system(found, name), np.mean([mean_ap(of_run) for of_run in scores.values()])
        all_seeds = mean_ap(np.mean([*scores.values()], axis=0, dtype=float))
        assert member.all_seeds == pytest.approx(all_seeds, abs=1e-12)
        assert member.gain == pytest.approx(all_seeds - single, abs=1e-12)
        owns[name] = two_means(scores, scores, own[name])
        assert (member.own.combinations, member.own.baseline_checkpoints) == (own[name], 1)
        assert member.own.score == pytest.approx(owns[name], abs=1e-12)
        assert member.own.gain == pytest.approx(owns[name] - single, abs=1e-12)
    for (first, x), (second, y), seeds in (
        (("b", b), ("a", a), ((0, 1), (1, 2), (2, 0))),
        (("b", b), ("c", c), ((0, 1), (1, 2), (2, 1))),
        (("a", a), ("c", c), ((0, 1), (1, 2), (2, 1))),
    ):
        pair, score = of_pair(found, first, second), two_means(x, y, seeds)
        assert (pair.first.label, pair.second.label) == (first, second), "in the suite's order"
        assert pair.combinations == seeds
        assert pair.score == pytest.approx(score, abs=1e-12)
        assert (pair.baseline, pair.baseline_checkpoints) == (pytest.approx(max(owns[first], owns[second])), 2)
        assert pair.gain == pytest.approx(score - max(owns[first], owns[second]), abs=1e-12)
    means = [member.system.score for member in found.members]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0], [0], [(0, 0)]),
        ([0], [1], [(0, 1)]),
        ([0, 1], [0, 1], [(0, 1), (1, 0)]),
        ([4, 3, 2, 1, 0], [0, 1, 2, 3, 4], [(0, 1), (1, 2), (2, 0)]),
        ([0], [0, 1, 2, 3], [(0, 1), (0, 2)]),
        # the next ones would be equal
        ([0, 1, 2], [2, 3, 4], [(0, 4), (1, 2), (2, 3)]),
        ([0, 1, 2], [1, 2], [(0, 1), (1, 2), (2, 1)]),
        ([0, 1], [5, 6, 7], [(0, 6), (1, 7), (0, 5)]),
    ],
)
def test_which_seeds_are_averaged(first, second, expected):
    assert list(seed_combinations(first, second)) == expected


def test_no_score_decides_which_seeds_are_averaged(tmp_path):
    scores = {name: {seed: noisy(0.5 + seed) for seed in range(5)} for name in ("a", "b")}
    better = {"a": {seed: scores["a"][4 - seed] for seed in range(5)}, "b": {seed: noisy(0.1) for seed in range(5)}}
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, other = ensembles(results(tmp_path / "one", scores)), ensembles(results(tmp_path / "other", better))
    assert one.pairs[0].first.label == other.pairs[0].first.label == "a"
    assert one.pairs[0].combinations == other.pairs[0].combinations == ((0, 1), (1, 2), (2, 0))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_system_gains_nothing_from_its_twin(tmp_path, seeds):
    scores = {seed: noisy(0.7) for seed in range(seeds)}
    found = ensembles(results(tmp_path, {"one": scores, "twin": scores}))
    assert found.pairs[0].gain == 0
    assert found.pairs[0].score == of_system(found, "one").own.score > of_system(found, "one").system.score


def test_systems_that_know_different_classes_gain(tmp_path):
    def knows(classes):
        known = np.isin(np.arange(CLASSES), classes)
        return {seed: np.where(known, noisy(0.3), RNG.random(TARGETS.shape)).astype(np.float32) for seed in range(3)}

    low, high = knows([0, 1]), knows([2, 3])
    found = ensembles(results(tmp_path, {"low": low, "low again": knows([0, 1]), "high": high}))
    assert of_pair(found, "low", "high").gain > 0.1
    assert abs(of_pair(found, "low", "low again").gain) < 0.1
    system, mixture = found.best_partner(of_system(found, "low"))
    assert (system.label, mixture) == ("high", of_pair(found, "low", "high"))


def test_the_best_partner_is_not_just_the_best_system(tmp_path):
    weak = {seed: np.where([True, True, False, False], noisy(0.9), 0).astype(np.float32) for seed in range(2)}
    other = {seed: np.where([False, False, True, True], noisy(0.9), 0).astype(np.float32) for seed in range(2)}
    perfect = {seed: noisy(0.01) for seed in range(2)}
    found = ensembles(results(tmp_path, {"weak": weak, "other": other, "perfect": perfect}))
    assert of_pair(found, "weak", "perfect").score > of_pair(found, "weak", "other").score
    assert found.best_partner(of_system(found, "weak"))[0].label == "other"


def test_with_a_single_seed_there_are_no_two_of_its_own(tmp_path):
    one, two = {0: noisy(0.5)}, {0: noisy(0.8), 1: noisy(0.8)}
    found = ensembles(results(tmp_path, {"one": one, "two": two, "also one": {0: noisy(0.8)}}))
    assert of_system(found, "one").own is None
    assert of_system(found, "one").gain == pytest.approx(0)
    pair = of_pair(found, "one", "two")
    assert (pair.combinations, pair.baseline_checkpoints) == (((0, 1),), 1)
    assert pair.baseline == max(mean_ap(one[0]), np.mean([mean_ap(two[0]), mean_ap(two[1])]))
    assert of_pair(found, "one", "also one").combinations == ((0, 0),)
    cells = {row[0]: row for row in ensemble_table(found).cells}
    assert cells["one"][5] == ""
    assert cells["one"][-1].endswith(" (over one)")
    pairs = ensemble_pair_table(found).records
    assert len(pairs) == 4, "three pairs, and two of 'two'"
    assert {record["baseline_checkpoints"] for record in pairs} == {1}


def test_a_single_checkpoint_is_no_ensemble_and_two_seeds_are_one(tmp_path):
    assert ensembles(results(tmp_path, {"one": {0: noisy(0.5)}})) is None
    (tmp_path / "two").mkdir()
    found = ensembles(results(tmp_path / "two", {"two": {0: noisy(0.5), 1: noisy(0.5)}}))
    assert found.pairs == ()
    assert found.best_partner(found.members[0]) is None
    assert [row[0] for row in ensemble_table(found).cells] == ["two"]


def test_ablations_are_left_out(tmp_path):
    scores = {name: {0: noisy(0.5)} for name in ("base", "ablation", "other")}
    found = ensembles(results(tmp_path, scores, bases={"ablation": "base"}))
    assert {member.system.label for member in found.members} == {"base", "other"}
    assert len(found.pairs) == 1


def test_of_many_systems_the_best_on_val_are_averaged(tmp_path):
    names = [f"s{i:02}" for i in range(MOST_SYSTEMS + 2)]
    # the better on val, the worse on eval
    scores = {name: {0: noisy(1 - 0.05 * i)} for i, name in enumerate(names)}
    val_scores = {name: 1 - 0.01 * i for i, name in enumerate(names)}
    found = ensembles(results(tmp_path, scores, val_scores=val_scores))
    assert {member.system.label for member in found.members} == set(names[:MOST_SYSTEMS])
    assert len(found.pairs) == MOST_SYSTEMS * (MOST_SYSTEMS - 1) / 2


def test_each_run_is_read_once(tmp_path, monkeypatch):
    given = results(tmp_path, {name: {seed: noisy(0.5) for seed in range(4)} for name in "abc"})
    read, scores = [], RunFolder.scores
    monkeypatch.setattr(RunFolder, "scores", lambda run, shape: read.append(run.name) or scores(run, shape))
    ensembles(given)
    assert sorted(read) == sorted(run.folder.name for run in given.runs)


class Error(Task):
    """The mean distance between scores and labels."""

    name = "error"
    metrics = (Metric("error", "error", higher_is_better=False),)
    losses = ("none",)
    loss = activation = None

    def clip_metrics(self, targets, scores):
        return {"error": np.abs(targets - scores).mean(axis=1)}


def test_where_lower_is_better_a_gain_is_positive_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "_tasks", tasks._tasks | {"error": Error()})
    above = {seed: (TARGETS + 0.5).astype(np.float32) for seed in range(2)}
    below = {seed: (TARGETS - 0.4).astype(np.float32) for seed in range(2)}
    given = {"above": above, "below": below}
    found = ensembles(results(tmp_path, given, task="error", metric=lambda scores: np.abs(TARGETS - scores).mean()))
    (pair,) = found.pairs
    assert pair.score == pytest.approx(0.05, abs=1e-6)
    assert pair.baseline == pytest.approx(0.4, abs=1e-6)
    assert pair.gain == pytest.approx(0.35, abs=1e-6)
    assert [member.system.label for member in found.members] == ["below", "above"]


# --- the report


@pytest.fixture
def reported(small_results, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    shutil.copytree(small_results, tmp_path / "out")
    return write_report(tmp_path / "out", Sampling(resamples=200))


def test_the_report_has_table_file_figure_and_note(reported):
    lines = list(csv.DictReader((reported.folder / "ensembles.csv").read_text().splitlines()))
    columns = ["first", "second", "score", "baseline", "baseline_checkpoints", "gain", "combinations"]
    assert list(lines[0]) == list(reported.ensembles.columns) == columns
    kinds = {(line["first"] == line["second"], line["combinations"]) for line in lines}
    assert kinds == {(True, "0+1"), (False, "0+1, 1+0")}
    assert len(lines) == 3
    maps = reported.scores.set_index("entry")["map"]
    for record in reported.tables["ensembles"].records:
        assert record["score"] == maps[record["entry"]]
        # with two seeds these are the same checkpoints
        assert record["all_seeds"] == pytest.approx(record["own"], abs=1e-12)
    text = (reported.folder / "table.md").read_text()
    assert text.index("## Cost") < text.index("## Ensembles (these checkpoints only)") < text.index("## How to read")
    names = list(reported.tables)
    assert names[names.index("cost") + 1] == "ensembles"
    assert "they have no p and no verdict" in text
    assert "(over one)" not in text
    assert r"\label{tab:ensembles}" in (reported.folder / "report.tex").read_text()
    page = (reported.folder / "index.html").read_text()
    assert all(part in page for part in ('data-name="ensembles"', 'data-name="ensemble_pairs"'))
    with Image.open(reported.figures["ensembles"].png) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20


def test_what_an_earlier_report_had_of_them_is_removed(reported):
    kept = sorted(reported.folder.glob("vgg_like-s*"))[0]
    for run in itertools.chain(reported.folder.glob("vgg_like-s*"), reported.folder.glob("transformer_small-s*")):
        if run != kept:
            shutil.rmtree(run)
    again = write_report(reported.folder, Sampling(resamples=200))
    assert again.ensembles.empty
    assert "ensembles" not in again.figures
    assert not list(reported.folder.glob("ensembles.*"))
    assert "An ensemble" not in (reported.folder / "table.md").read_text()
