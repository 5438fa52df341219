"""The softmax loss and model against their formulas."""

import math

import mpmath
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
import scipy.special

from subsampled_newton import (
    LOGISTIC,
    Columns,
    LinearModel,
    MultilevelNewton,
    SoftmaxModel,
    Status,
    SubsampledNewton,
    check_derivatives,
    minimize,
)
from subsampled_newton.data import as_rows
from subsampled_newton.losses import SoftmaxLoss
from subsampled_newton.sampling import bernoulli, full, uniform

N, D = 700, 5


class Naive:
    """Value, gradient and Hessian from one-hot targets, in all K coefficients."""

    def __init__(self, X, y, K, l2, weights=None):
        self.X, self.Y, self.l2 = X, np.eye(K)[y], l2
        s = np.ones(len(y)) if weights is None else weights
        self.s = s / s.mean()

    def value(self, W):
        Z = self.X @ W.T
        loss = scipy.special.logsumexp(Z, axis=1) - np.sum(self.Y * Z, axis=1)
        return np.mean(self.s * loss) + 0.5 * np.sum(self.l2 * W**2)

    def gradient(self, W):
        P = scipy.special.softmax(self.X @ W.T, axis=1)
        return (self.s[:, None] * (P - self.Y)).T @ self.X / len(self.X) + self.l2 * W

    def hessian(self, W):
        K, d = W.shape
        H = np.zeros((K, d, K, d))
        for x, p, s in zip(
            self.X, scipy.special.softmax(self.X @ W.T, axis=1), self.s, strict=True
        ):
            D = s * (np.diag(p) - np.outer(p, p)) / len(self.X)
            H += D[:, None, :, None] * np.outer(x, x)[None, :, None, :]
        return H.reshape(K * d, K * d) + np.diag(np.tile(self.l2, K))


def data(K, seed=0, n=N):
    rng = np.random.default_rng(seed)
    X = np.round(rng.standard_normal((n, D)), 2) * (rng.random((n, D)) < 0.7)
    Z = X @ rng.standard_normal((D, K)) + rng.gumbel(size=(n, K))
    return X, Z.argmax(axis=1), rng


def basis(model):
    """The matrix B (x) I by its columns."""
    return np.column_stack(
        [model.coefficients(e).ravel() for e in np.eye(model.n_params)]
    )


@pytest.mark.parametrize("K", [2, 3, 7])
def test_basis_is_orthonormal_and_sums_to_zero_over_the_classes(K):
    X, y, rng = data(K)
    model = SoftmaxModel(X, y, n_classes=K)
    B = basis(model)
    assert model.n_params == (K - 1) * D
    np.testing.assert_allclose(B.T @ B, np.eye(model.n_params), atol=1e-15)
    assert np.abs(B.reshape(K, D, -1).sum(axis=0)).max() < 1e-15
    W = rng.standard_normal((K, D))
    np.testing.assert_allclose(model.parameters(W), B.T @ W.ravel(), atol=1e-14)


@pytest.mark.parametrize("make", [np.array, np.asfortranarray, sp.csr_array])
@pytest.mark.parametrize("K", [2, 3, 7])
def test_point_agrees_with_the_formulas(K, make):
    X, y, rng = data(K)
    l2, weights = 0.1 * np.arange(D), rng.random(N)
    model = SoftmaxModel(make(X), y, n_classes=K, l2=l2, sample_weight=weights)
    naive, B = Naive(X, y, K, l2, weights), basis(model)
    w = rng.standard_normal(model.n_params)
    W = model.coefficients(w)
    point = model.at(w)
    np.testing.assert_allclose(point.z, W @ X.T, atol=1e-13)
    np.testing.assert_allclose(point.value, naive.value(W), rtol=1e-13)
    gradient = B.T @ naive.gradient(W).ravel()
    np.testing.assert_allclose(point.gradient, gradient, rtol=1e-11, atol=1e-14)
    H = B.T @ naive.hessian(W) @ B
    hessian = point.hessian(full(N))
    np.testing.assert_allclose(hessian.dense(), H, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(hessian.diagonal(), np.diag(H), rtol=1e-11)
    p = rng.standard_normal(model.n_params)
    fresh = point.hessian(full(N), "gauss-newton")
    np.testing.assert_allclose(fresh.matvec(p), H @ p, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(
        model.hess_vec(w, None, p) + model.l2 * p, H @ p, rtol=1e-11, atol=1e-14
    )
    line = point.along(p)
    np.testing.assert_allclose(line.curvature(), p @ H @ p, rtol=1e-12)
    line(0.5)
    moved = naive.value(model.coefficients(w + 0.25 * p))
    trial = line(0.25)
    np.testing.assert_allclose(trial.value, moved, rtol=1e-12)
    slope = model.at(w + 0.25 * p).gradient @ p
    np.testing.assert_allclose(line.slope(trial), slope, rtol=1e-10)


def test_derivatives_against_differences():
    X, y, rng = data(4)
    model = SoftmaxModel(X, y, l2=0.1)
    check_derivatives(model, rng.standard_normal(model.n_params))


def test_samples_estimate_and_restrict():
    X, y, rng = data(3)
    model = SoftmaxModel(X, y, l2=0.1)
    w, p = rng.standard_normal((2, model.n_params))
    sample = uniform(N, 50, rng)
    part = model.restrict(sample.rows)
    expected = SoftmaxModel(X[sample.rows], y[sample.rows], n_classes=3, l2=0.1).at(w)
    np.testing.assert_allclose(part.at(w).value, expected.value, rtol=1e-13)
    product = expected.hessian(full(50)).matvec(p)
    hessian = model.at(w).hessian(sample)
    np.testing.assert_allclose(hessian.matvec(p), product, rtol=1e-11)
    np.testing.assert_allclose(hessian.dense() @ p, product, rtol=1e-10)


def test_columns_shift_and_scale_every_class():
    X, y, rng = data(3)
    columns = Columns(rng.random(D) + 0.5, rng.standard_normal(D), intercept=True)
    plain = np.hstack([(X - columns.shift) * columns.scale, np.ones((N, 1))])
    model = SoftmaxModel(as_rows(X).with_columns(columns), y)
    expected = SoftmaxModel(plain, y)
    w, p = rng.standard_normal((2, model.n_params))
    np.testing.assert_allclose(model.at(w).value, expected.at(w).value, rtol=1e-13)
    np.testing.assert_allclose(
        model.at(w).gradient, expected.at(w).gradient, rtol=1e-11, atol=1e-14
    )
    H = expected.at(w).hessian(full(N))
    np.testing.assert_allclose(
        model.at(w).hessian(full(N)).dense() @ p, H.matvec(p), rtol=1e-10, atol=1e-14
    )


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("make", [np.array, np.asfortranarray, sp.csr_array])
def test_formed_hessian_skips_zeros(make, density, centred):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((203, 9)) * (rng.random((203, 9)) < density)
    X[40:48] = 0.0
    y = rng.integers(0, 4, 203)
    shift = rng.standard_normal(9) if centred else np.zeros(9)
    columns = Columns(rng.random(9) + 0.5, shift, intercept=True)
    plain = np.hstack([(X - shift) * columns.scale, np.ones((203, 1))])
    model = SoftmaxModel(as_rows(make(X)).with_columns(columns), y, n_classes=4)
    w = rng.standard_normal(model.n_params)
    naive = Naive(plain, y, 4, np.zeros(10)).hessian(model.coefficients(w))
    np.testing.assert_allclose(
        model.at(w).hessian(full(203)).dense(),
        basis(model).T @ naive @ basis(model),
        rtol=1e-9,
        atol=1e-14,
    )


def test_two_classes_are_logistic_regression():
    X, y, rng = data(2)
    # ||W||^2 = ||w||^2 / 2 for W = (-w, w) / 2, so that its ridge is half as heavy.
    softmax = SoftmaxModel(X, y, l2=0.2)
    logistic = LinearModel(LOGISTIC, X, 2.0 * y - 1.0, l2=0.1)
    w = rng.standard_normal(D)
    v = softmax.parameters(np.stack([-w / 2, w / 2]))
    np.testing.assert_allclose(softmax.at(v).value, logistic.at(w).value, rtol=1e-13)


def test_extreme_predictions_keep_their_digits():
    """Losses and residuals far below the rounding of 1, against 50 digits."""
    X = np.array([[1.0], [1.0], [1.0]])
    y = np.array([0, 1, 2])
    model = SoftmaxModel(X, y)
    for t in (1.0, 30.0, 60.0, 300.0, 400.0):
        W = np.array([[t], [-t / 3], [-2 * t / 3]])
        with mpmath.workdps(400):
            z = [mpmath.mpf(float(v)) for v in W.ravel()]
            e = [mpmath.exp(v) for v in z]
            losses = [mpmath.log(sum(e)) - v for v in z]
        for i in range(3):
            one = model.restrict(np.array([i])).at(model.parameters(W))
            np.testing.assert_allclose(one.value, float(losses[i]), rtol=1e-13)
        first = model.restrict(np.array([0]))
        residual = first.rows.class_evaluate(first.y, first.weights, W)[2].ravel()
        with mpmath.workdps(400):
            exact = [v / sum(e) - (k == 0) for k, v in enumerate(e)]
        expected = [float(v) for v in exact]
        np.testing.assert_allclose(residual, expected, rtol=1e-12, atol=1e-320)


def test_curvature_of_an_almost_certain_row_is_not_rounded_away():
    X = np.ones((1, 1))
    model = SoftmaxModel(X, np.array([0]), n_classes=3)
    W = np.array([[60.0], [0.0], [-1.0]])
    V = np.array([[1.0], [0.5], [-2.0]])
    P = model.rows.class_probabilities(W)
    product = model.rows.class_hess_vec(P, np.ones(1), V).ravel()
    p1, p2 = math.exp(-60.0), math.exp(-61.0)
    expected = [0.5 * p1 + 3.0 * p2, -0.5 * p1, -3.0 * p2]
    np.testing.assert_allclose(product, expected, rtol=1e-12)


def test_residual_of_one_row_is_the_derivative_in_the_coordinates():
    X, y, rng = data(5)
    model = SoftmaxModel(X, y)
    w = rng.standard_normal(model.n_params)
    V, out = w.reshape(4, D), np.empty(4)
    gradient = np.zeros((4, D))
    for x, label in zip(X, y, strict=True):
        model.loss.residual(V @ x, float(label), out)
        gradient += np.outer(out, x) / N
    np.testing.assert_allclose(gradient.ravel(), model.at(w).gradient, atol=1e-14)


def test_same_bits_for_every_number_of_threads():
    X, y, _ = data(4, n=30_000)
    model = SoftmaxModel(X, y, l2=1e-3)
    one, two = (
        minimize(model, SubsampledNewton(0.1), seed=0, n_jobs=n_jobs)
        for n_jobs in (1, 3)
    )
    assert np.array_equal(one.w, two.w)


@pytest.mark.parametrize(
    "solver",
    [
        SubsampledNewton(1.0),
        SubsampledNewton(1.0, linear_solver="cg"),
        SubsampledNewton(0.2, sampling="row-norms"),
        SubsampledNewton(0.2, sampling="leverage"),
        SubsampledNewton(0.2, gradient_sample=0.2),
        MultilevelNewton(),
    ],
)
def test_solvers_reach_the_minimum_found_by_scipy(solver):
    X, y, _ = data(4, n=3000)
    model = SoftmaxModel(X, y, l2=1e-3)
    naive = Naive(X, y, 4, np.full(D, 1e-3))
    best = scipy.optimize.minimize(
        lambda w: naive.value(w.reshape(4, D)),
        np.zeros(4 * D),
        jac=lambda w: naive.gradient(w.reshape(4, D)).ravel(),
        options={"gtol": 1e-9},
    )
    result = minimize(model, solver, seed=0)
    assert result.status is Status.CONVERGED
    assert abs(result.value - best.fun) < 1e-12
    W = model.coefficients(result.w)
    np.testing.assert_allclose(W, best.x.reshape(4, D), atol=1e-5)


def rare_class(n=6000, d=8, make=np.array):
    """Three classes, one of three rows, at the minimizer."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    y[[5, n // 6, 2 * n // 3]] = 2
    X = rng.standard_normal((n, d))
    X[:, -1] = 1.0
    X[:, 0] += y == 1
    X[y == 2, 1] += 3.0
    model = SoftmaxModel(make(X), y, l2=1e-5)
    return model, X, model.at(minimize(model, SubsampledNewton(1.0)).w)


def exact_block_scores(model, X, point):
    """``trace(A_i H**-1 A_i')``, A_i the rows sqrt(p_k / n) B'(e_k - p) (x) x_i."""
    n = len(X)
    P = scipy.special.softmax(point.z, axis=0).T
    B = basis(model)[:: X.shape[1], :: X.shape[1]]
    inverse = np.linalg.inv(point.hessian(full(n)).dense())
    scores = np.zeros(n)
    for k in range(P.shape[1]):
        factors = np.sqrt(P[:, k] / n)[:, None] * (B[k] - P @ B)
        A = (factors[:, :, None] * X[:, None, :]).reshape(n, -1)
        scores += np.einsum("ij,jk,ik->i", A, inverse, A)
    return scores


def test_leverage_scores_are_those_of_the_blocks(rng):
    model, X, point = rare_class()
    expected = exact_block_scores(model, X, point)
    H = point.hessian(full(len(X))).dense()
    effective = np.trace(np.linalg.solve(H, H - np.diag(model.l2)))
    assert expected.sum() == pytest.approx(effective, rel=1e-10)
    before = model.rows.work.rows_read
    scores = model.row_scores("leverage", point, rng)
    assert model.rows.work.rows_read - before == 2 * len(X)
    ratio = scores / expected
    assert np.all((ratio > 0.5) & (ratio < 2.0))
    assert scores.sum() == pytest.approx(expected.sum(), rel=0.1)


@pytest.mark.parametrize("make", [np.array, np.asfortranarray, sp.csr_array])
def test_leverage_scores_of_few_rows_are_exact(rng, make):
    model, X, point = rare_class(n=200, d=6, make=make)
    scores = model.row_scores("leverage", point, rng)
    expected = exact_block_scores(model, X, point)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_leverage_scores_know_columns_and_weights(rng):
    X, y, _ = data(3, n=2000)
    s = rng.random(2000) + 0.5
    columns = Columns(np.linspace(0.5, 2.0, D), np.linspace(-1.0, 1.0, D), True)
    A = np.column_stack([(X - columns.shift) * columns.scale, np.ones(2000)])
    plain = SoftmaxModel(A, y, l2=1e-3, sample_weight=s)
    w = minimize(plain, SubsampledNewton(1.0)).w
    for make in (np.array, np.asfortranarray, sp.csr_array):
        model = SoftmaxModel(
            as_rows(make(X)).with_columns(columns), y, l2=1e-3, sample_weight=s
        )
        scores = [
            m.row_scores("leverage", m.at(w), np.random.default_rng(0))
            for m in (plain, model)
        ]
        np.testing.assert_allclose(*scores, rtol=1e-8)


def test_samples_by_leverage_keep_the_curvature_of_a_rare_class():
    model, X, point = rare_class()
    H = point.hessian(full(len(X))).dense()
    half = np.linalg.inv(np.linalg.cholesky(H))
    rng = np.random.default_rng(1)

    def error(draw):
        def one():
            sampled = point.hessian(draw()).dense()
            return np.abs(np.linalg.eigvalsh(half @ sampled @ half.T) - 1.0).max()

        return np.median([one() for _ in range(40)])

    exact = exact_block_scores(model, X, point)
    scores = model.row_scores("leverage", point, rng)
    by_block = error(lambda: bernoulli(exact, 280, rng))
    assert by_block < 0.4
    assert error(lambda: bernoulli(scores, 280, rng)) < 1.15 * by_block
    assert error(lambda: uniform(len(X), 280, rng)) > 0.8


def test_large_hessians_are_not_formed():
    X, y, rng = data(4)
    wide = np.tile(X, (1, 60))  # 900 parameters
    hessian = SoftmaxModel(wide, y).at(rng.standard_normal(900)).hessian(full(N))
    hessian.prepare(5)
    assert hessian._formed is None
    hessian.prepare(500)
    assert hessian._formed is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": np.zeros(N)}, "y must hold 700 integers, .* got dtype float64"),
        ({"y": np.zeros(3, int)}, r"y must hold 700 integers.*shape \(3,\)"),
        ({"y": np.tile([-1, 1], N // 2)}, "y must hold classes 0, 1, .* from -1 to 1"),
        ({"n_classes": 2}, "y must hold classes 0, ..., 1, got 0 to 2"),
        ({"y": np.zeros(N, int)}, "y must hold two classes or more, got one"),
        ({"l2": np.ones(3)}, r"l2 must be a number or an array of shape \(5,\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    X, y, _ = data(3)
    arguments = {"y": y, **arguments}
    with pytest.raises(ValueError, match=message):
        SoftmaxModel(X, **arguments)


def test_loss_needs_two_classes():
    with pytest.raises(
        ValueError, match=r"n_classes must be an integer >= 2, got 1\.5"
    ):
        SoftmaxLoss(1.5)
