"""What is particular to the multilevel solver; its contract is in test_newton.py."""

import numpy as np
import pytest
from problems import least_squares, logistic

from subsampled_newton import (
    LOGISTIC,
    SIGMOID_SQUARED,
    LinearModel,
    MultilevelNewton,
    SubsampledNewton,
    minimize,
)
from subsampled_newton.solvers import multilevel


def rare_columns(n=40_000, seed=0):
    """Two Gaussian columns and ten indicators, the rarest of them of 8 rows."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n, 12))
    X[:, :2] = rng.standard_normal((n, 2))
    counts = np.geomspace(8, n / 8, 10).astype(int)
    start = 0
    for j, count in enumerate(counts):
        X[start : start + count, 2 + j] = 1.0
        start += count
    y = np.where(X @ rng.standard_normal(12) + rng.logistic(size=n) > 0, 1.0, -1.0)
    X /= np.sqrt(np.mean(X**2, axis=0))
    return LinearModel(LOGISTIC, X, y, l2=1e-7), start


def test_rows_that_alone_carry_a_column_are_all_in_the_sample():
    problem, _ = rare_columns()
    states = []
    minimize(problem, MultilevelNewton(), callback=states.append, seed=0, max_iter=1)
    assert set(range(8)) <= set(states[-1].rows)


def test_the_start_is_as_good_as_the_sample_allows():
    problem, _ = rare_columns()
    best = minimize(problem, SubsampledNewton(1.0)).value
    trace = minimize(problem, MultilevelNewton(), seed=0, max_iter=1).trace
    gap = trace.value[1] - best
    assert 0.0 < gap < 12 / trace.hessian_rows[1]  # d / (2 rows) up to a factor of 2


def test_few_passes_where_uniform_samples_need_many():
    problem, _ = rare_columns()
    multilevel = minimize(problem, MultilevelNewton(), seed=0)
    uniform = minimize(problem, SubsampledNewton(0.1), seed=0, max_iter=60)
    assert multilevel.converged
    assert multilevel.passes < 13
    assert multilevel.passes < 0.7 * uniform.passes


def test_gradients_of_the_steps_correct_what_the_sample_misjudges(monkeypatch):
    problem, _ = rare_columns()
    corrected = minimize(problem, MultilevelNewton(0.02), tol=1e-10, seed=2)
    monkeypatch.setattr(multilevel, "bfgs_update", lambda H, s, y: H)
    plain = minimize(problem, MultilevelNewton(0.02), tol=1e-10, seed=2)
    assert corrected.converged
    assert plain.converged
    assert corrected.n_iter <= 0.6 * plain.n_iter


def test_short_steps_read_the_rows_once_and_no_sample(monkeypatch):
    problem, _ = rare_columns()
    result = minimize(problem, MultilevelNewton(), tol=1e-10, seed=0)
    steps = np.diff(result.trace.passes)
    np.testing.assert_allclose(steps[-2:], 1.0, rtol=1e-12)
    assert steps[2] > 1.05
    cut = minimize(
        problem, MultilevelNewton(), tol=1e-10, seed=0, max_iter=result.n_iter - 1
    )
    again = minimize(problem, MultilevelNewton(), tol=1e-10, resume=cut)
    np.testing.assert_array_equal(again.w, result.w)
    np.testing.assert_array_equal(again.trace.passes, result.trace.passes)
    monkeypatch.setattr(multilevel, "SETTLED", 0.0)
    always = minimize(problem, MultilevelNewton(), tol=1e-10, seed=0)
    assert result.n_iter <= always.n_iter


def test_a_start_away_from_zero_is_kept():
    problem = logistic(n=3000)
    optimum = minimize(problem, SubsampledNewton(1.0)).w
    near = optimum + 1e-5
    result = minimize(problem, MultilevelNewton(), near, seed=0)
    assert result.trace.value[0] == problem.at(near).value
    assert np.all(np.diff(result.trace.value) <= 1e-15)


def test_a_tiny_problem_uses_all_rows():
    result = minimize(logistic(n=50, d=4), MultilevelNewton(), seed=0)
    assert result.converged
    assert result.trace.hessian_rows[-1] == 50


def test_least_squares_with_rows_of_very_different_size():
    rng = np.random.default_rng(0)
    problem = least_squares(n=3000)
    X = np.column_stack([problem.rows.matvec(e) for e in np.eye(6)])
    X *= (1 + rng.pareto(1.2, 3000))[:, None]
    problem = LinearModel(problem.loss, X, problem.y, l2=1e-3)
    result = minimize(problem, MultilevelNewton(), tol=1e-7, seed=0)
    expected = np.linalg.solve(
        X.T @ X / 3000 + 1e-3 * np.eye(6), X.T @ problem.y / 3000
    )
    assert result.converged
    np.testing.assert_allclose(result.w, expected, rtol=1e-6)


def test_other_problems_are_refused():
    rng = np.random.default_rng(0)
    problem = LinearModel(SIGMOID_SQUARED, rng.standard_normal((50, 2)), np.ones(50))
    with pytest.raises(
        TypeError, match=r"convex loss, got LinearModel with the sigmoid squared loss"
    ):
        minimize(problem, MultilevelNewton())
    with pytest.raises(
        ValueError, match=r"fraction must be a number in \(0.0, 1.0\], got 0"
    ):
        MultilevelNewton(0)
