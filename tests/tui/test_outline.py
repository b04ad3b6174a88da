"""The outline of a curve: few points, all spikes, and no point looked at twice."""

import math

import pytest

from labbench.tui.widgets.outline import MOST, Outline, ends


def wave(count):
    return [(float(n), math.sin(n / 700)) for n in range(count)]


def test_a_short_curve_is_itself():
    points = wave(MOST)
    assert Outline(points).drawn() is points


@pytest.mark.parametrize("count", [MOST + 1, 2 * MOST + 1, 10_000, 100_003])
def test_a_long_curve_is_told_by_few_points_with_all_its_spikes(count):
    points = wave(count)
    spikes = [(float(n), 9.0 + n) for n in (count // 3, count // 2, count - 1)]
    for spike in spikes:
        points[int(spike[0])] = spike
    points[77] = (77.0, None)
    points[99] = (99.0, -5.0)
    drawn = Outline(points).drawn()
    assert len(drawn) <= 3 * MOST
    assert set(spikes) | {(77.0, None), (99.0, -5.0)} <= set(drawn)
    assert list(drawn) == sorted(drawn, key=lambda point: point[0])
    assert set(drawn) <= set(points)


def test_a_curve_that_grows_has_the_outline_of_the_grown_one():
    points = wave(3_000)
    outline = Outline(points)
    for number in range(3_000, 20_000, 7):
        points.extend((float(n), math.sin(n / 700) + (n % 997 == 0)) for n in range(number, number + 7))
        outline.drawn()
    assert outline.drawn() == Outline(points).drawn()


def test_no_point_is_looked_at_twice():
    class Counted(list):
        looks = 0

        def __getitem__(self, number):
            Counted.looks += 1
            return super().__getitem__(number)

    outline = Outline(Counted(wave(5_000)))
    for _ in range(3):
        outline.drawn()
    assert Counted.looks == 5_000


def test_of_a_part_the_ends_stay_in_their_order():
    assert ends([(0.0, 3.0), (1.0, 5.0), (2.0, 1.0), (3.0, math.inf)]) == ((1.0, 5.0), (2.0, 1.0), (3.0, math.inf))
    assert ends([(0.0, None), (1.0, None)]) == ((0.0, None),)
    assert ends([(0.0, 2.0), (1.0, 2.0)]) == ((0.0, 2.0), (1.0, 2.0))
