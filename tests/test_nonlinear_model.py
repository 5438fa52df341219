"""Nonlinear least squares as a problem: derivatives, samples, weights, threads."""

import math

import mpmath
import numpy as np
import pytest

from subsampled_newton import check_derivatives
from subsampled_newton._parallel import use_threads
from subsampled_newton.nonlinear_model import NonlinearModel
from subsampled_newton.sampling import Sample, full, uniform


def peak(p, x):
    """A Gaussian peak over an oblique plane, of two predictors."""
    height, center, width, slope = p
    z = (x[0] - center) / width
    return height * math.exp(-0.5 * z * z) + slope * x[0] * x[1]


def peak_mp(p, x):
    height, center, width, slope = p
    z = (x[0] - center) / width
    return height * mpmath.exp(-z * z / 2) + slope * x[0] * x[1]


def peak_jacobian(p, x):
    height, center, width, _ = p
    z = (x[0] - center) / width
    e = math.exp(-0.5 * z * z)
    return e, height * e * z / width, height * e * z * z / width, x[0] * x[1]


def peak_jacobian_filled(p, x, out):
    for k, value in enumerate(peak_jacobian(p, x)):
        out[k] = value


W = np.array([2.0, 0.3, 0.8, -0.5])
L2 = np.array([0.0, 0.1, 0.2, 0.0])


def build(n=60, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2.0, 2.0, (n, 2))
    y = np.exp(-0.5 * X[:, 0] ** 2) + 0.1 * rng.standard_normal(n)
    return NonlinearModel(peak, X, y, 4, **kwargs)


def objective_mp(problem, w):
    """F from its definition."""
    total = mpmath.mpf(0)
    p = [mpmath.mpf(a) * mpmath.mpf(b) for a, b in zip(w, problem.scale, strict=True)]
    for x, y, s in zip(problem.X, problem.y, problem.weights, strict=True):
        total += s * (peak_mp(p, [mpmath.mpf(v) for v in x]) - y) ** 2
    ridge = sum(a * mpmath.mpf(v) ** 2 for a, v in zip(problem.l2, w, strict=True))
    return total / (2 * problem.n_samples) + ridge / 2


@mpmath.workdps(40)
def test_value_gradient_and_products_are_those_of_the_definition():
    rng = np.random.default_rng(1)
    weights, scale = rng.random(60) + 0.5, np.array([0.5, 2.0, 1.0, 4.0])
    problem = build(l2=L2, sample_weight=weights, scale=scale)
    w, v = W / scale, rng.standard_normal(4)
    point = problem.at(w)
    f = [mpmath.mpf(a) for a in w]

    def along(t):
        return objective_mp(problem, [a + t * b for a, b in zip(f, v, strict=True)])

    assert abs(point.value - along(0)) <= 1e-15 * point.value
    slope = float(mpmath.diff(along, 0))
    assert abs(point.gradient @ v - slope) <= 1e-13 * np.abs(point.gradient @ v)
    curvature = float(mpmath.diff(along, 0, 2))
    product = problem.hess_vec(w, None, v) + problem.l2 * v
    assert abs(v @ product - curvature) <= 1e-12 * curvature
    assert abs(point.along(v).curvature() - curvature) <= 1e-12 * curvature
    check_derivatives(problem, w)


def test_gauss_newton_products_leave_out_the_curvature_of_the_model():
    problem = build()
    point, v = problem.at(W), np.ones(4)
    J = point.jacobian
    np.testing.assert_allclose(
        problem.gauss_newton_vec(W, None, v), J.T @ (J @ v) / 60, rtol=1e-13
    )
    exact = NonlinearModel(peak, problem.X, problem.predict(W), 4)
    np.testing.assert_allclose(  # no residuals: the two agree
        exact.gauss_newton_vec(W, None, v), exact.hess_vec(W, None, v), rtol=1e-13
    )


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("kind", ["full", "uniform", "weighted"])
def test_hessian_of_a_sample_is_the_weighted_mean_of_its_rows(curvature, kind):
    rng = np.random.default_rng(2)
    problem = build(l2=L2, sample_weight=rng.random(60))
    rows = np.array([3, 7, 20, 41])
    sample = {
        "full": full(60),
        "uniform": uniform(60, 10, rng),
        "weighted": Sample(rows, rng.random(4), 4),
    }[kind]
    keep = np.arange(60) if sample.rows is None else sample.rows
    weights = np.broadcast_to(sample.weights, len(keep))
    H = np.diag(L2)
    vec = problem.hess_vec if curvature == "hessian" else problem.gauss_newton_vec
    for i, h in zip(keep, weights, strict=True):
        columns = [vec(W, np.array([i]), e) for e in np.eye(4)]
        H = H + h * np.column_stack(columns)
    hessian = problem.at(W).hessian(sample, curvature)
    v = rng.standard_normal(4)
    np.testing.assert_allclose(hessian.matvec(v), H @ v, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(hessian.dense(), H, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(hessian.matvec(v), H @ v, rtol=1e-11, atol=1e-13)
    assert np.all(hessian.diagonal() > 0.0)


def test_restriction_is_the_problem_over_its_rows():
    problem = build(l2=L2, sample_weight=np.arange(60.0))
    rows = np.array([5, 9, 9, 33])
    part = problem.restrict(rows)
    ridge = 0.5 * float(L2 @ W**2)
    assert part.at(W).value == pytest.approx(problem.value(W, rows) + ridge, rel=1e-14)
    np.testing.assert_allclose(
        part.at(W).gradient, problem.gradient(W, rows) + L2 * W, rtol=1e-12
    )
    doubled = problem.restrict(rows, np.array([2.0, 0.0, 1.0, 1.0]))
    repeated = problem.restrict(np.array([5, 5, 9, 33]))
    assert doubled.at(W).value == pytest.approx(repeated.at(W).value, rel=1e-14)


def test_weights_repeat_and_remove_rows():
    rng = np.random.default_rng(3)
    times = rng.integers(0, 4, 60)
    whole, plain = build(sample_weight=times), build()
    keep = np.repeat(np.arange(60), times)
    repeated = NonlinearModel(peak, plain.X[keep], plain.y[keep], 4)
    a, b = whole.at(W), repeated.at(W)
    assert a.value == pytest.approx(b.value, rel=1e-14)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-12)
    assert whole.gradient_norm(a) == pytest.approx(repeated.gradient_norm(b), rel=1e-12)


def test_row_of_weight_zero_may_be_anything():
    problem = build()
    X = problem.X.copy()
    X[4] = 1e300
    weights = np.ones(60)
    weights[4] = 0.0
    X[5] = np.nan
    weights[5] = 0.0
    spoilt = NonlinearModel(peak, X, problem.y, 4, sample_weight=weights).at(W)
    clean = build(sample_weight=weights).at(W)
    assert spoilt.value == clean.value
    np.testing.assert_array_equal(spoilt.gradient, clean.gradient)
    for exact in ("hessian", "gauss-newton"):
        a, b = (point.hessian(full(58), exact).dense() for point in (spoilt, clean))
        np.testing.assert_array_equal(a, b)
    v = np.ones(4)
    np.testing.assert_array_equal(spoilt.second_along(v), clean.second_along(v))


@pytest.mark.usefixtures("jit")  # 20 000 rows
def test_same_bits_for_every_number_of_threads():
    problem = build(n=20_000, l2=L2)
    assert len(problem.blocks()) > 4
    answers = []
    for threads in (1, 2, 4):
        with use_threads(threads):
            point = problem.at(W)
            product = problem.hess_vec(W, None, np.ones(4))
            answers.append(
                [point.value, *point.gradient, *product, *problem.predict(W)[:9]]
            )
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_array_gives_the_same_and_is_not_changed(dtype, order):
    X = np.arange(12).reshape(6, 2).astype(dtype, order=order) / dtype(1)
    X = np.asarray(X, dtype=dtype, order=order)
    copy = X.copy()
    problem = NonlinearModel(peak, X, np.ones(6), 4)
    exact = NonlinearModel(peak, X.astype(float), np.ones(6), 4)
    assert problem.at(W).value == exact.at(W).value
    np.testing.assert_array_equal(X, copy)


def test_without_targets_the_function_is_the_residual():
    problem = build()

    def residual(p, x):
        return peak(p, x) - x[2]

    X = np.column_stack([problem.X, problem.y])
    other = NonlinearModel(residual, X, None, 4).at(W)
    assert other.value == pytest.approx(problem.at(W).value, rel=1e-14)
    np.testing.assert_allclose(other.gradient, problem.at(W).gradient, rtol=1e-12)


@pytest.mark.parametrize("jacobian", [peak_jacobian, peak_jacobian_filled])
def test_derivatives_of_the_user(jacobian):
    ours, theirs = build(l2=L2), build(l2=L2, jacobian=jacobian)
    a, b = ours.at(W), theirs.at(W)
    np.testing.assert_allclose(b.gradient, a.gradient, rtol=1e-13)
    v = np.array([1.0, -2.0, 0.5, 3.0])
    np.testing.assert_allclose(
        theirs.hess_vec(W, None, v), ours.hess_vec(W, None, v), rtol=1e-6
    )
    np.testing.assert_array_equal(theirs.predict(W), ours.predict(W))


def interpolated(p, x):
    values = np.zeros(3)
    values[1], values[2] = p[0] ** 2, p[1]
    k = min(int(x[0]), 1)
    return values[k] + (x[0] - k) * (values[k + 1] - values[k])


def test_derivatives_of_the_user_serve_a_function_without_rules():
    def derivatives(p, x):
        return 2 * p[0] * max(0.0, 1.0 - abs(x[0] - 1.0)), max(0.0, x[0] - 1.0)

    X = np.linspace(0.0, 2.0, 9)[:, None]
    problem = NonlinearModel(interpolated, X, X[:, 0] ** 2, 2, jacobian=derivatives)
    check_derivatives(problem, [1.0, 3.0])


@pytest.mark.usefixtures("jit")
def test_function_without_rules_is_refused_at_once():
    with pytest.raises(TypeError, match="the function cannot be compiled"):
        NonlinearModel(interpolated, np.ones((9, 1)), None, 2)


def test_derivatives_of_a_wrong_number_are_refused():
    def two(p, x):
        return 1.0, x[0]

    problem = build()
    with pytest.raises(
        ValueError, match="jacobian must return one number per parameter"
    ):
        NonlinearModel(peak, problem.X, None, 4, jacobian=two).at(W).gradient  # noqa: B018


def test_work_is_counted_where_rows_are_read():
    problem = build(l2=L2)
    work = problem.work
    point = problem.at(W)
    assert (work.rows_read, work.props) == (0, 1)
    _ = point.value, point.gradient, point.gradient, problem.gradient_norm(point)
    assert (work.rows_read, work.props) == (60, 121)
    trial = point.along(np.ones(4))(0.5)
    _ = trial.value
    assert (work.rows_read, work.props) == (120, 181)
    sample = uniform(60, 10, np.random.default_rng(0))
    point.hessian(sample, "gauss-newton").matvec(np.ones(4))
    assert (work.rows_read, work.props) == (120, 201)  # rows of the Jacobian at hand
    point.hessian(sample).matvec(np.ones(4))
    assert (work.rows_read, work.props) == (130, 221)


def rate(p, x):
    return p[0] * math.exp(-p[1] * x[0])


def cosine(y, w, units=(1.0, 1.0), **kwargs):
    """Stop measure with the parameters in other units."""
    a, b = units

    def scaled(p, x):
        return rate((p[0] * a, p[1] * b), x)

    X = np.linspace(0.0, 3.0, 20)[:, None]
    problem = NonlinearModel(scaled, X, y, 2, **kwargs)
    return problem.gradient_norm(problem.at(np.array(w) / units))


def test_stop_measure_is_the_cosine_of_the_residuals_and_the_tangent_plane():
    X = np.linspace(0.0, 3.0, 20)[:, None]
    point = NonlinearModel(rate, X, np.zeros(20), 2).at([1.5, 0.7])
    columns = point.jacobian / np.linalg.norm(point.jacobian, axis=0)
    noise = np.random.default_rng(4).standard_normal(20)
    # In the plane of the columns, and as far from each of them as it can be there.
    r = columns @ np.array([1.0, 1.0]) + 0.1 * noise
    expected = np.linalg.norm(np.linalg.qr(columns)[0].T @ r) / np.linalg.norm(r)
    assert cosine(point.residual - r, [1.5, 0.7]) == pytest.approx(expected, rel=1e-12)
    assert np.max(np.abs(columns.T @ r)) / np.linalg.norm(r) < 0.9 * expected


def test_stop_measure_has_no_units():
    y = np.random.default_rng(4).standard_normal(20)
    reference = cosine(y, [1.5, 0.7])
    assert cosine(y, [1.5, 0.7], (1e10, 1e-10)) == pytest.approx(reference, rel=1e-9)
    X = np.linspace(0.0, 3.0, 20)[:, None]
    problem = NonlinearModel(rate, X, 1e12 * y, 2, sample_weight=np.full(20, 1e-9))
    assert problem.gradient_norm(problem.at([1.5e12, 0.7])) == pytest.approx(
        reference, rel=1e-9
    )


def test_exact_fit_counts_as_converged_and_its_neighbour_does_not():
    X = np.linspace(0.0, 3.0, 20)[:, None]
    y = 1.5 * np.exp(-0.7 * X[:, 0])
    assert cosine(y, [1.5, 0.7]) == 0.0
    assert cosine(y, [1.5 * (1 + 1e-12), 0.7]) > 0.5
    assert cosine(np.zeros(20), [0.0, 0.7]) == 1.0  # the rate has no effect


def test_parameters_that_have_no_effect_never_count_as_converged():
    def product(p, x):
        return p[0] * p[1] * x[0]

    X = np.linspace(1.0, 2.0, 10)[:, None]
    problem = NonlinearModel(product, X, 6.0 * X[:, 0] ** 1.1, 2)
    best = float(np.sum(problem.y * X[:, 0]) / np.sum(X**2))
    point = problem.at([2.0, best / 2.0])
    assert np.linalg.norm(point.gradient) < 1e-12
    assert point.undetermined
    assert problem.gradient_norm(point) == 1.0
    ridge = NonlinearModel(product, X, problem.y, 2, l2=1e-3)
    assert not ridge.at([2.0, best / 2.0]).undetermined


def test_point_far_out_is_not_finite_and_not_an_error():
    problem = build()
    point = problem.at([1e200, 0.3, 1e-3, 1e200])
    assert not math.isfinite(point.value)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (
            {"X": np.ones(3)},
            ValueError,
            "X must have rows and columns, got",
        ),
        ({"X": np.ones((0, 2))}, ValueError, "X must have rows and columns"),
        ({"X": [["a"]]}, TypeError, "X must hold real numbers, got dtype"),
        ({"y": np.ones(4)}, ValueError, r"y must have shape \(3,\), got \(4,\)"),
        ({"y": [1.0, np.nan, 1.0]}, ValueError, "y must be finite, got nan at index 1"),
        ({"y": ["a", "b", "c"]}, TypeError, "y must hold real numbers"),
        ({"n_params": 0}, ValueError, "n_params must be an integer >= 1, got 0"),
        ({"l2": -1.0}, ValueError, "l2 must be finite and >= 0"),
        ({"sample_weight": [-1.0, 1, 1]}, ValueError, "sample_weight must be finite"),
        (
            {"scale": [1.0, 0.0, 1.0, 1.0]},
            ValueError,
            "scale must hold 4 finite numbers",
        ),
        ({"scale": [1.0]}, ValueError, "scale must hold 4 finite numbers > 0"),
        (
            {"function": "peak"},
            TypeError,
            "function must be a function of .*got 'peak'",
        ),
    ],
)
def test_bad_arguments_are_named(kwargs, error, message):
    arguments = {"function": peak, "X": np.ones((3, 2)), "y": np.ones(3), "n_params": 4}
    with pytest.raises(error, match=message):
        NonlinearModel(**(arguments | kwargs))


def test_number_of_parameters_that_does_not_fit_the_function_is_an_error():
    with pytest.raises(ValueError, match="unpack"):
        NonlinearModel(peak, np.ones((3, 2)), None, 3).at(np.ones(3)).value  # noqa: B018
