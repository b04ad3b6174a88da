"""Mean and spread over seeds, by hand."""

import math

import pytest
from session_examples import LOAD, snapshot

from labbench.session.compare import band
from labbench.session.operations import Note
from labbench.session.spread import Spread, gathered, spread_of, tolerance_of


def test_the_spread_is_that_of_a_sample() -> None:
    found = spread_of([0.90, 0.92, 0.97])
    assert found and found.n == 3
    assert found.mean == pytest.approx(0.93)
    assert found.sd == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))
    assert spread_of([]) is None
    assert spread_of([0.9]) == Spread(n=1, mean=0.9)


def test_steps_are_gathered_as_far_as_each_seed_came_and_one_value_is_no_tolerance() -> None:
    runs = {
        0: {1: snapshot(validation=0.9), 2: None, 3: snapshot(validation=0.8, test=0.7)},
        4: {1: snapshot(validation=0.94), 2: None},
    }
    steps = gathered({1: LOAD, 2: Note(text="n"), 3: LOAD}, runs)
    assert steps[0].values["validation"] == {0: 0.9, 4: 0.94}
    assert steps[1].values == {}
    assert steps[2].values["test"] == {0: 0.7}
    assert tolerance_of(steps) == {1: {"validation": spread_of([0.9, 0.94])}}


def test_two_runs_may_be_further_apart_than_one_is_from_the_mean() -> None:
    wide = Spread(n=5, mean=0.9, sd=0.02)
    assert wide.tolerance == pytest.approx(2 * math.sqrt(2) * 0.02)
    accuracy = snapshot(validation=0.9).accuracy["validation"]
    assert band(accuracy, wide) == wide.tolerance > band(accuracy)
    assert band(accuracy, Spread(n=5, mean=0.9, sd=0.0)) == band(accuracy)
