"""Curves: what cannot be drawn is named, spikes stay, and nothing that a run can say breaks the picture."""

import math

import pytest
from rich.style import Style
from sample import lenet_rows

from labbench.tui.widgets.histogram import histogram
from labbench.tui.widgets.plot import Series, drawable, plot, runs, steps, thin

PLAIN = Style()


def series(*values, marker=""):
    return Series("train", [(float(n), value) for n, value in enumerate(values)], marker, PLAIN)


def test_thinning_keeps_every_spike():
    points = [(float(n), 1.0) for n in range(10_000)]
    points[4321] = (4321.0, 99.0)
    kept = thin(points, 60)
    assert len(kept) <= 122
    assert (4321.0, 99.0) in kept
    assert kept == sorted(kept)


def test_values_that_are_not_finite_are_told_by_their_place():
    points, lost = drawable(series(1.0, None, math.inf, math.nan, 0.0), log=False)
    assert points == [(0.0, 1.0), (4.0, 0.0)]
    assert lost == [1.0, 2.0, 3.0]
    assert drawable(series(1.0, 0.0), log=True)[1] == [1.0]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values",
    [(1.0,), (1.0, 1.0), (0.0, 0.0), (1e-12, 1e12), (-1.0, 1.0), (None, math.inf), (), (5.0, None, 0.1), (1e300, 1.0)],
)
def test_any_values_give_a_picture_of_the_asked_size(values, log):
    text = plot([series(*values), series(*values, marker="○")], [0.0, 0.5], (50, 12), PLAIN, log)
    assert all(line.cell_len <= 50 for line in text.split())
    assert len(text.plain.splitlines()) <= 12


def test_the_second_curve_is_told_by_signs_not_by_color():
    text = plot([series(3.0, 2.0, 1.0), series(3.5, 2.5, 1.5, marker="○")], [], (50, 12), PLAIN)
    assert "○" in text.plain
    assert any(0x2800 < ord(letter) < 0x2900 for letter in text.plain)


@pytest.mark.parametrize(("low", "high", "most"), [(0, 1, 5), (0, 30, 4), (0.01, 0.013, 6), (97.1, 98.9, 4)])
def test_ticks_are_round_and_few(low, high, most):
    found = steps(low, high, most)
    assert 1 <= len(found) <= most + 1
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


@pytest.mark.parametrize("size", [(10, 4), (40, 12), (80, 20)])
def test_a_histogram_fits_and_counts_the_zeros(size):
    text = histogram(lenet_rows()[0], size, PLAIN)
    assert all(line.cell_len <= size[0] for line in text.split())
    assert len(text.plain.splitlines()) <= size[1]
    if size[0] >= 40:
        assert "0 zeros" in text.plain


def test_no_line_leads_from_one_run_to_the_next():
    points = [(0.5, 9.0), (1.0, 3.0), (2.0, 1.0), (2.5, 8.0), (3.0, 2.0)]
    assert runs(points, [0.0, 2.0]) == [([0.5, 1.0, 2.0], [9.0, 3.0, 1.0]), ([2.5, 3.0], [8.0, 2.0])]
    assert runs([], [0.0]) == []
