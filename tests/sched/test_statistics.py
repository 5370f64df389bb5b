"""Durations are counted by powers of two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.sched.statistics import Histogram


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, 0), (0.9e-6, 0), (1e-6, 1), (3e-6, 2), (1.0, 20), (1e12, 39)]
)
def test_a_duration_is_counted_in_its_bucket(seconds, bucket):
    histogram = Histogram()
    histogram.add(seconds)
    counts = histogram.snapshot().counts
    assert counts == (0,) * bucket + (1,)


@given(st.lists(st.floats(0, 1e5), min_size=1), st.floats(0.01, 1))
def test_a_quantile_bounds_that_fraction(durations, fraction):
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    snapshot = histogram.snapshot()
    assert snapshot.count == len(durations)
    assert snapshot.mean == pytest.approx(sum(durations) / len(durations))
    bound = snapshot.quantile(fraction)
    assert sum(seconds < bound for seconds in durations) >= fraction * len(durations) - 1e-6


def test_an_empty_histogram_has_no_mean_and_no_quantile():
    snapshot = Histogram().snapshot()
    assert (snapshot.count, snapshot.mean, snapshot.quantile(0.5)) == (0, 0.0, 0.0)
