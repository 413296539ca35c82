"""Windows over a series, against the plain loops that they stand for."""

import math

import numpy as np
import pytest

from regard.review.signs.critic import first_jump
from regard.review.statistics import Floats, Reading, growth_in_a_step, windows_before


def series(seed: int) -> Floats:
    random = np.random.default_rng(seed)
    points = int(random.integers(1, 60))
    values = np.exp(random.normal(0, random.choice([0.1, 0.5, 1.5]), points))
    values[points // 2 :] *= random.choice([1, 4, 20])
    return values


def test_windows_hold_what_came_before_and_nothing_else():
    windows = windows_before(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    np.testing.assert_array_equal(windows, [[math.nan, math.nan], [math.nan, 1], [1, 2], [2, 3]])


@pytest.mark.parametrize("seed", range(40))
def test_growth_is_that_of_a_plain_loop(seed: int):
    values = series(seed)
    largest, smallest = growth_in_a_step(values, 8, 4)
    for place in range(len(values)):
        if 4 <= place <= len(values) - 4:
            assert largest[place] == values[max(0, place - 8) : place].max()
            assert smallest[place] == values[place : place + 4].min()
        else:
            assert np.isnan(largest[place])
            assert np.isnan(smallest[place])


@pytest.mark.parametrize("seed", range(40))
def test_the_first_jump_is_that_of_a_plain_loop(seed: int):
    values = series(seed)

    def jumps(place: int) -> bool:
        before = values[max(0, place - 20) : place]
        median = np.median(before)
        return bool(values[place] > max(0.5, median + 8 * np.median(np.abs(before - median)), 3 * median))

    expected = next((place for place in range(6, len(values)) if jumps(place)), None)
    assert first_jump(Reading("loss", np.arange(len(values)), values), least=0.5) == expected
