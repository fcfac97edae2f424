"""What a report says is what run.json and the scores say, in every format alike, and the same bytes each time."""

import csv
import html.parser
import json
import os
import re
import shutil
import statistics
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.reporting.analysis import Claim, Pair, analyse
from bench.reporting.notes import reading_notes
from bench.reporting.pareto import COSTS, training_seconds, unbeaten
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import FinishedRun, System, load_results
from bench.reporting.tables.scores import class_table, tables
from bench.stats.inference import CHECKPOINTS_ONLY, GENERALISES
from bench.store import ResultsFolder, RunFolder, RunRecord

QUICK = Sampling(resamples=300)
FILES = (
    "table.md", "table.csv", "table_scores.tex", "captions.tex", "report.tex", "differences.csv", "classes.csv",
    "index.html",
)  # fmt: skip
FIGURES = (
    "map_vs_parameters", "map_vs_macs", "map_vs_train_seconds", "map_vs_latency", "map_vs_memory", "learning_curves",
    "wins", "class_ap", "class_ap_vs_clips",
)  # fmt: skip


@pytest.fixture
def copy(small_results, tmp_path):
    shutil.copytree(small_results, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def timed(small_results, tmp_path_factory):
    """The same, with training times that are given: those of a few steps are the machine's."""
    folder = tmp_path_factory.mktemp("timed") / "out"
    shutil.copytree(small_results, folder)
    for path in folder.glob("*/run.json"):
        edit(path, lambda run: run["cost"].update(train_seconds=10.0 + 2 * run["spec"]["seed"]))
    return folder


@pytest.fixture(scope="module")
def reported(timed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported") / "out"
    shutil.copytree(timed, folder)
    write_report(folder, QUICK)
    return folder


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without figures, which take seconds: for what is not about them."""
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_ensembles", lambda results, found: {})


@pytest.fixture(scope="module")
def made(timed):
    return {table.name: table for table in tables(analyse(load_results(timed), QUICK))}


def records(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def markdown_cells(text, title):
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


class TableReader(html.parser.HTMLParser):
    """data-name of a table to its body's cells."""

    def __init__(self):
        super().__init__()
        self.tables, self.name, self.inside = {}, None, False

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.name = dict(attributes).get("data-name")
            self.tables.setdefault(self.name, [])
        elif tag == "tr":
            self.tables.setdefault(self.name, []).append([])
        elif tag == "td":
            self.tables[self.name][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "td"

    def handle_data(self, data):
        if self.inside:
            self.tables[self.name][-1][-1] += data


def html_cells(text, name):
    reader = TableReader()
    reader.feed(text)
    return [[cell.strip() for cell in row] for row in reader.tables[name] if row]


def check_html(page, table):
    """Check that a page has each column of a table, at any place, or its text once, where it is alike in all lines."""
    head = page.split(f'data-name="{table.name}"')[1].split("</thead>")[0].replace("<wbr>", "")
    headers = [html.unescape(text) for text in re.findall("<button[^>]*>(.*?)</button>", head)]
    shown = dict(zip(headers, zip(*html_cells(page, table.name), strict=True), strict=True))
    for column, cells in zip(table.columns, zip(*table.cells, strict=True), strict=True):
        if column.header in shown:
            assert shown[column.header] == cells
        else:
            (text,) = {*cells}
            assert f"{column.header}: {text or 'none'}" in html.unescape(page)


def test_every_number_is_the_same_in_markdown_html_and_csv(reported, made):
    texts = {suffix: (reported / f"table.{suffix}").read_text() for suffix in ("md", "csv")}
    page = (reported / "index.html").read_text()
    for name in ("scores", "cost", "differences"):
        cells = made[name].cells
        assert markdown_cells(texts["md"], made[name].title) == cells
        check_html(page, made[name])
        file = "differences.csv" if name == "differences" else "table.csv"
        lines = records(reported / file)
        assert [[column.text(typed(r)) for column in made[name].columns] for r in lines] == cells


def typed(record):
    """What csv made text of."""

    def value(text):
        if text == "":
            return None
        if text in ("True", "False"):
            return text == "True"
        try:
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        except ValueError:
            return text

    return {key: value(text) if key != "group" else text for key, text in record.items()}


@pytest.mark.parametrize("name", ["transformer_small", "vgg_like"])
def test_the_table_holds_the_numbers_of_the_runs(reported, name):
    runs = [json.loads(path.read_text()) for path in reported.glob(f"{name}-s*/run.json")]
    record = next(r for r in records(reported / "table.csv") if r["entry"] == name)
    maps = [run["metrics"]["map"] for run in runs]
    assert float(record["map"]) == pytest.approx(statistics.mean(maps), rel=1e-12)
    assert float(record["map_sd"]) == pytest.approx(statistics.stdev(maps), rel=1e-12)
    assert int(record["seeds"]) == 2
    for column, table, key in (
        ("leaf_map", "metrics", "leaf_map"),
        ("lwlrap", "metrics", "lwlrap"),
        ("untrained_map", "untrained", "map"),
        ("macs", "cost", "macs"),
        ("train_memory_bytes", "cost", "train_memory_bytes"),
    ):
        assert float(record[column]) == pytest.approx(statistics.mean(run[table][key] for run in runs)), column
    # other work on the machine only adds
    for column, key, of in (
        ("train_seconds", "train_seconds", min),
        ("train_seconds_most", "train_seconds", max),
        ("samples_per_second", "samples_per_second", max),
        ("latency_seconds", "latency_seconds", min),
    ):
        assert float(record[column]) == of(run["cost"][key] for run in runs), column
    chance = f"Chance (exact expectation of random scores): {runs[0]['floors']['chance']:.3f}"
    assert chance in (reported / "table.md").read_text()


def test_differences_are_those_of_the_means(reported):
    systems = {r["entry"]: r for r in records(reported / "table.csv")}
    (pair,) = records(reported / "differences.csv")
    for metric in ("map", "leaf_map", "lwlrap"):
        expected = float(systems[pair["first"]][metric]) - float(systems[pair["second"]][metric])
        assert float(pair[metric]) == pytest.approx(expected, abs=1e-9)
        assert float(pair[f"{metric}_low"]) < float(pair[metric]) < float(pair[f"{metric}_high"])
    assert float(pair["map"]) >= 0, "the better one stands first"


def test_classes_hold_the_ap_of_the_runs(reported):
    of_runs = [json.loads(p.read_text())["class_scores"] for p in reported.glob("vgg_like-s*/run.json")]
    for record in records(reported / "classes.csv"):
        aps = [of_run[record["class"]] for of_run in of_runs]
        assert float(record["first"]) == pytest.approx(statistics.mean(aps), abs=1e-6)


def test_no_claim_of_few_seeds_generalises(reported):
    text = (reported / "table.md").read_text()
    assert f"| {CHECKPOINTS_ONLY} |" in text
    assert {record["generalises_to"] for record in records(reported / "differences.csv")} == {CHECKPOINTS_ONLY}
    assert all(record["group"] == "" for record in records(reported / "table.csv"))


def five_seeds(folder):
    """The runs of two seeds, and three more that score nearly as they do."""
    rng, results, task = np.random.default_rng(0), ResultsFolder(folder), get_task("tagging")
    labels = results.labels()
    for source in [run for run in results.finished() if run.record().spec.seed == 0]:
        for seed in (2, 3, 4):
            scores = source.scores(labels.targets.shape)
            scores += rng.normal(0, 1e-3, scores.shape).astype(np.float32)
            values = task.class_scores(labels.targets, scores)
            made = {
                "spec": source.record().spec.model_copy(update={"seed": seed}),
                "metrics": task.evaluate(labels.targets, scores, labels.leaf),
                "class_scores": {labels.classes[k]: values[k] for k in np.flatnonzero(np.isfinite(values))},
            }
            record = source.record().model_copy(update=made | {"hash": made["spec"].hash})
            run = RunFolder(folder / record.spec.folder)
            run.path.mkdir()
            run.write(record, source.history(), scores, b"")


@pytest.mark.usefixtures("undrawn")
def test_claims_of_five_seeds_generalise_and_there_are_groups(copy):
    five_seeds(copy)
    write_report(copy, QUICK)
    assert {record["generalises_to"] for record in records(copy / "differences.csv")} == {GENERALISES}
    assert all(record["group"] for record in records(copy / "table.csv"))
    assert f"| {CHECKPOINTS_ONLY} |" not in (copy / "table.md").read_text()


def test_the_same_results_give_the_same_bytes(reported):
    names = [*FILES, *(f"{name}.{suffix}" for name in FIGURES for suffix in ("svg", "pdf", "png"))]
    first = {name: (reported / name).read_bytes() for name in names}
    write_report(reported, QUICK)
    assert first == {name: (reported / name).read_bytes() for name in names}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pictures(reported, name):
    with Image.open(reported / f"{name}.png") as image:
        assert image.width > 600
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    assert ET.parse(reported / f"{name}.svg").getroot().tag.endswith("svg")
    assert (reported / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def a_system(label, *, steps=(4,), seconds=(10.0,), score=0.5, **cost):
    """A system of so many seeds, as far as costs are read off it."""
    spec = RunSpec.model_construct(task="tagging", name=label)
    records = [
        RunRecord.model_construct(
            spec=spec, steps=of_seed, metrics={"map": score}, cost={"train_seconds": taken, "macs": None, **cost}
        )
        for of_seed, taken in zip(steps, seconds, strict=True)
    ]
    return System(label, tuple(FinishedRun(RunFolder(Path("nowhere")), record) for record in records))


def compared(systems, *claims):
    """An analysis of these systems, with claims (first, second, first - second, verdict) on some pairs."""
    pairs = [
        Pair(systems[a], systems[b], {"map": Claim(SimpleNamespace(value=np.float64(value)), None, verdict, None)})
        for a, b, value, verdict in claims
    ]
    standings = [SimpleNamespace(system=system) for system in systems.values()]
    return SimpleNamespace(compared=standings, pairs=pairs, primary=get_task("tagging").primary)


def test_beaten_is_what_a_system_that_costs_no_more_is_significantly_better_than():
    systems = {name: a_system(name, parameters=cost) for name, cost in {"a": 20, "b": 10, "c": 5, "d": 20}.items()}
    front = partial(unbeaten, cost=COSTS["P"])
    assert front(compared(systems)) == {"a", "b", "c", "d"}
    # at the same cost; c costs less than those that are better
    better = [("a", "c", 0.2, "significant"), ("b", "c", 0.1, "significant"), ("a", "d", 0.1, "significant")]
    assert front(compared(systems, *better)) == {"a", "b", "c"}
    for verdict in ("not significant", "undecided", "checkpoints differ", "not shown"):
        assert front(compared(systems, ("b", "d", 0.3, verdict))) == {"a", "b", "c", "d"}, verdict
    # by the seeds that both have it is the second that is better
    assert front(compared(systems, ("a", "b", -0.1, "significant"))) == {"b", "c", "d"}
    assert front(compared(systems, ("a", "b", 0.1, "significant"))) == {"a", "b", "c", "d"}


def test_what_was_not_measured_is_on_no_front_and_beats_nothing():
    systems = {"a": a_system("a"), "b": a_system("b", macs=5)}
    assert unbeaten(compared(systems, ("a", "b", 0.1, "significant")), COSTS["M"]) == {"b"}
    assert unbeaten(compared(systems, ("b", "a", 0.1, "significant")), COSTS["M"]) == {"b"}


@pytest.mark.parametrize(
    ("steps", "seconds", "told", "steady"),
    [
        ((4,), (9.5,), (9.5, 9.5), True),
        ((4, 4), (776.0, 9.5), (9.5, 776.0), False),
        ((4, 4, 4), (15.0, 10.0, 12.0), (10.0, 15.0), True),
        ((4, 4), (10.0, 15.1), (10.0, 15.1), False),
        # training ended early: both take a tenth of a second a step, and 250 steps in the mean
        ((100, 400), (10.0, 40.0), (25.0, 25.0), True),
    ],
)
def test_training_takes_as_long_as_its_fastest_seed(steps, seconds, told, steady):
    system = a_system("a", steps=steps, seconds=seconds)
    assert training_seconds(system) == told
    assert COSTS["T"].of(system) == (told[0] if steady else None)


def test_a_front_of_training_time_is_without_systems_whose_seeds_differ_by_more_than_half():
    systems = {name: a_system(name, steps=(4, 4), seconds=(10.0, slow)) for name, slow in {"a": 30, "b": 12}.items()}
    assert unbeaten(compared(systems), COSTS["T"]) == {"b"}
    assert unbeaten(compared(systems, ("a", "b", 0.1, "significant")), COSTS["T"]) == {"b"}


def slow_down(folder, name, seed, seconds):
    edit(next(folder.glob(f"{name}-s{seed}-*")) / "run.json", lambda run: run["cost"].update(train_seconds=seconds))


def test_seeds_that_took_much_longer_are_shown_and_left_out_of_the_front(timed, tmp_path):
    shutil.copytree(timed, copy := tmp_path / "out")
    slow_down(copy, "vgg_like", 1, 776.0)
    analysis = analyse(load_results(copy), QUICK)
    (cost,) = [table for table in tables(analysis) if table.name == "cost"]
    place = [column.header for column in cost.columns].index("train s")
    assert {row[0].split()[0]: row[place] for row in cost.cells} == {
        "vgg_like": "10 (to 776)",
        "transformer_small": "10 (to 12)",
    }
    fronts = {record["entry"]: record["front"] for record in cost.records}
    assert fronts == {"vgg_like": "PM", "transformer_small": "PMT"}
    told = "Of vgg_like the slowest seed trained more than half as long again as the fastest"
    (note,) = [note for note in reading_notes(analysis) if told in note]
    assert "Here no claim is about architectures, so nothing could be shown to be beaten." in note


def test_no_note_names_seeds_that_took_as_long(timed):
    notes = reading_notes(analyse(load_results(timed), QUICK))
    assert not [note for note in notes if "the slowest seed trained" in note]


def test_an_ablation_is_on_no_front(timed, tmp_path):
    shutil.copytree(timed, copy := tmp_path / "out")
    for path in copy.glob("vgg_like-*/run.json"):
        edit(path, lambda run: run["spec"].update(base="transformer_small", question="Is it?"))
    analysis = analyse(load_results(copy), QUICK)
    made = {table.name: table for table in tables(analysis)}
    fronts = {record["entry"]: record["front"] for record in made["cost"].records}
    assert fronts == {"vgg_like": "", "transformer_small": "PMT"}
    told = "Ablations are compared with their base alone, and are in none of the three."
    assert [note for note in reading_notes(analysis) if told in note]


def test_runs_that_differ_are_systems_of_their_own(copy, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    source = ResultsFolder(copy).find("vgg_like-s0")
    recipe = source.record().spec.recipe.model_copy(update={"max_steps": 99})
    spec = source.record().spec.model_copy(update={"recipe": recipe})
    shutil.copytree(source.path, other := copy / spec.folder)
    edit(other / "run.json", lambda run: run.update(spec=spec.model_dump(mode="json"), hash=spec.hash))
    write_report(copy, QUICK)
    names = {record["entry"] for record in records(copy / "table.csv")}
    assert names == {"vgg_like (train.max_steps=99)", "vgg_like (train.max_steps=4)", "transformer_small"}


def test_a_single_system_is_a_table_without_differences(reported, tmp_path):
    copy, stale = tmp_path / "out", ("differences.csv", "classes.csv", "wins.svg", "class_ap.pdf")
    shutil.copytree(reported, copy)
    assert all((copy / name).exists() for name in stale)
    for folder in copy.glob("vgg_like-*"):
        shutil.rmtree(folder)
    write_report(copy, QUICK)
    assert "## Differences" not in (copy / "table.md").read_text()
    for name in stale:
        assert not (copy / name).exists(), f"{name} is of an earlier report"


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_there_is_named(copy):
    folder = next(copy.glob("vgg_like-s1-*"))
    shutil.rmtree(folder)
    write_report(copy, QUICK)
    assert f"- missing: {folder.name}" in (copy / "table.md").read_text()
    assert f"missing: {folder.name}" in (copy / "index.html").read_text()


def other_protocol(run):
    run["provenance"]["source"]["protocol"] = "0123456789abcdef"


def other_data(run):
    run["data"]["dataset"] = "0123456789abcdef"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("change", "why"), [(other_protocol, "different training or evaluation code"), (other_data, "different data")]
)
def test_what_does_not_belong_together_is_not_compared_without_mixed(copy, bench, change, why):
    changed = next(copy.glob("vgg_like-s1-*"))
    edit(changed / "run.json", change)
    refused = bench("report", copy, "--resamples", 100)
    assert refused.code == 2
    assert why in refused.err
    assert changed.name in refused.err
    assert len(refused.err.splitlines()) == 1
    assert bench("report", copy, "--resamples", 100, "--mixed").code == 0
    assert f"**Caution: these runs should not be compared: {why}" in (copy / "table.md").read_text()


def test_seeds_of_one_system_by_other_code_of_the_architecture(copy, bench):
    def change(run):
        run["provenance"]["source"]["architecture"] = "0123456789abcdef"

    edit(next(copy.glob("vgg_like-s1-*")) / "run.json", change)
    assert "different code of vgg_like" in bench("report", copy).err


def test_damaged_scores_are_named(copy, bench):
    path = next(copy.glob("vgg_like-s1-*")) / "scores.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert str(path) in (done := bench("report", copy)).err
    assert done.code == 2
    path.unlink()
    assert f"{path}: missing" in bench("report", copy).err
    np.savez_compressed(path, scores=np.zeros((3, 2), np.float32))
    assert "scores of shape (3, 2)" in bench("report", copy).err


def test_groups_must_be_known(copy, bench):
    with np.load(copy / "labels.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(copy / "labels.npz", **(arrays | {"groups": np.full(len(arrays["clips"]), "")}))
    assert "--by-group" in (done := bench("report", copy, "--by-group")).err
    assert done.code == 2


def test_every_marked_setting_is_footnoted_with_its_value(reported):
    markdown = (reported / "table.md").read_text()
    (system,) = [system for system in load_results(reported).systems if system.name == "transformer_small"]
    assert {"norm", "input_level", "front_end_dim", "readout"} <= system.spec.inferred.keys()
    assert {"embed_dim", "depth", "class_token"} <= system.spec.second_hand.keys()
    config = system.spec.config
    for name, reason in (system.spec.inferred | system.spec.second_hand).items():
        setting = f"{name} = {config[name]}" if name in config else name
        assert f"- `{setting}`: {reason}" in markdown


def test_published_figures_come_with_their_protocol(reported):
    markdown = (reported / "table.md").read_text()
    cells = {row[0]: row for row in markdown_cells(markdown, "Published figures")}
    assert cells["vgg_like"][1:4] == ["0.434", "0.27M ‡", "22,050 Hz ‡"]
    assert cells["transformer_small"][1:4] == ["0.469 ‡", "0.90M ‡", "16,000 Hz"]
    assert "can't be compared with these runs directly" in markdown


def test_class_table_puts_what_differs_first(small_results):
    found = class_table(analyse(load_results(small_results), QUICK).classes)
    different = [record["verdict"] == "significant" for record in found.records]
    assert different == sorted(different, reverse=True)


def test_compare_says_it_in_words(reported, bench, tmp_path):
    a, b = reported / "vgg_like", reported / "transformer_small"
    done = bench("compare", a, b, "--resamples", 200, "--classes", tmp_path / "classes.csv")
    assert done.code == 0, done.err
    maps = {r["entry"]: float(r["map"]) for r in records(reported / "table.csv")}
    assert f"{maps['vgg_like'] - maps['transformer_small']:+.3f}" in done.out
    assert "These checkpoints only" in done.out
    assert len((tmp_path / "classes.csv").read_text().splitlines()) > 10
    one, other = sorted(reported.glob("vgg_like-s*"))
    assert bench("compare", one, other, "--resamples", 200).code == 0


@pytest.mark.parametrize(
    ("second", "message"),
    [("vgg_like", "with itself"), ("nobody", "no systems of that name"), ("", "neither a finished")],
)
def test_compare_refuses(reported, bench, second, message):
    done = bench("compare", reported / "vgg_like", reported / second if second else reported)
    assert (done.code, message in done.err) == (2, True), done.err


def test_compare_from_within_a_run(reported, bench, monkeypatch):
    one, other = sorted(reported.glob("vgg_like-s*"))
    monkeypatch.chdir(one)
    done = bench("compare", ".", other, "--resamples", 200)
    assert done.code == 0, done.err
    assert done.out.startswith(f"first:  . (1 seed)\nsecond: {other} (1 seed)\n")
    assert bench("compare", f"../{other.name}", "../../" + f"{reported.name}/{one.name}", "--resamples", 200).code == 0


@pytest.mark.parametrize("way", ["dots", "link"])
def test_a_run_by_another_path_is_the_same_run(reported, bench, tmp_path, way):
    run = min(reported.glob("vgg_like-s*"))
    (tmp_path / "link").symlink_to(reported)
    other = {"dots": run / ".." / run.name, "link": tmp_path / "link" / run.name}[way]
    done = bench("compare", run, other)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"bench: error: {run} is compared with itself: name two runs or two entries\n"


def test_a_place_for_classes_is_looked_at_first(reported, bench, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for place, told in (
        (tmp_path / "none" / "x.csv", "is no folder"),
        (tmp_path / "fifo", "is no plain file"),
        (tmp_path, "is a folder"),
    ):
        done = bench("compare", reported / "vgg_like", reported / "transformer_small", "--classes", place)
        assert (done.code, done.out) == (2, "")
        assert told in done.err
        assert len(done.err.splitlines()) == 1
    assert (tmp_path / "fifo").is_fifo()


def test_compare_needs_the_same_clips(reported, copy, bench):
    with np.load(copy / "labels.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(copy / "labels.npz", **(arrays | {"dataset": np.array("another")}))
    done = bench("compare", reported / "vgg_like", copy / "vgg_like")
    assert (done.code, "different clips" in done.err) == (2, True)


@pytest.mark.usefixtures("undrawn")
def test_a_suite_does_not_resume_with_runs_of_other_code(copy, bench, packed, small_suite):
    edit(next(copy.glob("vgg_like-s1-*")) / "run.json", other_protocol)
    command = ("run", small_suite, "--data", packed.folder, "--out", copy)
    refused = bench(*command)
    assert refused.code == 2
    assert "was made by other code" in refused.err
    assert bench(*command, "--mixed").code == 0
