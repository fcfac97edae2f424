"""The figure of contrasts, and how far training got: what a report says before any table is read."""

from types import SimpleNamespace

import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from bench.reporting.analysis import analyse
from bench.reporting.figures import contrasts as figure
from bench.reporting.figures.forest import numbers
from bench.reporting.figures.style import COLUMN, FULL, SMALL
from bench.reporting.notes import reading_notes
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import load_results
from bench.store import PlannedContrast, RunFolder
from bench.store.contrasts import Choice
from tests.test_contrasts import write_results

QUICK = Sampling(resamples=200)
LONG = "is it so, whatever else is asked of " + "all of these systems and their seeds " * 9
ASKED = [
    PlannedContrast(name="a - c", question="is it?", weights={"a": 1, "c": -1}),
    PlannedContrast(name="c - d", question=LONG, weights={"c": 1, "d": -1}),
    PlannedContrast(name="a - d", question="all of it?", weights={"a": 1, "d": -1}),
    PlannedContrast(name="first", weights={"a": 1, "b": -1}),
    PlannedContrast(name="second", weights={"b": 1, "c": -1}),
    PlannedContrast(name="third", weights={"c": 1, "d": -1}),
    PlannedContrast(name="gone", weights={"a": 1, "e": -1}),
    PlannedContrast(
        name="best",
        best_of={"cnn": Choice(weight=1, entries=("a", "b")), "transformer": Choice(weight=-1, entries=("c", "d"))},
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    strengths = {
        "a": ("cnn", 2.0, 0.9), "b": ("cnn", 2.6, 0.8), "c": ("transformer", 1.0, 0.7), "d": ("transformer", 0.9, 0.6),
    }  # fmt: skip
    made = write_results(tmp_path_factory.mktemp("forest") / "out", strengths)
    made.add_to_plan("asked", [], ASKED)
    return made


@pytest.fixture(scope="module")
def analysis(results):
    return analyse(load_results(results.path), QUICK)


@pytest.fixture(params=[FULL, COLUMN])
def drawn(analysis, monkeypatch, request):
    """The figure as matplotlib has it, laid out, as wide as a page and as a column; and its caption."""
    found = []

    def keep(figures, _, *given, **words):
        function, caption = figures["contrasts"]
        found.extend([function(*given, width=request.param), caption.format(**words)])
        return {}

    monkeypatch.setattr(figure, "draw", keep)
    figure.draw_contrasts(analysis)
    found[0].draw_without_rendering()
    yield found
    plt.close(found[0])


def test_each_contrast_stands_with_estimate_interval_and_question(analysis, drawn):
    (axes,) = drawn[0].axes
    texts = [text.get_text() for text in axes.texts]
    claims = [contrast.claim.difference for contrast in analysis.contrasts if contrast.claim]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert all(line.get_gid() for line in points), "what a pointer shows"
    assert [float(line.get_xdata()[0]) for line in points] == pytest.approx([float(claim.value) for claim in claims])
    assert [points[i].get_ydata()[0] < points[i + 1].get_ydata()[0] for i in (0, 1)] == [True, True]
    ends = [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    for claim in claims:
        assert [float(claim.low), float(claim.high)] in ends
        assert [float(end) for end in claim.narrower] in ends, "by which equivalence is judged"
    number = f"+{claims[0].value:.3f} [+{claims[0].low:.3f}, +{claims[0].high:.3f}]".replace("0.", ".")
    for text in ("a - c", "is it?", "best (a - c)", number):
        assert any(part.startswith(text) for part in texts), text
    assert not axes.get_title(), "the caption says it"
    assert texts.count("not computed") == 1
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.01, 0.01))
    assert "differences within 0.01" in drawn[1]
    assert drawn[1].endswith("On data other than FSD50K, 150 eval clips, 3 seeds.")


def test_what_adds_up_is_seen_to(drawn):
    (axes,) = drawn[0].axes
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if text[:2] in ("= ", "+ ")] == ["= first", "+ second", "+ third"]
    assert " a - d is the sum of what follows it with = and +. " in drawn[1]


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [(0.0312, -0.5, 1.25, "+.031 [\N{MINUS SIGN}.500, +1.250]"), (-0.0004, 0.0, 0.00049, ".000 [.000, .000]")],
)
def test_numbers_have_a_sign_unless_they_are_rounded_to_nothing(value, low, high, text):
    found = SimpleNamespace(value=value, low=low, high=high)
    assert numbers(SimpleNamespace(difference=found)) == text


def test_it_is_readable_on_a_page(drawn):
    made = drawn[0]
    assert made.get_figwidth() in (FULL, COLUMN)
    sizes = [text.get_fontsize() for text in made.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(sizes) >= SMALL
    (axes,) = made.axes
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    page = made.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in boxes), "nothing is cut off"
    for i, box in enumerate(boxes):
        others = [other for j, other in enumerate(boxes) if j != i]
        assert not any(box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9)) for other in others), axes.texts[i]
    assert axes.get_window_extent().width > page.width / 4


def test_without_contrasts_there_is_no_figure(results, tmp_path, monkeypatch):
    for figures in ("draw_costs", "draw_scores", "draw_ensembles"):
        monkeypatch.setattr(f"bench.reporting.report.{figures}", lambda *_: {})
    made = write_report(results.path, QUICK)
    assert made.figures["contrasts"].png.is_file()
    assert 'id="contrasts"' in results.page.read_text()
    other = write_results(tmp_path / "out", {"a": ("cnn", 2.0, 0.9)}, seeds=(0,))
    other.report_file("contrasts.png").write_bytes(b"of an earlier report")
    assert "contrasts" not in write_report(other.path, QUICK).figures
    assert not other.report_file("contrasts.png").exists()


# --- how far training got


def note(results):
    notes = reading_notes(analyse(load_results(results.path), QUICK))
    return next((text for text in notes if "their last evaluation" in text), "")


def rewritten(results, change):
    """Write the records of runs anew, as `change` makes them of record and number."""
    for number, run in enumerate(results.finished()):
        record, scores = run.record(), run.scores(results.labels().targets.shape)
        run.write(record.model_copy(update=change(record, number)), run.history(), scores)


@pytest.mark.parametrize(("best", "expected"), [(2, "2 of 4"), (4, "4 of 4"), (0, "")])
def test_runs_that_were_still_getting_better_are_counted(tmp_path, best, expected):
    results = write_results(tmp_path / "out", {"a": ("cnn", 2.0, 0.9), "c": ("cnn", 1.0, 0.7)}, seeds=(0, 1))
    rewritten(results, lambda record, number: {"steps": 4 if number < best else 8})
    text = note(results)
    assert text[:6] == expected
    assert bool(text) == text[6:].startswith(
        " runs have their best val score at their last evaluation: they were still"
    )


def test_epochs_are_the_median_of_those_that_were_best_at_the_end(tmp_path):
    results = write_results(tmp_path / "out", {"a": ("cnn", 2.0, 0.9), "c": ("cnn", 1.0, 0.7)}, seeds=(0, 1))
    epochs, steps = (1.5, 2.5, 3.51, 90.0), (4, 4, 4, 8)
    rewritten(results, lambda record, i: {"steps": steps[i], "cost": record.cost | {"epochs": epochs[i]}})
    begins = "3 of 4 runs have their best val score at their last evaluation"
    assert note(results).startswith(f"{begins} (after 2.5 epochs at the median): they")
    # of an older record it is not known
    rewritten(results, lambda record, i: {"cost": {k: v for k, v in record.cost.items() if k != "epochs" or i}})
    assert note(results).startswith(f"{begins}: they")


@pytest.mark.parametrize("changed", ["a single evaluation", "scored otherwise"])
def test_of_what_shows_nothing_nothing_is_said(tmp_path, changed):
    results = write_results(tmp_path / "out", {"a": ("cnn", 2.0, 0.9)}, seeds=(0,))
    assert note(results)
    (run,) = results.finished()
    record, history, scores = run.record(), run.history(), run.scores(results.labels().targets.shape)
    once = {"recipe": record.spec.recipe.model_copy(update={"evaluations": 1})}
    # the training is another run's
    spec = record.spec.model_copy(update=once if changed == "a single evaluation" else {"rescores": "01234567"})
    renamed = RunFolder(run.path.rename(results.path / spec.folder))
    renamed.write(record.model_copy(update={"spec": spec, "hash": spec.hash}), history, scores)
    assert note(results) == ""
