"""The ablations suite: each entry builds, differs from its base as it declares, and to some effect; its report."""

import csv
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from architectures import configure, register
from architectures._registry import forget
from architectures.audio_transformer import AudioTransformer
from architectures.checks import failed_checks
from bench.errors import UserError
from bench.protocol.build import build
from bench.protocol.optim import optimizer_of
from bench.protocol.recipe import SCORING, Recipe
from bench.protocol.task import get_task
from bench.protocol.train import step_of, train_step
from bench.reporting.analysis import analyse
from bench.reporting.figures.ablations import _forest, _words, draw_ablations
from bench.reporting.figures.style import COLUMN, FULL, SMALL
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import load_results
from bench.runner.cost import count_parameters
from bench.schema import validated
from bench.store import ResultsFolder
from bench.suites.plan import Selection, plan, sample_rates, themes
from bench.suites.suite import Suite, load_suite
from tests.conftest import TINY, make_spec, no_tables

CPU = torch.device("cpu")
TASK = get_task("tagging")
SUITE = load_suite("ablations")
ENTRIES = {entry.name: entry for entry in SUITE.runs}
ABLATIONS = [name for name, entry in ENTRIES.items() if entry.compared_with]


def planned():
    rates = sample_rates(SUITE, Selection())
    packs = [
        SimpleNamespace(folder=rate, sample_rate=rate, labels=range(7), fingerprint=str(rate), dataset="")
        for rate in rates
    ]
    runs = plan(SUITE, packs, ResultsFolder(Path("nowhere")), Selection(seeds=1))
    return {run.spec.name: run.spec for run in runs}


SPECS = planned()


def pair(name):
    return SPECS[name], SPECS[ENTRIES[name].compared_with]


def settings(spec):
    return spec.config | {f"train.{key}": value for key, value in spec.recipe.model_dump().items()}


def declared(entry):
    rate = {"sample_rate"} if entry.sample_rate else set()
    return set(entry.config) | {f"train.{key}" for key in entry.train} | rate


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_exactly_what_it_declares(name):
    spec, base = pair(name)
    changed, unchanged = settings(spec), settings(base)
    assert {key for key in changed if changed[key] != unchanged[key]} == declared(ENTRIES[name])
    assert spec.architecture == base.architecture
    assert (spec.base, spec.question) == (base.name, ENTRIES[name].question)


@pytest.mark.parametrize("name", [name for name in ABLATIONS if not ENTRIES[name].train])
@torch.no_grad()
def test_another_architecture_has_other_parameters_or_with_the_same_another_output(name):
    spec, base = pair(name)
    model, other = build(spec, CPU).eval(), build(base, CPU).eval()
    x = 0.1 * torch.randn(2, 22_050, generator=torch.Generator().manual_seed(0))
    logits = model(x)
    assert logits.shape == (2, 7)
    if count_parameters(model) == count_parameters(other):
        model.load_state_dict(dict(other.named_parameters()), strict=False)  # all but fixed filter banks
        assert not torch.allclose(model(x), other(x), atol=1e-4)


def two_steps(packed, recipe):
    """Weights of a tiny transformer after them, and how it scores val."""
    recipe = recipe.model_copy(update={"batch_size": 4, "learning_rate": 1e-3})
    spec = make_spec(packed)
    model, data = build(spec, CPU), TASK.data(packed, "train", recipe)
    step = step_of(model, optimizer_of(model, recipe), TASK, recipe, CPU, steps=2)
    for number in range(2):
        step(*data.batch(data.draw(number, recipe.batch_size, 0)))
    scores = TASK.score(model, TASK.data(packed, "val", recipe))
    return torch.cat([p.detach().flatten() for p in model.parameters()]), scores


@pytest.mark.parametrize("name", [name for name in ABLATIONS if ENTRIES[name].train])
def test_another_recipe_gives_other_weights_or_where_only_evaluation_differs_other_scores(packed, name):
    spec, base = pair(name)
    (weights, scores), (base_weights, base_scores) = (two_steps(packed, s.recipe) for s in (spec, base))
    assert torch.equal(weights, base_weights) == (set(ENTRIES[name].train) <= set(SCORING))
    assert bool(spec.rescores) == (set(ENTRIES[name].train) <= set(SCORING))
    assert not np.array_equal(scores, base_scores)


def test_each_ablation_has_a_theme_and_none_is_inherited():
    assert themes(SUITE).keys() == {*ABLATIONS}
    suite = suite_of(
        {"name": "a", "architecture": "vgg_like", "theme": "width"},
        {"name": "b", "base": "a", "config": {"hidden_dim": 8}},
        {"name": "c", "base": "a", "config": {"hidden_dim": 9}, "theme": "depth"},
    )
    assert themes(suite) == {"a": "width", "c": "depth"}
    crossed = suite_of({"name": "a", "architecture": "vgg_like", "theme": "x"}, grid={"train": {"mixup": [0.0, 0.5]}})
    assert themes(crossed) == {"a-mixup_0.0": "x", "a-mixup_0.5": "x"}
    with pytest.raises(UserError, match="theme"):
        suite_of({"name": "a", "architecture": "vgg_like", "theme": "two\nlines"})


def test_no_two_entries_are_the_same_and_each_has_a_question():
    assert len({spec.hash for spec in SPECS.values()}) == len(SPECS)
    assert all(spec.question for spec in SPECS.values())


def test_the_notes_listing_is_the_one_that_is_registered():
    assert configure("transformer_notes", num_classes=7) == configure(
        "transformer_large", **SPECS["notes_listing"].config
    )


def test_all_but_the_seed_is_as_in_the_controlled_suite():
    controlled = load_suite("controlled")
    assert (SUITE.train, SUITE.family, SUITE.seeds) == (controlled.train, controlled.family, controlled.seeds)


# --- bases


def suite_of(*runs, **fields):
    return validated(Suite, {"title": "bases", "runs": list(runs), **fields}, "bases.toml")


def test_overrides_go_on_top_of_the_bases():
    suite = suite_of(
        {"name": "a", "architecture": "crnn", "config": {"x": 1, "y": 1}, "inferred": {"train.loss": "guessed"}},
        {"name": "b", "base": "a", "config": {"y": 2}, "train": {"loss": "huber"}, "sample_rate": 8000},
        {"name": "c", "base": "b", "config": {"z": 3}, "question": "why?"},
    )
    made = suite.resolved(suite.runs[2])
    assert (made.architecture, made.config, made.train) == ("crnn", {"x": 1, "y": 2, "z": 3}, {"loss": "huber"})
    assert (made.base, made.question, made.sample_rate, made.inferred) == ("b", "why?", 8000, {})


def test_an_architecture_of_the_suite_may_be_a_base():
    suite = suite_of({"name": "b", "base": "crnn"}, architectures=["crnn"])
    assert suite.resolved(suite.runs[0]).architecture == "crnn"


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([{"name": "b", "base": "nobody"}], "b: base='nobody' is no entry of this suite"),
        ([{"name": "b", "base": "c"}, {"name": "c", "base": "b"}], "b: is its own base, by b and c"),
        ([{"name": "b"}], "b: give either architecture or base"),
        ([{"name": "a", "architecture": "crnn"}, {"name": "b", "base": "a", "architecture": "crnn"}], "give either"),
    ],
)
def test_a_wrong_base_is_one_line(runs, message):
    with pytest.raises(UserError, match=r"^[^\n]+$") as raised:
        suite_of(*runs)
    assert message in str(raised.value)


def test_base_and_question_are_no_part_of_the_hash(packed):
    spec = make_spec(packed)
    asked = spec.model_copy(update={"base": "other", "question": "why?"})
    assert asked.hash == spec.hash
    assert (spec.model_dump()["base"], spec.model_dump()["question"]) == ("", "")
    assert (asked.model_dump()["base"], asked.model_dump()["question"]) == ("other", "why?")


def test_the_demo_set_is_packed_at_every_rate_that_entries_need(dataset, tmp_path, bench, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.api.runs.report", no_tables)  # figures take longer than the runs
    monkeypatch.setattr("bench.data.synthetic.demo.write_demo", lambda folder, **_: shutil.copytree(dataset, folder))
    fields = [f"train.{field}" for field in ("max_steps=1", "batch_size=2", "evaluations=1")]
    options = [argument for field in fields for argument in ("--set", field)]
    only = ("--only", "vgg_like_22050", "--only", "embed_32")
    done = bench("run", "ablations", "--data", "demo", "--seeds", 1, *only, *options)
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"demo", "demo-16000", "demo-22050"}
    assert len(list(tmp_path.glob("runs/ablations/*/run.json"))) == 2


# --- how clips are cut and scored


def test_one_chunk_a_clip_is_drawn_by_seed_and_step_alone(packed):
    recipe = Recipe(crops="one_per_clip")
    chunks, clips = TASK.data(packed, "train", recipe), len(packed.clips("train"))
    epochs = [torch.cat([chunks.draw(e * clips + step, 1, seed=3) for step in range(clips)]) for e in range(2)]
    for ids in epochs:
        assert sorted(chunks.clip[ids].tolist()) == list(range(clips))
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0].sort().values, epochs[1].sort().values), "other chunks, not only another order"
    again = TASK.data(packed, "train", recipe)
    torch.testing.assert_close(again.draw(1, clips // 2, seed=3), epochs[0][clips // 2 : clips // 2 * 2])
    assert not torch.equal(chunks.draw(0, clips, seed=4), epochs[0])
    assert len(TASK.data(packed, "val", recipe)) == len(TASK.data(packed, "val", Recipe())), "val is scored as ever"


def test_every_chunk_of_a_clip_is_drawn_some_time(packed):
    chunks = TASK.data(packed, "train", Recipe(crops="one_per_clip"))
    clips = len(packed.clips("train"))
    drawn = torch.cat([chunks.draw(epoch, clips, seed=0) for epoch in range(150)]).unique()
    few = torch.nonzero(chunks.counts[chunks.clip] <= 10).flatten()
    assert set(few.tolist()) <= set(drawn.tolist())


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 4.0])
def test_chunks_are_as_long_as_the_recipe_says_and_short_clips_repeated(packed, seconds):
    recipe = Recipe(chunk_seconds=seconds, hop_seconds=seconds / 2, eval_hop_seconds=seconds)
    chunks, size = TASK.data(packed, "eval", recipe), round(16_000 * seconds)
    samples, index = packed.samples("eval"), packed.clips("eval")
    assert len(TASK.data(packed, "val", recipe)) <= len(
        TASK.data(packed, "val", Recipe(chunk_seconds=seconds, hop_seconds=seconds / 2))
    )
    place = 0
    for row in index.itertuples():
        clip = samples[row.start : row.start + row.length]
        clip = clip[: max(1, round(row.seconds * 16_000))] if row.length < size else clip
        clip = np.resize(clip, max(len(clip), size))
        starts = [*range(0, len(clip) - size, size), len(clip) - size]
        found = chunks.waveforms(torch.arange(place, place + len(starts)))
        np.testing.assert_array_equal(found * 32768, np.stack([clip[s : s + size] for s in starts]))
        place += len(starts)
    assert place == len(chunks)
    assert (index["seconds"] < 1).any(), "clips that packing has repeated are among them"


def test_the_hop_of_evaluation_is_of_val_and_eval_only(packed):
    recipe = Recipe(eval_hop_seconds=0.5)
    for split, hop in (("train", 1.0), ("val", 0.5), ("eval", 0.5)):
        expected = TASK.data(packed, split, Recipe(hop_seconds=hop))
        assert torch.equal(TASK.data(packed, split, recipe).start, expected.start)
    assert [Recipe(eval_hop_seconds=hop).eval_chunks(10) for hop in (None, 0.5, 0.3)] == [10, 19, 31]


def test_chunks_leave_no_gaps():
    with pytest.raises(UserError, match=r"hop_seconds=1.0 is more than chunk_seconds=0.5"):
        validated(Recipe, {"chunk_seconds": 0.5}, "train")


def test_the_score_of_the_mean_logit(packed):
    recipe = Recipe(aggregate="logits", hop_seconds=0.5)
    chunks, model = TASK.data(packed, "val", recipe), build(make_spec(packed), CPU).eval()
    scores = TASK.score(model, chunks)
    with torch.no_grad():
        for clip in range(5):
            logits = model(chunks.waveforms(torch.nonzero(chunks.clip == clip).flatten()))
            np.testing.assert_allclose(scores[clip], 1 / (1 + np.exp(-logits.mean(dim=0).numpy())), rtol=1e-4)


# --- front ends


def test_random_filters_stay_as_they_are_drawn_and_all_else_learns(packed):
    spec = make_spec(packed, config={"front_end": "random"})
    learned = build(make_spec(packed), CPU)
    model, recipe = build(spec, CPU), spec.recipe
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, p in learned.named_parameters():
        assert torch.equal(before[name], p), "as the learned ones begin"
    optimizer = optimizer_of(model, recipe)
    data = TASK.data(packed, "train", recipe)
    for number in range(3):
        train_step(model, optimizer, *data.batch(data.draw(number, 8, 0)), TASK, recipe)
    frozen = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert frozen == {"front_end.0.weight", "front_end.0.bias"}
    assert count_parameters(learned) - count_parameters(model) == 400 * 32 + 32


@pytest.mark.parametrize("front_end", ["random", "log_mel"])
def test_fixed_front_ends_pass_all_checks(front_end):
    config = configure("transformer_small", front_end=front_end, **TINY)
    register("fixed", family="transformer", config=config, in_all=False)(AudioTransformer)
    try:
        assert failed_checks("fixed") == {}
    finally:
        forget(["fixed"])


# --- the report

REPORTED = """
title = "few"
seeds = 2
[train]
max_steps = 3
batch_size = 4
evaluations = 1
learning_rate = 1e-3
[[runs]]
name = "tiny"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 32, embed_dim = 16, num_heads = 2, head_dim = 8, mlp_dim = 32 }
question = "the base"
[[runs]]
name = "deep"
base = "tiny"
config = { depth = 2 }
question = "is more depth | better?"
[[runs]]
name = "deep_huber"
base = "deep"
train = { loss = "huber" }
question = "and Huber?"
[[runs]]
name = "large_chunks"
base = "tiny"
train = { chunk_seconds = 2.0, hop_seconds = 2.0, aggregate = "logits" }
question = "and 2 s?"
[[runs]]
name = "wide"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 32, embed_dim = 32, num_heads = 2, head_dim = 8, mlp_dim = 32 }
"""


@pytest.fixture(scope="module")
def few(packed, tmp_path_factory):
    from bench.runner.executors import LocalExecutor
    from bench.runner.preflight import check_runs
    from bench.runner.runs import run_all

    out = tmp_path_factory.mktemp("few") / "out"
    path = out.with_suffix(".toml")
    path.write_text(REPORTED)
    results = ResultsFolder(out)
    runs = plan(load_suite(str(path)), [packed], results)
    check_runs(runs, results)
    results.add_labels(packed, TASK)
    results.add_to_plan("few", [run.folder.name for run in runs])
    assert run_all(runs, LocalExecutor(CPU)).failed == []
    write_report(out, Sampling(resamples=300))
    return out


def records(path):
    return {line["entry"]: line for line in csv.DictReader(path.read_text().splitlines())}


def test_each_ablation_is_a_line_with_its_difference_to_its_base(few):
    lines = records(few / "ablations.csv")
    systems = {system.label: system for system in load_results(few).systems}
    assert {name: line["base"] for name, line in lines.items()} == {
        "deep": "tiny", "deep_huber": "deep", "large_chunks": "tiny",
    }  # fmt: skip
    for name, line in lines.items():
        expected = systems[name].mean("metrics", "map") - systems[line["base"]].mean("metrics", "map")
        assert float(line["difference"]) == pytest.approx(expected, abs=1e-9)
        assert float(line["low"]) < expected < float(line["high"])
        # two seeds make no claim that could be corrected
        assert (line["p_adjusted"], line["equivalence"]) == ("", "")
        assert line["verdict"] in ("checkpoints differ", "not shown")
        assert (line["generalises_to"], line["seeds"]) == ("these checkpoints only", "2")
    assert lines["deep"]["changed"] == "depth 1 -> 2"
    assert lines["deep_huber"]["changed"] == "train.loss bce -> huber"
    assert lines["deep"]["question"] == "is more depth | better?"
    assert float(lines["deep"]["parameters_ratio"]) > 1 == float(lines["deep_huber"]["parameters_ratio"])
    assert "| deep_huber | and Huber? | deep | train.loss bce -> huber |" in (few / "table.md").read_text()
    # what was published is not of an ablation, nor of an entry of another size
    assert systems["deep"].published is None
    assert systems["wide"].published is None
    assert "and Huber?" in (few / "index.html").read_text()
    assert r"deep\_huber & train.loss bce $\to$ huber (base: deep) &" in (few / "table_ablations.tex").read_text()


def test_the_forest_plot_is_a_picture_and_on_the_page(few):
    assert (few / "ablations_column.pdf").is_file()
    with Image.open(few / "ablations.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
    assert '<figure id="ablations">' in (few / "index.html").read_text()


@pytest.fixture(scope="module")
def analysed(few):
    return analyse(load_results(few), Sampling(resamples=300))


def texts_of(figure):
    """What stands to the left of a figure's panel, from top to bottom, and to the right."""
    (axes,) = figure.axes
    found = sorted((text for text in axes.texts if text.get_text()), key=lambda text: text.get_position()[1])
    return [[text.get_text() for text in found if (text.get_position()[0] < 0) == left] for left in (True, False)]


def test_ablations_stand_by_theme_the_best_on_top_labelled_by_what_changed(analysed):
    known = {"deep": "depth", "deep_huber": "depth"}
    themed = replace(analysed, results=replace(analysed.results, themes=known))
    left, right = texts_of(_forest(themed))
    large = "chunk seconds 1 \N{RIGHTWARDS ARROW} 2 and 2 more"
    deep = "depth 1 \N{RIGHTWARDS ARROW} 2"
    assert left == ["depth", deep, "base deep", "loss bce \N{RIGHTWARDS ARROW} huber", "base tiny", large]
    assert len(right) == 4, "a heading and three values"
    # without themes all of one base stand together
    both = texts_of(_forest(analysed))[0]
    order = sorted(
        (each for each in analysed.ablations if each.base.label == "tiny"),
        key=lambda each: -float(each.claim.difference.value),
    )
    labels = {"deep": deep, "large_chunks": large}
    assert both[:3] == ["base tiny", *(labels[each.system.label] for each in order)]


@pytest.mark.parametrize("width", [FULL, COLUMN])
def test_forty_ablations_are_read_on_one_page(analysed, width):
    many = [replace(each, changed=dict(list(each.changed.items())[:2])) for each in analysed.ablations] * 14
    figure = _forest(replace(analysed, ablations=tuple(many)), width=width)
    figure.draw_without_rendering()
    assert figure.get_figheight() < 9
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes), "nothing is cut off"
    assert not any(a.shrunk(0.9, 0.9).overlaps(b.shrunk(0.9, 0.9)) for a, b in combinations(boxes, 2))
    assert min(text.get_fontsize() for text in axes.texts) >= SMALL


def test_the_caption_says_base_interval_and_what_it_rests_on(analysed, monkeypatch):
    def captions(figures, *_, **words):
        return {name: caption.format(**words) for name, (_, caption) in figures.items()}

    monkeypatch.setattr("bench.reporting.figures.ablations.draw", captions)
    (caption,) = draw_ablations(analysed).values()
    base = next(system for system in analysed.results.systems if system.label == "tiny")
    assert f"to the base (tiny, {base.score:.3f}, where no other is named), with its 95% interval" in caption
    assert "differences within 0.01" in caption
    assert caption.endswith("40 eval clips, 2 seeds.")
    assert "Rescored" not in caption


def test_values_are_written_as_a_reader_would():
    assert [_words(value) for value in (True, None, [], 0.5, "log_mel", [1, 2], [1, 2, 4, 8])] == [
        "yes", "none", "none", "0.5", "log mel", "1+2", "1+\N{HORIZONTAL ELLIPSIS}+8",
    ]  # fmt: skip


def test_entries_without_a_base_are_compared_with_each_other_alone(few):
    analysis = analyse(load_results(few), Sampling(resamples=300))
    assert [{pair.first.label, pair.second.label} for pair in analysis.pairs] == [{"tiny", "wide"}]
    assert {standing.system.label for standing in analysis.compared} == {"tiny", "wide"}
    assert len(analysis.standings) == 5
    assert "corrected over all 3 of them" in (few / "table.md").read_text()


def test_an_entry_whose_base_is_not_there_is_one_like_any_other(few, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    copy = tmp_path / "out"
    shutil.copytree(few, copy)
    for folder in copy.glob("tiny-s*"):
        shutil.rmtree(folder)
    write_report(copy, Sampling(resamples=300))
    assert set(records(copy / "ablations.csv")) == {"deep_huber"}
    for folder in copy.glob("deep-s*"):
        shutil.rmtree(folder)
    write_report(copy, Sampling(resamples=300))
    assert not (copy / "ablations.csv").exists()
    assert not (copy / "ablations.png").exists()


def test_another_wording_of_the_question_is_no_other_system(few, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(few, copy)
    path = next(copy.glob("deep-s1-*")) / "run.json"
    path.write_text(path.read_text().replace("is more depth | better?", "deeper?"))
    assert {system.label for system in load_results(copy).systems} == {
        "tiny",
        "deep",
        "deep_huber",
        "large_chunks",
        "wide",
    }


def test_files_are_heard_as_eval_was_with_long_chunks_and_the_mean_logit(few, dataset, packed):
    from bench.api.folders import find_run
    from bench.data.audio import probe_file
    from bench.inspect.predict import Tagger

    folder = find_run(few / "large_chunks-s0")
    tagger, index = Tagger(folder, CPU), packed.clips("eval")
    with np.load(folder.scores_file) as expected:
        for clip in [0, 1, 2, *np.flatnonzero(index["seconds"] < 2)]:
            file = dataset / "FSD50K.eval_audio" / f"{index['clip'][clip]}.wav"
            found = tagger.tag(file, probe_file(file)).clip
            np.testing.assert_allclose(found, expected["scores"][clip], rtol=0, atol=1e-6)
