"""What would have been found with less, from the trials on record alone."""

import re

import numpy as np
import pytest

from bench.protocol.task import get_task
from bench.reporting.budgets import ORDERS, simulate_budgets
from bench.reporting.figures.search import _who_leads

METRIC = get_task("tagging").primary


def trial(entry, score, seconds=3600.0, **more):
    return {"spec": {"name": entry}, "val_score": score, "cost": {"seconds": seconds}, **more}


def curves(trials, entry, measure):
    table = simulate_budgets(trials, METRIC)
    return table[(table["entry"] == entry) & (table["measure"] == measure)].set_index("spent")


def test_after_n_trials_it_is_the_mean_over_orders():
    trials = [trial("a", score) for score in (0.1, 0.2, 0.3, 0.4)]
    found = curves(trials, "a", "trials")
    # the mean of the highest of n of four, without replacement
    exact = {1: 0.25, 2: 10 / 30, 3: 0.375, 4: 0.4}
    assert found.index.tolist() == [1, 2, 3, 4]
    for count, mean in exact.items():
        assert found["mean"][count] == pytest.approx(mean, abs=4 * 0.12 / np.sqrt(ORDERS))
    assert (found["low"][1], found["high"][1]) == (0.1, 0.4)
    assert (found["low"][4], found["mean"][4], found["high"][4]) == (0.4, pytest.approx(0.4), 0.4)
    assert simulate_budgets(trials, METRIC).equals(simulate_budgets(trials, METRIC)), "of one seed"


def test_pruned_and_failed_trials_take_their_place_and_their_time():
    trials = [trial("a", 0.5, 3600), trial("a", None, 7200), trial("a", None, 0)]
    by_trials, by_hours = curves(trials, "a", "trials"), curves(trials, "a", "hours")
    # led only in the orders that had begun with the one that has a score
    assert by_trials["leads"][1] == pytest.approx(1 / 3, abs=0.1)
    assert by_trials["leads"][3] == 1
    assert by_hours.index[-1] == pytest.approx(3)
    assert by_hours["leads"].iloc[-1] == 1
    # it takes an hour, and comes first of those that take time in half of the orders
    assert by_hours["leads"][by_hours.index < 0.98].max() == 0
    assert by_hours["leads"][(by_hours.index > 1.01) & (by_hours.index < 2.98)].unique() == pytest.approx(0.5, abs=0.1)


def test_more_trials_in_the_same_hours_are_seen():
    """The one is better trial by trial, the other one has four in the time of one."""
    scores = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    trials = [trial("slow", score + 0.02, 3600) for score in scores] + [trial("quick", score, 900) for score in scores]
    table = simulate_budgets(trials, METRIC)
    at = table[(table["measure"] == "trials") & (table["spent"] == 8)].set_index("entry")
    assert (at["leads"]["slow"], at["leads"]["quick"]) == (1, 0)
    hours = table[table["measure"] == "hours"]
    assert hours["spent"].max() == pytest.approx(2), "as far as all searches went"
    at = hours[hours["spent"] == hours["spent"].max()].set_index("entry")
    assert at["mean"]["quick"] > at["mean"]["slow"]
    assert at["leads"]["quick"] > 0.7


def test_of_equal_ones_none_leads_by_its_place_in_the_suite():
    trials = [trial(name, score) for name in ("a", "b") for score in (0.5, 0.5)] + [trial("c", 0.4), trial("c", 0.4)]
    table = simulate_budgets(trials, METRIC)
    at = table[table["spent"] == table["spent"].max()].set_index("entry")["leads"]
    assert at.to_dict() == {"a": 0.5, "b": 0.5, "c": 0}


def test_trainings_that_chose_among_finalists_are_no_part_of_it():
    trials = [trial("a", 0.1), trial("a", 0.2), trial("a", 0.9, retrains=1)]
    assert curves(trials, "a", "trials")["high"].max() == 0.2


@pytest.mark.parametrize("trials", [[], [trial("a", None), trial("a", None)]])
def test_where_nothing_has_a_score_there_is_nothing_to_show(trials):
    assert simulate_budgets(trials, METRIC).empty
    assert _who_leads(simulate_budgets(trials, METRIC)) == ""


def test_the_caption_says_who_leads_after_half_of_it():
    trials = [trial("a", score) for score in (0.1, 0.3, 0.1, 0.1)] + [trial("b", 0.2) for _ in range(4)]
    text = _who_leads(simulate_budgets(trials, METRIC))
    # a's one good trial is among two of four in half of the orders
    assert text.startswith(f" Leading, in {ORDERS} random orders of the trials: after 2 trials ")
    assert "; after 2 hours " in text
    first, second = map(int, re.search(r"2 trials [ab] in (\d+)%, [ab] in (\d+)%;", text).groups())
    assert first + second == 100
    assert 40 < second <= first < 60
