"""Objectives and their points against slow twins; counts of work; errors."""

import math

import naive
import numpy as np
import pytest
import scipy.sparse as sp

from subsampled_newton import (
    LOGISTIC,
    POISSON,
    SIGMOID_SQUARED,
    SQUARED,
    TANH_SQUARED,
    Columns,
    FiniteSum,
    LinearModel,
    NonlinearModel,
    PointwiseLoss,
    SoftmaxModel,
    as_rows,
    check_derivatives,
    huber,
    pseudo_huber,
    tukey,
)
from subsampled_newton.sampling import Sample, full, uniform, with_replacement

N, D = 23, 4
LOSSES = [
    LOGISTIC,
    SQUARED,
    SIGMOID_SQUARED,
    TANH_SQUARED,
    huber(),
    pseudo_huber(),
    tukey(),
    POISSON,
]
any_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
L2 = np.array([0.1, 0.0, 2.0, 0.3])


def targets(loss, rng, n=N):
    return {
        "real": rng.standard_normal(n) * 3,
        "sign": rng.choice([-1.0, 1.0], n),
        "unit": rng.random(n).round(1),
        "interval": rng.uniform(-1, 1, n).round(1),
        "nonnegative": rng.poisson(2.0, n).astype(float),
    }[loss.targets]


class Case:
    """A model with weights and a ridge vector, its twin, a point and a direction."""

    def __init__(self, loss, n=N, make=np.array):
        rng = np.random.default_rng(7)
        self.X = rng.standard_normal((n, D))
        self.y = targets(loss, rng, n)
        self.s = rng.random(n) * 5
        self.problem = LinearModel(
            loss, make(self.X), self.y, l2=L2, sample_weight=self.s
        )
        self.twin = naive.Model(loss.name, self.X, self.y, L2, self.s)
        self.w, self.p = rng.standard_normal((2, D))
        self.rng = rng


@pytest.fixture
def case(loss):
    return Case(loss)


@pytest.fixture
def logistic():
    return Case(LOGISTIC)


# A point of a linear model


@any_loss
class TestPoint:
    def test_value(self, case):
        expected = case.twin.value(case.w)
        assert case.problem.at(case.w).value == pytest.approx(expected, rel=1e-12)

    def test_gradient(self, case):
        np.testing.assert_allclose(
            case.problem.at(case.w).gradient, case.twin.gradient(case.w), rtol=1e-11
        )

    def test_hessian(self, case):
        H = case.problem.at(case.w).hessian(full(N)).dense()
        np.testing.assert_allclose(H, case.twin.hessian(case.w), rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(H, H.T, rtol=1e-13, atol=1e-14)

    def test_product_with_the_hessian(self, case):
        product = case.problem.at(case.w).hessian(full(N)).matvec(case.p)
        expected = case.twin.hessian(case.w) @ case.p
        np.testing.assert_allclose(product, expected, rtol=1e-11)

    def test_formed_hessian_gives_the_same_product(self, case):
        hessian = case.problem.at(case.w).hessian(full(N))
        product = hessian.matvec(case.p)
        hessian.prepare(100)
        np.testing.assert_allclose(hessian.matvec(case.p), product, rtol=1e-11)

    def test_means_without_the_ridge(self, case):
        twin = naive.Model(case.problem.loss.name, case.X, case.y, 0.0, case.s)
        problem, w = case.problem, case.w
        assert problem.value(w) == pytest.approx(twin.value(w), rel=1e-12)
        np.testing.assert_allclose(problem.gradient(w), twin.gradient(w), rtol=1e-10)
        expected = twin.hessian(w) @ case.p
        np.testing.assert_allclose(
            problem.hess_vec(w, None, case.p), expected, rtol=1e-10
        )

    def test_hessian_product_is_the_difference_of_gradients(self, case):
        h = 1e-6
        up = case.problem.at(case.w + h * case.p).gradient
        down = case.problem.at(case.w - h * case.p).gradient
        product = case.problem.at(case.w).hessian(full(N)).matvec(case.p)
        np.testing.assert_allclose((up - down) / (2 * h), product, atol=1e-7, rtol=1e-7)

    def test_trials_of_a_line_are_points(self, case):
        line = case.problem.at(case.w).along(case.p)
        for t in (1.0, 0.5, 0.25, 2.0):
            expected = case.twin.value(case.w + t * case.p)
            trial = line(t)
            assert trial.value == pytest.approx(expected, rel=1e-12)
            np.testing.assert_array_equal(trial.point.w, case.w + t * case.p)
            assert trial.point.value == pytest.approx(expected, rel=1e-12)

    def test_curvature_of_a_line(self, case):
        expected = case.p @ case.twin.hessian(case.w) @ case.p
        line = case.problem.at(case.w).along(case.p)
        assert line.curvature() == pytest.approx(expected, rel=1e-11)
        line(1.0)
        assert line.curvature() == pytest.approx(expected, rel=1e-11)

    def test_mean_of_single_rows_is_the_whole(self, case):
        parts = [case.problem.restrict(np.array([i])).at(case.w) for i in range(N)]
        point = case.problem.at(case.w)
        assert np.mean([p.value for p in parts]) == pytest.approx(point.value)
        np.testing.assert_allclose(
            np.mean([p.gradient for p in parts], axis=0), point.gradient, rtol=1e-11
        )
        hessians = [p.hessian(full(1)).dense() for p in parts]
        np.testing.assert_allclose(
            np.mean(hessians, axis=0), point.hessian(full(N)).dense(), atol=1e-12
        )

    def test_weight_zero_removes_a_row_and_weight_k_repeats_it(self, case):
        loss = case.problem.loss
        counts = case.rng.integers(0, 4, N)
        rows = np.repeat(np.arange(N), counts)
        weighted = LinearModel(loss, case.X, case.y, l2=L2, sample_weight=counts)
        repeated = LinearModel(loss, case.X[rows], case.y[rows], l2=L2)
        a, b = weighted.at(case.w), repeated.at(case.w)
        assert a.value == pytest.approx(b.value, rel=1e-12)
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-11)
        np.testing.assert_allclose(
            a.hessian(full(weighted.n_samples)).dense(),
            b.hessian(full(len(rows))).dense(),
            rtol=1e-11,
        )

    def test_check_derivatives_accepts_the_model(self, case):
        check_derivatives(case.problem, case.w)


@pytest.mark.parametrize(
    "make",
    [np.asfortranarray, sp.csr_array, lambda X: as_rows(X)],
    ids=["fortran", "csr", "rows"],
)
def test_storage_does_not_change_the_model(logistic, make):
    other = Case(LOGISTIC, make=make)
    a, b = logistic.problem.at(logistic.w), other.problem.at(logistic.w)
    assert a.value == pytest.approx(b.value, rel=1e-13)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-12)


def test_columns_change_the_variables_of_the_model(logistic):
    scale, shift = np.array([1.0, 2.0, 0.5, 3.0]), np.array([0.0, 1.0, -2.0, 5.0])
    rows = as_rows(logistic.X).with_columns(Columns(scale, shift, intercept=True))
    problem = LinearModel(LOGISTIC, rows, logistic.y, l2=np.append(L2, 0.0))
    A = naive.transformed(logistic.X, scale, shift, intercept=True)
    twin = naive.Model("logistic", A, logistic.y, np.append(L2, 0.0))
    w = np.arange(5.0) / 5
    assert problem.at(w).value == pytest.approx(twin.value(w), rel=1e-12)
    np.testing.assert_allclose(problem.at(w).gradient, twin.gradient(w), rtol=1e-10)
    H = problem.at(w).hessian(full(N)).dense()
    np.testing.assert_allclose(H, twin.hessian(w), rtol=1e-10, atol=1e-13)


# Samples


def test_hessian_of_a_sample_is_that_of_its_rows_with_the_full_ridge(logistic):
    sample = uniform(N, 7, logistic.rng)
    H = logistic.problem.at(logistic.w).hessian(sample).dense()
    expected = logistic.problem.restrict(sample.rows).at(logistic.w).hessian(full(7))
    np.testing.assert_allclose(H, expected.dense(), rtol=1e-12)


def test_diagonal_of_the_hessian(logistic):
    hessian = logistic.problem.at(logistic.w).hessian(uniform(N, 7, logistic.rng))
    np.testing.assert_allclose(hessian.diagonal(), np.diag(hessian.dense()), rtol=1e-11)


def test_hessian_of_a_weighted_sample(logistic):
    sample = with_replacement(np.arange(N) + 1.0, 9, logistic.rng)
    point = logistic.problem.at(logistic.w)
    curvature = logistic.problem.curvature_sizes(point.z)
    expected = np.diag(L2).astype(float)
    for i, weight in zip(sample.rows, sample.weights, strict=True):
        h = weight * curvature[i]
        expected += h * np.outer(logistic.X[i], logistic.X[i])
    hessian = point.hessian(sample)
    np.testing.assert_allclose(hessian.dense(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        hessian.matvec(logistic.p), expected @ logistic.p, rtol=1e-11
    )


def test_restriction_keeps_the_scale_of_the_weights(logistic):
    rows = np.array([2, 3, 11])
    part = logistic.problem.restrict(rows)
    s = logistic.s[rows] / logistic.s.mean()
    terms = naive.LOSSES["logistic"][0](logistic.X[rows] @ logistic.w, logistic.y[rows])
    assert part.value(logistic.w) == pytest.approx(np.mean(s * terms))
    assert part.n_samples == 3
    assert part.work is logistic.problem.work


@pytest.mark.parametrize("rows", [np.array([4, 5, 9]), np.array([0, 0, 22])])
def test_mean_over_given_rows_is_that_of_the_restriction(logistic, rows):
    problem, part = logistic.problem, logistic.problem.restrict(rows)
    w, p = logistic.w, logistic.p
    assert problem.value(w, rows) == part.value(w)
    np.testing.assert_array_equal(problem.gradient(w, rows), part.gradient(w))
    np.testing.assert_array_equal(
        problem.hess_vec(w, rows, p), part.hess_vec(w, None, p)
    )


def test_restriction_with_weights_estimates_the_whole(logistic):
    # A mean over draws with probabilities p, weighted by 1 / (n p), has no bias.
    problem, w = logistic.problem, logistic.w
    p = (np.arange(N) + 1.0) / np.sum(np.arange(N) + 1.0)
    total = 0.0
    for i in range(N):
        part = problem.restrict(np.array([i]), np.array([1.0 / (N * p[i])]))
        total += p[i] * part.value(w)
    assert total == pytest.approx(problem.value(w), rel=1e-12)


def test_hessian_on_gathered_rows_is_that_of_the_restriction(logistic):
    rows, weights = np.array([1, 4, 8, 15]), np.array([0.5, 1.5, 1.0, 1.0])
    part = logistic.problem.restrict(rows, weights)
    point = logistic.problem.at(logistic.w)
    _ = point.value
    count = Counter(logistic.problem.work)
    count.since()
    hessian = point.hessian_on(part, rows)
    assert count.since() == (0, 0)
    expected = part.at(logistic.w).hessian(full(4)).dense()
    np.testing.assert_allclose(hessian.dense(), expected, rtol=1e-12)


@any_loss
def test_value_at_zero_reads_no_row(case):
    value = case.problem.value_at_zero()
    assert case.problem.work.rows_read == 0
    assert value == pytest.approx(case.twin.value(np.zeros(D)), rel=1e-12)


# Weights


@pytest.mark.parametrize("factor", [3.7, 1e308, 1e-300])
def test_only_ratios_of_weights_matter(logistic, factor):
    ones = np.ones(N)
    ones[3] = 0.5
    a = LinearModel(LOGISTIC, logistic.X, logistic.y, sample_weight=ones)
    b = LinearModel(LOGISTIC, logistic.X, logistic.y, sample_weight=factor * ones)
    np.testing.assert_allclose(a.weights, b.weights, rtol=1e-14)
    assert a.weights.mean() == pytest.approx(1.0, rel=1e-14)


def test_weights_may_be_integers_or_booleans(logistic):
    keep = np.arange(N) % 2 == 0
    for weights in (keep, keep.astype(int), keep.tolist()):
        problem = LinearModel(LOGISTIC, logistic.X, logistic.y, sample_weight=weights)
        np.testing.assert_array_equal(problem.y, logistic.y[keep])
        np.testing.assert_allclose(problem.weights, 1.0)


def test_arguments_are_not_changed():
    rng = np.random.default_rng(1)
    X, y, s = rng.random((9, 2)), np.ones(9), rng.random(9) * 7
    l2, w = np.array([1.0, 2.0]), np.array([0.5, 0.5])
    before = [a.copy() for a in (X, y, s, l2, w)]
    point = LinearModel(LOGISTIC, X, y, l2=l2, sample_weight=s).at(w)
    point.hessian(full(9)).dense()
    point.along(point.gradient)(1.0)
    for kept, now in zip(before, (X, y, s, l2, w), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_point_does_not_follow_changes_of_the_callers_vector(logistic):
    w = logistic.w.copy()
    point = logistic.problem.at(w)
    w += 1.0
    expected = logistic.twin.value(logistic.w)
    assert point.value == pytest.approx(expected, rel=1e-12)


# Bounds


@pytest.mark.parametrize("loss", [LOGISTIC, SQUARED, pseudo_huber()])
def test_suboptimality_bound_is_a_bound(loss):
    case = Case(loss)
    problem = LinearModel(loss, case.X, case.y, l2=L2 + 0.05)
    w = case.w
    for _ in range(50):  # damped Newton steps to the minimum
        point = problem.at(w)
        step = np.linalg.solve(point.hessian(full(N)).dense(), point.gradient)
        t = 1.0
        while problem.at(w - t * step).value > point.value and t > 1e-6:
            t *= 0.5
        w = w - t * step
    lowest = problem.at(w).value
    for _ in range(20):
        point = problem.at(w + case.rng.standard_normal(D))
        gap = point.value - lowest
        assert gap <= problem.suboptimality_bound(point) * (1 + 1e-12)


def test_suboptimality_bound_is_attained_by_a_ridge_alone():
    problem = LinearModel(SQUARED, np.zeros((2, 2)), np.zeros(2), l2=[1.0, 5.0])
    point = problem.at([3.0, -2.0])
    assert problem.suboptimality_bound(point) == pytest.approx(point.value)


@pytest.mark.parametrize(
    ("loss", "l2"), [(LOGISTIC, 0.0), (tukey(), L2), (tukey(), 1.0)]
)
def test_bound_is_infinite_without_strong_convexity(loss, l2):
    case = Case(loss)
    problem = LinearModel(loss, case.X, case.y, l2=l2)
    assert problem.strong_convexity == 0.0
    assert problem.suboptimality_bound(problem.at(np.zeros(D))) == math.inf


def test_sample_condition_bounds_every_hessian_of_one_sample(logistic):
    X, y = logistic.X, logistic.y
    problem = LinearModel(LOGISTIC, X, y, l2=0.2, sample_weight=logistic.s)
    point = problem.at(np.zeros(D))  # where the curvature of the loss is largest
    largest = max(
        np.linalg.eigvalsh(
            point.problem.restrict(np.array([i])).at(point.w).hessian(full(1)).dense()
        )[-1]
        for i in range(N)
    )
    assert problem.sample_condition() == pytest.approx(largest / 0.2)


def test_sample_condition_is_infinite_without_bounds(logistic):
    X = logistic.X
    assert LinearModel(LOGISTIC, X, logistic.y).sample_condition() == math.inf
    poisson = LinearModel(POISSON, X, np.ones(N), l2=1.0)
    assert poisson.sample_condition() == math.inf


# Scores


def test_row_norm_scores_are_curvature_times_squared_norm(logistic):
    point = logistic.problem.at(logistic.w)
    scores = logistic.problem.row_scores("row-norms", point, logistic.rng)
    expected = logistic.problem.curvature_sizes(point.z) * np.sum(logistic.X**2, axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@pytest.mark.parametrize("make", [np.array, sp.csr_array])
def test_leverage_scores_approximate_the_ridge_leverage_scores(make):
    case = Case(SIGMOID_SQUARED, n=2000, make=make)
    problem = case.problem
    point = problem.at(case.w)
    scores = problem.row_scores("leverage", point, case.rng)
    h = problem.curvature_sizes(point.z) / 2000
    inverse = np.linalg.inv((case.X.T * h) @ case.X + np.diag(L2))
    expected = h * np.einsum("ij,jk,ik->i", case.X, inverse, case.X)
    seen = expected > 1e-9
    ratio = scores[seen] / expected[seen]
    assert np.mean((ratio > 1 / 3) & (ratio < 3)) >= 0.99


# Counts: props start at 1; a gradient costs 2n, a product 2|S|, a trial n; the value at
# the iterate is free. rows_read counts reads of X.


class Counter:
    def __init__(self, work):
        self.work, self.last = work, (0, 1)

    def since(self):
        """Rows read and props since the last call."""
        now = self.work.rows_read, self.work.props
        difference = tuple(np.subtract(now, self.last).tolist())
        self.last = now
        return difference


def test_props_start_at_one(logistic):
    assert logistic.problem.work.props == 1
    assert logistic.problem.work.rows_read == 0


def test_work_of_direct_calls_is_counted(logistic):
    """A value n, a gradient and a product 2n, of the rows that are asked for."""
    X, y = logistic.X, logistic.problem.y
    curve = NonlinearModel(lambda p, x: p[0] * math.tanh(x[0]), X, y, 1)
    softmax = SoftmaxModel(X, np.arange(N) % 3)
    some = np.arange(0, N, 3)
    for problem in (logistic.problem, softmax, curve):
        w, before = np.full(problem.n_params, 0.1), problem.work.props
        for rows, size in ((None, N), (some, len(some))):
            for cost, call in (
                (1, lambda p=problem, w=w, r=rows: p.value(w, r)),
                (2, lambda p=problem, w=w, r=rows: p.gradient(w, r)),
                (2, lambda p=problem, w=w, r=rows: p.hess_vec(w, r, w)),
                (2, lambda p=problem, w=w, r=rows: p.gauss_newton_vec(w, r, w)),
            ):
                call()
                assert problem.work.props - before == cost * size
                before = problem.work.props


def test_work_of_a_linear_model_is_counted(logistic):
    problem, n = logistic.problem, N
    count = Counter(problem.work)
    script = []

    def did(what):
        script.append((what, *count.since()))

    point = problem.at(logistic.w)
    did("nothing yet")
    _ = point.value
    did("value: free, one read")
    _ = point.gradient
    did("gradient: 2n, from the same read")
    _ = point.gradient, point.value
    did("again")
    logistic.problem.curvature_sizes(point.z)
    did("curvature")
    hessian = point.hessian(uniform(n, 5, logistic.rng))
    did("sample: 5 rows gathered")
    hessian.matvec(logistic.p)
    did("product: 2 |S|")
    hessian.prepare(100)
    did("formed: one read of S")
    hessian.matvec(logistic.p)
    did("product: 2 |S| also when formed")
    line = point.along(logistic.p)
    trial = line(1.0)
    did("first trial: n, one read")
    line(0.5)
    did("second trial: n, no read")
    line.curvature()
    did("curvature along the line")
    _ = trial.point.gradient
    did("gradient at the accepted trial: 2n, no read")
    assert script == [
        ("nothing yet", 0, 0),
        ("value: free, one read", n, 0),
        ("gradient: 2n, from the same read", 0, 2 * n),
        ("again", 0, 0),
        ("curvature", 0, 0),
        ("sample: 5 rows gathered", 5, 0),
        ("product: 2 |S|", 5, 10),
        ("formed: one read of S", 5, 0),
        ("product: 2 |S| also when formed", 0, 10),
        ("first trial: n, one read", n, n),
        ("second trial: n, no read", 0, n),
        ("curvature along the line", 0, 0),
        ("gradient at the accepted trial: 2n, no read", 0, 2 * n),
    ]


def test_dense_hessian_is_counted_as_its_columns(logistic):
    point = logistic.problem.at(logistic.w)
    hessian = point.hessian(full(N))
    count = Counter(logistic.problem.work)
    count.since()
    hessian.dense()
    assert count.since() == (N, 2 * N * D)


def test_work_on_a_restriction_is_counted_with_the_whole(logistic):
    part = logistic.problem.restrict(np.arange(6))
    count = Counter(logistic.problem.work)
    assert count.since() == (6, 0)
    _ = part.at(logistic.w).gradient
    assert count.since() == (6, 12)


# A problem of the user's own


class Mixture(FiniteSum):
    """Least squares of ``y ~ a sin(b x)``: not a linear model, and not convex."""

    def __init__(self, x, y, l2=0.0):
        super().__init__(len(x), 2, l2)
        self.x, self.y = x, y

    def _pick(self, rows):
        return (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])

    def value(self, w, rows=None):
        x, y = self._pick(rows)
        return float(np.mean((w[0] * np.sin(w[1] * x) - y) ** 2) / 2)

    def gradient(self, w, rows=None):
        x, y = self._pick(rows)
        r = w[0] * np.sin(w[1] * x) - y
        return np.array(
            [np.mean(r * np.sin(w[1] * x)), np.mean(r * w[0] * x * np.cos(w[1] * x))]
        )

    def hess_vec(self, w, rows, v):
        x, y = self._pick(rows)
        s, c = np.sin(w[1] * x), np.cos(w[1] * x)
        r = w[0] * s - y
        aa, ab = np.mean(s * s), np.mean(w[0] * x * c * s + r * x * c)
        bb = np.mean((w[0] * x * c) ** 2 - r * w[0] * x * x * s)
        return np.array([aa * v[0] + ab * v[1], ab * v[0] + bb * v[1]])


@pytest.fixture
def mixture(rng):
    x = rng.uniform(-2, 2, 30)
    y = 1.5 * np.sin(0.8 * x) + 0.1 * rng.standard_normal(30)
    return Mixture(x, y, l2=[0.1, 0.3])


W, P = np.array([1.1, 0.6]), np.array([-0.4, 0.9])


class TestOwnProblem:
    def test_value_and_gradient_include_the_ridge(self, mixture):
        point = mixture.at(W)
        ridge = (0.1 * W[0] ** 2 + 0.3 * W[1] ** 2) / 2
        assert point.value == pytest.approx(mixture.value(W) + ridge, rel=1e-14)
        expected = mixture.gradient(W) + np.array([0.1, 0.3]) * W
        np.testing.assert_allclose(point.gradient, expected, rtol=1e-14)

    def test_derivatives_are_consistent(self, mixture):
        check_derivatives(mixture, W)

    @pytest.mark.parametrize("name", ["gradient", "hess_vec"])
    def test_check_derivatives_names_the_wrong_one(self, mixture, name, monkeypatch):
        right = getattr(Mixture, name)
        monkeypatch.setattr(Mixture, name, lambda *a: 1.001 * right(*a))
        with pytest.raises(ValueError, match=f"^{name} "):
            check_derivatives(mixture, W)

    def test_hessian_of_a_sample_has_the_full_ridge(self, mixture, rng):
        sample = uniform(30, 8, rng)
        hessian = mixture.at(W).hessian(sample)
        expected = mixture.hess_vec(W, sample.rows, P) + mixture.l2 * P
        np.testing.assert_allclose(hessian.matvec(P), expected, rtol=1e-14)
        np.testing.assert_allclose(hessian.dense() @ P, expected, rtol=1e-12)

    def test_line(self, mixture):
        line = mixture.at(W).along(P)
        for t in (1.0, 0.25):
            assert line(t).value == pytest.approx(mixture.at(W + t * P).value)
            np.testing.assert_array_equal(line(t).point.w, W + t * P)
        H = mixture.at(W).hessian(full(30)).dense()
        assert line.curvature() == pytest.approx(P @ H @ P)

    def test_mean_of_single_rows_is_the_whole(self, mixture):
        parts = [mixture.restrict(np.array([i])).at(W) for i in range(30)]
        point = mixture.at(W)
        assert np.mean([p.value for p in parts]) == pytest.approx(point.value)
        np.testing.assert_allclose(
            np.mean([p.gradient for p in parts], axis=0), point.gradient
        )

    def test_restriction_of_a_restriction(self, mixture):
        part = mixture.restrict(np.array([3, 5, 7, 9])).restrict(np.array([1, 3]))
        assert part.value(W) == mixture.value(W, np.array([5, 9]))
        np.testing.assert_array_equal(
            part.hess_vec(W, np.array([1]), P),
            mixture.hess_vec(W, np.array([9]), P),
        )

    def test_work_is_counted(self, mixture, rng):
        count = Counter(mixture.work)
        point = mixture.at(W)
        assert count.since() == (0, 0)
        _ = point.value, point.value
        assert count.since() == (30, 0)
        _ = point.gradient, point.gradient
        assert count.since() == (30, 60)
        point.hessian(uniform(30, 8, rng)).matvec(P)
        assert count.since() == (8, 16)
        line = point.along(P)
        trial = line(1.0)
        _ = trial.value
        assert count.since() == (30, 30)
        line.curvature()
        assert count.since() == (30, 60)
        _ = mixture.restrict(np.arange(5)).at(W).gradient
        assert count.since() == (5, 10)

    def test_weighted_sample_is_refused(self, mixture):
        sample = Sample(np.array([1, 2]), np.array([0.3, 0.7]), 2)
        with pytest.raises(TypeError, match="weighted samples need a LinearModel"):
            mixture.at(W).hessian(sample)

    def test_scores_are_refused(self, mixture, rng):
        with pytest.raises(TypeError, match="sampling='leverage' needs a LinearModel"):
            mixture.row_scores("leverage", mixture.at(W), rng)

    def test_nothing_is_known_of_its_convexity(self, mixture):
        assert mixture.strong_convexity == 0.0
        Mixture.convex, kept = True, Mixture.convex
        try:
            assert mixture.strong_convexity == 0.1
            assert mixture.restrict(np.arange(3)).strong_convexity == 0.1
        finally:
            Mixture.convex = kept


# Errors


def build(**changes):
    arguments = {"loss": LOGISTIC, "X": np.ones((3, 2)), "y": np.array([1.0, -1.0, 1])}
    arguments.update(changes)
    return LinearModel(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loss": "logistic"}, TypeError, "loss must be a PointwiseLoss.*'logistic'"),
        ({"X": np.ones(3)}, ValueError, r"X must be two-dimensional.*\(3,\)"),
        ({"y": np.ones(2)}, ValueError, r"y must have shape \(3,\), got \(2,\)"),
        ({"y": np.ones((3, 1))}, ValueError, r"y must have shape \(3,\), got \(3, 1\)"),
        ({"y": ["a", "b", "c"]}, TypeError, "y must hold real numbers, got dtype <U1"),
        ({"y": np.ones(3) * 1j}, TypeError, "y must hold .* got dtype complex128"),
        (
            {"y": [1.0, -1.0, 0.0]},
            ValueError,
            r"y .*-1 or \+1.*logistic.*0\.0 .*2",
        ),
        ({"y": [1.0, math.nan, 1.0]}, ValueError, "y must hold .*got nan at index 1"),
        (
            {"loss": SQUARED, "y": [1.0, math.inf, 1.0]},
            ValueError,
            "y must hold finite numbers .*got inf at index 1",
        ),
        (
            {"loss": SIGMOID_SQUARED, "y": [0.0, 1.0, 1.1]},
            ValueError,
            r"y must hold numbers in \[0, 1\].*got 1\.1 at index 2",
        ),
        (
            {"loss": TANH_SQUARED, "y": [0.0, -1.5, 1.0]},
            ValueError,
            r"y must hold numbers in \[-1, 1\].*got -1\.5 at index 1",
        ),
        (
            {"loss": POISSON, "y": [-1.0, 0.0, 1.0]},
            ValueError,
            r"y must hold numbers >= 0.*got -1\.0 at index 0",
        ),
        ({"sample_weight": [1.0, 1.0]}, ValueError, r"sample_weight .*\(3,\), got \(2"),
        ({"sample_weight": 2.0}, ValueError, r"sample_weight must have shape \(3,\)"),
        (
            {"sample_weight": [1.0, -0.5, 1.0]},
            ValueError,
            r"sample_weight must be finite and >= 0, got -0\.5 at index 1",
        ),
        (
            {"sample_weight": [1.0, math.nan, 1.0]},
            ValueError,
            "sample_weight.*got nan",
        ),
        (
            {"sample_weight": [1.0, math.inf, 1.0]},
            ValueError,
            "sample_weight.*got inf",
        ),
        ({"sample_weight": np.zeros(3)}, ValueError, "sample_weight .* all zero"),
        ({"sample_weight": ["a"] * 3}, TypeError, "sample_weight must hold numbers"),
        ({"l2": -1.0}, ValueError, r"l2 must be finite and >= 0, got -1\.0"),
        ({"l2": math.nan}, ValueError, "l2 must be finite and >= 0, got nan"),
        ({"l2": math.inf}, ValueError, "l2 must be finite and >= 0, got inf"),
        ({"l2": [1.0, -1.0]}, ValueError, "l2 must be finite and >= 0"),
        ({"l2": [1.0, 1.0, 1.0]}, ValueError, r"l2 must be .*shape \(2,\)"),
        ({"l2": "1"}, TypeError, "l2 must be a number or an array .* got '1'"),
        ({"l2": None}, TypeError, "l2 must be a number or an array .* got None"),
    ],
)
def test_bad_argument_is_refused_by_name(changes, error, message):
    with pytest.raises(error, match=message):
        build(**changes)


@pytest.mark.parametrize("w", [np.ones(3), np.ones((2, 1)), 1.0])
def test_point_of_a_wrong_shape_is_refused(w):
    with pytest.raises(ValueError, match=r"w must have shape \(2,\), got"):
        build().at(w)


@pytest.mark.parametrize("name", ["n_samples", "n_params"])
@pytest.mark.parametrize("bad", [0, -1, 2.0, "3"])
def test_own_problem_needs_positive_counts(name, bad):
    counts = {"n_samples": 3, "n_params": 2, name: bad}
    with pytest.raises(ValueError, match=rf"^{name} must be an integer >= 1, got"):
        FiniteSum.__init__(object.__new__(Mixture), **counts)


def test_user_loss_with_a_wrong_slope_is_found_through_its_model(logistic):
    loss = PointwiseLoss("bad", SQUARED.value, _twice, SQUARED.d2)
    problem = LinearModel(loss, logistic.X, logistic.y)
    with pytest.raises(ValueError, match=r"^gradient is "):
        check_derivatives(problem, logistic.w)


def _twice(z, y):
    return 2.0 * (z - y)
