"""Losses: derivatives, digits in the tails, curvature bounds, errors of arguments."""

import copy
import functools
import math
import pickle

import mpmath
import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subsampled_newton import (
    LOGISTIC,
    POISSON,
    SDCA,
    SIGMOID_SQUARED,
    SQUARED,
    SQUARED_HINGE,
    TANH_SQUARED,
    LinearModel,
    PointwiseLoss,
    Status,
    SubsampledNewton,
    as_rows,
    check_derivatives,
    huber,
    link_squared,
    minimize,
    pseudo_huber,
    tukey,
)

EPS = np.finfo(np.float64).eps


def _sine(z):
    return math.sin(z)


def _cosine(z):
    return math.cos(z)


def _minus_sine(z):
    return -math.sin(z)


SINE = link_squared("sine squared", _sine, _cosine, _minus_sine, (-4.0, 2.25))
HUBER, PSEUDO_HUBER, TUKEY = huber(), pseudo_huber(), tukey()

# Targets at which each loss is examined.
TARGETS = {
    LOGISTIC: (-1.0, 1.0),
    SQUARED: (0.0, -2.5),
    SQUARED_HINGE: (-1.0, 1.0),
    SIGMOID_SQUARED: (0.0, 1.0, 0.3),
    TANH_SQUARED: (-1.0, 1.0, 0.3),
    SINE: (0.0, 0.3),
    HUBER: (0.0, 0.3),
    PSEUDO_HUBER: (0.0, 0.3),
    TUKEY: (0.0, 0.3),
    POISSON: (0.0, 3.0),
}
LOSSES = tuple(TARGETS)
CASES = [
    pytest.param(loss, y, id=f"{loss.name} y={y:g}")
    for loss, targets in TARGETS.items()
    for y in targets
]
any_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
any_case = pytest.mark.parametrize(("loss", "y"), CASES)


def compiled_values(f, z, y):
    """``f`` at many points, through a kernel."""
    z = np.array(z, dtype=np.float64)
    ones = np.ones(len(z))
    with np.errstate(all="ignore"):  # plain Python warns of overflow, kernels do not
        return as_rows(np.ones((1, 1))).pointwise(f, z, y * ones, ones)


def plain_values(f, z, y):
    with np.errstate(all="ignore"):
        return np.array([f(float(v), y) for v in z])


@any_case
@settings(max_examples=40, deadline=None, derandomize=True)
@given(z=st.floats(-30.0, 30.0))
def test_derivatives_equal_central_differences(loss, y, z):
    for f, df in ((loss.value, loss.d1), (loss.d1, loss.d2)):
        h = 1e-5
        if loss is TUKEY and abs(abs(z - y) - 4.685) < 2 * h:
            return  # d2 has a kink
        if loss is HUBER and abs(abs(z - y) - 1.345) < 2 * h:
            return  # d2 jumps
        if loss is SQUARED_HINGE and abs(y * z - 1.0) < 2 * h:
            return  # the same
        numeric = (f(z + h, y) - f(z - h, y)) / (2.0 * h)
        scale = max(1.0, abs(f(z, y)), abs(numeric))
        assert df(z, y) == pytest.approx(numeric, abs=1e-6 * scale)


@any_case
def test_functions_equal_the_textbook_forms(loss, y):
    z = np.linspace(-9.7, 9.9, 57)
    functions = (loss.value, loss.d1, loss.d2, loss.gauss_newton)
    for f, textbook in zip(functions, naive.LOSSES[loss.name], strict=True):
        expected = textbook(z, y)
        np.testing.assert_allclose(
            plain_values(f, z, y), expected, rtol=1e-9, atol=1e-12
        )


def _mp_sigmoid(t):
    return 1 / (1 + mpmath.exp(-t))


def _mp_huber(z, y):
    d, a = mpmath.mpf(1.345), abs(z - y)
    return a * a / 2 if a <= d else d * (a - d / 2)


def _mp_tukey(z, y):
    c = mpmath.mpf(4.685)
    u = min(abs(z - y) / c, mpmath.mpf(1))
    return c**2 / 6 * (1 - (1 - u * u) ** 3)


def _mp_pseudo_huber(z, y):
    d = mpmath.mpf(1.345)
    return d**2 * (mpmath.sqrt(1 + ((z - y) / d) ** 2) - 1)


EXACT = {
    LOGISTIC: lambda z, y: mpmath.log1p(mpmath.exp(-y * z)),
    SQUARED: lambda z, y: (z - y) ** 2 / 2,
    SQUARED_HINGE: lambda z, y: max(0, 1 - y * z) ** 2 / 2,
    SIGMOID_SQUARED: lambda z, y: (_mp_sigmoid(z) - y) ** 2,
    TANH_SQUARED: lambda z, y: (2 * _mp_sigmoid(2 * z) - 1 - y) ** 2,
    SINE: lambda z, y: (mpmath.sin(z) - y) ** 2,
    HUBER: _mp_huber,
    PSEUDO_HUBER: _mp_pseudo_huber,
    TUKEY: _mp_tukey,
    POISSON: lambda z, y: mpmath.exp(z) - y * z,
}
HARD_POINTS = [s * v for v in (0.0, 1e-8, 1.0, 30.0, 40.0, 700.0) for s in (-1.0, 1.0)]


DIGITS = 640  # 1 - tanh(700) has its first digit at place 608


@functools.cache
def exact_derivative(loss, order, z, y):
    """From the value, by differences with many digits: knows no other formula."""
    with mpmath.workdps(DIGITS):
        target = mpmath.mpf(y)
        return mpmath.diff(lambda t: EXACT[loss](t, target), mpmath.mpf(z), order)


@pytest.mark.parametrize("values", [compiled_values, plain_values])
@any_case
def test_all_digits_are_right_also_in_the_tails(loss, y, values):
    with mpmath.workdps(DIGITS):
        for order, f in enumerate((loss.value, loss.d1, loss.d2)):
            got = values(f, HARD_POINTS, y)
            for z, g in zip(HARD_POINTS, got, strict=True):
                if loss is SQUARED_HINGE and y * z == 1.0:
                    assert g == 0.0  # the kink: from the side of no loss
                    continue
                true = exact_derivative(loss, order, z, y)
                error = abs(mpmath.mpf(float(g)) - true)
                # A residual h - y carries the rounding of h: absolute digits there.
                floor = EPS if y == 0.3 and abs(z) < 2.0 else 1e-306
                floor = EPS if loss is SINE and abs(z) > 1e-7 else floor
                assert error <= 12 * EPS * abs(true) + floor, (order, z)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_logistic_curvature_does_not_vanish_in_the_tail(sign):
    # A sigmoid and 1 minus it give 0 from z = 37 on.
    for z in (40.0, 700.0):
        assert LOGISTIC.d2(sign * z, 1.0) == pytest.approx(
            math.exp(-z), rel=1e-14, abs=0
        )


def test_saturated_sigmoid_keeps_its_gradient():
    assert SIGMOID_SQUARED.d1(300.0, 1.0) == pytest.approx(
        -2.0 * math.exp(-600.0), rel=1e-14, abs=0
    )
    assert SIGMOID_SQUARED.d1(-300.0, 0.0) == pytest.approx(
        2.0 * math.exp(-600.0), rel=1e-14, abs=0
    )


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_target_next_to_the_end_of_its_range_keeps_the_digits_of_the_residual(side):
    # Of 1 + tanh(z) near 2**-20, and of the sigmoid at twice the argument.
    rest, z = 2.0**-20, side * 7.0
    with mpmath.workdps(60):
        r = float(2 * _mp_sigmoid(mpmath.mpf(-14)) - rest)
    y = side * (1.0 - rest)
    assert TANH_SQUARED.value(z, y) == pytest.approx(r * r, rel=1e-14, abs=0)
    unit = 0.5 * (1.0 + y)
    assert SIGMOID_SQUARED.value(2.0 * z, unit) == pytest.approx(
        r * r / 4, rel=1e-14, abs=0
    )


@pytest.mark.parametrize("values", [compiled_values, plain_values])
@any_case
def test_values_are_finite_far_away(loss, y, values):
    z = np.concatenate([np.linspace(-1e4, 1e4, 401), [-1e4, -745.5, -709.9, 0.0]])
    if loss is POISSON:
        z = z[z < 709.0]
    for f in (loss.value, loss.d1, loss.d2, loss.gauss_newton):
        assert np.all(np.isfinite(values(f, z, y)))


@pytest.mark.parametrize("values", [compiled_values, plain_values])
def test_poisson_overflows_to_inf(values):
    for f in (POISSON.value, POISSON.d1, POISSON.d2):
        assert np.all(values(f, [709.9, 1e4], 1.0) == math.inf)


@pytest.mark.parametrize("values", [compiled_values, plain_values])
@any_loss
def test_nan_stays_nan_in_value_and_slope(loss, values):
    y = TARGETS[loss][0]
    for f in (loss.value, loss.d1):
        assert np.isnan(values(f, [math.nan], y)).all()


GRID = np.concatenate([np.linspace(-12.0, 12.0, 4801), [-1e4, 1e4]])
ATTAINED = (
    *(LOGISTIC, SQUARED, SQUARED_HINGE, SIGMOID_SQUARED, TANH_SQUARED),
    *(SINE, HUBER, TUKEY),
)


@any_case
def test_curvature_stays_in_its_range(loss, y):
    d2 = compiled_values(loss.d2, GRID[np.abs(GRID) < 700.0], y)
    low, high = loss.d2_range
    assert low <= d2.min()
    assert d2.max() <= high


@pytest.mark.parametrize("loss", [*ATTAINED, PSEUDO_HUBER], ids=lambda loss: loss.name)
def test_bounds_of_the_curvature_are_attained(loss):
    targets = (-1.0, 1.0) if loss is SINE else TARGETS[loss]  # of those in [-1, 1]
    d2 = np.concatenate([compiled_values(loss.d2, GRID, y) for y in targets])
    low, high = loss.d2_range
    assert d2.max() == pytest.approx(high, rel=1e-3)
    assert d2.min() == pytest.approx(low, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "bounds"),
    [
        (LOGISTIC, (0.0, 0.25)),
        (SIGMOID_SQUARED, (-0.1203, 0.1541)),
        (TANH_SQUARED, (-1.9233, 2.4649)),
        (TUKEY, (-0.8, 1.0)),
    ],
)
def test_declared_bounds_are_the_published_ones(loss, bounds):
    assert loss.d2_range == pytest.approx(bounds, rel=1e-3)


def test_curvature_bound_is_the_larger_magnitude():
    assert TUKEY.curvature_bound == 1.0
    assert POISSON.curvature_bound == math.inf
    f = SQUARED.value
    loss = PointwiseLoss("f", f, f, f, d2_range=(-3.0, 2.0))
    assert loss.curvature_bound == 3.0


def test_loss_of_a_link_is_not_convex_unless_its_range_says_so():
    assert not link_squared("sine", _sine, _cosine, _minus_sine).convex
    assert link_squared("line", _sine, _cosine, _minus_sine, (0.0, 2.0)).convex


@any_loss
def test_loss_cannot_be_changed(loss):
    # Kernels are made from its functions once.
    with pytest.raises(AttributeError, match="cannot assign"):
        loss.d1 = loss.d2


def test_weight_of_a_convex_loss_of_its_own_is_kept():
    def weight(z, y):
        return 2.0

    f = SQUARED.d2
    assert PointwiseLoss("f", f, f, f, (0.0, 1.0), weight).gauss_newton is weight


@any_loss
def test_convex_losses_are_those_of_the_table(loss):
    convex = {LOGISTIC, SQUARED, SQUARED_HINGE, HUBER, PSEUDO_HUBER, POISSON}
    assert loss.convex == (loss in convex)


@any_case
def test_gauss_newton_weight_is_not_negative(loss, y):
    z = GRID[np.abs(GRID) < 700.0]
    assert np.all(compiled_values(loss.gauss_newton, z, y) >= 0.0)


@pytest.mark.parametrize("loss", [LOGISTIC, SQUARED, SQUARED_HINGE, POISSON])
def test_gauss_newton_weight_of_a_convex_smooth_loss_is_its_curvature(loss):
    assert loss.gauss_newton is loss.d2


@pytest.mark.parametrize("loss", [HUBER, PSEUDO_HUBER, TUKEY], ids=lambda f: f.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(z=st.floats(-30.0, 30.0), y=st.floats(-30.0, 30.0))
def test_robust_weight_is_the_slope_over_the_residual(loss, z, y):
    slope = loss.gauss_newton(z, y) * (z - y)
    assert slope == pytest.approx(loss.d1(z, y), rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("loss", [SIGMOID_SQUARED, TANH_SQUARED, SINE])
def test_gauss_newton_weight_of_least_squares_is_the_curvature_at_zero_residual(loss):
    links = {SIGMOID_SQUARED: naive.sigmoid, TANH_SQUARED: np.tanh, SINE: np.sin}
    for z in (-1.2, 0.4, 2.0):
        y = float(links[loss](z))
        assert loss.gauss_newton(z, y) == pytest.approx(loss.d2(z, y), rel=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(z=st.floats(-15.0, 15.0), y=st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
def test_tanh_is_four_times_the_sigmoid_at_twice_the_argument(z, y):
    unit = 0.5 * (1.0 + y)
    for factor, name in ((4.0, "value"), (8.0, "d1"), (16.0, "d2")):
        expected = factor * getattr(SIGMOID_SQUARED, name)(2.0 * z, unit)
        got = getattr(TANH_SQUARED, name)(z, y)
        assert got == pytest.approx(expected, rel=1e-14)


def test_huber_is_quadratic_up_to_delta_and_linear_beyond():
    loss = huber(2.0)
    assert [loss.value(z, 0.0) for z in (1.0, 2.0, 5.0)] == [0.5, 2.0, 8.0]
    assert [loss.d2(z, 0.0) for z in (1.0, -2.0, 2.0, 2.1)] == [1.0, 1.0, 1.0, 0.0]


def test_small_residuals_keep_their_digits():
    assert PSEUDO_HUBER.value(1e-9, 0.0) == pytest.approx(5e-19, rel=1e-15, abs=0)
    assert TUKEY.value(1e-9, 0.0) == pytest.approx(5e-19, rel=1e-15, abs=0)


def test_factories_return_the_same_loss_for_the_same_parameter():
    # A kernel is compiled per loss: a new object would mean compiling again.
    assert huber(1.5) is huber(1.5)
    assert tukey(2.0) is not tukey(3.0)


@pytest.mark.parametrize("factory", [huber, pseudo_huber, tukey])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan, "1", None])
def test_factories_refuse_a_bad_parameter(factory, bad):
    name = "c" if factory is tukey else "delta"
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number > 0, got"):
        factory(bad)


@pytest.mark.parametrize("field", ["value", "d1", "d2", "gauss_newton"])
def test_loss_refuses_what_is_not_a_function(field):
    functions = dict.fromkeys(("value", "d1", "d2", "gauss_newton"), SQUARED.value)
    functions[field] = 3.0
    with pytest.raises(TypeError, match=rf"^{field} must be a function .*got 3.0"):
        PointwiseLoss("bad", **functions)


@pytest.mark.parametrize("builtin", [max, functools.partial(SQUARED.value, y=1.0)])
def test_loss_refuses_a_callable_that_cannot_be_compiled(builtin):
    f = SQUARED.value
    with pytest.raises(TypeError, match=r"^d1 must be a function"):
        PointwiseLoss("bad", f, builtin, f)


@pytest.mark.parametrize("bad", [(1.0, 0.0), (math.nan, 1.0)])
def test_loss_refuses_an_empty_range(bad):
    f = SQUARED.value
    with pytest.raises(ValueError, match=r"d2_range must be .*got \("):
        PointwiseLoss("bad", f, f, f, bad)


def test_loss_refuses_unknown_targets():
    f = SQUARED.value
    with pytest.raises(ValueError, match=r"targets must be one of .*'sign'.*got 'x'"):
        PointwiseLoss("bad", f, f, f, targets="x")


def test_loss_without_bounds_has_no_gauss_newton_weight():
    f = SQUARED.value
    assert PointwiseLoss("general", f, f, f).gauss_newton is None


@any_case
def test_check_derivatives_accepts_the_right_ones(loss, y):
    check_derivatives(loss, [-2.0, -0.31, 0.7, 3.0], y=y)


def _wrong_d1(z, y):
    return 1.001 * (z - y)


def _wrong_d2(z, y):
    return 1.001


def test_check_derivatives_names_a_wrong_first_derivative():
    loss = PointwiseLoss("bad", SQUARED.value, _wrong_d1, SQUARED.d2)
    with pytest.raises(ValueError, match=r"^d1 at z = 5 is 4\.004, .* give 4\b"):
        check_derivatives(loss, 5.0)


def test_check_derivatives_names_a_wrong_second_derivative():
    loss = PointwiseLoss("bad", SQUARED.value, SQUARED.d1, _wrong_d2)
    with pytest.raises(ValueError, match=r"^d2 at z = 5 is 1\.001"):
        check_derivatives(loss, [5.0])


@pytest.mark.parametrize(
    "loss", [LOGISTIC, SQUARED, SQUARED_HINGE, SIGMOID_SQUARED, TANH_SQUARED, POISSON]
)
def test_losses_of_the_package_are_one_object_in_every_process(loss):
    for copied in (pickle.loads(pickle.dumps(loss)), copy.copy(loss)):
        assert copied is loss
    assert copy.deepcopy({"loss": loss})["loss"] is loss


def test_solvers_know_a_loss_that_was_copied():
    X = np.random.default_rng(0).standard_normal((100, 3))
    y = np.sign(X[:, 0])
    problem = LinearModel(copy.deepcopy(LOGISTIC), X, y)
    assert minimize(problem, SubsampledNewton(1.0)).status is Status.SEPARABLE
    ridge = LinearModel(pickle.loads(pickle.dumps(LOGISTIC)), X, y, l2=1.0)
    assert minimize(ridge, SDCA(), seed=0).converged
