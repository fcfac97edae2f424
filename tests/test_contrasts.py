"""Contrasts: declared in a suite, kept in the plan, and tested in the report, in a family of their own."""

import csv
import json
import tomllib

import numpy as np
import optuna
import pandas as pd
import pytest

from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.reporting.analysis import analyse
from bench.reporting.contrasts import weigh
from bench.reporting.notes import reading_notes
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import FinishedRun, System, load_results
from bench.searching.record import SearchResult, export
from bench.searching.search import searches
from bench.stats.bootstrap import Resampler, bootstrap
from bench.stats.inference import holm, infer, of_contrast
from bench.store import Labels, PlannedContrast, ResultsFolder, RunFolder, RunRecord
from bench.store.contrasts import Choice
from bench.store.record import Provenance
from bench.suites.plan import Selection, contrasts, entries, plan
from bench.suites.suite import load_suite
from tests.conftest import no_tables

SUITE = """
title = "families"
architectures = ["crnn", "vgg_like", "resnet18"]

[[runs]]
name = "small"
architecture = "transformer_small"

[[runs]]
name = "pooled"
architecture = "transformer_pooled"

[[runs]]
name = "deep"
base = "small"
config = { depth = 6 }
"""
PAIR = """
[[contrasts]]
name = "pooled - small"
question = "does it help?"
entries = { pooled = 1, small = -1 }
"""
MEANS = """
[[contrasts]]
name = "CNNs - transformers"
families = { cnn = 1, transformer = -1 }
"""
BEST = """
[[contrasts]]
name = "best - best"
best_of = { cnn = 1, transformer = -1 }
"""


def loaded(tmp_path, text):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return load_suite(str(path))


# --- what a suite declares


def test_contrasts_are_resolved_to_the_entries_of_the_whole_suite(tmp_path):
    pair, means, best = contrasts(loaded(tmp_path, SUITE + PAIR + MEANS + BEST))
    assert (pair.question, pair.weights) == ("does it help?", {"pooled": 1.0, "small": -1.0})
    third, half = 1 / 3, -1 / 2
    assert means.weights == {"crnn": third, "vgg_like": third, "resnet18": third, "small": half, "pooled": half}, (
        "an ablation is none of its family's"
    )
    assert best.best_of == {
        "cnn": Choice(weight=1, entries=("crnn", "vgg_like", "resnet18")),
        "transformer": Choice(weight=-1, entries=("small", "pooled")),
    }


def test_the_best_may_be_one_of_entries_that_are_named(tmp_path):
    text = 'best_of = { cnn = 1, trained = { weight = -1, entries = ["deep", "pooled"] } }'
    (best,) = contrasts(loaded(tmp_path, SUITE + BEST.replace("best_of = { cnn = 1, transformer = -1 }", text)))
    assert best.best_of["trained"] == Choice(weight=-1, entries=("deep", "pooled"))
    assert best.entries == ("crnn", "vgg_like", "resnet18", "deep", "pooled")


WEIGHTS, FAMILIES = "entries = { pooled = 1, small = -1 }", "families = { cnn = 1, transformer = -1 }"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (WEIGHTS, "entries = { pooled = 1, small = 1 }", "pooled - small: the weights sum to 2, and should to 0"),
        (WEIGHTS, "entries = { pooled = 1, small = -1, deep = 0 }", "pooled - small: the weight of deep is 0: leave"),
        (WEIGHTS, "entries = { pooled = inf, small = -1 }", "entries.pooled=inf: Input should be a finite number"),
        (WEIGHTS, 'entries = { pooled = "much" }', "entries.pooled='much': Input should be a valid number"),
        (WEIGHTS, "", "pooled - small: give either entries, or families, or best_of"),
        (WEIGHTS, f"{WEIGHTS}\n{FAMILIES}", "pooled - small: give either entries, or families, or best_of"),
        (WEIGHTS, "weights = { pooled = 1 }", "weights"),
        ('"pooled - small"', '"a\\nb"', "contrasts.0.name='a\\nb'"),
        (
            '"pooled - small"',
            '"CNNs - transformers"',
            "[[contrasts]]: two are called 'CNNs - transformers': each needs",
        ),
        ("pooled = 1,", "poled = 1,", "'poled' is no entry of this suite (did you mean 'pooled'?)"),
        ("pooled = 1,", "xyz = 1,", "'xyz' is no entry of this suite: use crnn, vgg_like, "),
        (FAMILIES, "families = { cnns = 1, transformer = -1 }", "'cnns' is no family (did you mean 'cnn'?)"),
        (FAMILIES, "families = { cnn = 1, hybrid = -1 }", "the suite has no entry of family 'hybrid'"),
        (FAMILIES, "best_of = { cnn = 1, transfomer = -1 }", "'transfomer' is no family (did you mean 'transformer'?)"),
        (FAMILIES, "best_of = { cnn = 1, hybrid = -1 }", "the suite has no entry of family 'hybrid'"),
        (
            FAMILIES,
            'best_of = { cnn = "1", x = true, y = [1] }',
            "best_of.y.weight=[1]: Input should be a valid number",
        ),
        (FAMILIES, 'best_of = { cnn = 1, x = { weight = -1, entries = ["smal"] } }', "did you mean 'small'?"),
        (FAMILIES, 'best_of = { cnn = 1, x = { weight = -1, entry = ["small"] } }', "unknown field"),
        (
            FAMILIES,
            'best_of = { a = { weight = 1, entries = ["small"] }, b = { weight = -1, entries = ["small"] } }',
            "small is in best_of twice, as a and as b",
        ),
    ],
)
def test_a_slip_in_a_contrast_is_one_line(tmp_path, old, new, message):
    text = SUITE + PAIR + MEANS
    assert text.count(old) == 1
    with pytest.raises(UserError, match=r"^[^\n]+$") as raised:
        entries(loaded(tmp_path, text.replace(old, new)))
    assert message in str(raised.value)
    assert "families" in str(raised.value) or "suite.toml" in str(raised.value), "it says where"


def test_a_grid_renames_what_a_contrast_names(tmp_path):
    grid = 'title = "grid"\narchitectures = ["crnn", "vgg_like"]\n[grid]\ntrain.mixup = [0.0, 0.5]\n[[contrasts]]\n'
    text = f'{grid}name = "x"\nentries = {{ crnn = 1, vgg_like = -1 }}\n'
    with pytest.raises(UserError, match=r"several entries of 'crnn': name these, such as 'crnn-mixup_0\.0'$"):
        entries(loaded(tmp_path, text))
    text = text.replace("crnn = 1, vgg_like", '"crnn-mixup_0.5" = 1, "crnn-mixup_0.0"')
    (found,) = contrasts(loaded(tmp_path, text))
    assert found.weights == {"crnn-mixup_0.5": 1.0, "crnn-mixup_0.0": -1.0}


@pytest.mark.parametrize("name", ["controlled", "demo", "paper", "tuned"])
def test_the_suites_ask_for_the_papers_claims_and_for_the_families(name):
    found = {contrast.name: contrast for contrast in contrasts(load_suite(name))}
    assert list(found) == [
        "large - small", "pooled - large", "multi-scale - large", "CNNs - transformers", "best CNN - best transformer",
    ]  # fmt: skip
    assert found["pooled - large"].weights == {"transformer_pooled": 1.0, "transformer_large": -1.0}
    assert sorted(found["CNNs - transformers"].weights.values()) == 4 * [-0.25] + 4 * [0.25]
    assert {len(choice.entries) for choice in found["best CNN - best transformer"].best_of.values()} == {4}
    assert contrasts(load_suite("ablations")) == ()


# --- the plan


def test_the_plan_keeps_contrasts_and_the_last_of_one_name_counts(tmp_path):
    results = ResultsFolder(tmp_path / "out")
    results.path.mkdir()
    planned = contrasts(loaded(tmp_path, SUITE + PAIR + MEANS + BEST))
    results.add_to_plan("families", ["a-s0-01234567"], planned)
    assert results.plan().contrasts == planned
    kept = json.loads(results.plan_file.read_text())["contrasts"]
    assert [set(record) for record in kept] == 2 * [{"name", "question", "weights"}] + [{"name", "question", "best_of"}]
    other = planned[0].renamed({"pooled": "small", "small": "deep"})
    results.add_to_plan("families", ["b-s0-01234567"], [other])
    results.add_to_plan("families", [])
    assert results.plan().contrasts == (other, *planned[1:]), "a command without contrasts takes none away"
    results.forget(["a-s0-01234567"])
    assert (results.plan().planned, len(results.plan().contrasts)) == (("b-s0-01234567",), 3)


def test_a_command_plans_the_contrasts_of_the_whole_suite(tmp_path, packed, bench, monkeypatch):
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    text = 'title = "short"\narchitectures = ["crnn", "transformer_small"]\n[train]\nmax_steps = 2\nevaluations = 1\n'
    suite = loaded(tmp_path, text + MEANS)
    arguments = ("run", tmp_path / "suite.toml", "--data", packed.folder, "--out", tmp_path / "out")
    assert bench(*arguments, "--only", "transformer_small", "--set", "train.batch_size=2").code == 0
    found = ResultsFolder(tmp_path / "out").plan()
    assert len(found.planned) == 1
    assert found.contrasts == contrasts(suite)
    (tmp_path / "suite.toml").write_text(text + MEANS.replace("cnn =", "hybrid ="))
    done = bench(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "has no entry of family 'hybrid'" in done.err


def test_plans_of_before_have_no_contrasts(tmp_path):
    results = ResultsFolder(tmp_path)
    results.plan_file.write_text('{"format": 2, "title": "old", "planned": []}')
    assert results.plan().contrasts == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1", "contrasts: Input should be a valid tuple"),
        ('[{"name": "x", "weights": {"a": 1, "b": 1}}]', "contrasts.0: the weights sum to 2"),
        ('[{"name": "x", "weights": {"a": NaN, "b": 1}}]', "contrasts.0.weights.a: Input should be a finite number"),
        ('[{"name": "x"}]', "contrasts.0: give either weights or best_of"),
        ('[{"name": "x", "best_of": {"a": {"weight": 1}, "b": {"weight": -1}}}]', "best_of a has no entries"),
    ],
)
def test_a_damaged_contrast_is_one_line(tmp_path, value, message):
    results = ResultsFolder(tmp_path)
    results.plan_file.write_text(f'{{"format": 2, "title": "x", "planned": [], "contrasts": {value}}}')
    remedy = "restore it from a copy, or move it away and run the suite again"
    with pytest.raises(UserError, match=rf"^\S+suite\.json: damaged \([^\n]+\); {remedy}$") as e:
        results.plan()
    assert message in str(e.value)


def test_a_tuned_suite_weighs_the_best_recipes(tmp_path, packed):
    space = 'title = "tuned"\narchitectures = ["crnn", "vgg_like", "transformer_small"]\n[train]\nmax_steps = 4\n'
    space += "[budget]\ntrials = 2\n[space]\nmixup = { low = 0.0, high = 0.5 }\n"
    pair = '[[contrasts]]\nname = "x"\nentries = { crnn = 1, transformer_small = -1 }\n'
    suite = loaded(tmp_path, space + pair + MEANS + BEST)
    runs = plan(suite, [packed], ResultsFolder(tmp_path / "out"), Selection())
    distribution = {"mixup": optuna.distributions.FloatDistribution(0.0, 0.5)}
    found = []
    for search in searches(runs, suite.space, 0, ()):
        # another recipe than the default is better for all but the VGG
        scores = (0.2, 0.1) if search.spec.name == "vgg_like" else (0.1, 0.2)
        trials = [
            optuna.trial.create_trial(params={"mixup": mixup}, distributions=distribution, value=value)
            for mixup, value in zip((0.0, 0.5), scores, strict=True)
        ]
        found.append(SearchResult(search, suite.budget, trials, {}, [], []))
    path = tmp_path / "best.toml"
    export(path, suite, found, 2)
    declared, means, best = contrasts(load_suite(path))
    assert declared.weights == {"crnn_best_of_2": 1.0, "transformer_small_best_of_2": -1.0}
    assert means.weights == {"crnn_best_of_2": 0.5, "vgg_like": 0.5, "transformer_small_best_of_2": -1.0}
    assert best.best_of["cnn"].entries == ("crnn_best_of_2", "vgg_like"), "the defaults are no candidates beside them"

    export(path, suite, found[:2], 2)
    assert load_suite(path).contrasts == [], "of a part of the entries they would be other contrasts"
    assert path.read_text().count("no best recipe of transformer_small was found") == 3
    assert tomllib.loads(path.read_text())["title"] == "tuned"


# --- what the report makes of it


def system(name, values, val=0.5, label=None):
    """A system of one run a seed, with (clips,) values that its metric is the mean of."""
    runs = []
    for seed in values:
        spec = RunSpec.model_construct(name=name, task="tagging", seed=seed)
        record = RunRecord.model_construct(spec=spec, val_score=val, metrics={})
        runs.append(FinishedRun(RunFolder.__new__(RunFolder), record))
    return System(label or name, tuple(runs)), values


def weighed(planned, *made, resamples=400):
    statistics = {
        system.label: {seed: lambda w, v=v: {"map": (v @ w) / w.sum(axis=0)} for seed, v in values.items()}
        for system, values in made
    }
    estimates = bootstrap(statistics, Resampler(60, resamples))
    (found,) = weigh([planned], [system for system, _ in made], estimates)
    return found


@pytest.fixture
def drawn():
    """Values by system and seed: a seed shifts all systems alike, a system is .1 better than the one before it."""
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.5, 6)
    return {
        name: {seed: rng.normal(0.1 * place + shifts[seed], 0.2, 60) for seed in range(6)}
        for place, name in enumerate("abcd")
    }


def planned(**weights):
    return PlannedContrast(name="x", weights=weights)


def of(drawn, name, seeds):
    return {seed: drawn[name][seed] for seed in seeds}


def test_a_contrast_is_the_weighted_sum_of_the_seeds_that_all_have(drawn):
    made = [system("a", of(drawn, "a", (0, 1, 2, 3))), system("b", of(drawn, "b", (1, 2, 3, 4))),
            system("c", of(drawn, "c", range(6)))]  # fmt: skip
    found = weighed(planned(a=-0.5, b=-0.5, c=1.0), *made)
    by_seed = [drawn["c"][s].mean() - (drawn["a"][s].mean() + drawn["b"][s].mean()) / 2 for s in (1, 2, 3)]
    assert float(found.found.value) == pytest.approx(np.mean(by_seed))
    assert found.found.generalises
    assert (found.shared_seeds, found.most_seeds) == (3, 6)
    assert float(found.found.high - found.found.low) < 0.5, "what a seed gives to all of them cancels"


def test_with_fewer_seeds_in_common_it_is_about_these_checkpoints(drawn):
    made = [system("a", of(drawn, "a", (0, 1, 2))), system("b", of(drawn, "b", (1, 2, 3)))]
    found = weighed(planned(b=1, a=-1), *made)
    assert not found.found.generalises
    by_seed = [drawn["b"][s].mean() - drawn["a"][s].mean() for s in (1, 2)]
    assert float(found.found.value) == pytest.approx(np.mean(by_seed)), "of the seeds that both have"
    assert (found.shared_seeds, found.most_seeds) == (2, 3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "c has no finished run"),
        (["a"], "b, c have no finished run"),
        (["a", "b", "c", "c"], "c was run with several settings here"),
    ],
)
def test_without_one_of_its_systems_a_contrast_is_not_computed(drawn, names, message):
    made = [system(name, drawn[name], label=f"{name}{i}") for i, name in enumerate(names)]
    found = weighed(planned(a=1, b=-0.5, c=-0.5), *made)
    assert (found.found, found.lacks) == (None, message)
    best = {"one": Choice(weight=1, entries=("a",)), "other": Choice(weight=-1, entries=("b", "c"))}
    found = weighed(PlannedContrast(name="x", best_of=best), *made)
    assert (found.found, found.lacks) == (None, message), "nor is the best of those that are there"


def test_without_a_common_seed_a_contrast_is_not_computed(drawn):
    made = [system("a", of(drawn, "a", (0, 1, 2))), system("b", of(drawn, "b", (3, 4, 5)))]
    found = weighed(planned(a=1, b=-1), *made)
    assert (found.found, found.lacks) == (None, "a, b have no seed in common")


def test_the_best_is_so_on_val_though_eval_ranks_otherwise(drawn):
    vals = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.3}
    assert all(drawn[a][s].mean() < drawn[b][s].mean() for a, b in ("ab", "cd") for s in range(6))
    made = [system(name, drawn[name], val=vals[name]) for name in "abcd"]
    best = {"first": Choice(weight=1, entries=("a", "b")), "second": Choice(weight=-1, entries=("c", "d"))}
    found = weighed(PlannedContrast(name="x", best_of=best), *made)
    assert found.chosen == {"first": "a", "second": "c"}
    expected = np.mean([drawn["a"][s].mean() - drawn["c"][s].mean() for s in range(6)])
    assert float(found.found.value) == pytest.approx(expected)
    assert found.weights == {"a": 1, "c": -1}


def test_from_three_seeds_on_a_contrast_generalises(drawn):
    statistics = {"a": {s: lambda w, v=v: {"map": (v @ w) / w.sum(axis=0)} for s, v in drawn["a"].items()}}
    estimate = bootstrap(statistics, Resampler(60, 400))["a"]["map"]
    assert infer(estimate.of_seeds([0, 1, 2])) == of_contrast(estimate.of_seeds([0, 1, 2]))
    two = infer(estimate.of_seeds([0, 1]))
    away = np.abs(estimate.of_seeds([0, 1]).replicates - two.value)
    assert float(two.high - two.value) == pytest.approx(float(np.quantile(away, 0.95)))


# --- the whole report


def write_results(folder, strengths, seeds=(0, 1, 2), clips=150):
    """A results folder as runs leave it, entry to (family, how well it scores, its score on val)."""
    rng, results, task = np.random.default_rng(1), ResultsFolder(folder), get_task("tagging")
    folder.mkdir()
    targets = rng.random((clips, 4)) < 0.3
    names = [f"clip{i}" for i in range(clips)]
    labels = Labels("data", names, [""] * clips, list("wxyz"), np.ones(4, bool), targets, np.full(4, 10))
    labels.write(results.labels_file)
    shared = rng.normal(0, 1, (clips, 4))
    for name, (family, strength, val) in strengths.items():
        for seed in seeds:
            logits = targets * strength + shared + rng.normal(0, 0.3, (clips, 4))
            scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
            recipe = Recipe(loss="bce", max_steps=4)
            spec = RunSpec(name=name, architecture=name, config={}, recipe=recipe, seed=seed, pack="p")
            metrics = task.evaluate(targets, scores, labels.leaf)
            record = RunRecord(
                spec=spec, hash=spec.hash, family=family, metrics=metrics, untrained=metrics,
                floors=task.floors(targets), val_score=val, best_step=4, steps=4, data={"dataset": "data"},
                cost={"parameters": 1, "train_seconds": 1.0, "samples_per_second": 1.0, "seconds": 1.0},
                provenance=Provenance(commit=None, dirty=False, source={}, command="bench", date="", versions={},
                                      device="cpu"),
            )  # fmt: skip
            run = RunFolder(folder / spec.folder)
            run.path.mkdir()
            history = pd.DataFrame({"step": [4], "val_score": [val]})
            run.write(record, history, scores, b"")
    return results


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    strengths = {
        "a": ("cnn", 2.0, 0.9),
        "b": ("cnn", 2.6, 0.8),
        "c": ("transformer", 1.0, 0.7),
        "d": ("transformer", 0.9, 0.6),
    }
    results = write_results(tmp_path_factory.mktemp("contrasts") / "out", strengths)
    asked = [
        PlannedContrast(name="a - c", question="is it?", weights={"a": 1, "c": -1}),
        PlannedContrast(name="c - d", weights={"c": 1, "d": -1}),
        PlannedContrast(name="means", weights={"a": 0.5, "b": 0.5, "c": -0.5, "d": -0.5}),
        PlannedContrast(name="gone", weights={"a": 1, "e": -1}),
        PlannedContrast(
            name="best",
            best_of={"cnn": Choice(weight=1, entries=("a", "b")), "transformer": Choice(weight=-1, entries=("c", "d"))},
        ),
        PlannedContrast(
            name="best gone",
            best_of={"cnn": Choice(weight=1, entries=("a", "b")), "other": Choice(weight=-1, entries=("c", "e"))},
        ),
    ]
    results.add_to_plan("asked", [], asked)
    return results


@pytest.fixture(scope="module")
def analysed(written):
    return analyse(load_results(written.path), Sampling(resamples=400))


def test_contrasts_are_one_family_of_their_own(analysed):
    claims = [contrast.claim for contrast in analysed.contrasts if contrast.claim]
    assert len(claims) == 4
    assert len(analysed.pairs) == 6
    adjusted = holm(np.array([float(claim.difference.p) for claim in claims]))
    assert [claim.adjusted_p for claim in claims] == pytest.approx(adjusted.tolist())
    pair = next(p for p in analysed.pairs if {p.first.label, p.second.label} == {"a", "c"})
    assert float(claims[0].difference.p) == pytest.approx(float(pair.primary.difference.p)), "the same test"
    of_pairs = [float(pair.primary.difference.p) for pair in analysed.pairs]
    with_pairs = holm(np.array([float(claim.difference.p) for claim in claims] + of_pairs))
    assert all(claim.adjusted_p < joint for claim, joint in zip(claims, with_pairs[: len(claims)], strict=True))
    alone = holm(np.array(of_pairs))
    assert [pair.primary.adjusted_p for pair in analysed.pairs] == pytest.approx(alone.tolist())


def test_the_report_has_a_table_of_contrasts_before_the_costs(written, monkeypatch):
    for figures in ("draw_costs", "draw_scores", "draw_ensembles"):
        monkeypatch.setattr(f"bench.reporting.report.{figures}", lambda *_: {})
    made = write_report(written.path, Sampling(resamples=400))
    order = list(made.tables)
    headers = [column.header for column in made.tables["contrasts"].columns]
    assert {"weighted difference", "95% interval", "p (Holm)", "generalises to", "seeds paired"} <= set(headers)
    assert order.index("contrasts") == order.index("scores") + 1 == order.index("cost") - 1
    assert "| a - c | is it? | +" in made.markdown
    assert "| best (a - c) |" in made.markdown, "a is the best on val, b on eval"
    assert "| not computed: e has no finished run |" in made.markdown
    text = (written.path / "table.md").read_text()
    assert "## Declared contrasts\n" in text
    assert "## Exploratory: all pairs, differences in mAP\n" in text
    with (written.path / "contrasts.csv").open() as file:
        lines = {line["contrast"]: line for line in csv.DictReader(file)}
    assert lines["means"]["weights"] == "0.5 a + 0.5 b - 0.5 c - 0.5 d"
    assert (lines["best"]["chosen"], lines["best"]["weights"]) == ("cnn: a, transformer: c", "a - c")
    assert lines["best gone"]["weights"] == "best of cnn - best of other"
    assert (lines["gone"]["weighted_difference"], lines["gone"]["p_adjusted"]) == ("", "")
    assert lines["means"]["seeds_paired"] == "3 of 3"
    frame = made.contrasts.set_index("contrast")
    maps = made.scores.set_index("entry")["map"]
    expected = (maps["a"] + maps["b"] - maps["c"] - maps["d"]) / 2
    assert frame["weighted_difference"]["means"] == pytest.approx(expected)


def test_the_notes_say_how_contrasts_are_read(analysed):
    (note,) = (note for note in reading_notes(analysed) if note.startswith("Contrasts"))
    for words in ("before any result is read", "one family of their own", "exploratory", "on val", "Not computed"):
        assert words in note


def test_without_contrasts_there_is_no_table(tmp_path, monkeypatch):
    for figures in ("draw_costs", "draw_scores", "draw_ensembles"):
        monkeypatch.setattr(f"bench.reporting.report.{figures}", lambda *_: {})
    results = write_results(tmp_path / "out", {"a": ("cnn", 2.0, 0.9), "c": ("transformer", 1.0, 0.7)}, seeds=(0,))
    (results.path / "contrasts.csv").write_text("of an earlier report")
    made = write_report(results.path, Sampling(resamples=300))
    assert "contrasts" not in made.tables
    assert made.contrasts.empty
    assert not (results.path / "contrasts.csv").exists()
