"""Score against cost: what stands where, what has a name, and what the caption says of it."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.reporting.analysis import Analysis, Claim, Pair, Standing
from bench.reporting.figures import costs
from bench.reporting.figures.labels import Name, Obstacle, place_names
from bench.reporting.figures.style import COLUMN, FAMILIES, FULL, INK, new_figure
from bench.reporting.pareto import leading
from bench.reporting.sampling import Sampling
from bench.reporting.systems import FinishedRun, Results, System
from bench.store import Labels, ResultsFolder, RunFolder, RunRecord

MAP = get_task("tagging").primary
EIGHT = {
    "densenet121": ("cnn", 7_008_059, 0.379),
    "resnet18": ("cnn", 11_200_507, 0.277),
    "crnn": ("cnn", 951_035, 0.263),
    "transformer_small": ("transformer", 779_899, 0.226),
    "vgg_like": ("cnn", 229_755, 0.221),
    "transformer_pooled": ("transformer", 2_210_299, 0.211),
    "transformer_large": ("transformer", 2_210_299, 0.208),
    "transformer_multiscale": ("transformer", 2_210_299, 0.205),
}


def a_system(name, family, parameters, score, *, seeds=3, base="", device="a machine", published=None, seconds=None):
    spec = {"task": "tagging", "name": name, "base": base, "recipe": Recipe.model_construct(), "config": {}}
    made = []
    for seed in range(seeds):
        took = (seconds or [10.0 + seed] * seeds)[seed]
        cost = {"parameters": parameters, "macs": None, "train_seconds": took, "latency_seconds": 0.01 * (1 + seed)}
        record = RunRecord.model_construct(
            spec=RunSpec.model_construct(**spec, seed=seed), family=family, steps=4, val_score=score, cost=cost,
            metrics={"map": score + 0.02 * (seed - (seeds - 1) / 2)}, floors={"chance": 0.1}, published=published,
            provenance=SimpleNamespace(device=device),
        )  # fmt: skip
        made.append(FinishedRun(RunFolder(Path(f"{name}-s{seed}-abc")), record))
    return System(name, tuple(made))


def an_analysis(systems, folder="nowhere", *, fsd50k=False, beats=(), intervals=False, grid=None):
    """Return what figures read of an analysis; of each pair in `beats` the first is significantly better."""
    ranked = sorted(systems, key=lambda system: -system.score)
    results = Results(ResultsFolder(Path(folder)), "a title", tuple(systems), (), (), (), (), grid or {})
    shape = (10_231, 200) if fsd50k else (100, 20)
    results.__dict__["labels"] = Labels(
        "d", ["c"] * shape[0], [], [], np.array([]), np.zeros(shape, bool), np.array([])
    )
    standings = []
    for rank, system in enumerate(ranked, 1):
        between = {"map": SimpleNamespace(low=system.score - 0.05, high=system.score + 0.05)} if intervals else None
        standings.append(Standing(system, rank, (rank, rank), {}, between, ""))
    by_name = {system.name: system for system in systems}
    found = SimpleNamespace(value=np.float64(0.1), generalises=True)
    claim = {"map": Claim(found, 0.01, "significant", None)}
    pairs = tuple(Pair(by_name[first], by_name[second], claim) for first, second in beats)
    return Analysis(results, Sampling(), 0.01, None, tuple(standings), pairs, (), (), None)


@pytest.fixture
def eight():
    return an_analysis([a_system(name, *values) for name, values in EIGHT.items()])


def drawn(analysis, name="parameters", width=FULL):
    figure = costs._map_vs(costs._Shown.of(analysis, costs._OF[name]), width=width)
    plt.close(figure)
    return figure


def caption(analysis, name="parameters"):
    return costs._caption(costs._Shown.of(analysis, costs._OF[name]))


def points(figure, size):
    """Points drawn with markers of a size: (x, y, colour)."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "o" and line.get_markersize() == size]
    return [(*line.get_xydata()[0], to_hex(line.get_color())) for line in lines]


def means(figure):
    return points(figure, costs._MEAN["markersize"])


def names(figure):
    return [text for text in figure.axes[0].texts if text.get_text()]


def boxes(figure):
    figure.draw_without_rendering()
    return {text.get_text(): Text.get_window_extent(text) for text in names(figure)}


def test_systems_of_one_size_stand_at_one_place_and_families_have_one_colour(eight):
    figure = drawn(eight)
    places = means(figure)
    assert sorted(x for x, *_ in places) == sorted(parameters for _, parameters, _ in EIGHT.values())
    colours = {score: FAMILIES[family] for family, _, score in EIGHT.values()}
    assert {round(score, 3): colour for _, score, colour in places} == colours
    assert len(points(figure, costs._SEED["markersize"])) == 24


@pytest.mark.parametrize("width", [FULL, COLUMN])
def test_every_system_has_a_name_that_hides_none_and_is_whole(eight, width):
    figure = drawn(eight, width=width)
    found = boxes(figure)
    assert {*EIGHT, "chance 0.100"} == found.keys()
    panel = figure.axes[0].bbox
    for name, box in found.items():
        assert panel.x0 <= box.x0 < box.x1 <= panel.x1, name
        assert panel.y0 <= box.y0 < box.y1 <= panel.y1, name
        assert not [other for other, its in found.items() if other != name and box.overlaps(its)], name
        assert box.height / figure.dpi * 72 > 6, name
    where = {name: figure.axes[0].transData.transform((x, y)) for name, (_, x, y) in EIGHT.items()}
    for name, place in where.items():
        assert not [other for other, box in found.items() if box.contains(*place)], f"{name}'s point is hidden"


@pytest.mark.parametrize("width", [FULL, COLUMN])
def test_twenty_systems_keep_names_apart(width):
    rng = np.random.default_rng(0)
    systems = [
        a_system(f"system_{i}", "cnn" if i % 2 else "transformer", int(10 ** rng.uniform(5, 7)), rng.uniform(0.2, 0.5))
        for i in range(20)
    ]
    found = boxes(drawn(an_analysis(systems), width=width))
    named = [name for name in found if name.startswith("system")]
    assert len(named) == 20
    assert not [(a, b) for a in found for b in found if a < b and found[a].overlaps(found[b])]


def test_names_stand_at_the_same_places_each_time_and_those_without_room_are_returned():
    def placed(count):
        figure, axes = new_figure(1.5, 1.0)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        wanted = [Name(f"name {i}", 0.5, 0.5, INK) for i in range(count)]
        lost = place_names(axes, wanted, [Obstacle(np.array([[0.5, 0.5]]), 12.0, 3.0)])
        plt.close(figure)
        return lost, [(text.get_text(), text.xyann) for text in axes.texts]

    lost, first = placed(3)
    assert not lost
    assert first == placed(3)[1]
    lost, texts = placed(20)
    assert 0 < len(lost) < 20
    assert not {name.text for name in lost} & {text for text, _ in texts}


def test_what_was_published_and_reached_elsewhere_is_drawn_where_the_data_are_fsd50k_alone():
    published = {"map": 0.425, "parameters": 12_500_000}
    systems = [a_system("densenet121", "cnn", 7_000_000, 0.39, published=published)]
    figure = drawn(an_analysis(systems, fsd50k=True))
    assert (12_500_000, 0.425, FAMILIES["cnn"]) in [
        (*line.get_xydata()[0], line.get_markeredgecolor()) for line in figure.axes[0].lines if len(line.get_xydata())
    ]
    assert [text for text in boxes(figure) if "PSLA" in text]
    assert "Hollow: as published" in caption(an_analysis(systems, fsd50k=True))
    other = an_analysis(systems)
    assert boxes(drawn(other)).keys() == {"densenet121"}, "chance is far below a single system"
    assert len(means(drawn(other))) == 1
    assert drawn(other).axes[0].get_ylim()[1] < 0.5
    assert "ublished" not in caption(other)
    assert "literature" not in caption(other)
    # parameters alone were published
    assert not [text for text in boxes(drawn(an_analysis(systems, fsd50k=True), "latency")) if "PSLA" in text]


def test_ablations_are_small_dots_in_their_family_s_colour_and_the_caption_counts_them():
    systems = [a_system("vgg_like", "cnn", 200_000, 0.3), a_system("small", "transformer", 800_000, 0.2)]
    systems += [a_system(f"cut_{i}", "transformer", 700_000 + i, 0.18 + i / 1000, base="small") for i in range(40)]
    analysis = an_analysis(systems)
    figure = drawn(analysis)
    dots = points(figure, costs._SMALL_MEAN["markersize"])
    assert {x for x, *_ in dots} == {700_000 + i for i in range(40)}
    assert {colour for *_, colour in dots} == {FAMILIES["transformer"]}
    assert {"vgg_like", "small"} == {name for name in boxes(figure) if "chance" not in name}
    assert "Small dots without a name are the means of 40 ablations." in caption(analysis)


def test_of_a_grid_the_best_on_val_of_each_entry_has_its_name():
    rates = [0.001, 0.01, 0.1]
    systems = [
        a_system(f"{entry}-learning_rate_{rate}", "cnn", parameters, 0.2 + parameters / 1e7 + rate)
        for entry, parameters in (("vgg", 300_000), ("resnet", 3_000_000))
        for rate in rates
    ]
    analysis = an_analysis(systems, grid={"train.learning_rate": rates})
    found = boxes(drawn(analysis))
    assert {name for name in found if "chance" not in name} == {"vgg (0.1)", "resnet (0.1)"}
    assert len(means(drawn(analysis))) == 2
    assert "best on val has its name; the other 4 are small dots" in caption(analysis)


def test_very_many_systems_are_named_where_they_lead():
    systems = [a_system(f"system_{i}", "cnn", 10_000 * (i + 1), 0.5 - i / 100) for i in range(25)]
    systems.append(a_system("best", "cnn", 1_000_000, 0.6))
    analysis = an_analysis(systems)
    assert {name for name in boxes(drawn(analysis)) if "chance" not in name} == {"system_0", "best"}
    assert "the other 24 are small dots" in caption(analysis)


def test_intervals_are_drawn_where_the_table_has_them(eight):
    def bars(analysis):
        return [
            line
            for line in drawn(analysis).axes[0].lines
            if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
        ]

    assert not bars(eight)
    assert "interval" not in caption(eight)
    trusted = an_analysis([each.system for each in eight.standings], intervals=True)
    assert len(bars(trusted)) == 8
    assert "Bars are 95% intervals, of mAP over clips and seeds." in caption(trusted)
    single = an_analysis([a_system("a", "cnn", 10, 0.2, seeds=1)], intervals=True)
    assert "Bars are 95% intervals, of mAP over clips." in caption(single)
    assert "Each large dot is a system with a single seed." in caption(single)


def test_black_rings_mark_what_is_not_shown_to_be_beaten_by_the_rule_of_the_table(eight):
    def ringed(analysis):
        lines = [line for line in drawn(analysis).axes[0].lines if line.get_markersize() == costs._MEAN["markersize"]]
        return {line.get_ydata()[0] for line in lines if line.get_markeredgecolor() == INK}

    systems = [each.system for each in eight.standings]
    # of one size, and of a smaller one; a larger one does not count
    beats = [("transformer_pooled", "transformer_large"), ("crnn", "resnet18"), ("resnet18", "vgg_like")]
    claimed = an_analysis(systems, beats=beats)
    beaten = {each.score for each in systems if each.name in ("transformer_large", "resnet18")}
    assert ringed(claimed) == {each.score for each in systems} - beaten
    assert "A black ring: not shown to be beaten" in caption(claimed)
    assert not ringed(eight), "no claim is about architectures, so that nothing could be shown"
    assert "ring" not in caption(eight)


def test_the_front_is_of_the_means_and_leaves_out_ablations(eight):
    steps = max(
        drawn(eight).axes[0].lines, key=lambda line: len(line.get_xdata()) * (line.get_drawstyle() == "steps-post")
    )
    assert [round(y, 3) for y in steps.get_ydata()] == [0.221, 0.226, 0.263, 0.379, 0.379]
    systems = [each.system for each in eight.standings]
    systems.append(a_system("cut", "cnn", 100, 0.9, base="vgg_like"))
    assert len(costs._Shown.of(an_analysis(systems), costs._OF["parameters"]).front) == 4


def test_leading_takes_the_best_of_those_that_cost_no_more():
    scores = {"a": 0.3, "b": 0.4, "c": 0.2, "d": 0.4, "e": 0.5}
    assert leading({"a": 1, "b": 1, "c": 2, "d": 3, "e": 3}, scores, MAP) == ["b", "e"]
    assert leading({"a": 1, "b": 1, "c": 2}, scores, replace(MAP, higher_is_better=False)) == ["a", "c"]
    assert leading({}, scores, MAP) == []


def test_systems_whose_seeds_took_unequal_times_are_named_in_the_caption_and_not_drawn():
    steady, not_steady = (
        a_system(name, "cnn", 10, 0.2, seconds=s) for name, s in (("a", [9, 9, 9]), ("b", [9, 9, 30]))
    )
    analysis = an_analysis([steady, not_steady])
    assert boxes(drawn(analysis, "train_seconds")).keys() - {"chance 0.100"} == {"a"}
    assert "Not drawn, since their seeds took too unequal times to train: b." in caption(analysis, "train_seconds")
    assert drawn(an_analysis([not_steady]), "train_seconds") is None
    assert drawn(analysis, "macs") is None, "no one counted them"


def test_times_say_on_what_they_were_measured():
    one, other = a_system("a", "cnn", 10, 0.2, device="CPU x"), a_system("b", "cnn", 20, 0.2, device="GPU y")
    assert "Measured on CPU x." in caption(an_analysis([one]), "latency")
    assert "Measured on CPU x and on GPU y, which do not compare." in caption(an_analysis([one, other]), "latency")
    assert "Measured" not in caption(an_analysis([one, other]))


@pytest.mark.parametrize("sizes", [(100, 100), (1_000_000, 1_100_000), (229_755, 11_200_507), (10, 4_000_000_000)])
def test_ticks_lie_within_the_panel_and_points_do_not_touch_its_edge(sizes):
    systems = [a_system(f"s{i}", "cnn", size, 0.2 + i / 10) for i, size in enumerate(sizes)]
    axes = drawn(an_analysis(systems)).axes[0]
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert len(ticks) >= (1 if sizes[0] == sizes[1] else 2)
    assert len({axes.xaxis.get_major_formatter()(tick) for tick in ticks}) == len(ticks)
    assert low < min(sizes) <= max(sizes) < high
    values = [run.record.metrics["map"] for system in systems for run in system.runs]
    assert axes.get_ylim()[0] < min(values) < max(values) < axes.get_ylim()[1]


def test_the_axis_begins_at_0_or_at_chance_where_that_leaves_most_of_it_to_the_systems(eight):
    assert 0 < drawn(eight).axes[0].get_ylim()[0] < 0.1
    low = an_analysis([a_system("a", "cnn", 10, 0.12), a_system("b", "cnn", 20, 0.5)])
    assert drawn(low).axes[0].get_ylim()[0] == 0
    high = an_analysis([a_system("a", "cnn", 10, 0.8), a_system("b", "cnn", 20, 0.85)])
    assert drawn(high).axes[0].get_ylim()[0] > 0.7


def test_pointing_at_a_dot_tells_its_run_and_names_act_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "_OF", {name: costs._OF[name] for name in ("parameters", "macs")})
    systems = [a_system("a<b>", "cnn", 7_008_059, 0.379), a_system("b{x}", "other & more", 700, 0.2, seeds=1)]
    made = costs.draw_costs(an_analysis(systems, tmp_path))
    assert {"map_vs_parameters"} == made.keys(), "nobody counted multiply-accumulates"
    titles = re.findall("<title>(.*?)</title>", (tmp_path / "map_vs_parameters.svg").read_text(), re.S)
    assert "a&lt;b&gt;, seed 1\nmAP 0.379\nparameters 7.01M\na&lt;b&gt;-s1-abc" in titles
    assert [title for title in titles if title.startswith("a&lt;b&gt;, mean of 3 seeds\nmAP 0.379")]
    assert "b{x}, seed 0\nmAP 0.200\nparameters 700\nb{x}-s0-abc" in titles
    assert "(data other than FSD50K, 100 eval clips, 1 to 3 seeds)" in made["map_vs_parameters"]
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"map_vs_parameters.pdf", "map_vs_parameters_column.pdf", "map_vs_parameters.png"} <= first.keys()
    costs.draw_costs(an_analysis(systems, tmp_path))
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
