"""The figures that compare systems: what they draw is what the tests said, once, and readable at both widths."""

import re
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from bench.protocol.task import get_task
from bench.reporting.analysis import ClassDifferences, analyse
from bench.reporting.ensembles import ensembles
from bench.reporting.figures import scores
from bench.reporting.figures.classes import class_differences, rare_classes
from bench.reporting.figures.curves import learning_curves
from bench.reporting.figures.ensembles import draw_ensembles, gains
from bench.reporting.figures.panels import End, family_colours, name_ends, short, wrapped
from bench.reporting.figures.ranks import rank_diagram
from bench.reporting.figures.style import COLUMN, FAMILIES, FULL, new_figure, save
from bench.reporting.figures.wins import win_triangle
from bench.reporting.report import Sampling
from bench.reporting.systems import load_results
from bench.stats.inference import alike
from tests.test_contrasts import write_results

QUICK = Sampling(resamples=100)
FIGURES = {
    "ranks": rank_diagram, "wins": win_triangle, "class_ap": class_differences, "learning_curves": learning_curves,
}  # fmt: skip
MANY, MINUS = 16, "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Four systems of two families with three seeds."""
    strengths = {
        "vgg_like": ("cnn", 2.0, 0.9), "resnet18": ("cnn", 2.7, 0.8),
        "transformer_multiscale": ("transformer", 1.95, 0.7), "transformer_small": ("transformer", 0.6, 0.6),
    }  # fmt: skip
    return analyse(load_results(write_results(tmp_path_factory.mktemp("few") / "out", strengths).path), QUICK)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Systems with the names of a grid's points."""
    families = ("cnn", "transformer", "hybrid")
    strengths = {
        f"an_architecture-front_end_log_mel-depth_{i}": (families[i % 3], 0.5 + 0.15 * i, 0.3 + 0.01 * i)
        for i in range(MANY)
    }
    return analyse(load_results(write_results(tmp_path_factory.mktemp("many") / "out", strengths).path), QUICK)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts_of(figure):
    """The texts that are printed: ticks beyond the limits of an axis are not."""
    figure.draw_without_rendering()
    hidden = set()
    for axes in figure.axes:
        if not (axes.get_visible() and axes.axison):
            hidden |= {*axes.findobj(Text)} - {*(axes.texts if axes.get_visible() else [])}
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            hidden |= {
                text for tick in ticks if not low <= tick.get_loc() <= high for text in (tick.label1, tick.label2)
            }
    return [
        text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible() and text not in hidden
    ]


def box_of(text):
    # without the line from a name to its point
    return Text.get_window_extent(text)


def all_figures(analysis, width):
    made = {name: function(analysis, width=width) for name, function in FIGURES.items()}
    made["ensembles"] = gains(ensembles(analysis.results), width=width)
    return {name: figure for name, figure in made.items() if figure}


@pytest.mark.parametrize("width", [FULL, COLUMN])
@pytest.mark.parametrize("name", ["few", "many"])
def test_they_are_readable_at_the_width_that_they_are_printed_in(request, name, width):
    figures = all_figures(request.getfixturevalue(name), width)
    assert len(figures) == 5
    for figure in figures.values():
        assert figure.get_figwidth() == width
        assert figure.get_suptitle() == "", "captions say it"
        check_is_readable(figure)


def check_is_readable(figure):
    """Check that the figure fits a page, and that no text is too small, cut off, or on another one."""
    assert figure.get_figheight() < 9
    page, texts = figure.bbox, texts_of(figure)
    for text in texts:
        box = box_of(text)
        assert text.get_fontsize() >= 6.5, text
        assert page.x0 - 1 <= box.x0 < box.x1 <= page.x1 + 1, text
        assert page.y0 - 1 <= box.y0 < box.y1 <= page.y1 + 1, text
    boxes = [box_of(text).shrunk(0.95, 0.8) for text in texts]
    for i, box in enumerate(boxes):
        hidden = [texts[k] for k, other in enumerate(boxes[:i]) if box.overlaps(other)]
        assert not hidden, (texts[i], hidden)


# --- the rank diagram


def test_the_largest_sets_of_what_does_not_differ():
    differ = {("a", "c"), ("a", "d"), ("b", "d")}
    assert alike("abcd", lambda x, y: (x, y) in differ) == [["a", "b"], ["b", "c"], ["c", "d"]]
    # b differs from those beside it, which do not from each other
    assert alike("abc", lambda x, y: "b" in (x, y)) == [["a", "c"], ["b"]]


def bars_of(figure):
    """The scores at which each bar has a dot."""
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o" and line.get_zorder() == 4]
    bars = [line for line in axes.lines if line.get_linewidth() > 2]
    assert [sorted({*bar.get_xdata()}) for bar in bars] == [
        sorted({min(line.get_xdata()), max(line.get_xdata())}) for line in dots
    ]
    return [sorted(line.get_xdata(), reverse=True) for line in dots]


def test_bars_join_the_systems_that_our_tests_do_not_tell_apart(few):
    scores_of = {standing.system.label: standing.system.score for standing in few.compared}
    verdicts = {(p.first.label, p.second.label): p.primary.verdict for p in few.pairs}
    assert {"significant", "not significant"} <= set(verdicts.values())
    expected = [group for group in alike([*scores_of], lambda a, b: verdicts[a, b] == "significant") if len(group) > 1]
    for width in (FULL, COLUMN):
        figure = rank_diagram(few, width=width)
        found = bars_of(figure)
        assert found == [sorted((scores_of[label] for label in group), reverse=True) for group in expected]
        written = [text.get_text() for text in texts_of(figure)]
        for label, score in scores_of.items():
            assert written.count(label) == 1
            assert short(score) in written


def test_a_system_between_two_that_are_alike_is_not_joined_to_them(few):
    best, middle, *_ = few.compared
    last = few.compared[-1]
    apart = [
        replace(pair, claims={"map": replace(pair.primary, verdict="significant" if is_apart else "not significant")})
        for pair in few.pairs
        for is_apart in [{pair.first.label, pair.second.label} != {best.system.label, last.system.label}]
    ]
    figure = rank_diagram(replace(few, pairs=tuple(apart)))
    assert bars_of(figure) == [[best.system.score, last.system.score]]
    assert middle.system.score not in bars_of(figure)[0]


def test_families_are_told_by_colour(few):
    (axes,) = rank_diagram(few).axes
    colours = {line.get_xdata()[0]: to_hex(line.get_color()) for line in axes.lines if line.get_markersize() == 5}
    assert colours == {s.system.score: FAMILIES[s.system.first.family] for s in few.compared}


def test_without_a_claim_that_generalises_there_is_no_diagram(tmp_path):
    results = write_results(tmp_path / "out", {"a": ("cnn", 2.0, 0.9), "b": ("cnn", 0.5, 0.8)}, seeds=(0,))
    assert rank_diagram(analyse(load_results(results.path), QUICK)) is None


# --- the triangle of all pairs


def test_each_pair_stands_there_once(few):
    figure = win_triangle(few, width=COLUMN)
    (axes,) = figure.axes
    numbers = [text.get_text() for text in axes.texts if re.match(rf"[{MINUS}.\d]", text.get_text())]
    assert sorted(numbers) == sorted(short(float(pair.primary.difference.value)) for pair in few.pairs)
    shaded = [
        patch for patch in axes.patches if isinstance(patch, Rectangle) and to_hex(patch.get_facecolor()) != "#ffffff"
    ]
    assert len(shaded) == sum(pair.primary.verdict == "significant" for pair in few.pairs)


def test_eight_systems_have_their_numbers_in_a_column_and_more_have_shades(few, many):
    eight = fewer(many, 8, "transformer_pooled_")
    assert len(numbers_in(win_triangle(eight, width=COLUMN))) == 28
    assert not numbers_in(win_triangle(many, width=COLUMN))
    assert len(numbers_in(win_triangle(many, width=FULL))) == MANY * (MANY - 1) / 2
    assert win_triangle(replace(few, pairs=())) is None


def fewer(analysis, number, name):
    """The best systems of an analysis, with short names."""
    labels = {s.system.label: f"{name}{i}" for i, s in enumerate(analysis.compared[:number])}
    renamed = {
        old: replace(s.system, label=labels[old]) for s in analysis.compared if (old := s.system.label) in labels
    }
    pairs = [
        replace(pair, first=renamed[pair.first.label], second=renamed[pair.second.label])
        for pair in analysis.pairs
        if {pair.first.label, pair.second.label} <= set(labels)
    ]
    standings = [replace(s, system=renamed[s.system.label]) for s in analysis.compared[:number]]
    return SimpleNamespace(compared=standings, pairs=pairs, primary=analysis.primary)


def numbers_in(figure):
    return [text for text in figure.axes[0].texts if re.fullmatch(rf"[{MINUS}+]?\.\d{{3}}[?c]?", text.get_text())]


# --- classes


def two_systems(classes):
    """Two systems of two families, class by class: a tenth differs."""
    rng = np.random.default_rng(0)
    values = rng.permutation(np.linspace(-0.5, 0.5, classes))
    table = pd.DataFrame({
        "class": [f"Class_{i}" for i in range(classes)], "train_clips": 50, "eval_clips": np.arange(classes) + 5,
        "first": 0.5 + values / 2, "second": 0.5 - values / 2, "difference": values, "low": values - 0.1,
        "high": values + 0.1, "verdict": np.where(np.arange(classes) % 10, "not significant", "significant"),
    })  # fmt: skip
    sides = [
        SimpleNamespace(label=f"{family}-front_end_log_mel-input_level_unit", first=SimpleNamespace(family=family))
        for family in ("cnn", "transformer")
    ]
    return SimpleNamespace(classes=ClassDifferences(*sides, get_task("tagging").class_metric, table))


@pytest.mark.parametrize("width", [FULL, COLUMN])
def test_200_classes_are_sorted_and_the_most_different_named(width):
    analysis = two_systems(200)
    figure = class_differences(analysis, width=width)
    check_is_readable(figure)
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() == "o"]
    found = [(line.get_xdata()[0], line.get_ydata()[0]) for line in points]
    assert [x for x, _ in found] == sorted(analysis.classes.table["difference"], reverse=True)
    assert [y for _, y in found] == sorted(y for _, y in found), "y points down"
    named = [label.get_text() for label in axes.get_yticklabels()]
    order = analysis.classes.table.sort_values("difference", ascending=False)
    both_ends = pd.concat([order[:8], order[-8:]])
    assert named == [f"Class {line['class'][6:]} ({line['eval_clips']})" for line in both_ends.to_dict("records")]
    assert "184 other classes" in [text.get_text() for text in axes.texts]
    assert not axes.findobj(lambda artist: hasattr(artist, "arrow_patch") and artist.arrow_patch), "no leader lines"


def test_what_is_filled_is_significant_and_colours_say_who_is_ahead():
    analysis = two_systems(30)
    (axes,) = class_differences(analysis).axes
    table = analysis.classes.table.set_index("difference")
    for line in axes.lines:
        if line.get_marker() != "o":
            continue
        value = line.get_xdata()[0]
        assert (line.get_markerfacecolor() != "white") == (table.loc[value, "verdict"] == "significant")
        assert line.get_markeredgecolor() == FAMILIES["cnn" if value > 0 else "transformer"]


def test_a_pointer_on_a_class_shows_both_scores_and_its_clips(tmp_path):
    save(class_differences(two_systems(5)), tmp_path / "class_ap", [".svg"])
    svg = (tmp_path / "class_ap.svg").read_text()
    assert re.search(r"<title>Class_0: AP 0\.\d{3} of cnn-\S+ and 0\.\d{3} of transformer-.*; 5 eval clips, 50 tr", svg)


def of_families(families, classes=20):
    """An analysis of a system a family given, with average precisions by class."""
    task, rng = get_task("tagging"), np.random.default_rng(0)
    labels = SimpleNamespace(targets=np.ones((9, classes), bool), train_counts=np.arange(classes) // 2 * 10 + 5)
    compared = [
        SimpleNamespace(
            system=SimpleNamespace(label=f"an_architecture_{i}", first=SimpleNamespace(family=family)),
            estimates={task.class_metric.name: SimpleNamespace(value=rng.random(classes))},
        )
        for i, family in enumerate(families)
    ]
    return SimpleNamespace(compared=compared, results=SimpleNamespace(labels=labels, task=task))


@pytest.mark.parametrize("width", [FULL, COLUMN])
def test_rare_classes_have_a_panel_a_family_in_its_colour(width):
    figure = rare_classes(of_families(["cnn"] * 9 + ["transformer"] * 3), width=width)
    assert [axes.get_title("left") for axes in figure.axes] == ["convolutional networks", "transformers"]
    for axes, family, own in zip(figure.axes, ("cnn", "transformer"), (9, 3), strict=True):
        curves = [line for line in axes.lines if line.get_marker() == "o"]
        assert {to_hex(line.get_color()) for line in curves} == {FAMILIES[family]}
        assert (len(curves), len(axes.lines)) == (own, 12), "the others are behind"
    names = [text.get_text() for text in figure.axes[0].texts]
    assert names == [f"an_architecture_{i}" for i in (0, 1, 2, 8)], "of many the best, and the last"
    check_is_readable(figure)


def test_with_few_classes_there_is_no_curve_over_their_clips():
    assert rare_classes(of_families(["cnn"], classes=8)) is None


# --- learning curves


def test_few_systems_have_a_panel_each_with_their_seeds(few):
    figure = learning_curves(few)
    assert [axes.get_title("left") for axes in figure.axes] == [
        s.system.label for family in ("cnn", "transformer") for s in few.compared if s.system.first.family == family
    ]
    for axes, color in zip(figure.axes, [FAMILIES["cnn"]] * 2 + [FAMILIES["transformer"]] * 2, strict=True):
        assert sum(line.get_color() == color and line.get_linewidth() == 0.5 for line in axes.lines) == 3


def starts_of(figure):
    """Where hollow points at step 0 stand."""
    lines = [line for axes in figure.axes for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert all(line.get_xdata()[0] == 0 for line in lines)
    return [line.get_ydata()[0] for line in lines]


def test_step_0_is_the_untrained_score_and_said_to_be_of_eval(few, many, monkeypatch):
    untrained = sorted(s.system.mean("untrained", "map") for s in few.compared)
    assert sorted(starts_of(learning_curves(few))) == pytest.approx(untrained)
    assert len(starts_of(learning_curves(many))) == MANY
    assert "Hollow, at step 0: untrained, on eval" in captions(few, monkeypatch)["learning_curves"]


def test_a_run_that_began_with_other_weights_has_no_step_0_and_one_that_was_not_trained_no_curve(few, monkeypatch):
    changed = with_specs(few, {0: {"init": "01234567"}, 1: {"rescores": "01234567"}})
    figure = learning_curves(changed)
    assert len(figure.axes) == 3
    assert len(starts_of(figure)) == 2
    only = with_specs(few, {i: {"rescores": "01234567"} for i in range(4)})
    assert learning_curves(only) is None
    only = with_specs(few, {i: {"init": "01234567"} for i in range(4)})
    assert "step 0" not in captions(only, monkeypatch)["learning_curves"]


def with_specs(analysis, changes):
    """The same analysis, the specs of some systems changed."""
    standings = list(analysis.standings)
    for i, change in changes.items():
        system = standings[i].system
        runs = [
            replace(run, record=run.record.model_copy(update={"spec": run.record.spec.model_copy(update=change)}))
            for run in system.runs
        ]
        standings[i] = replace(standings[i], system=replace(system, runs=tuple(runs)))
    return replace(analysis, standings=tuple(standings))


def test_a_mean_ends_with_the_first_seed_that_does(few, monkeypatch):
    histories = iter([[1, 2, 3], [1, 2], [1, 2, 3]] * 4)
    of_seed = lambda _: pd.DataFrame({"step": (steps := next(histories)), "val_score": np.linspace(0, 1, len(steps))})  # noqa: E731
    monkeypatch.setattr("bench.store.RunFolder.history", of_seed)
    bold = [line for line in learning_curves(few).axes[0].lines if line.get_linewidth() == 1.5]
    assert list(bold[0].get_xdata()) == [1, 2]


def test_many_systems_share_a_panel_a_family(many):
    figure = learning_curves(many, width=COLUMN)
    assert len(figure.axes) == 3
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    assert low == 0
    assert high >= 4, "every curve is within"


# --- ensembles


def test_a_dot_stands_for_each_partner_in_the_colour_of_its_family(few):
    found = ensembles(few.results)
    (axes,) = gains(found).axes
    dots = [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_color()) for line in axes.lines if line.get_marker() == "o"
    ]
    rows = [member.system.label for member in found.members]
    expected = [
        (pair.gain, rows.index(own.label), FAMILIES[other.first.family])
        for pair in found.pairs
        for own, other in ((pair.first, pair.second), (pair.second, pair.first))
    ]
    assert sorted(dots) == sorted(expected)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"{member.system.label}  {short(member.own.score)}" for member in found.members]


# --- captions, and what they share


def captions(analysis, monkeypatch):
    """What the figures say of themselves, without drawing them."""
    filled = lambda figures, *_, **words: {name: caption.format(**words) for name, (_, caption) in figures.items()}  # noqa: E731
    monkeypatch.setattr(scores, "draw", filled)
    monkeypatch.setattr("bench.reporting.figures.ensembles.draw", filled)
    return scores.draw_scores(analysis) | draw_ensembles(analysis, ensembles(analysis.results))


def test_captions_are_sentences_with_data_clips_seeds_and_the_test(few, monkeypatch):
    found = captions(few, monkeypatch)
    assert set(found) == {"ranks", "wins", "class_ap", "class_ap_vs_clips", "learning_curves", "ensembles"}
    assert found.pop("class_ap_vs_clips") == "", "four classes make no bins"
    for name, caption in found.items():
        assert caption.endswith("."), name
        assert "data other than FSD50K" in caption, name
        assert "3 seeds" in caption, name
        assert name == "learning_curves" or "150 eval clips" in caption, name
    assert "paired bootstrap of clips with seeds, p of .05 or less, Holm over 6 pairs" in found["ranks"]
    assert "Benjamini-Hochberg over the classes" in found["class_ap"]
    assert "area" not in found["class_ap"], "points are of one size"
    assert "in each of 4 classes" in found["class_ap"]


def test_captions_name_what_is_not_drawn(few, monkeypatch):
    first, *others = few.standings
    found = captions(replace(few, standings=(replace(first, letters=""), *others)), monkeypatch)
    assert f"Not drawn, for want of seeds: {first.system.label}." in found["ranks"]
    monkeypatch.setattr(scores, "MOST_IN_TRIANGLE", 3)
    assert "all 6 pairs: they are in differences.csv" in captions(few, monkeypatch)["ranks"]


def test_braces_in_a_name_are_text(few, monkeypatch):
    first, *others = few.standings
    named = replace(first, letters="", system=replace(first.system, label="a{b}"))
    systems = (named.system, *(standing.system for standing in others))
    changed = replace(few, results=replace(few.results, systems=systems), standings=(named, *others))
    assert "a{b}" in captions(changed, monkeypatch)["ranks"]


def test_the_same_results_give_the_same_bytes(few, tmp_path):
    for name in ("one", "other"):
        save(rank_diagram(few, width=COLUMN), tmp_path / name, [".svg", ".pdf"])
    for suffix in (".svg", ".pdf"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"other{suffix}").read_bytes()


def test_colours_in_words():
    assert (
        family_colours(["transformer", "cnn", "cnn"]) == "Convolutional networks are blue, transformers are vermilion."
    )
    assert family_colours(["hybrid", "mine"]) == "Hybrids and mine are dark grey."


@pytest.mark.parametrize(("value", "signed", "text"), [
    (0.379, False, ".379"), (-0.018, True, f"{MINUS}.018"), (0.018, True, "+.018"), (12.5, False, "12.500"),
    (0.0, False, ".000"),
])  # fmt: skip
def test_numbers_for_little_room(value, signed, text):
    assert short(value, signed=signed) == text


def test_long_names_are_broken_between_words():
    assert wrapped("transformer_multiscale", 24) == "transformer_multiscale"
    assert wrapped("resnet18-front_end_learned-input_level_raw", 26) == "resnet18-front_end_\nlearned-input_level_raw"
    assert wrapped("resnet18-front_end_learned-input_level_raw", 22) == "resnet18-front_end_\nlearned-input_level_\nraw"
    assert all(len(line) <= 20 for line in wrapped("x" * 90, 20).split("\n"))


def test_names_at_the_ends_of_lines_do_not_overlap_and_stay_in_order():
    figure, axes = new_figure(COLUMN, 2.0)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    name_ends(axes, [End(1, 0.5 + 0.001 * i, f"name {i}") for i in range(6)])
    texts = sorted(texts_of(figure), key=lambda text: box_of(text).y0)
    names = [text.get_text() for text in texts if text.get_text().startswith("name")]
    assert names == [f"name {i}" for i in range(6)]
    boxes = [box_of(text) for text in axes.texts]
    assert not any(a.shrunk(1, 0.9).overlaps(b.shrunk(1, 0.9)) for i, a in enumerate(boxes) for b in boxes[:i])
