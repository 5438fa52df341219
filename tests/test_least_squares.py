"""Solvers of least squares: backward errors, rates, ridges, ranks, the contract."""

import math
import pickle

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import sklearn.linear_model
from problems import least_squares, logistic, minimizer
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from subsampled_newton import (
    SQUARED,
    Columns,
    LinearModel,
    LinearRegression,
    Status,
    SubsampledNewton,
    as_rows,
    minimize,
)
from subsampled_newton.data import DenseRows
from subsampled_newton.embeddings import SparseSign
from subsampled_newton.factor import reciprocal_condition
from subsampled_newton.solvers import _whitener, sketched
from subsampled_newton.solvers import least_squares as least_squares_choice
from subsampled_newton.solvers.direct import DirectLeastSquares, WhitenedLeastSquares
from subsampled_newton.solvers.least_squares import (
    choose_least_squares,
    sampled_condition,
)
from subsampled_newton.solvers.sketched import SketchedLeastSquares

EPS = np.finfo(float).eps
SOLVERS = {
    "precondition": SketchedLeastSquares(),
    "iterative": SketchedLeastSquares("iterative"),
    "count-sketch": SketchedLeastSquares(embedding="count-sketch"),
    "srht": SketchedLeastSquares(embedding="srht"),
    "gaussian": SketchedLeastSquares("iterative", "gaussian", 60),
    "leverage": SketchedLeastSquares(embedding="leverage"),
    "uniform": SketchedLeastSquares(embedding="uniform"),
    "loose": SketchedLeastSquares(rtol=1e-3),
    "cholesky": DirectLeastSquares("cholesky"),
    "qr": DirectLeastSquares("qr"),
    "auto": DirectLeastSquares(),
}
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
STABLE = ("precondition", "iterative", "count-sketch", "srht", "leverage", "qr", "auto")
stable_solvers = pytest.mark.parametrize(
    "solver", [SOLVERS[name] for name in STABLE], ids=STABLE
)


def ill_conditioned(condition, residual, n=2000, d=20, seed=0):
    """A matrix with logarithmic singular values, a target and the minimizer."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, d)))[0]
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    A = (U * np.geomspace(1.0, 1.0 / condition, d)) @ V.T
    x = rng.standard_normal(d)
    x /= np.linalg.norm(x)
    r = rng.standard_normal(n)
    for _ in range(2):
        r -= U @ (U.T @ r)
    return A, A @ x + residual * r / np.linalg.norm(r), x


def backward_error(A, b, x):
    """Estimate of Karlson and Walden, with a residual in extended precision."""
    wide = A.astype(np.longdouble)
    r = b.astype(np.longdouble) - wide @ x.astype(np.longdouble)
    g, r = (wide.T @ r).astype(float), np.linalg.norm(r.astype(float))
    _, s, Vt = np.linalg.svd(A, full_matrices=False)
    size = np.hypot(s * np.linalg.norm(x), r)
    return np.linalg.norm((Vt @ g) / size) / np.linalg.norm(A)


def lapack(A, b):
    """Solutions by QR with pivots and by the singular value decomposition."""
    return [
        scipy.linalg.lstsq(A, b, lapack_driver=driver, cond=1e-15)[0]
        for driver in ("gelsy", "gelsd")
    ]


# Accuracy.


@stable_solvers
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e8, 1e10, 1e12])
def test_backward_error_is_at_most_ten_times_that_of_lapack(solver, condition):
    for residual in (1e-12, 1e-3, 1e2):
        A, b, _ = ill_conditioned(condition, residual)
        result = minimize(LinearModel(SQUARED, A, b), solver, seed=0)
        assert result.status is Status.CONVERGED
        if isinstance(solver, SketchedLeastSquares):
            assert result.trace.hessian_rows[-1] < 1000
        bound = 10 * max(backward_error(A, b, x) for x in lapack(A, b))
        assert backward_error(A, b, result.w) <= bound


@stable_solvers
def test_forward_error_is_that_of_lapack_where_a_small_gradient_says_nothing(solver):
    A, b, x = ill_conditioned(1e8, 1e-6)
    problem = LinearModel(SQUARED, A, b)
    newton = minimize(problem, SubsampledNewton(1.0))
    assert newton.status is Status.CONVERGED  # by the norm of the gradient
    assert np.linalg.norm(newton.w - x) > 1e-2
    bound = 20 * max(np.linalg.norm(w - x) for w in lapack(A, b))
    assert np.linalg.norm(minimize(problem, solver, seed=0).w - x) <= bound


def iterative_sketching(A, b, S, gradient, factor, steps=60):
    """Plain iterative sketching with momentum, without refinement; parts to vary."""
    d, s = A.shape[1], len(S)
    R, x = factor(S @ A, S @ b)
    before, beta = x, d / s
    for _ in range(steps):
        y = scipy.linalg.solve_triangular(R, gradient(A, b, x), trans="T")
        step = scipy.linalg.solve_triangular(R, y)
        x, before = x + (1 - beta) ** 2 * step + beta * (x - before), x
    return x


def by_qr(F, c):
    Q, R = np.linalg.qr(F)
    return R, scipy.linalg.solve_triangular(R, Q.T @ c)


def by_gram(F, c):
    G = F.T @ F  # positive definite to rounding after a shift of that size
    R = np.linalg.cholesky(G + 1e-15 * np.trace(G) * np.eye(len(G))).T
    y = scipy.linalg.solve_triangular(R, F.T @ c, trans="T")
    return R, scipy.linalg.solve_triangular(R, y)


def of_the_residual(A, b, x):
    return A.T @ (b - A @ x)


def of_the_normal_equations(A, b, x):
    return A.T @ b - A.T @ (A @ x)


def preconditioned_lsqr(A, b, S, start_at_zero):
    """LSQR for ``A R**-1``, textbook form, from zero or from the sketched solution."""
    R, x = by_qr(S @ A, S @ b)
    y = np.zeros(len(x)) if start_at_zero else R @ x
    u = b - A @ scipy.linalg.solve_triangular(R, y)
    beta = np.linalg.norm(u)
    u, phi = u / beta, beta
    v = scipy.linalg.solve_triangular(R, A.T @ u, trans="T")
    alpha = np.linalg.norm(v)
    v, rho = v / alpha, alpha
    w = v
    for _ in range(60):
        u = A @ scipy.linalg.solve_triangular(R, v) - alpha * u
        beta = np.linalg.norm(u)
        u = u / beta
        v = scipy.linalg.solve_triangular(R, A.T @ u, trans="T") - beta * v
        alpha = np.linalg.norm(v)
        v = v / alpha
        total = np.hypot(rho, beta)
        c, s = rho / total, beta / total
        y = y + c * phi / total * w
        w = v - s * alpha / total * w
        rho, phi = -c * alpha, s * phi
    return scipy.linalg.solve_triangular(R, y)


def test_three_known_bad_variants_fail_where_the_good_one_does_not():
    """Controls: what the tests of accuracy must be able to tell apart."""
    A, b, _ = ill_conditioned(1e10, 1e-12)
    S = SparseSign.draw(2000, 240, np.random.default_rng(0)) @ np.eye(2000)

    def error(gradient=of_the_residual, factor=by_qr):
        x = iterative_sketching(A, b, S, gradient, factor)
        return backward_error(A, b, x)

    assert error() < 10 * EPS
    assert error(gradient=of_the_normal_equations) > 1e4 * EPS
    assert error(factor=by_gram) > 1e4 * EPS
    assert backward_error(A, b, preconditioned_lsqr(A, b, S, False)) < 10 * EPS
    assert backward_error(A, b, preconditioned_lsqr(A, b, S, True)) > 1e4 * EPS


def test_a_new_gradient_in_every_iteration_is_not_backward_stable():
    """Why there are anchors: the published method without them is forward stable."""
    A, b, x = ill_conditioned(1e8, 1.0)
    S = SparseSign.draw(2000, 240, np.random.default_rng(0)) @ np.eye(2000)
    plain = iterative_sketching(A, b, S, of_the_residual, by_qr)
    bound = max(np.linalg.norm(w - x) for w in lapack(A, b))
    assert np.linalg.norm(plain - x) < 30 * bound
    assert backward_error(A, b, plain) > 1e3 * EPS
    ours = minimize(
        LinearModel(SQUARED, A, b), SketchedLeastSquares("iterative"), seed=0
    )
    assert backward_error(A, b, ours.w) < 2 * EPS


class NormalEquationRows(DenseRows):
    """Rows that compute gradients as ``X'(Xw) - X'y``: the first bad variant."""

    def evaluate(self, loss, y, weights, w):
        z, value, _ = super().evaluate(loss, y, weights, w)
        difference = self.rmatvec(weights * z) - self.rmatvec(weights * y)
        return z, value, difference / self.n_rows


PUBLISHED = ("basic", "damped", "momentum")


def published(iteration, size=None):
    return SketchedLeastSquares(
        "iterative", "gaussian", sketch_size=size, iteration=iteration
    )


@pytest.mark.parametrize("iteration", PUBLISHED)
@pytest.mark.parametrize("condition", [1e1, 1e6, 1e10])
def test_published_iterative_sketching_is_forward_stable(iteration, condition):
    for residual in (1e-12, 1e-3):
        A, b, x = ill_conditioned(condition, residual)
        result = minimize(LinearModel(SQUARED, A, b), published(iteration, 400), seed=0)
        assert result.converged
        bound = max(np.linalg.norm(w - x) for w in lapack(A, b))
        assert np.linalg.norm(result.w - x) < 30 * bound
        # The residual, too.
        least = np.linalg.norm(b - A @ x)
        change = np.linalg.norm(A @ (result.w - x))
        assert change < 10 * EPS * (1.0 + condition * least)


@pytest.mark.parametrize(
    ("iteration", "rate"),
    [
        ("basic", lambda r: (2 * math.sqrt(r) - r) / (1 - math.sqrt(r)) ** 2),
        ("damped", lambda r: 2 * math.sqrt(r) / (1 + r)),
        ("momentum", math.sqrt),
    ],
)
def test_rates_of_published_iterative_sketching(iteration, rate):
    """Epperly, section 3: for a Gaussian sketch of s rows, r = d / s."""
    A, b, x = ill_conditioned(1e2, 1.0, n=4000, d=40)
    errors = []
    minimize(
        LinearModel(SQUARED, A, b),
        published(iteration, 800),
        seed=0,
        tol=0.0,
        max_iter=12,
        callback=lambda s: errors.append(np.linalg.norm(A @ (s.point.w - x))),
    )
    measured = (errors[-1] / errors[2]) ** (1.0 / (len(errors) - 3))
    expected = rate(40 / 800)
    assert 0.6 * expected < measured < 1.15 * expected


def test_published_iterative_sketching_takes_a_ridge_and_weights():
    rng = np.random.default_rng(0)
    X, s = rng.standard_normal((3000, 5)) * [1, 10, 100, 1e-3, 1], rng.random(3000)
    y = X @ rng.standard_normal(5) + rng.standard_normal(3000)
    problem = LinearModel(SQUARED, X, y, l2=1e-2, sample_weight=s)
    expected = minimizer(problem)
    for iteration in PUBLISHED:
        result = minimize(problem, published(iteration), seed=0)
        assert result.converged
        np.testing.assert_allclose(result.w, expected, rtol=1e-8)
        # A read for the sketch, one at its solution, and one an iteration.
        assert result.passes <= result.n_iter + 3


def test_published_iteration_is_the_formula():
    """Against the iteration written out, with the same sketch."""
    A, b, _ = ill_conditioned(1e3, 1e-2)
    states = []
    minimize(
        LinearModel(SQUARED, A, b),
        SketchedLeastSquares("iterative", sketch_size=240, iteration="momentum"),
        seed=0,
        tol=0.0,
        max_iter=6,
        callback=states.append,
    )
    S = SparseSign.draw(2000, 240, np.random.default_rng(0)) @ np.eye(2000)
    for k in range(6):
        expected = iterative_sketching(A, b, S, of_the_residual, by_qr, k)
        np.testing.assert_allclose(states[k + 1].point.w, expected, atol=1e-9)


def test_published_iteration_goes_on_after_an_interruption():
    A, b, _ = ill_conditioned(1e3, 1e-2)
    problem, solver = LinearModel(SQUARED, A, b), published("momentum", 240)
    whole = minimize(problem, solver, seed=0, tol=0.0)
    half = minimize(problem, solver, seed=0, tol=0.0, max_iter=5)
    again = minimize(problem, solver, tol=0.0, resume=half)
    assert np.array_equal(whole.w, again.w)
    assert (whole.n_iter, whole.passes) == (again.n_iter, again.passes)


def test_published_iteration_is_for_the_iterative_method():
    with pytest.raises(ValueError, match="iteration must be 'refined' unless method"):
        SketchedLeastSquares(iteration="damped")
    with pytest.raises(ValueError, match=r"iteration must be one of .* got 'fast'"):
        SketchedLeastSquares("iterative", iteration="fast")


def test_bad_variants_of_the_published_method(monkeypatch):
    """Controls that lose accuracy, run with the solver itself."""
    A, b, x = ill_conditioned(1e10, 1e-12)
    bound = max(np.linalg.norm(w - x) for w in lapack(A, b))

    def error(rows=A, w0=None):
        problem = LinearModel(SQUARED, rows, b)
        result = minimize(problem, published("momentum", 400), w0, seed=0, tol=0.0)
        counts.append(result.n_iter)
        return np.linalg.norm(result.w - x)

    counts = []
    assert error() < 30 * bound
    assert error(NormalEquationRows(A)) > 1e3 * bound  # A'b - A'(A w)

    def by_gram(F, l2, size=None, noise=None):
        whitener = _whitener.Whitener.from_gram(F[:, :-1].T @ F[:, :-1])
        return whitener, whitener.step(-F[:, :-1].T @ F[:, -1])

    with monkeypatch.context() as patch:
        patch.setattr(sketched, "factored", by_gram)
        assert error() > 1e3 * bound
    # From zero it takes longer, but is as exact: it is preconditioned LSQR that a start
    # at zero spoils, see above.
    assert error(w0=np.full(20, 1e-300)) < 30 * bound
    assert counts[-1] > 2 * counts[0]


@pytest.mark.parametrize("method", ["precondition", "iterative"])
def test_the_bad_gradient_spoils_our_solvers_too(method):
    A, b, _ = ill_conditioned(1e10, 1e-12)
    problem = LinearModel(SQUARED, NormalEquationRows(A), b)
    result = minimize(problem, SketchedLeastSquares(method), seed=0)
    assert backward_error(A, b, result.w) > 1e4 * EPS


@pytest.mark.parametrize("method", ["precondition", "iterative"])
def test_the_bad_factor_spoils_our_solvers_too(monkeypatch, method):
    def by_gram(F, l2, size=None, noise=None):
        whitener = _whitener.Whitener.from_gram(F[:, :-1].T @ F[:, :-1])
        return whitener, whitener.step(-F[:, :-1].T @ F[:, -1])

    A, b, _ = ill_conditioned(1e10, 1e-12)
    monkeypatch.setattr(sketched, "factored", by_gram)
    problem = LinearModel(SQUARED, A, b)
    result = minimize(problem, SketchedLeastSquares(method), seed=0, max_iter=60)
    assert backward_error(A, b, result.w) > 1e4 * EPS
    assert not result.converged


# Rates.


def test_conjugate_gradients_take_the_predicted_number_of_iterations():
    A, b, x = ill_conditioned(1e3, 1.0, n=4000, d=50)
    problem = LinearModel(SQUARED, A, b)
    for ratio in (4, 16):
        solver = SketchedLeastSquares("precondition", "gaussian", 50 * ratio)
        points = []
        minimize(
            problem, solver, seed=0, callback=lambda s, p=points: p.append(s.point)
        )
        errors = [np.linalg.norm(A @ (point.w - x)) for point in points[1:]]
        reached = int(np.argmax(np.array(errors) < 1e-8 * errors[0]))
        predicted = math.log(1e8) / math.log(math.sqrt(ratio))
        assert predicted - 8 <= reached <= predicted + 3


def test_momentum_contracts_by_the_root_of_d_over_s():
    A, b, x = ill_conditioned(1e3, 1.0, n=4000, d=40)
    errors = []
    minimize(
        LinearModel(SQUARED, A, b),
        SketchedLeastSquares("iterative", "gaussian", 480),
        seed=0,
        callback=lambda s: errors.append(np.linalg.norm(A @ (s.point.w - x))),
    )
    # The heavy ball has a double root: k rate**k. Late iterations show the rate.
    rate = (errors[18] / errors[8]) ** 0.1
    assert rate == pytest.approx(math.sqrt(1 / 12), rel=0.15)


def test_iterates_of_momentum_are_those_of_the_paper(rng):
    A, b = rng.standard_normal((500, 6)), rng.standard_normal(500)
    solver = SketchedLeastSquares("iterative", sketch_size=64)
    seen = []
    minimize(
        LinearModel(SQUARED, A, b), solver, seed=7, callback=seen.append, max_iter=6
    )
    S = SparseSign.draw(500, 64, np.random.default_rng(7)) @ np.eye(500)
    R, x = by_qr(S @ A, S @ b)
    inverse = np.linalg.inv(R.T @ R)
    before, beta = x, 6 / 64
    for state in seen[1:]:
        np.testing.assert_allclose(state.point.w, x, rtol=1e-9)
        step = inverse @ A.T @ (b - A @ x)
        x, before = x + (1 - beta) ** 2 * step + beta * (x - before), x


def test_values_of_the_trace_are_those_of_the_iterates():
    problem = least_squares(n=800)
    for method in ("precondition", "iterative"):
        solver = SketchedLeastSquares(method, sketch_size=32)
        plain = minimize(problem, solver, seed=0).trace
        full = minimize(problem, solver, seed=0, full_trace=True).trace
        np.testing.assert_allclose(plain.value[:-1], full.value[:-1], rtol=1e-9)


def test_an_iteration_costs_one_pass():
    problem = least_squares(n=2000)
    trace = minimize(problem, SketchedLeastSquares(sketch_size=64), seed=0).trace
    # The sketch and the first gradient; products; two products end in an anchor.
    steps = np.diff(trace.passes)
    assert steps[0] == 2.0
    assert set(steps[1:]) == {1.0, 2.0}
    assert np.sum(steps[1:] == 2.0) <= 3
    assert trace.passes[0] == 0.0  # at 0 nothing is evaluated
    qr = minimize(problem, DirectLeastSquares("qr"))
    assert (qr.n_iter, qr.passes) == (1, 2.0)


@pytest.mark.parametrize(
    ("method", "condition", "rtol"),
    [("precondition", 1e8, 1e-4), ("iterative", 1e7, 1e-6)],
)
def test_a_tolerance_out_of_reach_costs_little_more_than_none(method, condition, rtol):
    A, b, _ = ill_conditioned(condition, 1.0)
    problem = LinearModel(SQUARED, A, b)
    best, asked = (
        minimize(problem, SketchedLeastSquares(method, rtol=tolerance), seed=0)
        for tolerance in (0.0, rtol)
    )
    assert asked.converged
    assert asked.passes <= 1.3 * best.passes


def test_a_loose_tolerance_saves_passes_and_is_kept():
    A, b, x = ill_conditioned(1e4, 1.0)
    problem = LinearModel(SQUARED, A, b)
    passes = []
    size = np.linalg.norm(A, axis=0)
    for rtol in (1e-3, 1e-6, 0.0):
        for solver in (SketchedLeastSquares(rtol=rtol), DirectLeastSquares(rtol=rtol)):
            result = minimize(problem, solver, seed=0)
            error = np.linalg.norm(size * (result.w - x)) / np.linalg.norm(size * x)
            assert error <= 1.5 * max(rtol, 1e-8)
            passes.append(result.passes)
    assert passes[0] < passes[2] < passes[4]
    assert passes[1] <= passes[3] <= passes[5]


# Sketch and solve.


def test_gaussian_sketch_and_solve_has_the_excess_of_theory():
    A, b, _ = ill_conditioned(1e2, 1.0, n=500, d=30)
    problem = LinearModel(SQUARED, A, b)
    solver = SketchedLeastSquares("solve", "gaussian", 240)
    ratios = [
        2 * 500 * minimize(problem, solver, seed=seed, max_iter=1).value
        for seed in range(200)
    ]
    excess = np.mean(ratios) - 1.0
    assert excess == pytest.approx(30 / (240 - 30 - 1), rel=0.05)


def coherent(n=2000, d=8, seed=0):
    """Half of the columns are carried by one row each."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, d))
    A[:, d // 2 :] = 0.0
    A[: d // 2, d // 2 :] = 50.0 * np.eye(d // 2)
    b = A @ np.ones(d) + rng.standard_normal(n)
    return A, b, np.linalg.lstsq(A, b)[0]


def test_uniform_samples_fail_on_coherent_rows_and_leverage_samples_do_not():
    A, b, x = coherent()
    problem = LinearModel(SQUARED, A, b)

    def error(embedding, seed):
        solver = SketchedLeastSquares("solve", embedding, 200)
        return np.linalg.norm(
            A @ (minimize(problem, solver, seed=seed, max_iter=1).w - x)
        )

    leverage = [error("leverage", seed) for seed in range(40)]
    uniform = [error("uniform", seed) for seed in range(40)]
    assert np.mean(np.array(uniform) > 10 * np.median(leverage)) >= 0.5
    # The residual is within 1 + eps of the least one: here eps = 1/4.
    least = np.linalg.norm(A @ x - b)
    good = np.hypot(least, leverage) <= 1.25 * least
    assert np.mean(good) >= 0.95


def test_sketch_and_solve_says_that_it_is_not_the_minimizer():
    problem = least_squares()
    result = minimize(problem, SketchedLeastSquares("solve", sketch_size=100), seed=0)
    assert result.status is Status.MAX_ITER
    assert result.gradient_norm > 1e-3
    assert result.value < 1.3 * problem.at(minimizer(problem)).value
    exact = LinearModel(SQUARED, problem.rows, problem.rows.matvec(np.ones(6)))
    assert minimize(exact, SketchedLeastSquares("solve"), seed=0).converged


# Ridge, rank, weights, containers.


@every_solver
@pytest.mark.parametrize("l2", [1e-12, 1e-3, 1e6])
def test_ridge_equals_lapack_on_the_augmented_rows(solver, l2, rng):
    A, b = rng.standard_normal((700, 6)), rng.standard_normal(700)
    A[:, 5] = A[:, 0] + 1e-3 * A[:, 5]
    weights = l2 * np.array([1.0, 1.0, 0.0, 2.0, 1.0, 1.0])
    result = minimize(LinearModel(SQUARED, A, b, l2=weights), solver, seed=0)
    rows = np.vstack([A, np.diag(np.sqrt(700 * weights))])
    expected = np.linalg.lstsq(rows, np.append(b, np.zeros(6)), rcond=1e-15)[0]
    assert result.converged
    tolerance = max(getattr(solver, "rtol", 0.0), 1e-9)
    np.testing.assert_allclose(
        result.w, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


def test_a_sketch_without_the_isometric_scale_is_wrong_beside_a_ridge(monkeypatch):
    """Without a ridge the factor cancels; with one it changes the problem."""
    for scale in (1.0, 10.0):
        monkeypatch.setattr(
            sketched,
            "factored",
            lambda F, *a, c=scale, **kw: _whitener.factored(c * F, *a, **kw),
        )
        for l2 in (0.0, 1.0):
            problem = least_squares(n=2000, l2=l2)
            best = problem.at(minimizer(problem)).value
            wrong = scale == 10.0 and l2 == 1.0
            solver = SketchedLeastSquares("solve", sketch_size=200)
            value = minimize(problem, solver, seed=0, max_iter=1).value
            assert (value > 1.05 * best) == wrong


@every_solver
def test_dependent_columns_get_the_solution_of_the_smallest_norm(solver, rng):
    A = rng.standard_normal((900, 4)) * [1.0, 1e-3, 1e3, 1.0]
    A = np.column_stack([A, A[:, 0] - 3 * A[:, 3], np.zeros(900)])
    b = rng.standard_normal(900)
    result = minimize(LinearModel(SQUARED, A, b), solver, seed=0)
    size = np.linalg.norm(A, axis=0) + (np.arange(6) == 5)
    expected = np.linalg.lstsq(A / size, b, rcond=1e-12)[0] / size
    assert result.converged
    rtol = max(getattr(solver, "rtol", 0.0), 1e-9)
    np.testing.assert_allclose(result.w * size, expected * size, atol=10 * rtol)
    whitener = result.checkpoint.state.refinement.whitener
    assert whitener.rank == 4


def test_a_wide_problem_is_solved_with_the_smallest_norm(rng):
    A, b = rng.standard_normal((10, 25)), rng.standard_normal(10)
    size = np.linalg.norm(A, axis=0)
    expected = np.linalg.lstsq(A / size, b)[0] / size
    for solver in (SketchedLeastSquares(), DirectLeastSquares("qr")):
        w = minimize(LinearModel(SQUARED, A, b), solver, seed=0).w
        np.testing.assert_allclose(w, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["precondition", "iterative"])
def test_a_sketch_that_lost_a_direction_is_drawn_again(method):
    A, b, x = coherent()
    solver = SketchedLeastSquares(method, "uniform", 100)
    result = minimize(LinearModel(SQUARED, A, b), solver, seed=0)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.w, x, rtol=1e-9)
    sizes = result.trace.hessian_rows
    assert sizes[1] == 100
    assert sizes[-1] >= 200


def test_weights_remove_and_repeat_rows(rng):
    A, b = rng.standard_normal((400, 5)), rng.standard_normal(400)
    weights = rng.integers(0, 3, 400)
    repeated = np.repeat(np.arange(400), weights)
    for solver in (
        SketchedLeastSquares(),
        *map(DirectLeastSquares, ("cholesky", "qr")),
    ):
        problem = LinearModel(SQUARED, A, b, l2=0.1, sample_weight=weights)
        other = LinearModel(SQUARED, A[repeated], b[repeated], l2=0.1)
        w = minimize(problem, solver, seed=0).w
        np.testing.assert_allclose(w, minimize(other, solver, seed=0).w, rtol=1e-10)


@every_solver
def test_containers_and_columns_agree(solver, rng):
    A, b = rng.standard_normal((3000, 4)), rng.standard_normal(3000)
    A[rng.random(A.shape) < 0.5] = 0.0
    A = A.astype(np.float32).astype(np.float64)
    columns = Columns(np.array([1.0, 2.0, 0.5, 1.0]), np.ones(4), intercept=True)
    full = np.column_stack([(A - 1.0) * columns.scale, np.ones(3000)])
    expected = np.linalg.lstsq(full, b)[0]
    for layout in (np.ascontiguousarray, np.asfortranarray, sp.csr_array, np.float32):
        rows = as_rows(layout(A)).with_columns(columns)
        w = minimize(LinearModel(SQUARED, rows, b), solver, seed=0).w
        rtol = max(getattr(solver, "rtol", 0.0), 1e-9)
        np.testing.assert_allclose(w, expected, atol=10 * rtol)


def test_a_factor_serves_other_targets(rng):
    A, b, c = *ill_conditioned(1e9, 1e-3)[:2], rng.standard_normal(2000)
    for solver in (SketchedLeastSquares(), DirectLeastSquares("qr")):
        first = minimize(LinearModel(SQUARED, A, b), solver, seed=0)
        whitener = first.checkpoint.state.refinement.whitener
        second = minimize(LinearModel(SQUARED, A, c), WhitenedLeastSquares(whitener))
        assert second.status is Status.CONVERGED
        bound = 10 * max(backward_error(A, c, x) for x in lapack(A, c))
        assert backward_error(A, c, second.w) <= bound


# The contract of every solver.


@every_solver
def test_reaches_the_minimum(solver):
    problem = least_squares(n=2000)
    result = minimize(problem, solver, seed=0)
    assert result.status is Status.CONVERGED
    assert result.gradient_norm <= 1e-8
    assert abs(result.value - problem.at(minimizer(problem)).value) <= 1e-10


@every_solver
def test_same_bits_for_every_number_of_threads(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 8))  # several blocks
    problem = LinearModel(SQUARED, X, X[:, 0] + rng.standard_normal(40_000), l2=1e-3)
    first, *others = (
        minimize(problem, solver, seed=3, n_jobs=n_jobs) for n_jobs in (1, 2, 4)
    )
    assert all(np.array_equal(first.w, other.w) for other in others)


@every_solver
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_interrupted_and_resumed_equals_uninterrupted(solver, stop):
    problem = least_squares(n=3000)
    w0 = np.full(6, 0.1)  # not 0, so that the solvers judge it
    whole = minimize(problem, solver, w0, seed=5)
    stopped = minimize(
        problem, solver, w0, seed=5, callback=lambda s: s.iteration == stop
    )
    checkpoint = pickle.loads(pickle.dumps(stopped.checkpoint))
    resumed = minimize(problem, solver, resume=checkpoint)
    assert np.array_equal(resumed.w, whole.w)
    assert resumed.n_iter == whole.n_iter
    np.testing.assert_array_equal(resumed.trace.value, whole.trace.value)
    np.testing.assert_array_equal(resumed.trace.props, whole.trace.props)
    assert resumed.passes == whole.passes


@every_solver
def test_starts_at_the_solution_and_takes_no_step(solver):
    problem = least_squares()
    result = minimize(problem, solver, minimizer(problem), seed=0)
    assert result.status is Status.CONVERGED
    assert result.n_iter == 0


def test_a_start_with_a_small_gradient_far_from_the_solution_is_refused():
    A, b, x = ill_conditioned(1e8, 1e-6)
    problem = LinearModel(SQUARED, A, b)
    far = minimize(problem, SubsampledNewton(1.0)).w
    for solver in (SketchedLeastSquares(), DirectLeastSquares("qr")):
        result = minimize(problem, solver, far, seed=0)
        assert result.n_iter > 0
        assert np.linalg.norm(result.w - x) < 1e-3 * np.linalg.norm(far - x)


@every_solver
def test_inputs_are_not_modified_and_results_can_be_pickled(solver):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((500, 4)), rng.standard_normal(500)
    weights, w0 = rng.random(500), rng.standard_normal(4)
    copies = [a.copy() for a in (X, y, weights, w0)]
    problem = LinearModel(SQUARED, X, y, l2=1e-2, sample_weight=weights)
    result = minimize(problem, solver, w0, seed=0)
    assert all(map(np.array_equal, (X, y, weights, w0), copies))
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert np.array_equal(pickle.loads(pickle.dumps(result)).w, result.w)


@every_solver
def test_a_target_of_zeros_has_the_solution_zero(solver, rng):
    problem = LinearModel(SQUARED, rng.standard_normal((300, 3)), np.zeros(300))
    result = minimize(problem, solver, seed=0)
    assert result.status is Status.CONVERGED
    np.testing.assert_array_equal(result.w, 0.0)


@every_solver
def test_status_precision_when_the_tolerance_is_below_rounding(solver):
    result = minimize(least_squares(), solver, tol=0.0, seed=0)
    assert result.status in (Status.PRECISION, Status.CONVERGED)
    assert result.gradient_norm < 1e-14


@every_solver
def test_status_non_finite(solver):
    X = np.ones((300, 2))
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="X must be finite, got nan in row 7"):
        minimize(LinearModel(SQUARED, X, np.ones(300)), solver, seed=0)


def test_normal_equations_beyond_their_range_say_so():
    A, b, _ = ill_conditioned(1e9, 1e-6)
    problem = LinearModel(SQUARED, A, b)
    assert (
        minimize(problem, DirectLeastSquares("cholesky")).status is Status.NOT_DESCENT
    )
    result = minimize(problem, DirectLeastSquares())
    assert result.status is Status.CONVERGED
    assert result.passes == 3.0  # the Gram matrix, QR, the gradient


@every_solver
def test_only_least_squares_is_solved(solver):
    with pytest.raises(TypeError, match="squared loss, got LinearModel with the logis"):
        minimize(logistic(), solver)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SketchedLeastSquares("lsqr"), "method must be one of .* got 'lsqr'"),
        (lambda: SketchedLeastSquares(embedding="dct"), "embedding must be one of"),
        (lambda: SketchedLeastSquares(sketch_size=1), "sketch_size must be None or an"),
        (lambda: SketchedLeastSquares(rtol=1.0), r"rtol must be a number in \[0, 1\)"),
        (lambda: DirectLeastSquares("lu"), "method must be one of .* got 'lu'"),
        (lambda: DirectLeastSquares(rtol=-1.0), r"rtol must be .* got -1\.0"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_sketch_smaller_than_the_parameters_is_refused():
    with pytest.raises(ValueError, match="larger than the 6 parameters, got 5"):
        minimize(least_squares(), SketchedLeastSquares(sketch_size=5))


# The choice.


def test_the_choice_follows_shape_and_condition(rng):
    A = rng.standard_normal((3000, 60))
    b = rng.standard_normal(3000)
    ill = A.copy()
    ill[:, 1] = ill[:, 0] + 1e-9 * ill[:, 1]
    choose = choose_least_squares
    assert choose(LinearModel(SQUARED, A, b), 1e-8) == DirectLeastSquares("auto", 1e-8)
    assert choose(LinearModel(SQUARED, ill, b), 0.0) == SketchedLeastSquares()
    ridge = LinearModel(SQUARED, ill, b, l2=1e-6)
    assert choose(ridge) == DirectLeastSquares("auto")
    narrow = LinearModel(SQUARED, ill[:, :10], b)
    assert choose(narrow) == DirectLeastSquares("qr")
    assert choose(LinearModel(SQUARED, sp.csr_array(ill[:, :10]), b)) == (
        SketchedLeastSquares()
    )
    assert choose(LinearModel(SQUARED, ill[:100], b[:100])) == DirectLeastSquares()
    wide = sp.random_array((20, 4000), density=0.01, rng=rng, format="csr")
    assert choose(LinearModel(SQUARED, wide, b[:20])).linear_solver == "cg"
    with pytest.raises(TypeError, match="choose_least_squares needs a LinearModel"):
        choose(logistic())


def test_the_condition_of_a_sample_is_about_that_of_the_matrix(rng):
    A, _, _ = ill_conditioned(1e4, 1.0, n=4000)
    A = A / np.linalg.norm(A, axis=0)
    problem = LinearModel(SQUARED, A, np.zeros(4000))
    assert 0.3 < sampled_condition(problem) / np.linalg.cond(A) < 100
    A[:, 3] = 0.0
    A[0, 3] = 1.0  # a rare category is not in the sample, and no matter
    assert sampled_condition(LinearModel(SQUARED, A, np.zeros(4000))) < 1e6


# The estimator.


@parametrize_with_checks([LinearRegression(), LinearRegression(solver="sketch")])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_sklearn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "solver", ["auto", "cholesky", "qr", "sketch", "iterative-sketch"]
)
def test_same_coefficients_as_scikit_learn(solver, fit_intercept, rng):
    X = rng.standard_normal((500, 4)) * [1.0, 0.1, 10.0, 3.0] + [0.0, 1.0, 50.0, 5.0]
    y = X @ [1.0, 20.0, -0.1, 0.5] + rng.standard_normal(500)
    Y, weights = np.column_stack([y, 1e6 * X[:, 3] + y]), rng.random(500)
    theirs = sklearn.linear_model.LinearRegression(fit_intercept=fit_intercept)
    ours = LinearRegression(solver=solver, fit_intercept=fit_intercept, random_state=0)
    for target in (y, Y):
        ours.fit(X, target, weights)
        theirs.fit(X, target, weights)
        assert ours.coef_.shape == theirs.coef_.shape
        np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(
            ours.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-6
        )
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)
    assert ours.rank_ == 4
    assert ours.n_iter_.shape == (2,)


def test_units_of_columns_do_not_matter(rng):
    X, y = rng.standard_normal((500, 4)), rng.standard_normal(500)
    units = np.array([1.0, 1e-6, 1e7, 3.0])
    for solver in ("auto", "cholesky", "qr", "sketch"):
        one = LinearRegression(solver=solver, random_state=0).fit(X, y)
        other = LinearRegression(solver=solver, random_state=0).fit(X * units, y)
        np.testing.assert_allclose(other.coef_ * units, one.coef_, rtol=1e-7)


def test_rank_and_condition_are_reported(rng):
    X = rng.standard_normal((300, 5))
    X[:, 4] = X[:, 0] + X[:, 1]
    model = LinearRegression(random_state=0).fit(X, X[:, 0])
    assert model.rank_ == 4
    np.testing.assert_allclose(model.predict(X), X[:, 0], atol=1e-10)
    X[:, 4] += 1e-5 * rng.standard_normal(300)
    model.fit(X, X[:, 0])
    assert model.rank_ == 5
    assert 1e5 < model.condition_ < 1e7


def test_warm_start_takes_no_step(rng):
    X, y = rng.standard_normal((300, 5)), rng.standard_normal(300)
    model = LinearRegression(warm_start=True, tol=1e-6).fit(X, y)
    assert model.fit(X, y).n_iter_ == 0
    assert model.fit(X, -y).n_iter_ > 0


def test_a_fit_that_did_not_converge_warns(rng):
    X, y = rng.standard_normal((3000, 5)), rng.standard_normal(3000)
    model = LinearRegression(solver="sketch", max_iter=2, random_state=0)
    with pytest.warns(ConvergenceWarning, match="MAX_ITER"):
        model.fit(X, y)
    own = LinearRegression(solver=SubsampledNewton(1.0)).fit(X, y)
    assert own.rank_ is None
    assert math.isnan(own.condition_)


@pytest.mark.parametrize("lapack", ["as it is", "before SciPy 1.15"])
def test_reciprocal_condition_of_a_triangle(rng, monkeypatch, lapack):
    if lapack != "as it is":
        monkeypatch.delattr(scipy.linalg.lapack, "dtrcon", raising=False)
    R = np.triu(rng.standard_normal((6, 6))) + 3.0 * np.eye(6)
    R[2, 2] = 1e-5
    exact = 1.0 / np.linalg.cond(R, 1)
    # LAPACK estimates the norm of the inverse from below.
    assert exact * (1.0 - 1e-12) <= reciprocal_condition(R) <= 3.0 * exact
    R[4, 4] = 0.0
    assert reciprocal_condition(R) == 0.0


def test_dense_rows_with_many_columns_are_factored_where_that_takes_seconds(
    monkeypatch,
):
    monkeypatch.setattr(least_squares_choice, "FORMED_MAX_PARAMS", 10)
    problem = least_squares(n=300, d=12)
    d = problem.n_params
    assert choose_least_squares(problem) == DirectLeastSquares("auto")
    wide = LinearModel(SQUARED, np.ones((d - 1, d)), np.ones(d - 1))
    assert choose_least_squares(wide).linear_solver == "cg"
    monkeypatch.setattr(least_squares_choice, "LARGEST_DENSE", 299.0 * d * d)
    assert choose_least_squares(problem).linear_solver == "cg"
