"""The bound of what is left to gain, where some parameters have no ridge."""

import math

import numpy as np
import pytest

from subsampled_newton import (
    LOGISTIC,
    SIGMOID_SQUARED,
    SQUARED,
    Columns,
    LinearModel,
    LogisticRegression,
    PointwiseLoss,
    Ridge,
    SoftmaxModel,
    SubsampledNewton,
    as_rows,
    minimize,
)
from subsampled_newton.sampling import full


def random_problem(seed):
    """A problem with an intercept, or another parameter, that has no ridge."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 1500)), int(rng.integers(1, 6))
    size = (1.0, 1e-3)[seed % 2]  # small columns leave the intercept to matter
    X = size * rng.standard_normal((n, d)) + (seed % 3 == 0)
    rows = as_rows(X).with_columns(Columns(np.ones(d), np.zeros(d), intercept=True))
    l2 = np.append(10.0 ** rng.uniform(-4, 1, d), 0.0)
    if seed % 5 == 0 and d > 1:
        l2[0] = 0.0
    weights = rng.random(n) * (rng.random(n) < 0.8) if seed % 4 == 0 else np.ones(n)
    kind = seed % 7
    if kind < 4:
        z = X @ rng.standard_normal(d) + rng.logistic(size=n) + rng.normal()
        y = np.where(z > 0.0, 1.0, -1.0)
        y[:2] = weights[:2] = [1.0, -1.0]
        weights = np.abs(weights)
        return LinearModel(LOGISTIC, rows, y, l2=l2, sample_weight=weights)
    if kind == 4:
        y = rng.standard_normal(n) + 10.0
        return LinearModel(SQUARED, rows, y, l2=l2, sample_weight=weights)
    y = np.argmax(rng.gumbel(size=(n, 4)) + X[:, :1] * np.arange(4), axis=1)
    y[:4], weights[:4] = range(4), 1.0
    return SoftmaxModel(rows, y, l2=l2, sample_weight=weights)


def test_bound_without_a_ridge_on_the_intercept_holds():
    known = 0
    for seed in range(210):
        problem = random_problem(seed)
        best = minimize(problem, SubsampledNewton(1.0), tol=1e-14)
        if best.gradient_norm > 1e-11:  # no minimizer to compare with
            continue
        rng = np.random.default_rng(seed)
        direction = rng.standard_normal(problem.n_params)
        for distance in (1.0, 1e-1, 1e-3, 1e-5):
            point = problem.at(best.w + distance * direction)
            bound = problem.suboptimality_bound(point)
            gap = point.value - best.value
            assert gap <= bound + 1e-14, (seed, distance)
            known += math.isfinite(bound)
        assert math.isfinite(bound), seed  # always, near the minimum
        assert problem.suboptimality_bound(problem.at(best.w)) < 1e-12, seed
    assert known > 700


@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC])
def test_bound_is_near_the_gap_where_the_ridge_is_the_curvature(loss):
    rng = np.random.default_rng(0)
    X = 1e-2 * rng.standard_normal((3000, 3))
    y = rng.choice([-1.0, 1.0], 3000)
    rows = as_rows(X).with_columns(Columns(np.ones(3), np.zeros(3), intercept=True))
    problem = LinearModel(loss, rows, y, l2=[1.0, 2.0, 3.0, 0.0])
    best = minimize(problem, SubsampledNewton(1.0), tol=1e-14)
    for change in ([1e-2, 0, 0, 0], [1e-2, -1e-2, 1e-2, 1e-3]):
        point = problem.at(best.w + change)
        gap = point.value - best.value
        assert gap <= problem.suboptimality_bound(point) <= 1.3 * gap
    # Half of it is due to convexity alone: the intercept is bounded within a factor 2,
    # times what it costs that only 512 of the rows are moved.
    point = problem.at(best.w + 1e-2 * np.eye(4)[3])
    gap = point.value - best.value
    assert gap <= problem.suboptimality_bound(point) <= 2.1 * 3000 / 512 * gap


def test_nothing_is_known_without_a_penalty_or_of_other_losses():
    X = np.random.default_rng(0).standard_normal((50, 2))
    y = np.where(X[:, 0] > 0.3, 1.0, -1.0)
    y[:3] *= -1.0
    rows = as_rows(X).with_columns(Columns(np.ones(2), np.zeros(2), intercept=True))
    flat = LinearModel(SIGMOID_SQUARED, rows, y > 0, l2=[1.0, 1.0, 0.0])
    assert flat.suboptimality_bound(flat.at(np.zeros(3))) == math.inf
    # So far out that the rows which are moved cannot balance the others.
    X, y = np.zeros((20_000, 1)), np.repeat([-1.0, 1.0], 10_000)
    rows = as_rows(X).with_columns(Columns(np.ones(1), np.zeros(1), intercept=True))
    far = LinearModel(LOGISTIC, rows, y, l2=[1.0, 0.0])
    # The loss is nowhere negative: F(w) itself is a bound.
    assert far.suboptimality_bound(far.at([0.0, 9.0])) == far.at([0.0, 9.0]).value
    assert far.suboptimality_bound(far.at([0.0, 0.01])) < 1e-2
    own = PointwiseLoss(
        "own", LOGISTIC.value, LOGISTIC.d1, LOGISTIC.d2, (0.0, 0.25), targets="sign"
    )
    unknown = LinearModel(own, rows, y, l2=[1.0, 0.0])
    assert unknown.suboptimality_bound(unknown.at([0.0, 9.0])) == math.inf


@pytest.mark.parametrize("n_classes", [2, 4])
def test_fits_with_an_intercept_have_a_finite_bound(n_classes):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((2000, 4))
    y = np.argmax(X[:, :n_classes] + rng.gumbel(size=(2000, n_classes)), axis=1)
    model = LogisticRegression(alpha=1e-3).fit(X, y)
    assert 0.0 <= model.result_.suboptimality_bound < 1e-10
    # After the last iterate the result counts it, by at most what it copies.
    assert model.result_.passes >= model.history_["passes"][-1]
    assert model.diagnose(X, y).suboptimality_bound < 1e-10


def test_no_bound_is_above_what_is_there_to_gain():
    for seed in range(210):
        problem = random_problem(seed)
        rng = np.random.default_rng(seed)
        for size in (0.0, 1.0, 30.0):
            point = problem.at(size * rng.standard_normal(problem.n_params))
            assert 0.0 <= problem.suboptimality_bound(point) <= point.value, seed


@pytest.mark.parametrize("free", [[], [0], [0, 2]])
def test_curvature_of_the_free_parameters_is_a_block_of_the_hessian(free, rng):
    X = rng.standard_normal((40, 3))
    rows = as_rows(X).with_columns(Columns(np.ones(3), np.zeros(3), intercept=True))
    l2 = np.append(np.ones(3), 0.0)
    l2[free] = 0.0
    for problem in (
        LinearModel(LOGISTIC, rows, np.sign(X[:, 0]), l2=l2),
        SoftmaxModel(rows, rng.integers(0, 5, 40), n_classes=5, l2=l2),
    ):
        w = rng.standard_normal(problem.n_params)
        point, parameters = problem.at(w), np.flatnonzero(problem.l2 == 0.0)
        own = problem.unit_predictions(parameters % 4)
        H = problem.curvature_of(point.z, 1.0 / 40, own, parameters)
        expected = point.hessian(full(40)).dense()[np.ix_(parameters, parameters)]
        np.testing.assert_allclose(H, expected, rtol=1e-12, atol=1e-15)


def test_many_classes_with_an_intercept_have_a_finite_bound():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 2)), np.arange(600) % 60
    model = LogisticRegression(alpha=1e-2).fit(X, y)
    assert 0.0 <= model.result_.suboptimality_bound < 1e-10


@pytest.mark.parametrize("offset", [100.0, 1e6])
@pytest.mark.parametrize("classes", [2, 3])
def test_columns_far_from_zero_have_the_bound_of_those_near_it(classes, offset, rng):
    X = rng.standard_normal((500, 4))
    z = X @ [1.0, 1.0, -1.0, 0.0] + rng.logistic(size=500)
    y = np.digitize(z, [-1.0, 1.0]) if classes == 3 else z > 0.0
    near, far = (LogisticRegression().fit(A, y).result_ for A in (X, X + offset))
    assert near.suboptimality_bound < 1e-12
    assert far.suboptimality_bound < 1e-12
    assert far.passes <= 1.5 * near.passes
    ridge = Ridge().fit(X + offset, z).result_
    assert ridge.suboptimality_bound < 1e-12
