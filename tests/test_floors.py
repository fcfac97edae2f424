"""Floors, predictors that learn nothing, in a report; and a report on a metric of which less is better."""

import csv
import re
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from bench.api.folders import describe_run, show
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.reporting.analysis import analyse
from bench.reporting.answer import answer
from bench.reporting.figures import costs
from bench.reporting.figures.ranks import rank_diagram
from bench.reporting.figures.style import FULL
from bench.reporting.figures.wins import win_triangle
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import load_results
from bench.stats.inference import holm
from bench.store import Labels, PlannedContrast, ResultsFolder, RunFolder, RunRecord
from bench.store.record import Provenance
from tests.conftest import needs
from tests.test_contrasts import write_results as write_tagging

# entry to architecture, family, how many bits it lies above linear prediction, parameters, field, published top-5
SYSTEMS = {
    "wavenet_10": ("cnn", 0.25, 1_070_464, 1024, 0.74),
    "wavenet_30": ("cnn", 0.0, 3_046_784, 1600, 0.76),
    "sample_transformer_3": ("transformer", -0.2, 660_864, 1600, 0.80),
    "sample_transformer_6": ("transformer", -0.35, 1_257_216, 1600, 0.84),
}
LINEAR = 3.2


def scores_of(bits, rng):
    """Scores of clips as a run has them, by their bits: (clips, 6)."""
    top5 = np.clip(1.15 - bits / 7 + rng.normal(0, 0.02, len(bits)), 0, 1)
    return np.column_stack([bits, top5 / 2, top5, bits + 0.1, top5 / 2.1, top5 / 1.05]).astype(np.float32)


def write_results(folder, systems=SYSTEMS, seeds=(0, 1, 2), clips=120):
    """A results folder of next-sample prediction as runs leave it, with floors."""
    rng, results, task = np.random.default_rng(1), ResultsFolder(folder), get_task("next_sample")
    folder.mkdir()
    shared = LINEAR + rng.normal(0, 0.5, clips)
    nothing = np.full((clips, 3), np.nan)
    floors = {
        "last_value": np.hstack([np.column_stack([np.full(clips, np.nan), shared / 20, shared / 8]), nothing]),
        "linear_prediction": np.hstack([scores_of(shared + rng.normal(0, 0.1, clips), rng)[:, :3], nothing]),
        "histogram": np.hstack([scores_of(shared + 3, rng)[:, :3], nothing]),
    }
    floors = {name: values.astype(np.float32) for name, values in floors.items()}
    targets = rng.random((clips, 3)) < 0.4
    names = [f"clip{i}" for i in range(clips)]
    labels = Labels("data", names, [""] * clips, list("xyz"), np.ones(3, bool), targets, np.full(3, 10), floors=floors)
    labels.write(results.labels_file)
    for name, (family, above, parameters, field, top5) in systems.items():
        for seed in seeds:
            bits = shared + above + rng.normal(0, 0.02) + rng.normal(0, 0.1, clips)
            write_run(folder, task, labels, (name, family, seed), scores_of(bits, rng), (parameters, field, top5))
    return results


def write_run(folder, task, labels, who, scores, known):
    (name, family, seed), (parameters, field, top5) = who, known
    recipe = Recipe(loss="cross_entropy", max_steps=40)
    spec = RunSpec(
        name=name, task=task.name, task_settings={"context": 1600}, architecture=name, config={"sample_rate": 16000},
        recipe=recipe, seed=seed, pack="p",
    )  # fmt: skip
    metrics = task.evaluate(labels.targets, scores, labels.leaf)
    steps, val = [10, 20, 40], metrics["bits"]
    record = RunRecord(
        spec=spec, hash=spec.hash, family=family, metrics=metrics, untrained=metrics | {"bits": 8.1},
        floors=task.all_floors(labels.targets, labels.floors), val_score=val, best_step=40, steps=40,
        data={"dataset": "data", "sample_rate": 16000},
        published={"top5": top5, "parameters": parameters, "source": "a paper", "sample_rate": 16000, "context": 1600,
                   "coding": "256 codes", "data": "piano recordings", "note": "", "inferred": {},
                   "second_hand": {"top5": "what others report"}},
        cost={"parameters": parameters, "train_seconds": 10.0 + seed, "samples_per_second": 30.0, "seconds": 12.0,
              "receptive_field": field},
        provenance=Provenance(commit="abc", dirty=False, source={}, command="bench run generation", date="2026-11-28",
                              versions={}, device="cpu"),
    )  # fmt: skip
    run = RunFolder(folder / spec.folder)
    run.path.mkdir()
    run.write(record, pd.DataFrame({"step": steps, "val_score": [6.0, 4.0, val]}), scores, b"")


CONTRASTS = [
    PlannedContrast(
        name="transformers - WaveNets",
        question="which family is better?",
        weights={"sample_transformer_3": 0.5, "sample_transformer_6": 0.5, "wavenet_10": -0.5, "wavenet_30": -0.5},
    ),
    PlannedContrast(name="three - ten", weights={"sample_transformer_3": 1, "wavenet_10": -1}),
    PlannedContrast(name="six - ten", weights={"wavenet_10": 1, "sample_transformer_6": -1}),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results = write_results(tmp_path_factory.mktemp("floors") / "out")
    results.add_to_plan("generation", [], CONTRASTS, sources={"data": "notes"})
    return results.path, write_report(results.path, Sampling(500))


def lines(path):
    with path.open() as file:
        return list(csv.DictReader(file))


# --- tables


def test_floors_stand_below_the_scores_best_first_with_the_metrics_that_they_have(made):
    folder, report = made
    found, labels = report.floors.set_index("floor"), load_results(folder).labels
    assert list(found.index) == ["linear_prediction", "histogram", "last_value"], "what has no bits is last"
    assert list(found.columns) == ["prediction", "bits", "top5", "top1"], "no metric that none of them has"
    assert found["bits"]["histogram"] == pytest.approx(labels.floors["histogram"][:, 0].mean())
    assert np.isnan(found["bits"]["last_value"])
    assert lines(folder / "floors.csv")[2]["bits"] == ""
    text = (folder / "table.md").read_text()
    assert text.index("## Scores") < text.index("## Floors") < text.index("## Against linear_prediction")
    assert re.search(r"\| last_value \| - \| 0\.\d+ \|", text)
    assert (folder / "table_floors.tex").is_file()
    assert r"\input{table_over_floor}" in (folder / "report.tex").read_text()
    # among a run's settings stand those of its task
    assert re.search(r"next_sample\W+context\W+1600", re.sub("<[^>]+>", " ", (folder / "index.html").read_text()))


def test_each_system_is_paired_with_the_best_floor_on_the_same_clips(made):
    folder, report = made
    labels, found = load_results(folder).labels, report.over_floor.set_index("entry")
    floor = labels.floors["linear_prediction"][:, 0]
    for system in load_results(folder).systems:
        means = [run.folder.scores((len(floor), 6))[:, 0].mean() - floor.mean() for run in system.runs]
        line = found.loc[system.label]
        assert line["difference"] == pytest.approx(np.mean(means), abs=1e-6)
        # .5 from clip to clip is common to both: unpaired the interval would be as wide as .25
        assert line["high"] - line["low"] < 0.25
        assert line["low"] < line["difference"] < line["high"]
    assert list(found["p_adjusted"]) == pytest.approx(holm(found["p"].to_numpy()))
    beats = dict(zip(found.index, ("yes", "yes", "not shown", "no"), strict=True))
    assert list(beats) == ["sample_transformer_6", "sample_transformer_3", "wavenet_30", "wavenet_10"]
    assert dict(found["beats_floor"]) == beats, "a positive difference in bits is none"
    assert dict(report.scores.set_index("entry")["beats_floor"]) == beats


def test_who_does_not_beat_the_floor_is_told_so(made):
    folder, report = made
    told = report.answer[1]
    assert told.startswith("2 of 4 systems beat the best predictor that learns nothing (linear_prediction, 3.160 bits)")
    assert "wavenet_10 scored worse; wavenet_30 could not be told apart from it" in told
    assert "sample_transformer_6 by .337 (95% interval ." in told
    scores = (folder / "table.md").read_text().split("## Floors")[0]
    assert re.findall(r"^\| (\w+) §", scores, re.M) == ["wavenet_30", "wavenet_10"]
    assert "§ marks systems that are not shown to be better" in (folder / "table.md").read_text()
    assert "wavenet\\_10~§" in (folder / "table_scores.tex").read_text()


@pytest.mark.parametrize(
    ("above", "begins"),
    [
        ({"a": -0.5}, "It beats the best predictor"),
        ({"a": 0.5}, "It is not shown to beat the best predictor"),
        ({"a": -0.5, "b": -0.4}, "All 2 systems beat the best predictor"),
        ({"a": 0.5, "b": 0.4}, "None of the 2 systems is shown to beat the best predictor"),
        ({"a": -0.5, "b": 0.4}, "Of 2 systems a alone beats the best predictor"),
    ],
)
def test_the_sentence_fits_its_numbers(above, begins, tmp_path):
    systems = {name: ("cnn", value, 1_000_000, 1600, 0.7) for name, value in above.items()}
    results = load_results(write_results(tmp_path / "out", systems, seeds=(0,), clips=60).path)
    (told,) = [text for text in answer(analyse(results, Sampling(100))) if "predictor" in text]
    assert told.startswith(begins)
    assert told.endswith("these checkpoints only: another seed may turn it around.")


def test_tagging_has_floors_by_name_alone(tmp_path):
    write_tagging(tmp_path / "out", {"a": ("cnn", 2.0, 0.9)}, seeds=(0,))
    found = analyse(load_results(tmp_path / "out"), Sampling(20))
    assert (found.floors, found.over_floor) == ((), ())
    assert not any("learns nothing" in text for text in answer(found))


# --- less is better


def test_the_lower_system_leads_whatever_is_asked(made):
    folder, report = made
    first, _, others = report.answer
    assert "transformers scored .383 bits lower (better) than convolutional networks on average" in first
    assert "sample_transformer_3 over wavenet_10" in others, "of 'a - b' and of 'b - a' the lower one is over the other"
    assert "sample_transformer_6 over wavenet_10" in others
    table = report.scores
    assert list(table["rank"]) == [1, 2, 3, 4]
    assert table["bits"].is_monotonic_increasing
    assert list(table["group"]) == ["a", "b", "c", "d"]
    text = (folder / "table.md").read_text()
    assert "| bits ↓ |" in text
    assert "| top-5 ↑ | published top-5 | top-1 ↑ |" in text
    assert "T" not in dict(zip(table["entry"], report.costs["front"], strict=True))["wavenet_10"]


def test_where_lower_is_better_the_contrasts_name_says_who_is_ahead(tmp_path):
    results = write_results(tmp_path / "out", seeds=(0,), clips=60)
    weights = {"sample_transformer_3": 1, "wavenet_10": -0.5, "wavenet_30": -0.5}
    results.add_to_plan("generation", [], [PlannedContrast(name="a transformer - WaveNets", weights=weights)])
    weights = {"sample_transformer_3": 0.5, "wavenet_10": 0.5, "sample_transformer_6": -1}
    results.add_to_plan("generation", [], [PlannedContrast(name="two - six", weights=weights)])
    told = answer(analyse(load_results(results.path), Sampling(100)))
    assert "sample_transformer_3 scored" in told[0]
    assert "than convolutional networks on average" in told[0]
    assert "sample_transformer_6 over two on average, by ." in told[-1]


def test_the_rank_diagram_has_the_best_to_the_right_and_the_triangle_what_is_gained(made):
    folder, _ = made
    found = analyse(load_results(folder), Sampling(100))
    axes = rank_diagram(found).axes[0]
    assert axes.xaxis_inverted()
    assert axes.get_xlabel() == "bits on eval, mean over seeds (lower is better)"
    cells = [text.get_text() for text in win_triangle(found).axes[0].texts]
    assert ".588" in cells
    assert not any("\N{MINUS SIGN}" in cell for cell in cells), "each is better than those below it"
    plt.close("all")


# --- published figures, and what systems see


def test_published_top_5_stands_beside_the_measured_one_and_is_drawn_nowhere(made):
    folder, report = made
    assert dict(report.scores.set_index("entry")["published_top5"])["wavenet_10"] == 0.74
    assert "| 0.740 ‡ |" in (folder / "table.md").read_text()
    assert "on piano recordings, with the paper's own context" in (folder / "table.md").read_text()
    assert "FSD50K" not in (folder / "table.md").read_text()
    assert "published" not in (folder / "top5_vs_parameters.svg").read_text()
    assert list(lines(folder / "table.csv")[0])[-5:-3] == ["published_coding", "published_data"]


def test_figures_of_bits_and_top_5_against_parameters_and_field_have_floors_as_lines(made):
    folder, report = made
    names = {"bits_vs_parameters", "bits_vs_field", "top5_vs_parameters", "top5_vs_field"}
    assert names <= report.figures.keys()
    assert not [name for name in report.figures if name.startswith("map_vs")]
    for name in names:
        caption = report.figures[name].caption
        assert "120 eval clips, 3 seeds" in caption
        assert "mu-law, clips scaled to a peak of 0.5" in caption
        assert "predictors that learn nothing" in caption
        assert "linear_prediction" in (folder / f"{name}.svg").read_text()
    assert "Beyond the axis: histogram 6.174" in report.figures["bits_vs_field"].caption
    assert "stand side by side" in report.figures["bits_vs_field"].caption
    assert list(report.costs["receptive_field"]) == [1600, 1600, 1600, 1024]


def test_systems_of_one_field_stand_side_by_side_around_it(made):
    folder, _ = made
    shown = costs._Shown.of(analyse(load_results(folder), Sampling(100)), costs._OF["field"])
    at = sorted(shown.places[name] for name in ("wavenet_30", "sample_transformer_3", "sample_transformer_6"))
    assert shown.places["wavenet_10"] == 1024
    assert at[1] == pytest.approx(1600)
    assert 1300 < at[0] < 1590
    assert 1610 < at[2] < 1900


def test_a_best_floor_that_is_far_from_all_systems_is_pointed_at(tmp_path):
    results = write_results(tmp_path / "out", {"a": ("cnn", 4.0, 1_000_000, 1600, 0.7)}, seeds=(0,), clips=2000)
    found = analyse(load_results(results.path), Sampling(100))
    shown = costs._Shown.of(found, costs._OF["parameters"])
    figure = costs._map_vs(shown, width=FULL)
    plt.close(figure)
    assert any(re.match(r"↓ linear_prediction 3\.\d+, beyond the axis", t.get_text()) for t in figure.axes[0].texts)
    assert "Beyond the axis: linear_prediction 3." in costs._caption(shown)


def test_the_document_is_typeset(made):
    needs("pdflatex", "siunitx.sty")
    folder, _ = made
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"], cwd=folder, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_run_alone_is_told_which_floors_it_is_no_better_than(made):
    folder, _ = made
    worse, better = (describe_run(show(next(folder.glob(f"{name}-s0-*")))) for name in ("wavenet_10", "wavenet_30"))
    assert re.search(r"without learning +bits 3\.160 \(linear_prediction\), 6\.174 \(histogram\)\n", worse)
    assert re.search(r"no better than +linear_prediction\n", worse)
    assert "histogram\n" not in better
