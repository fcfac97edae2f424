"""A suite's grid: in the plan, as points among systems, in a figure, and in what the notes say of the ranking."""

import json
from functools import partial

import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text
from scipy.stats import kendalltau

from bench.errors import UserError
from bench.reporting.analysis import analyse
from bench.reporting.figures import grid as figure
from bench.reporting.figures.style import COLUMN, FAMILIES, FULL, SMALL
from bench.reporting.grids import grid_points, grid_ranking, shown, varied
from bench.reporting.notes import reading_notes
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import System, load_results
from bench.store import ResultsFolder
from bench.suites.grid import point_name, point_of, points
from tests.conftest import no_tables
from tests.test_contrasts import write_results

QUICK = Sampling(resamples=100)
RATES = {"train.learning_rate": [1e-4, 1e-3, 1e-2]}
FACTORS = {"config.front_end": ["log_mel", "learned"], "config.input_level": ["raw", "unit"]}


def crossed(folder, grid, entries, score, seeds=(0, 1, 2)):
    """Results of entries (name to family) at all points of a grid, as good as `score` says of entry and point."""
    strengths = {
        f"{name}-{point_name(point)}": (family, score(name, point), score(name, point) / 10)
        for name, family in entries.items()
        for point in points(grid)
    }
    results = write_results(folder, strengths, seeds=seeds)
    runs = sorted(results.finished(), key=lambda run: list(strengths).index(run.record().spec.name))
    results.add_to_plan("crossed", [run.name for run in runs], (), grid)
    return results


def by_rate(name, point):
    """The VGG is best at high rates, the transformer at low ones, where it leads."""
    rate = point["train.learning_rate"]
    return {"vgg_like": 1 + 100 * rate, "resnet18": 0.8 + 100 * rate, "transformer_small": 1.6 - 60 * rate}[name]


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    entries = {"vgg_like": "cnn", "resnet18": "cnn", "transformer_small": "transformer"}
    return crossed(tmp_path_factory.mktemp("rates") / "out", RATES, entries, by_rate)


@pytest.fixture(scope="module")
def factors(tmp_path_factory):
    def score(name, point):
        return 1 + (point["config.front_end"] == "log_mel") + (name == "vgg_like")

    entries = {"vgg_like": "cnn", "transformer_small": "transformer"}
    return crossed(tmp_path_factory.mktemp("factors") / "out", FACTORS, entries, score, seeds=(0, 1))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, as matplotlib has them, instead of files."""
    found = {}

    def keep(figures, _, *given, **words):
        for name, (function, caption) in figures.items():
            found[name] = (function(*given), caption.format(**words))
            found["narrow"] = partial(function, *given, width=COLUMN)
        return {}

    monkeypatch.setattr(figure, "draw", keep)
    yield found
    plt.close("all")


def drawn_of(results, drawn):
    figure.draw_grid(analyse(load_results(results.path), QUICK))
    return drawn["grid"]


# --- names and points


@pytest.mark.parametrize(
    "grid",
    [RATES, FACTORS, {"config.widths": [[32, 64], []], "train.channels_last": [True, False], "sample_rate": [8000]}],
)
def test_names_are_read_as_they_were_made(grid):
    for point in points(grid):
        assert point_of(f"timm-x-{point_name(point)}", grid) == ("timm-x", point)
        assert list(point_of(f"a-{point_name(point)}", grid)[1]) == list(grid), "in the grid's order"
    assert point_of("timm-x", grid) is None
    assert point_of(f"a-{point_name(next(points(grid)))}_best_of_30", grid) is None


# --- the plan


def test_the_plan_keeps_the_grid(tmp_path):
    results = ResultsFolder(tmp_path)
    assert results.plan().grid == {}
    results.add_to_plan("x", ["a-s0-01234567"], (), RATES)
    assert json.loads(results.plan_file.read_text())["grid"] == RATES
    results.add_to_plan("x", [])
    assert results.plan().grid == RATES, "a command without a grid takes none away"
    results.forget(["a-s0-01234567"])
    assert results.plan().grid == RATES
    results.add_to_plan("x", [], (), {"train.learning_rate": [1e-2, 2e-2]})
    assert results.plan().grid == {"train.learning_rate": [1e-4, 1e-3, 1e-2, 2e-2]}
    results.add_to_plan("x", [], (), FACTORS)
    assert results.plan().grid == FACTORS, "of other fields, the last one counts"


def test_plans_of_before_have_no_grid_and_a_damaged_one_is_one_line(tmp_path):
    results = ResultsFolder(tmp_path)
    results.plan_file.write_text('{"format": 2, "title": "old", "planned": []}')
    assert results.plan().grid == {}
    results.plan_file.write_text('{"format": 2, "title": "old", "planned": [], "grid": {"train.mixup": 1}}')
    with pytest.raises(UserError, match=r"^\S+suite\.json: damaged \(grid\.train\.mixup: [^\n]+$"):
        results.plan()


def test_a_command_plans_the_grid_of_the_whole_suite(tmp_path, packed, bench, monkeypatch):
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    path, out = tmp_path / "suite.toml", ResultsFolder(tmp_path / "out")
    text = 'title = "short"\narchitectures = ["transformer_small"]\n[train]\nmax_steps = 2\nevaluations = 1\n'
    path.write_text(f"{text}batch_size = 2\n[grid]\ntrain.learning_rate = [1e-4, 1e-3]\n")
    one = ("--only", "transformer_small-learning_rate_0.001")
    assert bench("run", path, "--data", packed.folder, "--out", out.path, *one).code == 0
    whole = out.plan()
    assert (len(whole.planned), whole.grid) == (1, {"train.learning_rate": [1e-4, 1e-3]})
    assert whole.sources == {packed.dataset: packed.manifest["source"]}
    # kept results of before get what plans had not, without a training
    before = json.loads(out.plan_file.read_text())
    out.plan_file.write_text(json.dumps({name: value for name, value in before.items() if name != "sources"}))
    assert out.plan().sources == {}
    assert "1 runs were finished before" in bench("run", path, "--data", packed.folder, "--out", out.path, *one).err
    assert out.plan() == whole
    assert bench("merge", tmp_path / "merged", out.path).code == 0
    assert ResultsFolder(tmp_path / "merged").plan() == out.plan()
    # how long it learned is on record: two steps of two chunks, of all that train has
    record = out.finished()[0].record()
    assert record.cost["epochs"] == pytest.approx(4 / len(record_chunks(packed)), abs=1e-3)


def record_chunks(pack):
    """The chunks of a second that train is cut into, clip by clip."""
    return [i for length in pack.clips("train")["length"] for i in range(-(-max(length, 16_000) // 16_000))]


# --- the points of results


def test_systems_are_points_of_the_grid(rates):
    found = grid_points(load_results(rates.path))
    assert [(point.entry, shown(point, ["train.learning_rate"])) for point in found[:4]] == [
        ("vgg_like", "0.0001"), ("resnet18", "0.0001"), ("transformer_small", "0.0001"), ("vgg_like", "0.001"),
    ]  # fmt: skip
    assert {point.system.name for point in found} == {f"{p.entry}-{point_name(p.settings)}" for p in found}
    assert varied(found) == ["train.learning_rate"]
    assert varied(found[:3]) == []


def test_an_entry_that_was_run_twice_is_two(tmp_path):
    results = crossed(tmp_path / "out", RATES, {"a": "cnn"}, lambda *_: 1.0, seeds=(0,))
    other = results.finished()[0].record()
    recipe = other.spec.recipe.model_copy(update={"mixup": 0.5})
    spec = other.spec.model_copy(update={"recipe": recipe})
    source, target = results.finished()[0], results.run(spec)
    target.path.mkdir()
    labels = results.labels()
    scores = source.scores(labels.targets.shape)
    target.write(other.model_copy(update={"spec": spec, "hash": spec.hash}), source.history(), scores, b"")
    entries = {point.entry for point in grid_points(load_results(results.path))}
    assert entries == {"a", "a (train.mixup=0.0)", "a (train.mixup=0.5)"}


# --- what the notes say


def note_of(results, begins):
    analysis = analyse(load_results(results.path), QUICK)
    return next((note for note in reading_notes(analysis) if begins in note), "")


def test_the_ranking_is_compared_between_rates(rates):
    results = load_results(rates.path)
    found = grid_ranking(results)
    scores = {system.name: system.score for system in results.systems}
    at = {
        rate: [scores[f"{name}-learning_rate_{rate}"] for name in ("vgg_like", "resnet18", "transformer_small")]
        for rate in RATES["train.learning_rate"]
    }
    pairs = [(1e-4, 1e-3), (1e-4, 1e-2), (1e-3, 1e-2)]
    expected = sorted(kendalltau(at[a], at[b]).statistic for a, b in pairs)
    assert found.agreement == pytest.approx(expected)
    assert expected[0] < 0 < expected[-1], "the data hold what is asked"
    assert found.best == {"0.01": ("vgg_like", "resnet18"), "0.0001": ("transformer_small",)}
    assert found.leaders == {"0.0001": "transformer_small", "0.001": "transformer_small", "0.01": "vgg_like"}
    note = note_of(rates, "grid is over train.learning_rate")
    assert "Best on val: 0.0001 for transformer_small; 0.01 for vgg_like, resnet18." in note
    assert f"is not the same at all points of the grid: between two of them Kendall's tau is {expected[0]:.2f}" in note
    assert note.endswith("transformer_small leads at 2 of 3 points, vgg_like at 1.")


def test_a_ranking_that_stays_is_said_to(factors):
    note = note_of(factors, "grid is over config.front_end and config.input_level")
    assert "is the same at all points of the grid: between two of them Kendall's tau is 1.00 (" in note
    assert note.endswith("vgg_like leads at 4 of 4 points.")


def test_equal_entries_share_the_lead(factors, monkeypatch):
    def equal_with_learned(system):
        return 0.5 if "learned" in system.name else 0.6 + 0.1 * ("vgg_like" in system.name)

    monkeypatch.setattr(System, "score", property(equal_with_learned))
    note = note_of(factors, "The suite's grid")
    assert "is not the same at all points" in note
    assert note.endswith(" leads at 2 of 4 points, vgg_like and transformer_small at 2.")
    assert " vgg_like leads" in note


def test_without_a_grid_nothing_is_said_or_drawn(tmp_path, drawn):
    results = write_results(tmp_path / "out", {"a": ("cnn", 2.0, 0.9), "c": ("transformer", 1.0, 0.7)}, seeds=(0,))
    assert note_of(results, "grid is over") == ""
    assert drawn_of(results, drawn)[0] is None
    # nor of a single point of one
    results.add_to_plan("x", [], (), RATES)
    assert drawn_of(results, drawn)[0] is None


# --- the figure


def test_a_line_an_entry_along_the_rates(rates, drawn):
    made, caption = drawn_of(rates, drawn)
    (axes,) = made.axes
    assert axes.get_xscale() == "log", "two decades"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1e-4", "1e-3", "1e-2"]
    lines = [line for line in axes.lines if line.get_marker() not in (".", "None") and len(line.get_xdata()) == 3]
    means = {system.name: system.score for system in load_results(rates.path).systems}
    assert [list(line.get_ydata()) for line in lines[:3]] == [
        [means[f"{name}-learning_rate_{rate}"] for rate in RATES["train.learning_rate"]]
        for name in ("vgg_like", "resnet18", "transformer_small")
    ]
    looks = [(line.get_color(), line.get_marker()) for line in lines[:3]]
    assert [colour for colour, _ in looks] == [FAMILIES["cnn"], FAMILIES["cnn"], FAMILIES["transformer"]]
    assert looks[0] != looks[1]
    assert {"vgg_like", "resnet18", "transformer_small"} <= {text.get_text() for text in axes.texts}, "beside the lines"
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert [len(line.get_ydata()) for line in dots] == 9 * [3], "seeds"
    assert caption.startswith("mAP on eval at each combination of train.learning_rate.")
    assert caption.endswith("On data other than FSD50K, 150 eval clips, 3 seeds.")


def test_other_fields_are_panels(factors, drawn):
    made, caption = drawn_of(factors, drawn)
    assert [axes.get_title("left") for axes in made.axes] == ["input level raw", "input level unit"]
    assert [[tick.get_text() for tick in axes.get_xticklabels()] for axes in made.axes] == 2 * [["log mel", "learned"]]
    assert [len([text for text in axes.texts if "_" in text.get_text()]) for axes in made.axes] == [0, 2], "named once"
    assert made.axes[0].get_ylim() == made.axes[1].get_ylim()
    assert "of config.front_end and config.input_level." in caption


def test_many_entries_have_a_panel_a_family(tmp_path, drawn):
    entries = {f"entry_{n}": "cnn" if n < 4 else "transformer" for n in range(8)}
    results = crossed(tmp_path / "out", RATES, entries, lambda name, _: 1 + int(name[-1]) / 10, seeds=(0,))
    made, caption = drawn_of(results, drawn)
    for figure_ in (made, drawn["narrow"]()):
        assert [axes.get_title("left") for axes in figure_.axes] == ["convolutional networks", "transformers"]
        named = [{text.get_text() for text in axes.texts} & entries.keys() for axes in figure_.axes]
        assert [len(names) for names in named] == [4, 4]
    assert "Convolutional networks are blue, transformers are vermilion." in caption


@pytest.mark.parametrize("given", ["rates", "factors"])
def test_it_is_readable_at_both_widths(given, drawn, request):
    made, _ = drawn_of(request.getfixturevalue(given), drawn)
    for figure_, width in ((made, FULL), (drawn["narrow"](), COLUMN)):
        figure_.draw_without_rendering()
        assert figure_.get_figwidth() == width
        texts = [text for text in figure_.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(text.get_fontsize() for text in texts) >= SMALL
        boxes = [text.get_window_extent() for axes in figure_.axes for text in axes.texts]
        assert all(figure_.bbox.x0 <= box.x0 and box.x1 <= figure_.bbox.x1 for box in boxes), "nothing is cut off"
        assert all(axes.get_window_extent().width > figure_.bbox.width / 6 for axes in figure_.axes)


def test_two_seeds_have_no_interval(rates, factors, drawn):
    def bars(results):
        axes = drawn_of(results, drawn)[0].axes[0]
        return [line for line in axes.lines if len({*line.get_xdata()}) == 1 and len(line.get_xdata()) == 2]

    assert len(bars(rates)) == 9
    assert not [line for line in bars(factors) if line.get_marker() != "."]


def test_too_many_panels_are_one_of_all_fields(tmp_path, drawn):
    grid = {"train.mixup": [0.0, 0.5], "config.depth": [1, 2, 3, 4, 5, 6, 7]}
    results = crossed(tmp_path / "out", grid, {"a": "cnn"}, lambda *_: 1.0, seeds=(0,))
    made, _ = drawn_of(results, drawn)
    (axes,) = made.axes
    texts = [tick.get_text() for tick in axes.get_xticklabels()]
    assert (len(texts), texts[0]) == (14, "mixup=0.0, depth=1")


def test_forty_entries_leave_their_panel_room(tmp_path, drawn):
    grid, entries = {"train.learning_rate": [1e-4, 1e-3]}, {f"an_entry_with_a_name_{n}": "cnn" for n in range(40)}
    results = crossed(tmp_path / "out", grid, entries, lambda name, _: 1 + len(name) / 100, seeds=(0,))
    made, _ = drawn_of(results, drawn)
    made.draw_without_rendering()
    assert made.axes[0].get_position().height * made.get_figheight() > 2


def test_scores_below_zero_are_seen(rates, drawn, monkeypatch):
    monkeypatch.setattr(System, "score", property(lambda _: -2.0))
    monkeypatch.setattr(System, "values", lambda *_: [-1.0, -2.0, -3.0])
    figure.draw_grid(analyse(load_results(rates.path), QUICK))
    low, high = drawn["grid"][0].axes[0].get_ylim()
    assert low < -3 < -1 < high


def test_the_report_has_the_figure_the_same_each_time(factors, monkeypatch):
    for figures in ("draw_costs", "draw_scores", "draw_ensembles"):
        monkeypatch.setattr(f"bench.reporting.report.{figures}", lambda *_: {})
    made = write_report(factors.path, QUICK)
    assert "grid" in made.figures
    files = [made.figures["grid"].png, made.figures["grid"].svg, made.figures["grid"].pdf]
    before = [path.read_bytes() for path in files]
    write_report(factors.path, QUICK)
    assert before == [path.read_bytes() for path in files]
    assert 'id="grid"' in factors.page.read_text()
