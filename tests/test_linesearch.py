"""Backtracking: which step is taken, and when none is."""

import math
from types import SimpleNamespace

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subsampled_newton.linesearch import armijo


class Line:
    """A function of t as a line search sees it, with the steps that were tried."""

    def __init__(self, f, gradient_norm=lambda t: math.inf):
        self.f, self.gradient_norm = f, gradient_norm
        self.tried = []

    def __call__(self, t):
        self.tried.append(t)
        return Trial(t, self.f(t), self.gradient_norm)


class Trial:
    """A trial that computes its gradient when asked for it."""

    def __init__(self, t, value, gradient_norm):
        self.t, self.value, self.gradient_norm = t, value, gradient_norm

    @property
    def point(self):
        return SimpleNamespace(gradient=np.array([self.gradient_norm(self.t)]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    curvature=st.floats(0.01, 1e4),
    wave=st.floats(-2.0, 2.0),
    c1=st.sampled_from([1e-4, 0.1, 0.5]),
    shrink=st.sampled_from([0.5, 0.9, 0.1]),
)
def test_takes_the_largest_step_of_the_grid_that_is_good(curvature, wave, c1, shrink):
    def f(t):
        return 3.0 - t + 0.5 * curvature * t * t + wave * t * math.sin(9.0 * t)

    line = Line(f)
    found = armijo(line, 3.0, -1.0, c1=c1, shrink=shrink, max_backtracks=12)
    expected = naive.armijo(f, 3.0, -1.0, c1, shrink, 12)
    if expected is None:
        assert found.trial is None
    else:
        assert found.step_size == pytest.approx(expected, rel=1e-12)
        assert found.trial.t == found.step_size
    assert found.n_trials == len(line.tried)


def test_tries_steps_in_order_and_stops_at_the_first_good_one():
    line = Line(lambda t: -t if t <= 0.25 else 1.0)
    found = armijo(line, 0.0, -1.0)
    assert line.tried == [1.0, 0.5, 0.25]
    assert found.n_trials == 3


def test_equality_is_sufficient_decrease():
    found = armijo(Line(lambda t: -0.25 * t), 0.0, -1.0, c1=0.25)
    assert found.step_size == 1.0


def test_decrease_just_short_of_the_condition_is_refused():
    short = math.nextafter(-0.25, 0.0)
    found = armijo(Line(lambda t: short if t == 1.0 else -1.0), 0.0, -1.0, c1=0.25)
    assert found.step_size == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_is_refused(bad):
    line = Line(lambda t: bad if t > 0.3 else -t)
    assert armijo(line, 0.0, -1.0).step_size == 0.25


def test_step_with_rounding_change_is_taken_if_the_gradient_shrinks():
    line = Line(lambda t: 1.0 + 4e-16, gradient_norm=lambda t: 0.5)
    found = armijo(line, 1.0, -1e-14, gradient_norm=1.0)
    assert found.step_size == 1.0


def test_step_with_rounding_change_is_refused_if_the_gradient_does_not_shrink():
    line = Line(lambda t: 1.0 + 4e-16, gradient_norm=lambda t: 1.0)
    found = armijo(line, 1.0, -1e-14, gradient_norm=1.0, max_backtracks=5)
    assert found.trial is None


def test_smaller_gradient_does_not_excuse_a_visible_increase():
    line = Line(lambda t: 1.0 + 1e-13, gradient_norm=lambda t: 0.0)
    found = armijo(line, 1.0, -1e-14, gradient_norm=1.0, max_backtracks=5)
    assert found.trial is None


def test_rounding_is_measured_relative_to_the_value():
    line = Line(lambda t: 1e6 + 1e-10, gradient_norm=lambda t: 0.5)
    assert armijo(line, 1e6, -1e-14, gradient_norm=1.0).step_size == 1.0


def test_gives_up_after_the_allowed_backtracks():
    line = Line(lambda t: 1.0)
    found = armijo(line, 0.0, -1.0, max_backtracks=4)
    assert found == (None, 0.0, 5)
    assert line.tried == [1.0, 0.5, 0.25, 0.125, 0.0625]


def test_gradient_is_not_asked_for_where_the_decrease_is_visible():
    def no_gradient(t):
        raise AssertionError("a gradient costs a read of the data")

    line = Line(lambda t: 1.0 if t > 0.3 else -t, gradient_norm=no_gradient)
    assert armijo(line, 0.0, -1.0, gradient_norm=1.0).step_size == 0.25
