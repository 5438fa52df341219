"""Backtracking and strong Wolfe: which step is taken, and when none is."""

import math
from types import SimpleNamespace

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subsampled_newton.linesearch import armijo, strong_wolfe


class Line:
    """A function of t as a line search sees it, with the steps that were tried."""

    def __init__(self, f, df=None, gradient_norm=lambda t: math.inf):
        self.f, self.df, self.gradient_norm = f, df, gradient_norm
        self.tried = []

    def __call__(self, t):
        self.tried.append(t)
        return Trial(t, self.f(t), self.gradient_norm)

    def slope(self, trial):
        return self.df(trial.t)


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
    slope=st.sampled_from([-1.0, -30.0, -0.02]),
    c1=st.sampled_from([1e-4, 0.1, 0.5]),
    shrink=st.sampled_from([0.5, 0.9, 0.1]),
)
def test_takes_the_largest_step_of_the_grid_that_is_good(
    curvature, wave, slope, c1, shrink
):
    def f(t):
        return 3.0 + slope * t + 0.5 * curvature * t * t + wave * t * math.sin(9.0 * t)

    line = Line(f)
    found = armijo(line, 3.0, slope, c1=c1, shrink=shrink, max_backtracks=12)
    expected = naive.armijo(f, 3.0, slope, c1, shrink, 12)
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


def test_value_of_zero_that_does_not_change_is_rounding():
    line = Line(lambda t: 0.0, gradient_norm=lambda t: 0.5)
    assert armijo(line, 0.0, -1.0, gradient_norm=1.0).step_size == 1.0


def test_gives_up_after_thirty_backtracks_or_forty_trials():
    assert armijo(Line(lambda t: 1.0), 0.0, -1.0).n_trials == 31
    nowhere = Line(lambda t: math.inf)
    assert strong_wolfe(nowhere, 0.0, -1.0) == (None, 0.0, 40)


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


def test_armijo_starts_where_it_is_told_and_measures_from_the_reference():
    line = Line(lambda t: 2.0 if t <= 8.0 else 4.0)
    found = armijo(line, 1.0, -1.0, initial=16.0, reference=3.0)
    assert line.tried == [16.0, 8.0]
    assert found.step_size == 8.0
    assert armijo(Line(lambda t: 2.0), 1.0, -1.0, max_backtracks=5).trial is None


# Strong Wolfe conditions.


def _yanai(b1, b2):
    def g(b):
        return math.sqrt(1 + b * b) - b

    def f(t):
        return g(b1) * math.hypot(1 - t, b2) + g(b2) * math.hypot(t, b1)

    def df(t):
        left = g(b1) * (t - 1) / math.hypot(1 - t, b2)
        return left + g(b2) * t / math.hypot(t, b1)

    return f, df


def _wavy(b=0.01, waves=39):
    def f(t):
        u = abs(t - 1)
        base = u**2 / (2 * b) + b / 2 if u < b else u
        return base + 2 * (1 - b) / (waves * math.pi) * math.sin(
            waves * math.pi / 2 * t
        )

    def df(t):
        base = (t - 1) / b if abs(t - 1) < b else math.copysign(1, t - 1)
        return base + (1 - b) * math.cos(waves * math.pi / 2 * t)

    return f, df


# The six functions of Moré and Thuente (1994), section 5, with their tolerances.
MORE_THUENTE = [
    (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2, 1e-3, 0.1),
    (
        lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
        lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3,
        0.1,
        0.100001,
    ),
    (*_wavy(), 0.1, 0.100001),
    (*_yanai(0.001, 0.001), 1e-3, 0.001001),
    (*_yanai(0.01, 0.001), 1e-3, 0.001001),
    (*_yanai(0.001, 0.01), 1e-3, 0.001001),
]


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("initial", [1e-3, 1e-1, 1.0, 1e1, 1e3])
def test_strong_wolfe_conditions_hold_on_hard_functions(case, initial):
    f, df, c1, c2 = MORE_THUENTE[case]
    line = Line(f, df)
    found = strong_wolfe(line, f(0), df(0), initial=initial, c1=c1, c2=c2)
    t = found.step_size
    assert found.trial.t == t
    assert f(t) <= f(0) + c1 * t * df(0)
    assert abs(df(t)) <= c2 * abs(df(0))
    assert found.n_trials == len(line.tried) <= 16
    assert line.tried[0] == initial


def test_strong_wolfe_takes_a_good_first_step_and_tries_no_other():
    line = Line(lambda t: (t - 1) ** 2, lambda t: 2 * (t - 1))
    assert strong_wolfe(line, 1.0, -2.0).step_size == 1.0
    assert line.tried == [1.0]


def test_strong_wolfe_finds_the_minimizer_of_a_quadratic_at_the_second_trial():
    for minimum in (0.3, 1.7, 8.0):
        line = Line(lambda t, m=minimum: (t - m) ** 2, lambda t, m=minimum: 2 * (t - m))
        found = strong_wolfe(line, minimum**2, -2 * minimum, c2=0.1)
        assert found.step_size == pytest.approx(minimum, rel=1e-12)
        assert found.n_trials == 2


def test_strong_wolfe_does_not_go_on_behind_a_hill():
    """At 10 the line is above the value at 1 and descends, to minus infinity."""

    def hill(t):
        return 1 / (1 + math.exp(-2.0 * (t - 5.0)))

    def f(t):
        return 9.5 * hill(t) - t

    def df(t):
        return 19.0 * hill(t) * (1 - hill(t)) - 1.0

    line = Line(f, df)
    found = strong_wolfe(line, f(0), df(0), c2=0.5)
    assert line.tried[1] == pytest.approx(10.0)
    assert 1.0 < found.step_size < 5.0
    assert abs(df(found.step_size)) <= 0.5
    assert f(found.step_size) < f(1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_strong_wolfe_retreats_from_values_that_are_not_finite(bad):
    line = Line(
        lambda t: (t - 1) ** 2 if t < 1.5 else bad,
        lambda t: 2 * (t - 1) if t < 1.5 else bad,
    )
    found = strong_wolfe(line, 1.0, -2.0, initial=1000.0, c2=0.1)
    assert found.step_size < 1.5
    assert abs(found.step_size - 1) <= 0.1


def test_strong_wolfe_returns_the_lowest_step_where_a_kink_has_no_flat_one():
    line = Line(lambda t: abs(t - 1.0), lambda t: -1.0 if t < 1.0 else 1.0)
    found = strong_wolfe(line, 1.0, -1.0, initial=0.1, c2=0.5)
    assert abs(found.step_size - 1.0) < 1e-6


def test_strong_wolfe_gives_up_where_nothing_decreases():
    line = Line(lambda t: 1.0 + t, lambda t: 1.0)
    assert strong_wolfe(line, 1.0, -1.0, max_trials=7) == (None, 0.0, 7)


def test_strong_wolfe_decides_by_slopes_where_values_are_rounding():
    noise = iter([3e-16, 2e-16, 4e-16, 0.0, 2e-16])
    line = Line(lambda t: 1.0 + next(noise), lambda t: 1e-12 * (t - 3.0))
    found = strong_wolfe(line, 1.0, -3e-12, c2=0.1)
    assert abs(found.step_size - 3.0) <= 0.3


def parabola(minimum):
    return lambda t: (t - minimum) ** 2, lambda t: 2 * (t - minimum)


def wolfe_trials(f, df, **options):
    """The steps that were tried, and what came out."""
    line = Line(f, df)
    found = strong_wolfe(line, f(0.0), df(0.0), **options)
    assert found.n_trials == len(line.tried)
    return line.tried, found


def test_equality_meets_both_wolfe_conditions():
    for steep in (-0.5, 0.5):
        line = Line(lambda t: -0.25 * t, lambda t, s=steep: s if t else -1.0)
        found = strong_wolfe(line, 0.0, -1.0, c1=0.25, c2=0.5)
        assert found.step_size == 1.0
        assert found.n_trials == 1


@pytest.mark.parametrize(
    ("value", "steep", "good"),
    [
        (-1.1e-4, 0.0, True),
        (-0.9e-4, 0.0, False),
        (-0.5, 0.89, True),
        (-0.5, -0.89, True),
        (-0.5, 0.91, False),
        (-0.5, -0.91, False),
    ],
)
def test_wolfe_conditions_by_default_are_those_for_quasi_newton(value, steep, good):
    line = Line(
        lambda t: value if t == 1.0 else -0.3, lambda t: steep if t == 1.0 else 0.0
    )
    assert (strong_wolfe(line, 0.0, -1.0).n_trials == 1) == good


def test_descent_without_end_is_followed_ten_times_as_far_and_the_last_step_taken():
    # The values sit on the line of sufficient decrease; the slope is never flat.
    tried, found = wolfe_trials(
        lambda t: -0.125 * t, lambda t: -0.5, c1=0.25, max_trials=3
    )
    assert tried == [1.0, 10.0, 91.0]
    assert found.step_size == 91.0
    assert found.trial.t == 91.0


def test_decrease_that_rounding_excuses_is_not_returned_without_a_flat_slope():
    # Asked for is 1e-15; the search goes on from there, but that is no result.
    line = Line(lambda t: math.nextafter(1.0, 0.0), lambda t: -1e-12)
    found = strong_wolfe(line, 1.0, -1e-12, initial=10.0, max_trials=1)
    assert found == (None, 0.0, 1)


def test_extrapolation_is_kept_between_a_tenth_and_nine_times_the_last_step():
    assert wolfe_trials(*parabola(1e3), initial=2.0)[0][1] == 20.0
    tried, _ = wolfe_trials(*parabola(2.05), initial=2.0, c2=0.01)
    assert tried[1] == pytest.approx(2.2)


def test_interpolation_keeps_a_tenth_of_the_bracket_from_its_ends():
    tried, _ = wolfe_trials(*parabola(0.95), c2=0.01)
    assert tried[1] == pytest.approx(0.9)  # 0.95 is too close to the better end
    tried, _ = wolfe_trials(
        lambda t: -t + t * t / 1.9, lambda t: -1.0 + t / 0.95, c1=0.5, c2=0.6
    )
    assert tried[1] == pytest.approx(0.9)  # and here to the worse one


def test_bracket_without_a_value_at_its_end_is_halved():
    tried, found = wolfe_trials(
        lambda t: -t if t < 0.3 else math.inf, lambda t: -1.0 if t < 0.2 else 0.0
    )
    assert tried == [1.0, 0.5, 0.25]
    assert found.step_size == 0.25


def test_secant_of_the_slopes_is_used_where_values_do_not_change():
    line = Line(lambda t: 0.0, lambda t: 4.0 * t - 1.0)
    strong_wolfe(line, 0.0, -1.0, max_trials=2)
    assert line.tried == [1.0, 0.25]
    # Also from an end that is not 0, and with the farthest step ten times as far.
    tried, _ = wolfe_trials(lambda t: 1.0, lambda t: 1e-14 * (t - 30.0), c2=0.1)
    assert tried == pytest.approx([1.0, 10.0, 30.0])
    # Slopes that do not change either have no secant.
    tried, _ = wolfe_trials(lambda t: 1.0, lambda t: -1e-14, max_trials=3)
    assert tried == [1.0, 10.0, 91.0]


def test_search_ends_where_no_number_is_left_in_the_bracket():
    tried, found = wolfe_trials(
        lambda t: abs(t - 1.0),
        lambda t: -1.0 if t < 1.0 else 1.0,
        initial=0.1,
        c2=0.5,
        max_trials=1000,
    )
    assert len(tried) < 200
    assert abs(found.step_size - 1.0) < 1e-15
