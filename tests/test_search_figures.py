"""The figures of a search: families by colour, both widths, and no importance that few trials can't tell."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from bench.reporting.figures import search as figures
from bench.reporting.figures.style import COLUMN, FAMILIES, FULL, SMALL
from bench.store import ResultsFolder
from bench.store.search_record import FOR_IMPORTANCE

SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "batch_size": {"choices": [16, 32]},
    "drop_rate": {"low": 0.0, "high": 0.5},
}
TWO = {"vgg_like": "cnn", "transformer_small": "transformer"}
EIGHT = {f"net_{n}": "cnn" for n in range(4)} | {f"former_{n}": "transformer" for n in range(4)}


def write_search(folder, families, trials):
    """A record as searches leave it: the last trial of each entry failed, that before it was pruned."""
    rng, lines, every, entries = np.random.default_rng(0), [], [], []
    for name, family in families.items():
        for number in range(trials):
            state = {trials - 1: "failed", trials - 2: "pruned"}.get(number, "complete")
            score = float(rng.uniform(0.1, 0.4))
            params = {"learning_rate": 10 ** rng.uniform(-5, -2), "batch_size": 16, "drop_rate": rng.uniform(0, 0.5)}
            value = score if state == "complete" else None
            line = {"entry": name, "trial": number, "state": state, "val_score": value, "default": number == 0}
            seen = {"best_seen": None if state == "failed" else score, "spent_seconds": 60.0 * (number + 1)}
            lines.append(line | seen | params)
            trial = {"spec": {"name": name}, "family": family, "val_score": value, "cost": {"seconds": 60.0}}
            every.append(trial if family else {key: each for key, each in trial.items() if key != "family"})
        counts = {"finished": trials, "pruned": 1, "failed": 1, "seconds": 60.0 * trials}
        shares = {"importance": {"learning_rate": 0.7, "drop_rate": 0.3}}
        entries.append({"entry": name, **counts, "default": None, "best": None, **shares})
    record = {"title": "toy", "task": "tagging", "budget": f"{trials} trials", "space": SPACE, "entries": entries}
    results = ResultsFolder(folder)
    results.write_search(record, pd.DataFrame(lines), every)
    return results


@pytest.fixture
def drawn(monkeypatch):
    """Return the figures of a results folder, each as a function of the width, and captions, instead of files."""

    def draw(results):
        found = {}

        def keep(each, _, *given, **words):
            found.update({name: (partial(make, *given), text.format(**words)) for name, (make, text) in each.items()})
            return {}

        monkeypatch.setattr(figures, "draw", keep)
        figures.draw_search(results)
        return found

    yield draw
    plt.close("all")


@pytest.mark.parametrize("families", [TWO, EIGHT], ids=["two", "eight"])
def test_all_is_readable_at_both_widths(tmp_path, drawn, families):
    found = drawn(write_search(tmp_path, families, 6))
    for name in ("best_so_far", "search_history", "search_slices"):
        for width in (FULL, COLUMN):
            made = found[name][0](width=width)
            made.draw_without_rendering()
            assert (made.get_figwidth(), made.get_figheight() < 9) == (width, True)
            texts = [text for text in made.findobj(Text) if text.get_text() and text.get_visible()]
            assert min(text.get_fontsize() for text in texts) >= SMALL
            boxes = [text.get_window_extent() for axes in made.axes for text in axes.texts]
            assert all(made.bbox.x0 <= box.x0 and box.x1 <= made.bbox.x1 for box in boxes), "nothing is cut off"
            assert not made._suptitle, "the caption says it"


def test_many_entries_have_panels_of_their_family(tmp_path, drawn):
    made = drawn(write_search(tmp_path, EIGHT, 6))["best_so_far"][0]()
    titles = [axes.get_title("left") for axes in made.axes]
    assert titles == ["convolutional networks", "", "transformers", ""], "trials and hours"
    named = [{text.get_text() for text in axes.texts} & EIGHT.keys() for axes in made.axes]
    assert [len(names) for names in named] == [0, 4, 0, 4], "named once, at the ends of the lines"
    colours = [{line.get_color() for line in axes.lines} for axes in made.axes]
    assert colours == [{FAMILIES["cnn"]}, {FAMILIES["cnn"]}, {FAMILIES["transformer"]}, {FAMILIES["transformer"]}]


def test_records_without_families_are_drawn(tmp_path, drawn):
    made = drawn(write_search(tmp_path, dict.fromkeys(TWO, ""), 6))
    looks = [(line.get_color(), line.get_marker()) for line in made["best_so_far"][0]().axes[0].lines]
    assert len(set(looks)) == 2
    assert "are blue" not in made["search_history"][1]


@pytest.mark.parametrize("complete", [FOR_IMPORTANCE - 1, FOR_IMPORTANCE])
def test_few_trials_have_no_importance_though_an_older_record_gives_one(tmp_path, drawn, complete):
    found = drawn(write_search(tmp_path, TWO, complete + 2))["search_importance"]
    for width in (FULL, COLUMN):
        made = found[0](width=width)
        assert bool(made) == (complete == FOR_IMPORTANCE)
    if made:
        (axes,) = made.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["learning rate", "drop rate"]
        assert [list(line.get_xdata()) for line in axes.lines] == 2 * [[0.7, 0.3]]
        assert not any(text.get_text().startswith("0.") for text in made.findobj(Text)), "no digits that nobody knows"
    assert f"{FOR_IMPORTANCE} complete trials or more" in found[1]


def test_captions_say_what_they_rest_on(tmp_path, drawn):
    for _, caption in drawn(write_search(tmp_path, TWO, 6)).values():
        assert caption.endswith("12 trials of 2 entries, 6 trials each.")
        assert "Convolutional networks are blue, transformers are vermilion." in caption
